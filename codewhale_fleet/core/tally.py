"""What a status needs and no more: counts, what flies, and rows only of tasks that are not plain.

`tally` and `note` take records like `replay` and `evolve`, but a task that nothing happened to, or
that passed at its first attempt, gets no row: it is in its run's counts alone. Where a record can
only be understood with such a row, Unknown is raised, and the caller folds the whole state. Claims,
heaps, means and journal cursors are not kept. Nothing here reads files.
"""

from collections.abc import Sequence
from itertools import compress, repeat
from typing import Literal

from msgspec import Raw, Struct, structs

from .events import (
    AttemptDispatched,
    AttemptEnded,
    Envelope,
    Event,
    ReceiptRecorded,
    RunResumed,
    RunStopped,
    TaskQueued,
    TasksAdded,
)
from .evolve import evolve
from .load import occupy
from .replay import Record
from .state import Run, State, Task

KEPT_RUNS = 64
"""Finished runs that are kept one by one, the newest; more than a status names."""
DISPATCHED = "attempt.dispatched"
NO_SPEC = b"?"
"""What stands for the spec in a row that was made without one."""


class Unknown(Exception):
    """A record says something about a task whose row was not kept."""


class Judged(Struct, gc=False):
    """What counts of a receipt."""

    result: Literal["pass", "partial", "fail", "skip", "timeout"]
    source: str = ""


class Body(Struct, gc=False):
    """What counts of a payload; only an end has a receipt."""

    attempt: str
    receipt: Judged | None = None
    agent: Raw | None = None
    steps: Raw | None = None


class Line(Struct, gc=False):
    """What counts of a ledger line with one of `replay`'s words."""

    k: Literal["attempt.dispatched", "attempt.started", "attempt.ended"]
    run: str
    d: Body
    v: Literal[1] = 1


class Rows(dict[str, Task]):
    """Rows of the tasks that are not plain; a first attempt makes one of a task that was."""

    def __missing__(self, name: str) -> Task:
        row = self[name] = Task(0, name, NO_SPEC)
        return row


def is_partial(run: Run) -> bool:
    """Whether rows of this run were left out."""
    return type(run.tasks) is Rows


def tally(state: State, lines: Sequence[Line], record: Record) -> None:
    """Take a stretch of attempts; Unknown where the whole state is needed."""
    names = {line.run for line in lines}
    try:
        for name in names:
            part: Sequence[int] = range(len(lines))
            if len(names) > 1:
                part = [at for at in part if lines[at].run == name]
            _tally(state, state.runs[name], lines, part, record)
    except (LookupError, ValueError) as error:
        raise Unknown from error
    head, _ = record(len(lines) - 1)
    state.seq, state.ts = head.seq, head.ts


def _tally(
    state: State, run: Run, lines: Sequence[Line], part: Sequence[int], record: Record
) -> None:
    """Take the lines that are one run's: first attempts that are dispatched here, and pass here, of
    tasks without rows by their number, and all others one by one."""
    if not is_partial(run):
        for at in part:
            note(state, *record(at))
        return
    chosen = lines if len(part) == len(lines) else [lines[at] for at in part]
    attempts = [line.d.attempt for line in chosen]
    plain = set(
        compress(
            attempts,
            map(_is_plain_pass, chosen),
        )
    )
    plain.intersection_update([line.d.attempt for line in chosen if line.k == DISPATCHED])
    if len(run.tasks) < len(plain):
        plain -= {f"{run.id}/{row.id}@{row.attempt + 1}" for row in run.tasks.values()}
    else:
        skip, tasks = len(run.id) + 1, run.tasks
        plain = {one for one in plain if one[skip:].rpartition("@")[0] not in tasks}
    if not all(map(str.endswith, plain, repeat("@1"))):
        plain = {one for one in plain if one.endswith("@1")}
    for at in [at for at, one in zip(part, attempts, strict=True) if one not in plain]:
        note(state, *record(at))
    counts = run.counts
    counts["queued"] -= len(plain)
    counts["completed"] = counts.get("completed", 0) + len(plain)
    run.open -= len(plain)


def _is_plain_pass(line: Line) -> bool:
    body = line.d
    judged = body.receipt
    if judged is None or judged.result != "pass" or judged.source:
        return False
    return body.agent is None and body.steps is None


def note(state: State, head: Envelope, event: Event) -> None:
    """Take one record into the state; Unknown where a row is needed that was not kept."""
    run = state.runs.get(head.run)
    if isinstance(event, ReceiptRecorded):
        raise Unknown
    if run is not None and run.alerts is not None and run.alerts.policies:
        raise Unknown  # what its tasks say of alerts stands in their specs
    if run is None or not (is_partial(run) or (isinstance(event, TasksAdded) and not run.tasks)):
        evolve(state, head, event)
    elif isinstance(event, TasksAdded):
        if not is_partial(run):
            run.tasks = Rows()
        count = len(event.tasks)
        run.counts["queued"] = run.counts.get("queued", 0) + count
        run.open += count
        state.seq, state.ts = head.seq, head.ts
    elif isinstance(event, RunStopped | RunResumed):
        _turned(state, run, head, event)
    else:
        if isinstance(event, TaskQueued):
            _passed(run, event)
        name, _, number = getattr(event, "attempt", "")[len(run.id) + 1 :].rpartition("@")
        if isinstance(event, AttemptDispatched) and number != "1" and name not in run.tasks:
            raise Unknown
        if isinstance(event, AttemptEnded) and state.breakers:
            raise Unknown  # whose end it was stands in the row
        evolve(state, head, event)
        if isinstance(event, AttemptEnded) and name in run.tasks and is_plain(run.tasks[name]):
            del run.tasks[name]


def _passed(run: Run, event: TaskQueued) -> None:
    """Make rows of tasks that passed and run again. Unknown if they may have been stopped."""
    names = [name for name in event.tasks if name not in run.tasks]
    if names and _bare(run, "cancelled"):
        raise Unknown
    for name in names:
        run.tasks[name] = Task(0, name, NO_SPEC, status="completed", attempt=1, result="pass")


def _bare(run: Run, status: str) -> int:
    """How many tasks without rows have this status."""
    return run.counts.get(status, 0) - sum(row.status == status for row in run.tasks.values())


def _turned(state: State, run: Run, head: Envelope, event: RunStopped | RunResumed) -> None:
    """A run was stopped or goes on: queued tasks without rows are cancelled, or the other way."""
    stopped = isinstance(event, RunStopped)
    before, after = ("queued", "cancelled") if stopped else ("cancelled", "queued")
    moved = _bare(run, before)
    run.order = list(run.tasks.values())
    evolve(state, head, event)
    if moved:
        run.counts[before] -= moved
        run.counts[after] = run.counts.get(after, 0) + moved
        run.open += -moved if stopped else moved
    run.order = []


def is_plain(row: Task) -> bool:
    """Whether nothing happened to the task, or a pass at its first attempt."""
    if row.failures or row.restarts or row.not_before:
        return False
    return (row.status, row.attempt) in (("queued", 0), ("completed", 1))


# What is kept between two answers -------------------------------------------------------------


class Rest(Struct):
    """Sums over finished runs that are not kept one by one."""

    runs: int = 0
    counts: dict[str, int] = {}
    sources: dict[str, int] = {}
    restarted: int = 0

    def as_run(self) -> Run:
        """All of them as one finished run."""
        run = Run(id="", name="", seq=0, ts="", max_workers=0, workspace="", status="finished")
        run.counts, run.sources, run.restarted = self.counts, self.sources, self.restarted
        return run


class Brief(Struct):
    """A state for a status, without its indexes."""

    state: State
    partial: list[str]
    """Runs whose rows are not all there."""
    rest: Rest


def condensed(state: State, rest: Rest) -> Brief:
    """What a status needs of a state, whole or tallied. Shares what it keeps with it."""
    finished = sorted(
        (run.seq for run in state.runs.values() if run.status == "finished"), reverse=True
    )
    least = finished[KEPT_RUNS] if len(finished) > KEPT_RUNS else 0
    kept = Rest(rest.runs, dict(rest.counts), dict(rest.sources), rest.restarted)
    runs: dict[str, Run] = {}
    for run in state.runs.values():
        if (
            run.status == "finished"
            and run.seq <= least
            and not (run.counts.get("partial") or run.id in state.owing)
        ):
            _sum_up(kept, run)
            continue
        runs[run.id] = brief = structs.replace(
            run, order=[], ready=[], timers=[], load={}, crowd=[], claims={}, parked={}, behind={}
        )
        brief.data, brief.board = {}, None
        if run.status == "finished":
            brief.tasks, brief.flights, brief.open, brief.mean = {}, {}, 0, 0.0
            brief.questions = {}
            if run.alerts is not None:
                brief.alerts = run.alerts.shed()
        else:
            brief.tasks = {name: row for name, row in run.tasks.items() if not is_plain(row)}
    partial = [run.id for run in runs.values() if run.status != "finished"]
    fresh = structs.replace(state, runs=runs, open_runs={}, cursors={}, moved={}, moves=0)
    return Brief(fresh, partial, kept)


def _sum_up(rest: Rest, run: Run) -> None:
    rest.runs += 1
    rest.restarted += run.restarted
    for sums, given in ((rest.counts, run.counts), (rest.sources, run.sources)):
        for name, count in given.items():
            sums[name] = sums.get(name, 0) + count


def expand(brief: Brief) -> None:
    """Make the indexes anew that tallying needs."""
    state = brief.state
    for name in brief.partial:
        run = state.runs[name]
        run.tasks = Rows(run.tasks)
        if run.status in ("running", "paused", "stopping"):
            state.open_runs[name] = run
        for flight in run.flights.values():
            occupy(run, flight.worker)
    if state.workers:
        from .workers import recount

        recount(state)


def wanting(run: Run) -> list[Task]:
    """Rows that a status may name."""
    return [
        row
        for row in run.tasks.values()
        if row.status == "partial" or (row.status == "failed" and row.failures > 1)
    ]
