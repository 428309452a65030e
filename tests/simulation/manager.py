"""A manager without sockets: the same steps in the same order as `engine/manager.py`.

One wake-up takes all messages, decides all, writes once, syncs once, then tells. Between any two of
these it may die, or be stopped and wake after another was elected. It owns no truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import structs

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.duties import closing, needs_manager
from codewhale_fleet.core.greeting import Greeting, why_lost
from codewhale_fleet.core.placement import due, wake_at
from codewhale_fleet.core.state import Flight, Run, split_attempt

from .host import Fact
from .ledger import Fenced
from .network import Connection, Message

if TYPE_CHECKING:
    from .world import World

BEAT = 30.0
RECEIPTS = {
    "pass": e.Receipt(result="pass", scorer="exit_code"),
    "fail": e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 1"),
    "timeout": e.Receipt(result="timeout", source="task", reason="it took too long"),
    "unknown": e.Receipt(result="fail", source="transport", reason="its exit was not seen"),
    "unstarted": e.Receipt(result="fail", source="transport", reason="it was not started"),
}


class Manager:
    """One elected manager, from its election to its leaving or its death."""

    def __init__(self, world: World, epoch: int) -> None:
        self.world = world
        self.epoch = epoch
        self.offset = world.skew
        """Wall clock minus simulated time, as read once: a jump later moves nothing."""
        self.alive = True
        self.stopped_until = 0.0
        self.links: dict[int, Connection] = {}
        self.hosted: dict[int, dict[str, bool]] = {host.number: {} for host in world.hosts}
        self.untold: dict[str, str] = {}
        self.ending: set[str] = set()
        self.inbox: list[tuple[Connection, Message]] = []
        self.beaten = world.now
        self.alarm = float("inf")
        self.controls = -1
        self._busy = False
        self._saying: list[tuple[Connection, Message]] = []
        for host in world.hosts:
            self._connect(host.number)
        self.wake()

    # Living -------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.world.now + self.offset

    def die(self) -> None:
        """kill -9: nothing more is said or written."""
        if self.alive:
            self.alive = False
            for link in list(self.links.values()):
                link.close()
            self.links.clear()

    def wake(self) -> None:
        """Something is to be taken or done."""
        if self.alive and not self._busy:
            self._busy = True
            self.world.at(self.world.now + self.world.think(), self._cycle)

    def _held(self, again: Callable[..., None], *args: object) -> bool:
        """Whether this step must not happen: dead, or stopped (then it happens on waking)."""
        if not self.alive:
            return True
        if self.world.now < self.stopped_until:
            self.world.at(self.stopped_until, again, *args)
            return True
        if self.world.chance("die"):
            self.world.count("managers that died between two steps")
            self.die()
            return True
        return False

    # The cycle ----------------------------------------------------------------------------

    def _cycle(self) -> None:
        if self._held(self._cycle):
            return
        ledger = self.world.ledger
        self.alarm = float("inf")
        before = len(ledger.lines)
        try:
            ledger.check(self.epoch)
        except Fenced:
            self.world.count("managers fenced")
            self.die()
            return
        inbox, self.inbox = self.inbox, []
        for link, message in inbox:
            if link.open:
                self._take(link, message)
        for run in list(ledger.state.open_runs.values()):
            self._advance(run)
        self._beat()
        self._saying = self._owed()
        wrote = len(ledger.lines)
        delay = self.world.think() if wrote > before else 0.0
        self.world.at(self.world.now + delay, self._sync, wrote)

    def _sync(self, wrote: int) -> None:
        if self._held(self._sync, wrote):
            return
        if wrote > len(self.world.ledger.lines):  # pragma: no cover (a power loss kills managers)
            raise AssertionError("a manager outlived its records")
        self.world.ledger.sync(wrote)
        self.world.at(self.world.now + self.world.think() / 10, self._tell)

    def _tell(self) -> None:
        saying, self._saying = self._saying, []
        for number, (link, message) in enumerate(saying):
            if number % 4 == 0 and self._held(self._rest, saying[number:]):
                return
            link.to_host(message)
        self._rest([])

    def _rest(self, unsaid: list[tuple[Connection, Message]]) -> None:
        """After the telling: what a stop kept from being said is said on waking."""
        if not self.alive:
            return
        for link, message in unsaid:
            link.to_host(message)
        self._busy = False
        if self.inbox:
            self.wake()
            return
        state = self.world.ledger.state
        if self._done():
            self._leave()
            return
        when = self.beaten + BEAT
        moment = wake_at(state)
        if moment is not None:
            when = min(when, max(moment - self.offset, self.world.now) + 0.001)
        if when < self.alarm:
            self.alarm = when
            self.world.at(when, self._ring, when)

    def _ring(self, when: float) -> None:
        if self.alarm == when:
            self.wake()

    def _done(self) -> bool:
        greeted = all(link.greeted for link in self.links.values())
        return greeted and not any(map(needs_manager, self.world.ledger.state.open_runs.values()))

    def _leave(self) -> None:
        ledger = self.world.ledger
        if ledger.state.epoch == self.epoch:
            self._submit(c.Leave(epoch=self.epoch))
            ledger.sync(len(ledger.lines))
        self.die()

    def _submit(self, command: c.Command, run: str = "") -> e.Event | None:
        event = self.world.ledger.submit(command, self.now, run=run, epoch=self.epoch)
        return event if isinstance(event, e.Event) else None

    # Deciding -----------------------------------------------------------------------------

    def _advance(self, run: Run) -> None:
        if self._is_hosted(run.id):
            slots = min(run.max_workers, len(run.order))
            if run.slots != slots:
                enrolled = e.WorkerEnrolled(slots=slots, host="h", boot="b", cores=2)
                self._submit(c.Enrol(run=run.id, enrolled=enrolled), run.id)
            for command in due(run, "", self.now):
                if isinstance(command, c.Place):
                    number = self.world.host_of(run, command.worker)
                    command = structs.replace(command, boot=self.world.boots[number])
                event = self._submit(command, run.id)
                if isinstance(event, e.AttemptDispatched):
                    self.untold[event.attempt] = run.id
        if command := closing(run, self.now):
            self._submit(command, run.id)
            for hosted in self.hosted.values():
                hosted.pop(run.id, None)

    def _is_hosted(self, run: str) -> bool:
        greeted = [number for number, link in self.links.items() if link.greeted]
        return bool(greeted) and all(run in self.hosted[number] for number in greeted)

    def _beat(self) -> None:
        if self.world.now - self.beaten < BEAT:
            return
        self.beaten = self.world.now
        self.untold = self._unstarted()
        runs = self.world.ledger.state.open_runs.values()
        busy = {flight.worker for run in runs for flight in run.flights.values()}
        if busy:
            self._submit(c.ReportBeat(workers=tuple(sorted(busy))))

    def _unstarted(self) -> dict[str, str]:
        return {
            attempt: run.id
            for run in self.world.ledger.state.open_runs.values()
            for attempt, flight in run.flights.items()
            if not flight.started
        }

    # Hearing ------------------------------------------------------------------------------

    def hear(self, link: Connection, message: Message) -> None:
        """A message has arrived."""
        if self.alive:
            self.inbox.append((link, message))
            self.wake()

    def _take(self, link: Connection, message: Message) -> None:
        word = message[0]
        if word == "fact":
            fact = message[2]
            assert isinstance(fact, Fact)
            self._fact(str(message[1]), fact)
            link.acknowledge = max(link.acknowledge, fact.n)
        elif word == "hello":
            self._greet(link, *message[1:])  # type: ignore[arg-type]
        elif message[2] == "values":
            run = self.world.ledger.state.open_runs.get(str(message[1]).partition("/")[0])
            if run is not None:
                self.hosted[link.host.number].pop(run.id, None)
                self._pause(run)

    def _pause(self, run: Run) -> None:
        if run.status == "running":
            self.world.count("runs paused because their values were gone")
            self._submit(c.PauseRun(run=run.id, reason="its environment is gone"), run.id)

    def _fact(self, runtime: str, fact: Fact) -> None:
        src = (runtime, fact.n)
        run = split_attempt(fact.attempt)[0]
        if fact.kind == "started":
            self._submit(
                c.ReportStarted(attempt=fact.attempt, worker=fact.slot, pid=1, since=0.0, src=src),
                run,
            )
            return
        self.untold.pop(fact.attempt, None)
        self.ending.discard(fact.attempt)
        ended = e.AttemptEnded(
            attempt=fact.attempt,
            worker=fact.slot,
            src=src,
            seconds=fact.seconds,
            receipt=RECEIPTS[fact.outcome],
            exit={"pass": 0, "fail": 1}.get(fact.outcome),
            unknown=fact.outcome == "unknown",
            signal=9 if fact.outcome == "timeout" else None,
            unstarted="it was withdrawn" if fact.outcome == "unstarted" else "",
            why=fact.why,
        )
        event = self._submit(c.ReportEnded(ended=ended, jitter=self.world.rng.random()), run)
        if isinstance(event, e.AttemptEnded) and event.late:
            self.world.count("late facts")

    def _greet(
        self,
        link: Connection,
        runtime: str,
        boot: str,
        journal: int,
        known: list[str],
        values: list[str],
    ) -> None:
        state = self.world.ledger.state
        number = link.host.number
        link.runtime, link.boot, link.greeted = runtime, boot, True
        self.world.boots[number] = boot
        hosted = self.hosted[number] = {run: True for run in values if run in state.open_runs}
        link.acknowledge = max(link.acknowledge, state.cursors.get(runtime, 0))
        greeting = Greeting(runtime=runtime, boot=boot, journal=journal, open=frozenset(known))
        for run in list(state.open_runs.values()):
            if run.id not in hosted:
                self._pause(run)
            for attempt, flight in list(run.flights.items()):
                if self.world.host_of(run, flight.worker) != number:
                    continue
                if why := why_lost(state, greeting, attempt, flight):
                    self._lost(run, attempt, why)
                elif not flight.started:
                    self.untold[attempt] = run.id

    def _lost(self, run: Run, attempt: str, why: str) -> None:
        self.world.count("attempts lost")
        receipt = e.Receipt(result="fail", source="transport", reason=why)
        jitter = self.world.rng.random()
        self._submit(c.ReportLost(attempt=attempt, why=why, receipt=receipt, jitter=jitter), run.id)

    # Telling ------------------------------------------------------------------------------

    def _connect(self, number: int) -> None:
        if not self.alive or number in self.links:
            return
        if self.world.now < self.stopped_until:
            self.world.at(self.stopped_until, self._connect, number)
            return
        host = self.world.hosts[number]
        if not host.up or not self.world.reachable(number):
            self.world.at(self.world.now + self.world.rng.uniform(0.5, 3.0), self._connect, number)
            return
        link = self.links[number] = Connection(self.world, self, host)
        link.to_host(("hello", dict(self.world.ledger.state.cursors)))
        self.controls = -1
        self.ending.clear()

    def unlinked(self, link: Connection) -> None:
        """A connection broke; it is made again after a while."""
        if self.links.get(link.host.number) is link:
            del self.links[link.host.number]
            wait = self.world.rng.uniform(0.1, 2.0)
            self.world.at(self.world.now + wait, self._connect, link.host.number)

    def host(self, run_id: str) -> None:
        """Somebody gave the hosts this run's values."""
        for number, host in enumerate(self.world.hosts):
            if run_id in host.values:
                self.hosted[number][run_id] = True
        run = self.world.ledger.state.runs.get(run_id)
        for attempt, flight in run.flights.items() if run else ():
            if not flight.started:
                self.untold[attempt] = run_id
        self.wake()

    def _link_of(self, run: Run, flight: Flight) -> Connection | None:
        link = self.links.get(self.world.host_of(run, flight.worker))
        return link if link is not None and link.greeted else None

    def _owed(self) -> list[tuple[Connection, Message]]:
        """What is to be said once everything is durable."""
        saying: list[tuple[Connection, Message]] = []
        state = self.world.ledger.state
        for link in self.links.values():
            if link.acknowledge:
                saying.append((link, ("ack", link.acknowledge)))
                link.acknowledge = 0
        later = {}
        for attempt, run_id in self.untold.items():
            run = state.runs[run_id]
            flight = run.flights.get(attempt)
            if flight is None or flight.started:
                continue
            there = self._link_of(run, flight)
            if there is None or there.boot != flight.boot:
                later[attempt] = run_id
                continue
            saying.append((there, ("start", attempt, run_id, flight.worker, run.slots)))
        self.untold = later
        if self.controls != self.world.ledger.controls:
            self.controls = self.world.ledger.controls
            saying += self._interrupts()
        return saying

    def _interrupts(self) -> list[tuple[Connection, Message]]:
        saying: list[tuple[Connection, Message]] = []
        for run in self.world.ledger.state.open_runs.values():
            for attempt, flight in run.flights.items():
                if not flight.end or attempt in self.ending:
                    continue
                link = self._link_of(run, flight)
                if link is None:
                    self.controls = -1
                    continue
                self.ending.add(attempt)
                why = "stopped" if flight.end == "stopped" else "interrupted"
                saying.append((link, ("interrupt", attempt, why)))
        return saying
