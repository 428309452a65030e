"""What may be placed now, where, and why everything else waits.

`due` yields the commands that time and free slots permit, best first: it is asked again after each
one was taken, because each changes the answer. Every reason not to place is one value of `Waiting`;
`why_waiting` names it for `fleet explain`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct

from .commands import Command, Place, StopRun
from .fleet_words import LOCAL, WorkerRow
from .load import least_loaded
from .state import Breaker, Run, State, Task, claim_conflict
from .tasks import claims_of, decode_task
from .usage import budget_of, limit_of, used_up

if TYPE_CHECKING:
    from . import spread

LEASE_AHEAD = 2
"""Attempts a slot may hold beyond the one that runs, while attempts are short (measured: 5–9 %)."""

AHEAD_BELOW_SECONDS = 0.5
"""Mean duration up to which attempts are leased ahead; long tasks gain nothing from it."""


NONE: dict[str, Breaker] = {}


class Waiting(StrEnum):
    """Why a queued task is not placed."""

    DRAFT = "draft"
    PAUSED = "paused"
    STOPPED = "stopped"
    BACKOFF = "backoff"
    CLAIM = "claim"
    QUOTA = "quota"
    DISK = "disk"
    SLOTS = "slots"
    WORKERS = "workers"
    BUSY = "busy"
    UNTRIED = "untried"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"
    NEXT = "next"


class Reason(Struct, frozen=True):
    """A value of `Waiting`, in a sentence, and the record or moment that it rests on."""

    waiting: Waiting
    sentence: str
    seq: int = 0
    until: float = 0.0
    short: str = ""
    """The sentence without the workers that it names."""
    others: tuple["Other", ...] = ()
    """Those, and why each of them does not take the task."""


class Other(Struct, frozen=True):
    """A worker that a task does not go to, and why."""

    worker: str
    kind: str
    """`busy`, `unreachable`, `untried`, `draining`, `retired`, or `mismatch`."""
    detail: str = ""
    seq: int = 0
    """The record that says so."""
    ts: str = ""
    """Since when, where that matters."""


def due(
    run: Run,
    boot: str,
    now: float,
    *,
    full: bool = False,
    breakers: dict[str, Breaker] = NONE,
    places: "Mapping[str, spread.Place] | None" = None,
    state: State | None = None,
) -> Iterator[Command]:
    """What may be decided for a run now; the caller takes each command before the next.

    `full`: the fleet's disk has too little room, so nothing is placed. `breakers`: agents that have
    reached a usage limit. `places`, of the fleet's `state`: workers that are connected, for runs
    that have any; where none are told, only this machine is.
    """
    if run.status != "running":
        return
    if run.max_failures and run.counts.get("failed", 0) - run.forgiven >= run.max_failures:
        yield StopRun(
            run=run.id,
            reason=f"max_failures = {run.max_failures} was reached",
            source="policy",
            interrupt=False,
        )
        return
    if run.until and run.until <= now:
        reason = f"deadline_seconds = {run.deadline_seconds:g} have passed"
        yield StopRun(run=run.id, reason=reason, source="budget")
        return
    if why := used_up(budget_of(run), run.usage, run.spent):
        yield StopRun(run=run.id, reason=f"the run's {why}", source="budget")
        return
    if full:
        return
    while run.timers and run.timers[0][0] <= now:
        _, index = heappop(run.timers)
        task = run.order[index]
        if task.status == "queued" and task.not_before <= now:  # else an older timer of its own
            heappush(run.ready, (task.priority, index))
    if run.workers and state is not None:
        from . import spread

        here = {LOCAL: spread.Place(boot=boot)}
        yield from spread.place(run, state, now, here if places is None else places, breakers)
        return
    while run.ready and len(run.flights) < capacity(run):
        _, index = heappop(run.ready)
        task = run.order[index]
        if task.status != "queued":
            continue
        if task.not_before > now:  # an older entry, or the clock was set back while it lay here
            heappush(run.timers, (task.not_before, index))
            continue
        if limit := limit_of(breakers, task, now):
            heappush(run.timers, (limit[1].until, index))
            continue
        if task.has_claims:
            holder = claim_conflict(run, claims_of(decode_task(task.raw)))
            if holder is not None:
                run.parked.setdefault(holder, []).append(index)
                continue
        worker, load = least_loaded(run)
        why = "free slot" if not load else "leased ahead: tasks here are short"
        yield Place(run=run.id, task=task.id, worker=worker, boot=boot, why=why)


def capacity(run: Run) -> int:
    """Attempts that may be in flight: a slot each, more while attempts are short."""
    slots = run.slots
    if slots and run.mean and run.mean < AHEAD_BELOW_SECONDS and not run.claims:
        return slots * (1 + LEASE_AHEAD)
    return slots


def wake_at(state: State) -> float | None:
    """The earliest second at which time alone changes what may be placed, or None."""
    running = [run for run in state.open_runs.values() if run.status == "running"]
    times = [run.timers[0][0] for run in running if run.timers]
    times += [run.until for run in running if run.until]
    return min(times) if times else None


def why_waiting(
    run: Run,
    task: Task,
    now: float,
    full: str = "",
    breakers: dict[str, Breaker] = NONE,
    lookout: Callable[[Task], Reason] | None = None,
) -> Reason:
    """Why a queued task is not placed; the first reason that holds.

    `full` says how little room the fleet's disk has, where that is too little; `breakers` are
    agents that have reached a usage limit, `lookout` knows the workers of a run that has any.
    """
    if run.status == "draft":
        return Reason(Waiting.DRAFT, "its run was never started", run.seq)
    if run.status == "paused":
        return Reason(Waiting.PAUSED, f"its run is paused: {run.reason}")
    if run.status in ("stopping", "finished"):
        return Reason(Waiting.STOPPED, f"its run was stopped: {run.reason}")
    if limit := limit_of(breakers, task, now):
        agent, breaker = limit
        sentence = f"{agent} has reached a usage limit: {breaker.words}"
        return Reason(Waiting.QUOTA, sentence, breaker.seq, breaker.until)
    if task.not_before > now:
        return Reason(
            Waiting.BACKOFF,
            f"attempt {task.attempt} failed; the next may start after a pause",
            task.seq,
            task.not_before,
        )
    if task.has_claims:
        holder = claim_conflict(run, claims_of(decode_task(task.raw)))
        if holder is not None:
            sentence = f"{run.id}/{holder} holds a claim on the same writable paths"
            return Reason(Waiting.CLAIM, sentence, run.tasks[holder].seq)
    if full:
        return Reason(Waiting.DISK, full)
    if run.workers and lookout is not None:
        return lookout(task)
    if len(run.flights) >= capacity(run):
        return Reason(
            Waiting.SLOTS,
            f"all {run.slots} worker slots are busy (max_workers = {run.max_workers})",
        )
    return Reason(Waiting.NEXT, "it is next: a slot is free and the manager will place it")


def watch(
    run: Run, workers: Mapping[str, WorkerRow], runs: Iterable[Run] = ()
) -> Callable[[Task], Reason] | None:
    """What knows why tasks wait for the workers of a run, if it has any; `runs` are all open."""
    if not run.workers:
        return None
    from .lookout import lookout

    return lookout(run, workers, runs)
