"""Why something is as it is: a few sentences, each with the record that it rests on.

Pure: a row of the state for what is so now, records for how it came to be so. Nothing is guessed;
where a sentence follows from the spec or from the present it bears no record number.
"""

from collections import Counter
from typing import Any

from ..core import events as e
from ..core.placement import Waiting, why_waiting
from ..core.state import OPEN, Run, Task, split_attempt
from ..core.tasks import decode_task
from .sentences import RESULT_WORDS, how_ended, judged
from .status import word_of
from .timeline import History
from .units import duration, many, one_line

LOOKED_AT = 20_000
"""Queued tasks of a run whose reason to wait is looked up; more are said to be more."""

Lines = list[dict[str, Any]]


def _line(sentence: str, seq: int | None = None) -> dict[str, Any]:
    return {"sentence": sentence, "seq": seq} if seq else {"sentence": sentence}


# A task, or one attempt of it -----------------------------------------------------------------


def explain_task(
    run: Run, task: Task, history: History, *, alive: bool, now: float, number: int = 0
) -> dict[str, Any]:
    """Why a task waits, runs, was tried again or ended as it did; `number`: one attempt only."""
    name = f"{run.id}/{task.id}" + (f"@{number}" if number else "")
    lines = [line for head, event in history for line in _of_record(run, task, head, event, number)]
    made: dict[str, Any] = {"id": name, "status": task.status}
    if not number:
        lines += _now(run, task, now, made)
        made["headline"] = f"{name} {_headline(task)}"
    else:
        made["headline"] = f"{name}, an attempt of a task that {_headline(task)}"
    if task.status in OPEN and not alive and run.status in ("running", "stopping"):
        lines.append(_line("nobody manages its run, so nothing moves until somebody does"))
    made["lines"] = lines
    made["next"] = _next(run, task, alive=alive)
    return made


def _of_record(run: Run, task: Task, head: e.Envelope, event: e.Event, number: int) -> Lines:
    match event:
        case e.AttemptDispatched() | e.AttemptStarted() | e.AttemptEnded() | e.AttemptLost():
            of_run, name, count = split_attempt(event.attempt)
            if (of_run, name) != (run.id, task.id) or (number and number != count):
                return []
            return [_line(f"attempt {count} {_attempt(event)}", head.seq), *_after(event, head.seq)]
        case e.ControlRequested():
            mine = [one for one in event.attempts if split_attempt(one)[1] == task.id]
            if not mine or (number and split_attempt(mine[0])[2] != number):
                return []
            reason = f": {one_line(event.reason)}" if event.reason else ""
            return [_line(f"{head.by or 'somebody'} asked to {event.verb} it{reason}", head.seq)]
        case _ if number:
            return []
        case e.TaskQueued() if task.id in event.tasks:
            return [_line(f"it was queued again: {one_line(event.why)}", head.seq)]
        case e.TaskCancelled() if task.id in event.tasks:
            return [_line(f"it was cancelled: {one_line(event.why)}", head.seq)]
        case e.RunPaused():
            return [_line(f"its run was paused: {one_line(event.reason)}", head.seq)]
        case e.RunStopped():
            words = f"its run was stopped ({event.source}): {one_line(event.reason)}"
            return [_line(words, head.seq)]
        case e.RunResumed():
            return [_line("its run went on" + (", failed tasks too" * event.failed), head.seq)]
    return []


def _attempt(
    event: e.AttemptDispatched | e.AttemptStarted | e.AttemptEnded | e.AttemptLost,
) -> str:
    match event:
        case e.AttemptDispatched():
            return f"went to {event.worker}" + (f": {event.why}" if event.why else "")
        case e.AttemptStarted():
            return f"ran there as process {event.pid}"
        case e.AttemptLost():
            return f"was lost: {one_line(event.why)}"
        case e.AttemptEnded():
            late = ", too late to count" if event.late else ""
            how = "" if event.unstarted else f" after {duration(event.seconds)}"
            by = f", judged by {event.receipt.scorer}" if event.receipt.scorer else ""
            ended = how_ended(event)
            said = (
                "" if event.receipt.reason.startswith(ended) or event.unstarted else f" ({ended})"
            )
            return f"{judged(event.receipt)}{said}{how}{by}{late}"


def _after(event: e.Event, seq: int) -> Lines:
    """What an end brought about: missing artifacts, stragglers, another attempt."""
    lines: Lines = []
    if isinstance(event, e.AttemptEnded):
        if event.missing:
            lines.append(_line(f"promised and missing: {', '.join(event.missing)}", seq))
        lines += [_line(one_line(error), seq) for error in event.artifact_errors]
        if event.stragglers:
            left = "a process" if event.stragglers == 1 else f"{event.stragglers:,} processes"
            lines.append(_line(f"it left {left} behind, and that was ended", seq))
    if isinstance(event, e.AttemptEnded | e.AttemptLost) and event.retry_after is not None:
        why = "at once" if not event.retry_after else f"after {duration(event.retry_after)}"
        policy = event.receipt.result in ("fail", "timeout")
        rest = " (retry_policy)" if policy and event.retry_after else ""
        lines.append(_line(f"the task was queued again, to start {why}{rest}", seq))
    return lines


def _now(run: Run, task: Task, now: float, made: dict[str, Any]) -> Lines:
    """What holds at present and what it rests on."""
    if task.status == "queued":
        reason = why_waiting(run, task, now)
        made["waiting"] = reason.waiting.value
        sentence = f"it waits: {reason.sentence}"
        if reason.waiting is Waiting.BACKOFF:
            sentence += f" (in {duration(max(0.0, reason.until - now))})"
        return [_line(sentence, reason.seq)]
    if task.status == "leased":
        return [_line("it was given to the worker, which has not said that it runs")]
    if task.status == "failed":
        return [_line(_no_more(task))]
    if task.status == "partial":
        return [_line("nobody has verified it: its scorer leaves that to a person or a verifier")]
    return []


def _no_more(task: Task) -> str:
    """Why a failed task gets no further attempt; the rule of core/backoff.py in words."""
    spec = decode_task(task.raw)
    policy = spec.retry_policy
    if policy is None:
        return "no attempt is left: without a retry_policy there is one"
    retried = policy.retry_on
    if task.source not in retried:
        return (
            f"no attempt is left: {task.source} failures are not retried ({', '.join(retried)} are)"
        )
    budget = spec.budget.max_seconds if spec.budget else None
    if task.failures >= policy.max_attempts:
        return f"no attempt is left: max_attempts = {policy.max_attempts}"
    if budget is not None and task.spent >= budget:
        return f"no attempt is left: budget.max_seconds = {budget:g} is used up"
    return "no attempt is left: its run was ending"


def _headline(task: Task) -> str:
    source = f" ({task.source})" if task.source else ""
    return {
        "queued": "is queued.",
        "leased": "is starting.",
        "running": "is running.",
        "completed": "has passed.",
        "partial": "waits for a person or a verifier.",
        "failed": f"has {RESULT_WORDS.get(task.result, 'failed')}{source}.",
        "cancelled": f"was cancelled{source}.",
        "skipped": "was skipped.",
    }[task.status]


def _next(run: Run, task: Task, *, alive: bool) -> list[str]:
    name = f"{run.id}/{task.id}"
    if task.status in OPEN:
        if run.status == "paused" or (not alive and run.status in ("running", "stopping")):
            return [f"To go on: fleet resume {run.id}"]
        if task.status == "queued":
            return [f"To see the whole run: fleet explain {run.id}"]
        return [f"To see what it writes: fleet logs {name} --follow"]
    steps = [f"To see what it wrote: fleet logs {name}"] if task.attempt else []
    if task.status == "failed":
        steps.append(f"To run what failed again: fleet resume {run.id} --failed")
    elif task.status == "cancelled":
        steps.append(f"To run what was cancelled: fleet resume {run.id}")
    return steps or [f"To see it all: fleet inspect {name}"]


# A run ----------------------------------------------------------------------------------------


def explain_run(run: Run, history: History, *, alive: bool, now: float) -> dict[str, Any]:
    """Why a run goes on, waits, or ended as it did."""
    lines: Lines = []
    for head, event in history:
        match event:
            case e.RunStarted():
                lines.append(_line(f"it was started with {many(event.count, 'task')}", head.seq))
            case e.RunPaused():
                lines.append(_line(f"it was paused: {one_line(event.reason)}", head.seq))
            case e.RunStopped():
                words = f"it was stopped ({event.source}): {one_line(event.reason)}"
                lines.append(_line(words, head.seq))
            case e.RunResumed():
                lines.append(_line("it went on" + (", failed tasks too" * event.failed), head.seq))
            case e.RunFinished():
                took = duration(event.seconds, exact=True)
                lines.append(_line(f"it finished as {event.status} after {took}", head.seq))
    waiting, more = _waiting(run, now)
    for (word, sentence), count in waiting.most_common():
        lines.append({**_line(f"{_wait(count)}: {sentence}"), "waiting": word, "count": count})
    if more:
        lines.append(_line(f"{more:,} more wait"))
    if run.load:
        lines.append(_line(f"{len(run.load):,} of {run.slots:,} worker slots are busy"))
    lines += _failed(run)
    word = word_of(run, alive=alive)
    if word == "left alone":
        lines.append(_line("nobody manages it, so nothing moves until somebody does"))
    ended = f"has finished: {run.result}" if run.status == "finished" else f"is {word}"
    return {
        "id": run.id,
        "status": run.status,
        "headline": f"{run.id} {ended}.",
        "lines": lines,
        "next": _next_for_run(run, word),
    }


def _waiting(run: Run, now: float) -> tuple[Counter[tuple[str, str]], int]:
    """Reasons to wait with the number of tasks each holds up, and how many were not looked at."""
    found: Counter[tuple[str, str]] = Counter()
    queued = [task for task in run.order if task.status == "queued"]
    for task in queued[:LOOKED_AT]:
        reason = why_waiting(run, task, now)
        sentence = reason.sentence
        if reason.waiting is Waiting.BACKOFF:
            sentence = "an attempt failed; the next may start after a pause"
        found[reason.waiting.value, sentence] += 1
    return found, max(0, len(queued) - LOOKED_AT)


def _wait(count: int) -> str:
    return "1 task waits" if count == 1 else f"{count:,} tasks wait"


def _failed(run: Run) -> Lines:
    failed = [task for task in run.order if task.status == "failed"]
    lines = [
        _line(f"{task.id} {RESULT_WORDS[task.result]} ({task.source}): {one_line(task.reason)}",
              task.seq)
        for task in failed[:10]
    ]  # fmt: skip
    if len(failed) > 10:
        lines.append(_line(f"{len(failed) - 10:,} more failed"))
    return lines


def _next_for_run(run: Run, word: str) -> list[str]:
    if word in ("left alone", "paused"):
        return [f"To go on: fleet resume {run.id}"]
    if word == "draft":
        return ["It was never started; fleet run SPEC makes it anew."]
    if run.counts.get("failed"):
        return [f"To run what failed again: fleet resume {run.id} --failed"]
    if run.status == "finished" and run.counts.get("cancelled"):
        return [f"To run what was cancelled: fleet resume {run.id}"]
    if run.status == "finished":
        return [f"To see each result: fleet receipts {run.id}"]
    return [f"To wait for its end: fleet wait {run.id}"]
