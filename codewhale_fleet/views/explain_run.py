"""Why a run, or a worker of it, is as it is: a few sentences, each with the record it rests on.

Pure: rows of the state for what is so now, records for how it came to be so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..core import events as e
from ..core.fleet_words import LOCAL, WorkerRow
from ..core.load import place_of
from ..core.placement import NONE, Waiting, watch, why_waiting
from ..core.state import Breaker, Run, split_attempt
from .explain import NOBODY, Held, Lines, again, line, of_run_as_a_whole, rests_on, who
from .sentences import RESULT_WORDS, judged
from .status import compacted, word_of
from .timeline import History
from .units import duration, many, one_line

LOOKED_AT = 20_000
"""Queued tasks of a run whose reason to wait is looked up; more are said to be more."""

MOST_REASONS = 20
"""Reasons to wait that are told; a run may wait for as many workers as it has tasks."""

LISTED = 10
"""Failed, or stale, tasks that are named; the rest is counted."""


def explain_run(
    run: Run,
    history: History,
    *,
    alive: bool,
    now: float,
    full: str = "",
    breakers: dict[str, Breaker] = NONE,
    workers: Mapping[str, WorkerRow] = NOBODY,
    runs: Iterable[Run] = (),
) -> dict[str, Any]:
    """Why a run goes on, waits, or ended as it did; `full`, `breakers`: see `why_waiting`.

    `workers`: what is known of each; `runs`: all that may have attempts there.
    """
    history = list(history)
    lines: Lines = []
    slots = None
    for head, event in history:
        match event:
            case e.RunStarted():
                told = f"{who(head)} started it with {many(event.count, 'task')}"
                lines.append(line(told, head.seq))
            case e.RunFinished():
                took = duration(event.seconds, exact=True)
                lines.append(line(f"it finished as {event.status} after {took}", head.seq))
            case e.WorkerEnrolled():
                slots = head.seq
            case _:
                lines += of_run_as_a_whole("it", head, event)
    waiting, more = _waiting(run, history, now, (full, breakers, watch(run, workers, runs)))
    for (word, sentence, seq), count in waiting.most_common(MOST_REASONS):
        told = f"{_wait(count)}: {sentence}"
        lines.append({**line(told, seq), "waiting": word, "count": count})
    if others := sum(count for _, count in waiting.most_common()[MOST_REASONS:]):
        lines.append(line(f"{others:,} more wait for other reasons of their own"))
    if more:
        lines.append(line(f"{more:,} more wait"))
    if run.load and run.workers:
        lines.append(line(f"it holds {many(len(run.load), 'slot')} of {_places(run)}"))
    elif run.load:
        lines.append(line(f"{len(run.load):,} of {run.slots:,} worker slots are busy", slots))
    lines += _stale(run)
    lines += _failed(run)
    if run.compacted:
        lines.append(line(compacted(run)))
    word = word_of(run, alive=alive)
    if word == "left alone":
        lines.append(line("nobody manages it, so nothing moves until somebody does"))
    ended = f"has finished: {run.result}" if run.status == "finished" else f"is {word}"
    return {
        "id": run.id,
        "status": run.status,
        "headline": f"{run.id} {ended}.",
        "lines": lines,
        "next": _next_for_run(run, word),
    }


def _waiting(
    run: Run, history: History, now: float, held: Held
) -> tuple[Counter[tuple[str, str, int | None]], int]:
    """Reasons to wait with the number of tasks each holds up, and how many were not looked at."""
    found: Counter[tuple[str, str, int | None]] = Counter()
    queued = [task for task in run.order if task.status == "queued"]
    for task in queued[:LOOKED_AT]:
        reason = why_waiting(run, task, now, *held)
        sentence, seq = reason.sentence, rests_on(reason, history)
        if reason.waiting is Waiting.BACKOFF:
            sentence, seq = "an attempt failed; the next may start after a pause", None
        if reason.waiting is Waiting.QUOTA:
            sentence += f" (for {duration(max(0.0, reason.until - now))})"
        found[reason.waiting.value, sentence, seq] += 1
    return found, max(0, len(queued) - LOOKED_AT)


def _places(run: Run) -> str:
    return many(len({place_of(run.id, slot) for slot in run.load}), "worker")


def _wait(count: int) -> str:
    return "1 task waits" if count == 1 else f"{count:,} tasks wait"


def _stale(run: Run) -> Lines:
    stale = [(name, flight.stale_seq) for name, flight in run.flights.items() if flight.stale]
    told = "is stale: no output and no processor time"
    lines = [line(f"{split_attempt(name)[1]} {told}", seq) for name, seq in stale[:LISTED]]
    if len(stale) > LISTED:
        lines.append(line(f"{len(stale) - LISTED:,} more are stale"))
    return lines


def _failed(run: Run) -> Lines:
    failed = [task for task in run.order if task.status == "failed"]
    lines = [
        line(f"{task.id} {RESULT_WORDS[task.result]} ({task.source}): {one_line(task.reason)}",
              task.seq)
        for task in failed[:LISTED]
    ]  # fmt: skip
    if len(failed) > LISTED:
        lines.append(line(f"{len(failed) - LISTED:,} more failed"))
    return lines


def _next_for_run(run: Run, word: str) -> list[str]:
    if word in ("left alone", "paused"):
        return [f"To go on: fleet resume {run.id}"]
    if word == "draft":
        return ["It was never started; fleet run SPEC makes it anew."]
    if run.compacted:
        return [f"To see each result: fleet receipts {run.id}"]
    if run.counts.get("failed"):
        return [again(run, spent=run.sources.get("budget", 0) >= run.counts["failed"])]
    if run.status == "finished" and run.counts.get("cancelled"):
        return [f"To run what was cancelled: fleet resume {run.id}"]
    if run.status == "finished":
        return [f"To see each result: fleet receipts {run.id}"]
    return [f"To wait for its end: fleet wait {run.id}"]


# A worker of it -------------------------------------------------------------------------------


def explain_worker(
    run: Run,
    worker: str,
    history: History,
    *,
    alive: bool,
    now: float,
    full: str = "",
    breakers: dict[str, Breaker] = NONE,
    workers: Mapping[str, WorkerRow] = NOBODY,
    runs: Iterable[Run] = (),
) -> dict[str, Any]:
    """Why a worker slot is busy, idle or gone, and what it did last."""
    history = list(history)
    lines: Lines = []
    place = place_of(run.id, worker)
    if place != LOCAL:
        from .workers import standing

        lines += [line(*one) for one in standing(place, workers.get(place))]
    for head, event in history:
        match event:
            case e.WorkerEnrolled() if place == LOCAL:
                told = f"it was enrolled: {many(event.slots, 'worker slot')} on {event.host}"
                lines.append(line(told, head.seq))
    lines += _latest_work(worker, history)
    if run.compacted:
        lines.append(line(compacted(run)))
    here = [name for name, flight in run.flights.items() if flight.worker == worker]
    if run.status == "finished":
        word = "is gone: its run has finished"
    elif not alive:
        word = "is offline: nobody manages its run"
    elif here:
        word = f"is busy with {here[0]}"
        if len(here) > 1:
            lines.append(line(f"{len(here) - 1:,} more were leased ahead to it"))
    else:
        word = "is idle"
        lines += _idle(run, history, now, (full, breakers, watch(run, workers, runs)))
    made: dict[str, Any] = {
        "id": worker,
        "status": word_of(run, alive=alive),
        "headline": f"{worker} {word}.",
        "lines": lines,
        "next": [f"To see it all: fleet inspect {worker}", f"Its run: fleet explain {run.id}"],
    }
    if here:
        made["attempts"] = here
    return made


def _latest_work(worker: str, history: History) -> Lines:
    """What its latest attempt was, why it came here, and how it goes."""
    mine = [pair for pair in history if getattr(pair[1], "worker", "") == worker]
    latest = next((str(getattr(event, "attempt", "")) for _, event in reversed(mine)), "")
    lines: Lines = []
    for head, event in mine:
        if getattr(event, "attempt", "") != latest:
            continue
        match event:
            case e.AttemptDispatched():
                lines.append(line(f"{latest} came to it: {event.why}", head.seq))
            case e.AttemptStarted():
                lines.append(line(f"{latest} ran as process {event.pid}", head.seq))
            case e.WorkerStale():
                quiet = duration(event.quiet)
                told = f"{latest} went stale: no output and no processor time for {quiet}"
                lines.append(line(told, head.seq))
            case e.WorkerRecovered():
                lines.append(line(f"{latest} moved again", head.seq))
            case e.AttemptEnded():
                lines.append(line(f"{latest} {judged(event.receipt)}", head.seq))
    return lines


def _idle(run: Run, history: History, now: float, held: Held) -> Lines:
    """Why nothing comes to a free slot."""
    waiting, _ = _waiting(run, history, now, held)
    if not waiting:
        return [line("no task of its run waits")]
    return [
        {**line(f"{_wait(count)}: {sentence}", seq), "waiting": word}
        for (word, sentence, seq), count in waiting.most_common(3)
    ]
