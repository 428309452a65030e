"""Why a queued task of a run with workers is not placed, in words, for `fleet explain`.

Pure, from what is recorded: who was heard of, who is drained, who could not be reached, what is
taken. Who is connected at this moment is not recorded, so it is not told. One lookout serves all
tasks of a run: those with equal needs get the same answer.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from .fleet_words import WorkerRow
from .matching import (
    Facts,
    Need,
    facts_of,
    holds,
    is_here,
    listed,
    mismatch,
    need_in,
    row_of,
    workers_of,
)
from .placement import Reason, Waiting
from .posture import decode_policy
from .state import Run, Task

NAMED = 3


class _One(Struct):
    """A worker as the run sees it."""

    id: str
    facts: Facts
    row: WorkerRow
    slots: int


def lookout(run: Run, rows: Mapping[str, WorkerRow]) -> Callable[[Task], Reason]:
    """What answers why a task waits for a worker; `rows` are what is known of all workers."""
    policy = decode_policy(run.policy)
    every = [
        _One(
            id=name,
            facts=facts_of(worker, row_of(rows, worker), policy),
            row=row_of(rows, worker) or WorkerRow(),
            slots=worker.max_concurrent_tasks or (run.max_workers if is_here(worker) else 1),
        )
        for name, worker in workers_of(run)
    ]
    titles: dict[str, list[_One]] = {}
    for one in every:
        for title in {one.id, one.facts.worker.name}:
            titles.setdefault(title, []).append(one)
    known: dict[Need, Reason] = {}

    def why(task: Task) -> Reason:
        need = need_in(run, task.raw)
        if need not in known:
            asked = titles.get(need.targets[0], []) if need.targets else every
            known[need] = _why(run, need, asked or every)
        return known[need]

    return why


def _why(run: Run, need: Need, every: list[_One]) -> Reason:
    able = [one for one in every if not mismatch(need, one.facts)]
    if not able:
        reasons = listed((one.id, mismatch(need, one.facts)) for one in every)
        return Reason(Waiting.WORKERS, f"no worker matches: {reasons}")
    usable = [one for one in able if not (one.row.retired or one.row.draining)]
    there = [one for one in usable if one.row.enrolled and not one.row.unreachable]
    if any(_has_room(need, one) for one in there):
        if len(run.load) >= run.max_workers:
            held = f"its run holds {len(run.load):,} slots (max_workers = {run.max_workers})"
            return Reason(Waiting.SLOTS, held)
        return Reason(Waiting.NEXT, "it is next: a slot is free and the manager will place it")
    rest = _absent([one for one in able if one not in there])
    if there:
        busy = listed((one.id, _busy(need, one)) for one in there)
        return Reason(Waiting.BUSY, f"every worker that matches is busy: {busy}{rest}")
    untried = [one.id for one in usable if not one.row.enrolled and not one.row.unreachable]
    if untried:
        return Reason(Waiting.UNTRIED, f"{_names(untried)} {_is(untried)} not tried yet")
    gone = [one for one in usable if one.row.unreachable]
    word = Waiting.UNREACHABLE if gone else Waiting.DRAINING
    first = (gone or able)[0].row
    seq = first.unreachable_seq if gone else first.drain_seq or first.retire_seq
    return Reason(word, rest.removeprefix("; "), seq)


def _has_room(need: Need, one: _One) -> bool:
    return one.row.busy < one.slots and not _lacks(need, one)


def _lacks(need: Need, one: _One) -> str:
    """What too little of is left for a task."""
    row, facts = one.row, one.facts
    if not holds(facts.cores, row.cores_taken, need.cores):
        return "cores"
    if not holds(facts.memory_mb, row.memory_taken, need.memory_mb):
        return "memory"
    if need.gpus > (facts.gpus or 0) - row.gpus_taken.bit_count():
        return "GPUs"
    return ""


def _busy(need: Need, one: _One) -> str:
    if one.row.busy >= one.slots:
        return f"{one.row.busy:,} of {one.slots:,} slots held"
    lacks = _lacks(need, one)
    return f"too {'little' if lacks == 'memory' else 'few'} {lacks} left"


def _absent(others: list[_One]) -> str:
    """Those that get nothing now, each with its reason."""
    told = []
    for one in others:
        if one.row.retired:
            told.append((one.id, "retired" + _because(one.row.retire_reason)))
        elif one.row.draining:
            told.append((one.id, "gets nothing new" + _because(one.row.drain_reason)))
        elif one.row.unreachable:
            since = one.row.unreachable_ts
            told.append((one.id, f"can't be reached since {since}: {one.row.unreachable}"))
        else:
            told.append((one.id, "not tried yet"))
    return f"; {listed(told)}" if told else ""


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _names(ids: list[str]) -> str:
    more = len(ids) - NAMED
    shown = ", ".join(ids[:NAMED])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _is(ids: list[str]) -> str:
    return "was" if len(ids) == 1 else "were"
