"""A worker runtime on another machine, as a manager knows it: its connection, its host, its values.

Promises: nothing is said to it before it greeted; a run's values go there once a connection, before
the first start of the run, and secrets only where the worker's trust allows it; what it tells of
attempts that are not its own is not believed. When to connect is known to remotes.py.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ..core import commands as c
from ..core import events as e
from ..core.greeting import Greeting, on_greeting
from ..core.load import place_of
from ..core.matching import level_of_worker
from ..core.spec_hosts import SshHost, decode_worker, mark_of
from ..core.tasks import decode_task
from .endpoint import Endpoint
from .launch import There, start_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..core.spec_hosts import Worker
    from ..core.state import Flight, Run, State
    from ..ledger.store import Transaction
    from .link import Message
    from .manager import Manager

FIRST_SECONDS, LONGEST_SECONDS = 0.1, 5.0
"""Time until a lost connection is tried again: the first one, and the longest; cut by chance."""

ROOM_SECONDS = 2.0
"""Time until a start is said again that was refused because the host's disk is full."""

UNTRIED_SECONDS = 30.0  # longer than between two tries of one that is wanted
SURE_TRIES, SURE_SECONDS = 3, 5.0
"""A worker counts as unreachable after so many tries, or one that took so long, at the earliest."""


def may_have_secrets(worker: Worker) -> bool:
    """Whether values of secrets may leave this machine for it."""
    return level_of_worker(worker) in ("remote_verified", "operator")


class Far(Endpoint):
    """One worker that is reached by ssh, as some runs define its host.

    Another run may mean another host by the same id: that is another one of these. What all runs
    together may have there is counted by the id, whichever host it was.
    """

    def __init__(self, worker: str, mark: str) -> None:
        super().__init__(worker, "")
        self.mark = mark
        """Of its host: see `mark_of`."""
        self.definition = b""
        self.root = self.state = ""
        """Paths there, once its road is open: the workspace, and the runtime's directory."""
        self.road: Message | None = None
        """What was said when its road opened: what its host is."""
        self.rtt = 0.0
        """Seconds from a word to its answer; 0: not measured yet."""
        self.pinged = 0.0
        self.runs: set[str] = set()
        """Runs whose values were said on this connection."""
        self.given: dict[str, frozenset[str]] = {}
        """Run -> keys of the secrets that it was given, on any connection."""
        self.holds: set[str] = set()
        """Runs whose values it had when it greeted."""
        self.strangers: set[str] = set()
        """Attempts that are open there, and the ledger does not know them in flight."""
        self.since = self.tried = 0.0
        """When the first try began of those that came to nothing; and when the last one did."""
        self.failures = 0
        """Tries that came to nothing since it last greeted."""
        self.next = 0.0
        """When it may be tried again."""
        self.why = self.hint = ""
        """Why the latest try came to nothing, and what helps."""
        self.final = False
        """Whether trying again cannot help."""
        self.trying, self.asked = dict[str, float](), dict[str, float]()
        """Run that wants it -> when it was first tried for that; `asked`: in vain."""
        self.short: dict[str, str] = {}
        """Attempt -> run: no room was there to start it."""
        self.short_since = self.again = 0.0
        """When its disk was found full, 0 while it takes starts; when those are said again."""
        self.killed: set[str] = set()
        """Runs of which a person will not wait for what cannot be reached."""

    def has(self, run: Run, flight: Flight) -> bool:
        """Whether an attempt in flight was placed there since its machine was started."""
        return self.holds_of(run, flight) and flight.boot == self.boot

    def holds_of(self, run: Run, flight: Flight) -> bool:
        """Whether an attempt in flight was placed on this worker, and its run means this host."""
        return (
            bool(run.workers)
            and place_of(run.id, flight.worker) == self.worker
            and self.leads_to(run)
        )

    @property
    def there(self) -> There:
        """Where plans are followed."""
        host = decode_worker(self.definition).host
        assert isinstance(host, SshHost)
        bare, agent = not host.working_directory, host.codewhale_binary or ""
        return There(root=self.root, state=self.state, bare=bare, agent=agent)

    def serves(self, run: Run) -> bool:
        """Whether attempts of a run may come here."""
        return self.leads_to(run)

    def leads_to(self, run: Run) -> bool:
        """Whether a run has this worker, and means this host by it."""
        wanted = run.workers.get(self.worker)
        return wanted is not None and (wanted is self.definition or mark_of(wanted) == self.mark)

    def owns(self, state: State, attempt: str) -> bool:
        """Whether it may tell of an attempt: it is not in flight anywhere else."""
        run = state.runs.get(attempt.partition("/")[0])
        flight = run.flights.get(attempt) if run else None
        return run is None or flight is None or self.holds_of(run, flight)

    # Its connection -----------------------------------------------------------------------

    def is_dead(self, run: Run, now: float) -> bool:
        """Whether a run that wanted it gives it up for now."""
        if self.greeted or run.id not in self.asked:
            return False
        away = now - self.asked[run.id]
        is_sure = self.failures >= SURE_TRIES or away >= SURE_SECONDS
        return self.final or (is_sure and away >= run.patience)

    @property
    def away(self) -> float:
        """Seconds from the first to the last of the tries that came to nothing."""
        return self.tried - self.since if self.since and not self.greeted else 0.0

    def begin(self, asked: set[str], now: float) -> None:
        """It is tried (again), because these runs want it. Time without a try does not count."""
        if not self.since or now - self.tried >= UNTRIED_SECONDS:
            self.since, self.tried, self.asked = now, now, {}
        self.trying = {run: self.asked.get(run, now) for run in asked}
        self.runs.clear()
        self.holds.clear()
        self.final = False

    def forget(self) -> None:
        """Nobody needs it any more."""
        if self.link is not None:
            self.link.close()
        self.link, self.greeted = None, False
        self.since, self.failures, self.next = 0.0, 0, 0.0

    def dropped(self, now: float) -> None:
        """Its connection is gone, or came to nothing."""
        if self.link is not None:
            self.link.close()
        self.link = None
        if self.greeted:
            self.since, self.failures, self.asked = now, 0, {}
        else:
            self.failures += 1
            self.asked = self.trying
        self.greeted, self.tried = False, now
        wait = min(FIRST_SECONDS * 2 ** min(self.failures, 10), LONGEST_SECONDS)
        self.next = max(now + wait * (0.5 + random.random() / 2), self.again)

    def refused(
        self, manager: Manager, transaction: Transaction, sentence: str, hint: str, final: bool
    ) -> None:
        """The road says why it ends; people are told once."""
        self.why, self.hint = sentence, hint
        if not self.greeted:
            self.final = final
            why = sentence if not hint else f"{sentence.rstrip('.')}. {hint}"
            report = c.ReportUnreachable(worker=self.worker, why=why, final=final)
            known = transaction.submit(report)
            if isinstance(known, e.WorkerUnreachable):
                more = (f". {hint}" if hint else "") if final else "; it is tried again"
                manager.observer.note(f"{self.worker} cannot be reached: {sentence}{more}")

    # What it says -------------------------------------------------------------------------

    def take(self, manager: Manager, transaction: Transaction, message: Message) -> bool:
        """Take what only a far runtime says, or says otherwise; whether this was such a message."""
        if message.f:
            if self.short.pop(message.attempt, None):
                self.short_since = 0.0
            return not self.owns(transaction.state, message.attempt)
        if message.m == "road":
            self.root, self.state, self.road = message.root, message.state, message
        elif message.m == "hello":
            self._greet(manager, transaction, message)
        elif message.m == "pong":
            took = manager.clock() - self.pinged
            self.rtt = min(self.rtt, took) if self.rtt else took
        elif message.m == "tailed":
            manager.callers.tailed(message.attempt)
        elif message.m == "refused":
            self._hear_refusal(manager, transaction, message)
        return True

    def _hear_refusal(self, manager: Manager, transaction: Transaction, said: Message) -> None:
        if said.unkept:
            owed = self.unstarted(transaction.state, manager.hosted)
            owed = {one: run for one, run in owed.items() if one not in self.untold}
            self._hear_no_room(manager, transaction, owed, said.sentence)
        if said.why == "transport":
            self.refused(manager, transaction, said.sentence, said.hint, said.final)
        elif said.why in ("epoch", "protocol"):
            words = f"the worker runtime of {self.worker} does not go on with us: {said.sentence}"
            self.greeted = False
            self.refused(manager, transaction, words, "", final=said.why == "epoch")
        elif said.why == "disk":
            self._hear_no_room(manager, transaction, [said.attempt], said.sentence)
        else:
            run = transaction.state.open_runs.get(said.attempt.partition("/")[0])
            if said.why == "values" and run is not None:
                self.runs.discard(run.id)
                if run.secrets and not may_have_secrets(decode_worker(run.workers[self.worker])):
                    why = f"{self.worker} is not trusted with secrets, and the task needs some"
                    receipt = e.Receipt(result="fail", source="policy", reason=why)
                    lost = c.ReportLost(attempt=said.attempt, why=why, receipt=receipt)
                    transaction.submit(lost)
                    return
            manager.observer.note(f"{self.worker}: {said.sentence or said.why}")

    def _hear_no_room(
        self, manager: Manager, transaction: Transaction, attempts: Iterable[str], sentence: str
    ) -> None:
        """Its disk is full: starts wait as for a host that is away, and then they are nobody's."""
        now, open_runs = manager.clock(), transaction.state.open_runs
        if not self.short_since:
            self.short_since = now
            manager.observer.note(f"{self.worker}: {sentence}")
        self.again = now + ROOM_SECONDS
        for attempt in attempts:
            run = open_runs.get(attempt.partition("/")[0])
            if run is None or attempt not in run.flights:
                continue
            if now - self.short_since < run.patience:
                self.short[attempt] = run.id
                continue
            self.short.pop(attempt, None)
            why = f"{self.worker}: {sentence}"
            receipt = e.Receipt(result="fail", source="environment", reason=why)
            transaction.submit(c.ReportLost(attempt=attempt, why=why, receipt=receipt))

    def _say_again(self, manager: Manager) -> None:
        """What found no room there is said again, when it is time."""
        if 0 < self.again <= manager.clock():
            runs, self.again = manager.ledger.state.open_runs, 0.0
            self.short = {
                attempt: run
                for attempt, run in self.short.items()
                if run in runs and attempt in runs[run].flights
            }
            self.untold.update(self.short)

    def _greet(self, manager: Manager, transaction: Transaction, hello: Message) -> None:
        assert self.link is not None
        self.link.runtime = hello.runtime
        state = transaction.state
        cursor = state.cursors.get(hello.runtime, 0)
        if hello.acknowledged > cursor:
            words = f"the worker runtime of {self.worker} has told more than this ledger knows"
            self.refused(manager, transaction, words, "Was the ledger restored?", final=True)
            self.link.close()
            return
        self.greeted = True
        self.tries = self.failures = 0
        self.since, self.why, self.hint = 0.0, "", ""
        self.again = 0.0  # all that has not started is said now
        self.boot = hello.boot
        self.acknowledge = cursor
        self.holds = set(hello.runs)
        self.killed.clear()
        transaction.submit(c.EnrolWorker(enrolled=self._enrolled()))
        self.cut_off = self._cut_off(state)
        greeting = Greeting(
            runtime=hello.runtime,
            boot=hello.boot,
            journal=hello.journal,
            open=frozenset(hello.open),
            kept=self.cut_off,
        )
        for command in on_greeting(state, greeting, self.worker, self.leads_to):
            transaction.submit(command)
        known = {attempt for run in state.open_runs.values() for attempt in run.flights}
        self.strangers = set(hello.open) - known
        self.untold = self.unstarted(state, manager.hosted)
        self.unshared = True
        self.ping(manager)

    def _cut_off(self, state: State) -> dict[str, str]:
        """Attempt -> run, of what a restart of its machine left a directory of."""
        return {
            attempt: run.id
            for run in state.open_runs.values()
            if self.leads_to(run)
            for attempt, flight in run.flights.items()
            if place_of(run.id, flight.worker) == self.worker and flight.boot != self.boot
            if (place := decode_task(run.tasks[flight.task].raw).workspace) and place.own
        }

    def _enrolled(self) -> e.WorkerEnrolled:
        road = self.road
        assert road is not None
        return e.WorkerEnrolled(
            worker=self.worker,
            slots=decode_worker(self.definition).max_concurrent_tasks or 1,
            host=road.host,
            boot=self.boot,
            cores=road.cores or 1,
            platform=road.platform or "linux",
            memory_mb=road.memory_mb,
            gpus=road.gpus,
            python=road.python,
        )

    # What it is told ----------------------------------------------------------------------

    def ping(self, manager: Manager) -> None:
        """Have it answer; how long that takes is its distance."""
        self.pinged = manager.clock()
        self.say({"m": "ping"})

    def tell(self, manager: Manager) -> None:
        """Say what is owed and durable, once it has greeted."""
        if self.greeted:
            for attempt in self.strangers:
                self.say({"m": "interrupt", "attempt": attempt, "why": "interrupted"})
            self.strangers.clear()
            self._say_again(manager)
            super().tell(manager)

    def end(self, attempt: str, flight: Flight) -> None:
        """Ask for the end of an attempt, once it has greeted."""
        if self.greeted:
            super().end(attempt, flight)

    def start(self, manager: Manager) -> None:
        """Say every start that is owed, of runs whose values are there; ask for the others'."""
        state = manager.ledger.state
        waiting: dict[str, str] = {}
        ready = {run for run in set(self.untold.values()) if self._give(manager, state.runs[run])}
        for attempt, run_id in self.untold.items():
            run = state.runs[run_id]
            flight = run.flights.get(attempt)
            if flight is None or flight.started:
                continue
            if run_id in ready:
                message = start_message(state, run, attempt, manager.ledger.dir, self.there)
                message["slots"] = decode_worker(run.workers[self.worker]).max_concurrent_tasks or 1
                self.say(message)
            else:
                waiting[attempt] = run_id
        self.untold = waiting

    def _give(self, manager: Manager, run: Run) -> bool:
        """Hand over the values of a run; False while nobody knows them here.

        Of its secrets those go that what is, or was, in flight there may get, and no others.
        """
        keys = self._keys(run) if run.secrets else frozenset()
        if run.id in self.runs and keys <= self.given.get(run.id, frozenset()):
            return True
        assert manager.remotes is not None
        given = manager.remotes.values_of(manager, run.id)
        if given is None:
            return False
        if given:
            values = {"allowed": given["values"].get("allowed") or {}}
            secrets = given["values"].get("secrets") or {}
            if keys:
                self.given[run.id] = self.given.get(run.id, frozenset()) | keys
                values["secrets"] = {one: secrets[one] for one in self.given[run.id] & set(secrets)}
            said = {"m": "environment", "run": run.id, "umask": given["umask"], "values": values}
            self.say(said)
        elif run.id not in self.holds:
            return False
        self.runs.add(run.id)
        return True

    def _keys(self, run: Run) -> frozenset[str]:
        """The secrets that attempts in flight there may get."""
        if not may_have_secrets(decode_worker(run.workers[self.worker])):
            return frozenset()
        from .secrets import needed

        mine = [flight.task for flight in run.flights.values() if self.has(run, flight)]
        tasks = (run.tasks[task].raw for task in mine)
        return frozenset(one.key for one in needed(tasks, run.agents, run.secrets))
