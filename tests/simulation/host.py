"""A host without processes: a worker runtime with its journal, and what it runs.

Promises what the real runtime does: an attempt that its journal knows is never started again, facts
are numbered without a gap and kept until acknowledged, what runs outlives a killed runtime, what
waits does not, and another boot sets the journal aside. Lower epochs are fenced as long as the
journal lasts. It knows nothing of tasks: how long an attempt takes and how it ends is told to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from .network import Connection
    from .world import World

STARTED_AFTER = 1.0
"""Seconds that an attempt must live for its start to be a fact of its own."""


class Fact(Struct, frozen=True):
    """What stands in the journal and is told: `kind` is started or ended."""

    n: int
    kind: str
    attempt: str
    slot: str
    seconds: float = 0.0
    outcome: str = ""
    """pass, fail, timeout, unknown, unstarted."""
    why: str = ""


class Process(Struct):
    """An attempt that runs."""

    attempt: str
    run: str
    slot: str
    since: float
    outcome: str
    why: str = ""
    deadline: float = 0.0


class Host:
    """One machine: its boot, its runtime, its journal."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.boots = 0
        self.runtimes = 0
        self.incarnation = 0
        """Counts the runtime's processes: a connection belongs to one."""
        self.up = True
        self.values: dict[str, bool] = {}
        self.running: dict[str, Process] = {}
        self.waiting: dict[str, tuple[str, int]] = {}
        self.busy: dict[str, int] = {}
        self.quiet: list[Process] = []
        """Ended while no runtime was there to see it; the keeper noted it."""
        self.links: list[Connection] = []
        """Every connection to this runtime process."""
        self.peers: list[Connection] = []
        """Those that were greeted: they are told facts."""
        self._new_journal()

    def _new_journal(self) -> None:
        self.boots += 1
        self.runtimes += 1
        self.boot = f"boot-{self.number}-{self.boots}"
        self.runtime = f"rt-{self.number}-{self.runtimes}"
        self.epoch = 0
        self.facts: list[Fact] = []
        self.acknowledged = 0
        self.compacted = 0
        """Facts up to this one are in no file any more."""
        self.known: set[str] = set()

    def slots_of(self, slots: int) -> int:
        """How many of a run's slots are on this host."""
        hosts = len(self.world.hosts)
        return slots // hosts + (self.number < slots % hosts)

    # Asked by managers --------------------------------------------------------------------

    def receive(self, peer: Connection, message: tuple[object, ...]) -> None:
        """One message of a manager."""
        word = message[0]
        if word != "hello" and peer.epoch < self.epoch:
            self.world.count("fenced by a host")
            peer.close()
            return
        if word == "hello":
            self._greet(peer, message[1])  # type: ignore[arg-type]
        elif word == "start":
            self.start(peer, *message[1:])  # type: ignore[arg-type]
        elif word == "interrupt":
            self.interrupt(*message[1:])  # type: ignore[arg-type]
        elif word == "environment":
            self.values[str(message[1])] = True
        elif word == "ack":
            self.acknowledge(message[1])  # type: ignore[arg-type]

    def _greet(self, peer: Connection, cursors: dict[str, int]) -> None:
        if peer.epoch < self.epoch:
            self.world.count("fenced by a host")
            peer.close()
            return
        self.epoch = peer.epoch
        for other in list(self.peers):
            if other.epoch < self.epoch:
                other.close()
        cursor = cursors.get(self.runtime, 0)
        known = [*self.running, *self.waiting]
        self.peers.append(peer)
        peer.to_manager(
            ("hello", self.runtime, self.boot, len(self.facts), known, list(self.values))
        )
        for fact in self.facts[max(cursor, self.compacted) :]:
            peer.to_manager(("fact", self.runtime, fact))

    def acknowledge(self, n: int) -> None:
        """A manager says that it holds every fact up to `n` durably."""
        self.acknowledged = max(self.acknowledged, min(n, len(self.facts)))
        if self.world.chance("compact"):
            self.compacted = self.acknowledged

    def start(self, peer: Connection, attempt: str, run: str, slot: str, slots: int) -> None:
        """Queue an attempt, once."""
        if self.knows(attempt):
            self.world.count("starts told again")
            return
        if attempt in self.waiting:
            return
        if run not in self.values:
            peer.to_manager(("refused", attempt, "values"))
            return
        if self.world.chance("disk"):
            peer.to_manager(("refused", attempt, "disk"))
            return
        self.waiting[attempt] = (slot, slots)
        self.pump(run)

    def knows(self, attempt: str) -> bool:
        """Whether the journal names it."""
        return attempt in self.known

    def interrupt(self, attempt: str, why: str) -> None:
        """End what runs, withdraw what waits, fence what was never heard of."""
        process = self.running.get(attempt)
        if process is not None:
            if not process.why:
                process.why = why
                self._end_at(process, self.world.now + self.world.rng.uniform(0.01, 5.0))
        elif self.waiting.pop(attempt, None) or not self.knows(attempt):
            self.known.add(attempt)
            self.tell("ended", attempt, outcome="unstarted", why="withdrawn")

    # Running ------------------------------------------------------------------------------

    def pump(self, run: str) -> None:
        """Give free slots of a run to what waits, in order."""
        prefix = run + "/"
        for attempt in [name for name in self.waiting if name.startswith(prefix)]:
            slot, slots = self.waiting[attempt]
            if self.busy.get(run, 0) >= self.slots_of(slots):
                return
            del self.waiting[attempt]
            self._begin(attempt, run, slot, slots)

    def _begin(self, attempt: str, run: str, slot: str, slots: int) -> None:
        world = self.world
        self.known.add(attempt)
        seconds, outcome = world.fate(run)
        process = Process(attempt, run, slot, world.now, outcome)
        self.running[attempt] = process
        self.busy[run] = self.busy.get(run, 0) + 1
        world.watch.started(attempt, self.busy[run], self.slots_of(slots))
        self._end_at(process, world.now + seconds)
        if seconds > STARTED_AFTER:
            world.at(world.now + STARTED_AFTER, self._lives, process, self.boots)

    def _lives(self, process: Process, boots: int) -> None:
        alive = self.boots == boots and self.running.get(process.attempt) is process
        if alive and self.up:
            self.tell("started", process.attempt, process.slot)

    def _end_at(self, process: Process, when: float) -> None:
        if not process.deadline or when < process.deadline:
            process.deadline = when
            self.world.at(when, self._exited, process, self.boots, when)

    def _exited(self, process: Process, boots: int, deadline: float) -> None:
        if self.boots != boots or process.deadline != deadline:
            return
        if self.running.get(process.attempt) is not process:
            return
        if not self.up:
            self.quiet.append(process)
            return
        self._reap(process)

    def _reap(self, process: Process) -> None:
        del self.running[process.attempt]
        self.busy[process.run] -= 1
        self.world.watch.left(process.attempt)
        seconds = round(max(process.deadline - process.since, 0.0), 6)
        outcome = "fail" if process.why and process.outcome == "pass" else process.outcome
        self.tell("ended", process.attempt, process.slot, seconds, outcome, process.why)
        self.pump(process.run)

    def tell(
        self,
        kind: str,
        attempt: str,
        slot: str = "",
        seconds: float = 0.0,
        outcome: str = "",
        why: str = "",
    ) -> None:
        """Journal a fact and send it to every manager that was greeted."""
        fact = Fact(len(self.facts) + 1, kind, attempt, slot, seconds, outcome, why)
        self.facts.append(fact)
        again = self.facts[-4:-1] if self.world.chance("repeat") else []
        for peer in self.peers:
            for old in again:
                peer.to_manager(("fact", self.runtime, old))
            peer.to_manager(("fact", self.runtime, fact))

    # Faults -------------------------------------------------------------------------------

    def kill_runtime(self, *, keeper: bool) -> None:
        """The runtime dies; what runs lives on. With its keeper, exits go unseen."""
        if not self.up:
            return
        self._down()
        if keeper:
            self.values.clear()
            for process in self.running.values():
                if process.outcome != "unknown" and self.world.rng.random() < 0.5:
                    process.outcome = "unknown"
        self.world.at(self.world.now + self.world.rng.uniform(0.05, 3.0), self._again, self.boots)

    def reboot(self) -> None:
        """Everything that ran is gone, and so is the journal."""
        self._down()
        for attempt in self.running:
            self.world.watch.left(attempt)
        self.running.clear()
        self.busy.clear()
        self.quiet.clear()
        self.values.clear()
        self._new_journal()
        self.world.at(self.world.now + self.world.rng.uniform(2.0, 40.0), self._again, self.boots)

    def _down(self) -> None:
        self.up = False
        self.incarnation += 1
        self.waiting.clear()
        for link in list(self.links):
            link.close()

    def _again(self, boots: int) -> None:
        if self.up or self.boots != boots:
            return
        self.up = True
        quiet, self.quiet = self.quiet, []
        for process in quiet:
            self._reap(process)
        for process in self.running.values():
            if self.world.now - process.since > STARTED_AFTER:
                self.tell("started", process.attempt, process.slot)
