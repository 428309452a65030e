"""The manager: one wake-up reads all facts, decides all, writes once, syncs once, then tells.

It owns no truth: kill it anywhere and the next one finds the same duties in the ledger and the same
facts in the runtime's journal. It places attempts of the runs whose environment the runtime holds
("hosted"), of its own run and of any other that is open. It knows no terminal: an `Observer` is
told what became durable.
"""

import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..core import commands as c
from ..core import events as e
from ..core.duties import closing, needs_manager, owes
from ..core.fleet_words import LOCAL
from ..core.greeting import without_values
from ..core.placement import due, wake_at
from ..core.state import Flight, Run, State
from ..errors import Unreachable
from ..hosts import local
from ..ledger.store import Ledger, Transaction
from .callers import Callers
from .clock import Clock, boot_id
from .disk import Guard
from .endpoint import Endpoint, hang_up
from .facts import Reading, enrolled_event, environment_message, hello_message
from .hearing import silence, take
from .housekeeping import Housekeeping
from .link import Link, Message
from .runs import Asker

if TYPE_CHECKING:
    from .alerting import Post
    from .early import Early
    from .remotes import Remotes

HEARTBEAT_RECORD_SECONDS = 30.0
"""Workers that have work and were heard of stand in one line, at most so often."""

MOST_TRIES = 11
"""Connections in a row that may end without a word; each waits twice as long, in the end 2 s."""


class Observer(Protocol):
    """Who wants to see what became durable."""

    @property
    def ticks(self) -> float:
        """Seconds between two ticks; 0: it wants none."""

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        """These records are durable now."""

    def tick(self, state: State) -> None:
        """Time has passed: so much, or less."""

    def note(self, sentence: str) -> None:
        """Something a person should know that is no record."""


class Manager:
    """One elected manager, from its election to its leaving."""

    def __init__(
        self,
        ledger: Ledger,
        server: socket.socket,
        observer: Observer,
        *,
        focus: str | None,
        asker: Asker | None,
        until: Callable[[State], bool] | None = None,
    ) -> None:
        self.ledger = ledger
        self.epoch = ledger.state.epoch
        self.observer = observer
        self.focus = focus
        self.asker = asker
        self.read = Reading(ledger.dir, asker.secrets if asker else {})
        self.until = until
        """Given, it only settles: it places nothing, and leaves when this holds."""
        self.wanted = False
        """Whether somebody asked a settling one to manage a run: it leaves, for one that does."""
        self.clock = ledger.clock = Clock()
        self.hosted: set[str] = {focus} if focus and asker else set()
        self.local = Endpoint(LOCAL, boot_id())
        self.endpoints = {LOCAL: self.local}
        """By worker: where attempts can be."""
        self.by_descriptor: dict[int, Endpoint] = {}
        self.noted: set[str] = set()
        """Sentences about attempts' own directories that were told: each is told once."""
        self.beaten = self.clock()
        self.disk = Guard(ledger.dir)
        self.house = Housekeeping(ledger)
        self.poll = select.epoll()
        self.callers = Callers(server, self.poll, epoch=self.epoch)
        self.records: list[tuple[e.Envelope, e.Event]] = []
        self.early: Early | None = None
        self.remotes: Remotes | None = None
        """Workers on other machines, once a run has any; and what loads for them before that."""
        self.post: Post | None = None
        """Who sends alerts, once any is owed."""
        self.leaving = False
        """Set by the session to leave at once (a closed terminal)."""
        self.succeeded = False
        """Whether somebody was waiting at the end for a run that is open, who takes over."""
        self.parted = False
        """Whether another process goes on with all that is connected here."""
        self.closes = float("inf")
        """When it leaves, if nobody comes till then."""

    # The loop -----------------------------------------------------------------------------

    def run(self) -> None:
        """Manage until the focus is finished, or nothing is left to do."""
        self.ledger.listener = lambda head, event: self.records.append((head, event))
        self.ledger.spare = self.disk.spare
        try:
            self._connect()
            self._cycle([])
            while not (self.leaving or self.done()):
                self.wait()
            if self.remotes and not self.leaving:
                from .parting import parted

                if parted(self):
                    return
            self.leave()
        finally:
            self.ledger.listener = self.ledger.spare = None
            if not self.parted:
                hang_up(self)
        self.house.leave()

    def watch(self, descriptor: int) -> None:
        """Also wake when this descriptor is readable (signals)."""
        self.poll.register(descriptor, select.EPOLLIN)
        self.callers.ignore(descriptor)

    def on_wake(self, descriptor: int) -> None:
        """A watched descriptor is readable; the session overrides this."""

    def wait(self) -> None:
        """Until something happens, and take it."""
        if not self.local.connected:
            self._connect()
            self._cycle([])
        ready = self.poll.poll(self._timeout())
        heard: list[tuple[Endpoint, list[Message]]] = []
        cycle = not ready
        for descriptor, _ in ready:
            endpoint = self.by_descriptor.get(descriptor)
            if endpoint and endpoint.link and endpoint.link.fileno() == descriptor:
                if messages := endpoint.link.receive():
                    heard.append((endpoint, messages))
                endpoint.heard = True
                endpoint.flush(self.poll)
                cycle |= endpoint is not self.local and endpoint.link.closed
            elif self.callers.owns(descriptor):
                for kind, run in self.callers.serve(descriptor):
                    cycle = True
                    if kind == "kill":
                        self.kill(run)
                    elif kind == "data":
                        from .asking import pass_on

                        pass_on(self, run)
                    elif kind == "tail":
                        from .tailing import pass_on as tail

                        tail(self, run)
                    elif run:
                        self._host(run)
            else:
                self.on_wake(descriptor)
                cycle = True
        if heard or cycle:
            self._cycle(heard)
        if not ready:
            self.house.idle(self.clock())
        if self.observer.ticks:
            self.observer.tick(self.ledger.state)

    def _timeout(self) -> float:
        if not self.local.connected:
            return 0.001 * (1 << self.local.tries)
        now = self.clock()
        soonest = min(self.beaten + HEARTBEAT_RECORD_SECONDS, self.closes)
        wake = wake_at(self.ledger.state)
        if wake is not None:
            soonest = min(soonest, wake)
        if self.disk.stops:  # who waits for room is woken by nothing else
            soonest = min(soonest, self.disk.next)
        if self.house.is_due:
            soonest = min(soonest, self.house.next)
        if self.post:
            soonest = min(soonest, self.post.wakes_at(self))
        if self.remotes:
            soonest = min(soonest, self.remotes.wakes_at(self))
        if self.observer.ticks:
            soonest = min(soonest, now + self.observer.ticks)
        return max(0.0, soonest - now) + 0.001

    def _cycle(self, heard: list[tuple[Endpoint, list[Message]]]) -> None:
        self._look_at_disk()
        with self.ledger.transaction("manager", epoch=self.epoch) as transaction:
            for endpoint, messages in heard:
                for message in messages:
                    take(self, endpoint, transaction, message)
            runs = list(transaction.state.open_runs.values())
            for run in self.remotes.in_turn(runs) if self.remotes else runs:
                self._advance(transaction, run)
            self._beat(transaction)
            if transaction.state.owing or self.post:
                from .alerting import Post

                self.post = self.post or Post(self)
                self.post.record(transaction)
        wrote = bool(self.records)
        if wrote or any(one.acknowledge for one in self.endpoints.values()):
            self.ledger.sync()
        self._tell()
        if self.remotes:
            self.remotes.look(self)
        if self.post:
            self.post.send(self)
        if wrote:
            records, self.records = self.records, []
            self.callers.announce(self.ledger.seq, {head.run for head, _ in records})
            self.observer.changed(self.ledger.state, records)

    def _look_at_disk(self) -> None:
        """See whether there is room for more; where there is again, ask for what was refused."""
        stopped = self.disk.stops
        for sentence in self.disk.look(self.ledger.state, self.clock()):
            self.observer.note(sentence)
        if stopped and not self.disk.stops:
            self._say_again()

    def _advance(self, transaction: Transaction, run: Run) -> None:
        """Place what may be placed; finish what is over."""
        if run.workers:
            self._look_far(transaction, run)
        if run.id in self.hosted:
            slots = min(run.max_workers, len(run.order))
            if run.slots != slots:
                transaction.submit(
                    c.Enrol(run=run.id, enrolled=enrolled_event(slots, self.local.boot))
                )
            breakers = transaction.state.breakers
            full = self.disk.stops
            more: dict[str, Any] = {}
            if run.workers and self.remotes:
                more = {"places": self.remotes.places(run), "state": transaction.state}
            now = transaction.now
            for command in due(run, self.local.boot, now, full=full, breakers=breakers, **more):
                event = transaction.submit(command)
                if isinstance(event, e.AttemptDispatched) and (
                    found := self.endpoint_of(run, run.flights[event.attempt])
                ):
                    found.untold[event.attempt] = run.id
        if finish := closing(run, transaction.now):
            transaction.submit(finish)
            self.hosted.discard(run.id)

    def _look_far(self, transaction: Transaction, run: Run) -> None:
        """A run has workers: know them, and end what nobody of them can do."""
        from .remotes import Remotes

        self.remotes = self.remotes or Remotes(self)
        for command in tuple(self.remotes.give_up(self, run)):
            transaction.submit(command)

    def _beat(self, transaction: Transaction) -> None:
        now = self.clock()
        if now - self.beaten < HEARTBEAT_RECORD_SECONDS:
            return
        self.beaten = now
        self._say_again()  # a start that was refused meanwhile is asked again
        busy = {
            flight.worker
            for run in transaction.state.open_runs.values()
            for flight in run.flights.values()
        }
        local = self.local
        if self.remotes:
            busy = self.remotes.beat(self, transaction, busy)
        if not local.greeted:
            return
        if busy and local.heard:
            transaction.submit(c.ReportBeat(workers=tuple(sorted(busy))))
        silence(transaction)
        local.heard = False
        if any(without_values(transaction.state, self.hosted, self.callers.watched, now)):
            local.say(hello_message(transaction.state, self.epoch))  # its asker died: has it?
        elif busy:
            local.say({"m": "ping"})  # its answer is the next beat: a stopped runtime has none

    # The world ----------------------------------------------------------------------------

    def _connect(self) -> None:
        """A new connection to the runtime: greet, hand over values, say again what is owed."""
        ours = self.local
        ours.tries += 1
        if ours.tries > MOST_TRIES:
            raise Unreachable(
                "the worker runtime of this workspace ends before it says anything.",
                f"Its words are in {self.ledger.dir}/runtime/runtime.err",
            )
        link = Link(local.connect(self.ledger.dir))
        first = [environment_message(self.focus, self.asker)] if self.focus and self.asker else []
        ours.untold = ours.unstarted(self.ledger.state, self.hosted)
        ours.opened(self, link, *first)  # if it died at this moment `_timeout` brings us back

    def _say_again(self) -> None:
        """Ask again for every start that was not heard of."""
        for endpoint in self.endpoints.values():
            endpoint.untold = endpoint.unstarted(self.ledger.state, self.hosted)

    def endpoint_of(self, run: Run, flight: Flight) -> Endpoint | None:
        """Where an attempt in flight is; None where that cannot be reached."""
        if not run.workers:
            return self.local if flight.boot == self.local.boot else None
        found = (self.remotes and self.remotes.of(run, flight.worker)) or self.local
        return found if found.has(run, flight) else None

    def _host(self, run_id: str) -> None:
        """Somebody gave the runtime this run's values: place it, and say what is owed of it."""
        if self.until is not None:
            self.wanted = self.leaving = True
            return
        if self.post:
            self.post.brought(run_id)
        if self.remotes:
            self.remotes.brought(run_id)
        run = self.ledger.state.runs.get(run_id)
        if run is None or run.status == "finished":  # somebody may have resumed it
            self.ledger.refresh()
            run = self.ledger.state.runs.get(run_id)
        if run is None:
            return
        if run.status != "finished":
            self.hosted.add(run_id)
        for endpoint in self.endpoints.values():
            mine = endpoint.unstarted(self.ledger.state, {run_id} & self.hosted)
            endpoint.untold.update(mine)

    def _tell(self) -> None:
        """Carry out what is owed and durable: acknowledge, start, interrupt."""
        for endpoint in self.endpoints.values():
            endpoint.tell(self)
        for run in self.ledger.state.open_runs.values():
            for attempt, flight in run.flights.items():
                if flight.end and (found := self.endpoint_of(run, flight)):
                    found.end(attempt, flight)
        for endpoint in self.endpoints.values():
            endpoint.flush(self.poll)

    def kill(self, run_id: str) -> None:
        """KILL at once whatever this run has in flight."""
        if run := self.ledger.state.runs.get(run_id):
            for attempt, flight in run.flights.items():
                if found := self.endpoint_of(run, flight):
                    found.kill(attempt)
            if self.remotes:
                self.remotes.kill(run_id)
            for endpoint in self.endpoints.values():
                endpoint.flush(self.poll)

    # The end ------------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether nothing is left to do here."""
        state = self.ledger.state
        if self.until is not None:
            return self.until(state)
        if self.focus is not None:
            over = self.focus not in state.open_runs or not needs_manager(state.runs[self.focus])
            return over and not (self.post and self.post.lingers(self))
        return self.local.greeted and not self.others and not owes(state)

    def leave(self) -> None:
        with self.ledger.transaction("manager", epoch=self.epoch) as transaction:
            transaction.submit(c.Leave(epoch=self.epoch))
        open_runs, watched = self.ledger.state.open_runs, self.callers.watched
        self.succeeded = any(needs_manager(open_runs[run]) for run in watched & open_runs.keys())
        self.ledger.sync()

    @property
    def others(self) -> list[str]:
        """Runs that still need a manager, beside the focus."""
        return [
            run.id
            for run in self.ledger.state.open_runs.values()
            if run.id != self.focus and needs_manager(run)
        ]
