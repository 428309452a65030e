"""Attempts read back from the ledger: those that began and ended close together, taken at once.

`replay` leaves the same state as `evolve` of each record would, at a third of the cost: an attempt
whose dispatch and passing end stand in one stretch of lines never becomes a flight, and of its
lines only what the row keeps is decoded. Whatever is not that simple goes through `evolve`. Nothing
here reads files or checks chains.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

from msgspec import Raw, Struct

from .events import Envelope, Event
from .evolve import MEAN_WEIGHT, evolve
from .state import Run, State

WORDS = ("attempt.dispatched", "attempt.started", "attempt.ended")
"""What a stretch consists of."""

Record = Callable[[int], tuple[Envelope, Event]]
"""A line of the stretch, decoded in full."""

_NO_RUN = Run(id="", name="", seq=0, ts="", max_workers=0, workspace="")


class Judged(Struct, gc=False):
    """What counts of a receipt."""

    result: str
    source: str = ""


class Body(Struct, gc=False):
    """What counts of a payload. A dispatch has no `src`, only an end has a `receipt`."""

    attempt: str
    worker: str = ""
    src: tuple[str, int] | None = None
    seconds: float = 0.0
    receipt: Judged | None = None
    unstarted: str = ""
    agent: Raw | None = None
    steps: Raw | None = None
    retry_after: float | None = None


class Line(Struct, gc=False):
    """What counts of a ledger line with one of WORDS."""

    k: Literal["attempt.dispatched", "attempt.started", "attempt.ended"]
    seq: int
    ts: str
    run: str
    d: Body
    v: Literal[1] = 1
    """Only payloads of version 1 may be replayed."""


_ts_of = attrgetter("ts")


def replay(state: State, lines: Sequence[Line], record: Record) -> None:
    """Take a stretch of lines into the state. LookupError and ValueError as in `evolve`, with the
    number of the line that contradicts what stands before it in `state.seq`.

    `record` decodes the line of that index in full, for those that are not simple.
    """
    begun: dict[str, int] = {}
    started: dict[str, int] = {}
    run = _NO_RUN
    settle = _settler(run, state)
    settled: dict[tuple[str, bool], int] = {}
    for index, line in enumerate(lines):
        body = line.d
        attempt = body.attempt
        if body.src is None:
            begun[attempt] = index
            continue
        if body.receipt is None and attempt in begun:
            started[attempt] = index
            continue
        first, second = begun.pop(attempt, -1), started.pop(attempt, -1) if started else -1
        state.seq = line.seq
        if line.run != run.id:
            run = state.runs[line.run]
            settle = _settler(run, state)
        if first >= 0 and settle(line.seq, body, body.src):
            kind = run.id, second >= 0
            settled[kind] = settled.get(kind, 0) + 1
            continue
        for at in (first, second, index):
            if at >= 0:
                evolve(state, *record(at))
    for at in sorted((*begun.values(), *started.values())):
        evolve(state, *record(at))
    for (name, ran), count in settled.items():
        _count(state.runs[name], count, ran)
    state.seq, state.ts = lines[-1].seq, lines[-1].ts
    state.latest = max(state.latest, *map(_ts_of, lines))


def _settler(run: Run, state: State) -> Callable[[int, Body, tuple[str, int]], bool]:
    """What takes a row of this run from queued to completed, if nothing else hangs on its end.

    A closure, because half a million calls a run look up nothing twice. Counts are not kept.
    """
    tasks, cursors, skip = run.tasks, state.cursors, len(run.id) + 1
    workers: dict[str, str] = {}
    nobody_waits = not run.parked and not (run.alerts and run.alerts.topics)

    def settle(seq: int, body: Body, src: tuple[str, int]) -> bool:
        judged = body.receipt
        if judged is None or judged.result != "pass" or judged.source:
            return False
        if body.agent is not None or body.steps is not None:
            return False
        name, _, number = body.attempt[skip:].rpartition("@")
        task = tasks[name]
        if task.status != "queued" or task.has_claims or task.source or not nobody_waits:
            return False
        if number == "1":
            task.attempt = 1
        else:
            task.attempt, task.reason, task.not_before = int(number), "", 0.0
        task.status, task.result, task.seq = "completed", "pass", seq
        task.worker = workers.setdefault(body.worker, body.worker)
        seconds = task.seconds = body.seconds
        task.spent = task.spent + seconds if task.spent else seconds
        run.spent += seconds
        if not body.unstarted:
            mean = run.mean
            run.mean = mean + MEAN_WEIGHT * (seconds - mean) if mean else seconds
        runtime, number_of_fact = src
        if number_of_fact > cursors.get(runtime, 0):
            cursors[runtime] = number_of_fact
        return True

    return settle


def _count(run: Run, settled: int, ran: bool) -> None:
    """Tell the run's sums of rows that were settled; those that `ran` were seen to start."""
    counts = run.counts
    counts["queued"] -= settled
    for passed in ("leased", "running") if ran else ("leased",):
        counts.setdefault(passed, 0)
    counts["completed"] = counts.get("completed", 0) + settled
    run.open -= settled
