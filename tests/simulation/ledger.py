"""A ledger without a disk: records with a durable part and a tail that a power loss may drop.

Promises what the real one does: one order of records, a manager's transaction is refused when its
epoch is over, `sync` makes everything written so far durable. Each record is kept as the bytes of
its payload, so that folding again goes through the wire. A snapshot is the real one's slimming
through msgpack and `core/rebuild`. It knows nothing of files.
"""

from collections.abc import Callable, Iterator

from msgspec import Raw, Struct, json, msgpack, structs

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core import rebuild as rebuilding
from codewhale_fleet.core.decide import Known, decide
from codewhale_fleet.core.evolve import evolve
from codewhale_fleet.core.state import Run, State, Task
from codewhale_fleet.ledger import snapshot
from codewhale_fleet.ledger.record import stamp
from codewhale_fleet.ledger.rows import is_shed

FLYING = ("leased", "running")
INDEXES = ("ready", "timers", "parked", "behind", "order", "tasks")
NOTHING = Raw(b"{}")
NEEDS_ROWS = (c.Restart, c.ResumeRun, c.Interrupt, c.StopRun)
REOPENS = ("run.resumed", "task.queued")

_decoders = {word: json.Decoder(kind) for word, kind in e.EVENTS.items()}


class Line(Struct, frozen=True, gc=False):
    """One record. `epoch` is the writer's where a manager wrote it, else 0."""

    word: str
    ts: str
    run: str
    by: str
    epoch: int
    data: bytes


class Fenced(Exception):
    """The writer's epoch is over."""


class Ledger:
    """The one ledger of a simulated fleet; `saw` is called after each record was folded."""

    def __init__(self) -> None:
        self.state = State()
        self.lines: list[Line] = []
        self.synced = 0
        self.controls = 0
        """Records so far that may have given an attempt a reason to end."""
        self.saw: Callable[[e.Envelope, e.Event, int], None] = lambda head, event, epoch: None
        self._kept: list[tuple[int, bytes]] = []

    # Writing ------------------------------------------------------------------------------

    def check(self, epoch: int) -> None:
        """A manager begins a transaction."""
        if self.state.epoch != epoch:
            raise Fenced

    def submit(
        self, command: c.Command, now: float, *, run: str = "", by: str = "manager", epoch: int = 0
    ) -> e.Event | Known:
        """Decide, evolve and record; raises Refused as the core does."""
        if isinstance(command, NEEDS_ROWS):
            self.hydrate(run)
        decision = decide(self.state, command, now)
        if not isinstance(decision, e.Event):
            return decision
        line = Line(decision.word, stamp(now), run, by, epoch, json.encode(decision))
        self.lines.append(line)
        head = e.Envelope(line.word, len(self.lines), line.ts, NOTHING, 1, run, by)
        evolve(self.state, head, decision)
        if line.word in ("control.requested", "run.stopped", "run.resumed"):
            self.controls += 1
        self.saw(head, decision, epoch)
        return decision

    def sync(self, upto: int) -> None:
        """Everything up to this record is durable."""
        self.synced = max(self.synced, min(upto, len(self.lines)))

    def hydrate(self, run: str) -> None:
        """Bring back the rows of a finished run where a snapshot left them out."""
        found = self.state.runs.get(run)
        if found is not None and is_shed(found):
            self.state.runs[run] = self._rows(run, len(self.lines))

    def _rows(self, run: str, upto: int) -> Run:
        state = State()
        for seq, line in enumerate(self.lines[:upto], 1):
            if line.run == run:
                _take(state, seq, line)
        return state.runs[run]

    def records(self) -> Iterator[tuple[e.Envelope, e.Event, int]]:
        """Every record, decoded, with the epoch of the manager that wrote it."""
        for seq, line in enumerate(self.lines, 1):
            yield *_decoded(seq, line), line.epoch

    # Losing -------------------------------------------------------------------------------

    def lose(self, keep: int) -> None:
        """Power loss: only the first `keep` records are left, and memory is gone."""
        assert keep >= self.synced
        del self.lines[keep:]
        self._kept = [(seq, body) for seq, body in self._kept if seq <= keep]
        self.state = self.restored()
        self.controls += 1

    # Folding ------------------------------------------------------------------------------

    def keep_snapshot(self) -> None:
        """Take a snapshot of the state as it is; the latest two are kept."""
        self._kept = [*self._kept[-1:], (len(self.lines), slim(self.state))]

    def restored(self) -> State:
        """The state from the latest snapshot that is in the file, and the tail after it."""
        if not self._kept:
            return self.folded()
        seq, body = self._kept[-1]
        state = msgpack.decode(body, type=State)
        rebuilding.rebuild(state)
        return self._fold(state, seq)

    def folded(self) -> State:
        """The state from the first record on."""
        return self._fold(State(), 0)

    def _fold(self, state: State, after: int) -> State:
        for seq in range(after + 1, len(self.lines) + 1):
            line = self.lines[seq - 1]
            run = state.runs.get(line.run)
            if line.word in REOPENS and run is not None and is_shed(run):
                state.runs[line.run] = self._rows(line.run, seq - 1)
            _take(state, seq, line)
        return state


def _take(state: State, seq: int, line: Line) -> None:
    evolve(state, *_decoded(seq, line))


def _decoded(seq: int, line: Line) -> tuple[e.Envelope, e.Event]:
    head = e.Envelope(line.word, seq, line.ts, NOTHING, 1, line.run, line.by)
    return head, _decoders[line.word].decode(line.data)


def slim(state: State) -> bytes:
    """The bytes of a snapshot's state: rows of open runs, summaries of the others, no indexes."""
    return msgpack.encode(snapshot._slim(state))


def indexes(state: State) -> dict[str, object]:
    """What `rebuild` must have made anew: everything that placement and duties rest on."""
    return {
        run.id: (
            dict(sorted(run.load.items())),
            [bits for bits in run.crowd if bits],
            dict(sorted(run.claims.items())),
            [task.id for task in run.order],
            sorted(state.open_runs),
            sorted((task.not_before, task.index) for task in waiting(run)),
        )
        for run in state.open_runs.values()
    }


def waiting(run: Run) -> list[Task]:
    """Rows of the tasks that placement can still find."""
    found = {index for _, index in run.ready} | {index for _, index in run.timers}
    for holder, parked in run.parked.items():
        if run.tasks[holder].status in FLYING:
            found.update(parked)
    lines = dict(run.behind)
    while reached := [
        first
        for first in lines
        if run.tasks[first].status in FLYING or run.tasks[first].index in found
    ]:
        for first in reached:
            found.update(lines.pop(first))
    return [run.order[index] for index in sorted(found) if run.order[index].status == "queued"]


def differences(one: State, other: State) -> list[str]:
    """Where two states differ, for people; empty when they are the same."""
    if slim(one) == slim(other) and indexes(one) == indexes(other):
        return []
    found = []
    for name in one.runs.keys() | other.runs.keys():
        a, b = one.runs.get(name), other.runs.get(name)
        if a is None or b is None:
            found.append(f"run {name} is missing")
            continue
        for task in a.tasks.keys() & b.tasks.keys() if a.status != "finished" else ():
            if a.tasks[task] != b.tasks[task]:
                found.append(f"{a.tasks[task]} != {b.tasks[task]}")
        left, right = structs.asdict(a), structs.asdict(b)
        for field, value in left.items():
            if value != right[field] and field not in INDEXES and a.status != "finished":
                found.append(f"{name}.{field}: {str(value)[:300]} != {str(right[field])[:300]}")
    if one.cursors != other.cursors:
        found.append(f"cursors: {one.cursors} != {other.cursors}")
    mine, theirs = indexes(one), indexes(other)
    for name in mine.keys() | theirs.keys():
        if mine.get(name) != theirs.get(name):
            found.append(f"indexes of {name}: {mine.get(name)} != {theirs.get(name)}"[:2000])
    return found or ["they differ outside the runs"]
