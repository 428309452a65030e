"""Why a queued task of a run with workers is not placed, in words, for `fleet explain`.

Pure, from what is recorded: who was heard of, who is drained, who could not be reached, what is
taken, and by whom. Who is connected at this moment is not recorded, so it is not told. One lookout
serves all tasks of a run: those with equal needs get the same answer.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from .fleet_words import WorkerRow
from .liveness import to_the_second
from .load import place_of
from .matching import (
    NAMED,
    Facts,
    Need,
    facts_of,
    holds,
    is_here,
    listed,
    mismatch,
    named,
    need_in,
    row_of,
    workers_of,
)
from .placement import Other, Reason, Waiting
from .posture import decode_policy
from .state import Run, Task

WORDS = {
    "busy": "is busy",
    "unreachable": "can't be reached",
    "draining": "gets nothing new",
    "retired": "was retired",
    "untried": "was not tried yet",
    "mismatch": "does not match",
}
"""What keeps a worker from a task, as `Other.kind` says it."""


class One(Struct):
    """A worker as the run sees it."""

    id: str
    facts: Facts
    row: WorkerRow
    slots: int
    busy: int


class Lookout:
    """All workers of a run, as they are by some rows."""

    def __init__(self, run: Run, rows: Mapping[str, WorkerRow], runs: Iterable[Run] = ()) -> None:
        policy = decode_policy(run.policy)
        self.run, self._runs = run, runs
        self._holders: dict[str, list[str]] | None = None
        self.every = []
        for name, worker in workers_of(run):
            row = row_of(rows, worker) or WorkerRow()
            own = worker.max_concurrent_tasks is None and is_here(worker)
            here = sum(place_of(run.id, slot) == name for slot in run.load) if own else 0
            slots = worker.max_concurrent_tasks or (run.max_workers if own else 1)
            facts = facts_of(worker, row, policy)
            self.every.append(One(name, facts, row, slots, here if own else row.busy))

    def holders(self, worker: str) -> list[str]:
        """Attempts in flight there, of all runs that are known."""
        if self._holders is None:
            self._holders = {}
            for run in self._runs:
                for attempt, flight in run.flights.items() if run.workers else ():
                    place = place_of(run.id, flight.worker)
                    self._holders.setdefault(place, []).append(attempt)
        return self._holders.get(worker, [])

    def why(self, need: Need, among: list[One]) -> Reason:
        """Why a task with this need is not placed on one of these."""
        able = [one for one in among if not mismatch(need, one.facts)]
        unfit = tuple(
            Other(one.id, "mismatch", why)
            for one in among
            if (why := mismatch(need, one.facts)) and one.id in self.run.workers
        )
        if not able:
            reasons = listed((one.id, mismatch(need, one.facts)) for one in among)
            short = "no worker matches"
            return Reason(Waiting.WORKERS, f"{short}: {reasons}", short=short, others=unfit)
        usable = [one for one in able if not (one.row.retired or one.row.draining)]
        there = [one for one in usable if one.row.enrolled and not one.row.unreachable]
        if any(_has_room(need, one) for one in there):
            if len(self.run.load) >= self.run.max_workers:
                held = f"its run holds {len(self.run.load):,} slots"
                most = f"(max_workers = {self.run.max_workers})"
                return Reason(Waiting.SLOTS, f"{held} {most}")
            return Reason(Waiting.NEXT, "it is next: a slot is free and the manager will place it")
        gone = tuple(standing(one) for one in able if one not in there)
        if there:
            busy = tuple(Other(one.id, "busy", self._busy(need, one)) for one in there)
            short = "every worker that matches is busy"
            return _reason(Waiting.BUSY, short, (*busy, *gone), unfit)
        untried = [one for one in gone if one.kind == "untried"]
        if untried:
            names = named([one.worker for one in untried])
            sentence = f"{names} {'was' if len(untried) == 1 else 'were'} not tried yet"
            short = "no worker that matches was reached yet"
            return Reason(Waiting.UNTRIED, sentence, short=short, others=(*gone, *unfit))
        lost = [one for one in gone if one.kind == "unreachable"]
        word = Waiting.UNREACHABLE if lost else Waiting.DRAINING
        what = "can be reached" if len(lost) == len(gone) else "can be used now"
        return _reason(word, f"no worker that matches {what}", gone, unfit, (lost or gone)[0].seq)

    def _busy(self, need: Need, one: One) -> str:
        ids = self.holders(one.id)
        held = named(ids)
        if one.busy >= one.slots:
            runs = f"{held} run{'s' * (len(ids) == 1)} there"
            return runs if ids else f"{one.busy:,} of {one.slots:,} slots held"
        lacks = _lacks(need, one)
        few = f"too {'little' if lacks == 'memory' else 'few'} {lacks} left"
        return f"{few} beside {held}" if held else few


def lookout(
    run: Run, rows: Mapping[str, WorkerRow], runs: Iterable[Run] = ()
) -> Callable[[Task], Reason]:
    """What answers why a task waits for a worker.

    `rows` are what is known of all workers, `runs` all that may have attempts there.
    """
    look = Lookout(run, rows, runs)
    titles: dict[str, list[One]] = {}
    for one in look.every:
        for title in {one.id, one.facts.worker.name}:
            titles.setdefault(title, []).append(one)
    known: dict[Need, Reason] = {}

    def why(task: Task) -> Reason:
        need = need_in(run, task.raw)
        if need not in known:
            asked = titles.get(need.targets[0], []) if need.targets else look.every
            known[need] = look.why(need, asked or look.every)
        return known[need]

    return why


def _reason(
    word: Waiting, short: str, those: tuple[Other, ...], unfit: tuple[Other, ...], seq: int = 0
) -> Reason:
    told = "; ".join(said(one) for one in those[:NAMED])
    rest = len(those) - NAMED
    more = f"; and {rest:,} more" if rest > 0 else ""
    sentence = f"{short}: {told}{more}" if len(those) > 1 else told
    return Reason(word, sentence, seq, short=short, others=(*those, *unfit))


def standing(one: One) -> Other:
    """Why a worker that matches gets nothing now, though nothing may run there."""
    row = one.row
    if row.retired:
        return Other(one.id, "retired", row.retire_reason, row.retire_seq)
    if row.draining:
        return Other(one.id, "draining", row.drain_reason, row.drain_seq)
    if row.unreachable:
        seq, ts = row.unreachable_seq, row.unreachable_ts
        return Other(one.id, "unreachable", row.unreachable, seq, ts)
    return Other(one.id, "untried")


def said(one: Other, who: str = "", words: Mapping[str, str] = WORDS) -> str:
    """Why a worker does not take a task, in a sentence; `who`: several alike, by their names."""
    since = f" since {to_the_second(one.ts)}" if one.ts else ""
    detail = f": {one.detail}" if one.detail else ""
    return f"{who or one.worker} {words[one.kind]}{since}{detail}"


def _has_room(need: Need, one: One) -> bool:
    return one.busy < one.slots and not _lacks(need, one)


def _lacks(need: Need, one: One) -> str:
    """What too little of is left for a task."""
    row, facts = one.row, one.facts
    if not holds(facts.cores, row.cores_taken, need.cores):
        return "cores"
    if not holds(facts.memory_mb, row.memory_taken, need.memory_mb):
        return "memory"
    if need.gpus > (facts.gpus or 0) - row.gpus_taken.bit_count():
        return "GPUs"
    return ""
