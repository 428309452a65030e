"""Why a task, or an attempt, is as it is: a few sentences, each with the record it rests on.

Pure: a row of the state for what is so now, records for how it came to be so, and a function that
gives the last words of a log. Nothing is guessed; what follows from the present alone bears no
record number. Runs and workers are explained in explain_run.py.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core import events as e
from ..core.backoff import is_exhausted
from ..core.fleet_words import MAY_RUN, WorkerRow
from ..core.load import is_here_in
from ..core.placement import NONE, Reason, Waiting, watch, why_waiting
from ..core.state import OPEN, Breaker, Run, Task, attempt_id, split_attempt
from ..core.tasks import decode_task
from ..core.usage import used_up
from . import asking
from .sentences import RESULT_WORDS, how_ended, judged, verdict
from .status import compacted, task_word, verify_command, waits_for
from .timeline import History
from .units import duration, one_line
from .usage import limited, warned

Lines = list[dict[str, Any]]
LastWords = Callable[[e.Log], str]
"""The last line that stands in a log; empty where there is none."""

RESTS_ON = {
    Waiting.PAUSED: e.RunPaused,
    Waiting.STOPPED: e.RunStopped,
    Waiting.SLOTS: e.WorkerEnrolled,
    Waiting.NEXT: e.WorkerEnrolled,
}
"""Whose latest record a reason to wait rests on, where the state does not say which it is."""


NOBODY: Mapping[str, WorkerRow] = {}

Held = tuple[str, dict[str, Breaker], Callable[[Task], Reason] | None]
"""What may hold up all tasks alike: see `why_waiting`."""


def again(run: Run, *, spent: bool) -> str:
    """What to type for what failed; a spent budget would end it again at once."""
    if spent:
        return "Its budget is spent: give it a larger one in the spec, then: fleet run SPEC"
    return f"To run what failed again: fleet resume {run.id} --failed"


def nothing(log: e.Log) -> str:
    """No last words: for whoever has no logs at hand."""
    return ""


def line(sentence: str, seq: int | None = None) -> dict[str, Any]:
    """One statement, and the number of the record it rests on."""
    return {"sentence": sentence, "seq": seq} if seq else {"sentence": sentence}


def who(head: e.Envelope) -> str:
    """Who asked for what a record says."""
    return {"": "somebody", "manager": "the manager"}.get(head.by, head.by)


def because(reason: str) -> str:
    """A reason as the end of a sentence; "stopped on request" says no more than the rest of it."""
    return f": {one_line(reason)}" if reason and not reason.endswith(" on request") else ""


# A task, or one attempt of it -----------------------------------------------------------------


def explain_task(
    run: Run,
    task: Task,
    history: History,
    *,
    alive: bool,
    now: float,
    number: int = 0,
    full: str = "",
    breakers: dict[str, Breaker] = NONE,
    workers: Mapping[str, WorkerRow] = NOBODY,
    runs: Iterable[Run] = (),
    of_workers: History = (),
    last_words: LastWords = nothing,
) -> dict[str, Any]:
    """Why a task waits, runs, was tried again or ended as it did; `number`: one attempt only.

    `full`, `breakers`: see `why_waiting`. `workers` is what is known of each, `runs` all that may
    have attempts there, `of_workers` what happened to workers.
    """
    name = f"{run.id}/{task.id}" + (f"@{number}" if number else "")
    history = list(history)
    lines: Lines = []
    choices = None
    if run.workers:
        from .chosen import Choices

        choices = Choices(run, task, of_workers)
    for head, event in history:
        told = _of_record(run, task, head, event, number, last_words)
        if told and choices and isinstance(event, e.AttemptDispatched):
            told = choices.of(head, event)
        lines += told
    if task.source == "transport" and choices:
        lines += choices.away(workers)
    made: dict[str, Any] = {"id": name, "status": task_word(run, task)}
    flight = run.flights.get(attempt_id(run.id, task.id, number or task.attempt))
    if flight is not None and flight.stale:
        made["stale_since"] = flight.stale
    if is_exhausted(task):
        made["restart_exhausted"] = True
    asked = asking.asking(run, task.id)
    lines += [line(f"it waits for an answer: {one['next']}", one["seq"]) for one in asked]
    if not number:
        lookout = watch(run, workers, runs)
        lines += _now(run, task, history, now, (full, breakers, lookout), made)
        made["headline"] = f"{name} {_headline(task, made['status'])}"
    else:
        made["headline"] = f"{name}, an attempt of a task that {_headline(task, made['status'])}"
    if task.status in OPEN and not alive and run.status in ("running", "stopping"):
        lines.append(line("nobody manages its run, so nothing moves until somebody does"))
    if run.alerts is not None:
        from .alerting import explained

        lines += [line(*one) for one in explained(run, task)]
    if run.compacted:
        lines.append(line(compacted(run)))
    if flight is not None and choices:
        lines += choices.cut_off(flight, workers)
    made["lines"] = lines
    made["next"] = [*(one["next"] for one in asked), *_next(run, task, alive=alive)]
    return made


def _of_record(
    run: Run, task: Task, head: e.Envelope, event: e.Event, number: int, last_words: LastWords
) -> Lines:
    match event:
        case (
            e.AttemptDispatched()
            | e.AttemptStarted()
            | e.AttemptEnded()
            | e.AttemptLost()
            | e.WorkerStale()
            | e.WorkerRecovered()
            | e.ReceiptRecorded()
        ):
            of_run, name, count = split_attempt(event.attempt)
            if (of_run, name) != (run.id, task.id) or (number and number != count):
                return []
            told = line(f"attempt {count} {_attempt(head, event)}", head.seq)
            return [told, *_after(task, event, head.seq, last_words)]
        case e.AttemptProgressed() if event.step or event.warn:
            of_run, name, count = split_attempt(event.attempt)
            if (of_run, name) != (run.id, task.id) or (number and number != count):
                return []
            after = f"was verified: step {event.step} took a while"
            return [line(f"attempt {count} {warned(event) or after}", head.seq)]
        case e.SecretsUsed():
            of_run, name, count = split_attempt(event.attempt)
            if (of_run, name) != (run.id, task.id) or (number and number != count):
                return []
            return [line(f"attempt {count} {asking.got(event)}", head.seq)]
        case e.QuestionAsked() | e.QuestionAnswered():
            of_run, name, count = split_attempt(event.attempt)
            if (of_run, name) != (run.id, task.id) or (number and number != count):
                return []
            return [line(asking.say(head, event), head.seq)]
        case e.ControlRequested():
            mine = [one for one in event.attempts if split_attempt(one)[1] == task.id]
            if not mine or (number and split_attempt(mine[0])[2] != number):
                return []
            asked = f"{who(head)} asked to {event.verb} it{because(event.reason)}"
            return [line(asked, head.seq)]
        case _ if number:
            return []
        case e.TaskQueued() if task.id in event.tasks:
            return [line(f"{who(head)} queued it again{because(event.why)}", head.seq)]
        case e.TaskCancelled() if task.id in event.tasks:
            return [line(f"{who(head)} cancelled it{because(event.why)}", head.seq)]
        case e.TaskUnplaced() if task.id in event.tasks:
            return [
                line(f"no worker could be given it: {one_line(event.receipt.reason)}", head.seq)
            ]
    return of_run_as_a_whole("its run", head, event)


def of_run_as_a_whole(subject: str, head: e.Envelope, event: e.Event) -> Lines:
    """What somebody did to a whole run; nothing for other records."""
    match event:
        case e.RunPaused():
            told = f"{subject} was paused by {who(head)}{because(event.reason)}"
        case e.RunStopped():
            by = f"{who(head)} ({event.source})"
            told = f"{subject} was stopped by {by}{because(event.reason)}"
        case e.RunResumed():
            more = ", failed tasks too" * event.failed
            told = f"{subject} went on, as {who(head)} asked{more}"
        case _:
            return []
    return [line(told, head.seq)]


def _attempt(
    head: e.Envelope,
    event: e.AttemptDispatched
    | e.AttemptStarted
    | e.AttemptEnded
    | e.AttemptLost
    | e.WorkerStale
    | e.WorkerRecovered
    | e.ReceiptRecorded,
) -> str:
    match event:
        case e.ReceiptRecorded():
            return verdict(head, event)
        case e.AttemptDispatched():
            return f"went to {event.worker}" + (f": {event.why}" if event.why else "")
        case e.AttemptStarted():
            return f"ran there as process {event.pid}"
        case e.WorkerStale():
            return f"went stale: no output and no processor time for {duration(event.quiet)}"
        case e.WorkerRecovered():
            return f"moved again after {duration(event.quiet)}"
        case e.AttemptLost():
            return f"was lost: {one_line(event.why)}"
        case e.AttemptEnded():
            late = ", too late to count" if event.late else ""
            how = "" if event.unstarted else f" after {duration(event.seconds)}"
            by = f", judged by {event.receipt.scorer}" if event.receipt.scorer else ""
            ended = how_ended(event)
            if event.quota and not event.quota.verifier:
                return f"met a usage limit, and counts for nothing ({ended}){how}{late}"
            reason = event.receipt.reason
            told = event.unstarted or reason.startswith((ended, "killed by"))
            return f"{judged(event.receipt)}{'' if told else f' ({ended})'}{how}{by}{late}"


def _after(task: Task, event: e.Event, seq: int, last_words: LastWords) -> Lines:
    """What an end rests on and brought about: evidence, what is missing, another attempt."""
    lines: Lines = []
    if isinstance(event, e.AttemptEnded):
        if event.quota:
            lines.append(line(limited(event.quota), seq))
        lines += [line(one, seq) for one in _verified(event)]
        lines += _evidence(event, seq, last_words)
        if event.missing:
            lines.append(line(f"promised and missing: {', '.join(event.missing)}", seq))
        lines += [line(one_line(error), seq) for error in event.artifact_errors]
        lines += [line(one_line(note), seq) for note in (*event.notes, event.unsaved) if note]
        if event.stragglers:
            left = "a process" if event.stragglers == 1 else f"{event.stragglers:,} processes"
            lines.append(line(f"it left {left} behind, and that was ended", seq))
    if isinstance(event, e.AttemptEnded | e.AttemptLost) and event.retry_after is not None:
        why = "at once" if not event.retry_after else f"after {duration(event.retry_after)}"
        rest = ""
        policy = decode_task(task.raw).retry_policy
        if policy is not None and event.receipt.result in ("fail", "timeout"):
            kind = f"{event.receipt.source} failures are retried"
            rest = f": {kind}, with max_attempts = {policy.max_attempts} (retry_policy)"
        lines.append(line(f"the task was queued again, to start {why}{rest}", seq))
    return lines


def _verified(event: e.AttemptEnded) -> list[str]:
    """What each process of its verification came to, and what the verdict rests on."""
    told = []
    for number, step in enumerate(event.steps, 1):
        if step.unstarted:
            how = f"could not be started: {one_line(step.unstarted)}"
        elif step.why:
            how = f"was ended ({step.why})"
        else:
            how = f"exit {step.exit}" if step.exit is not None else f"signal {step.signal}"
        seen = f", was shown evidence/{step.seen.sha256}" if step.seen else ""
        told.append(f"verification {number} ({step.kind}): {how}, {duration(step.seconds)}{seen}")
    told += [f"the verdict quotes: {one_line(quote)}" for quote in event.receipt.quotes]
    if event.receipt.feedback and event.receipt.result != "pass":
        told.append(f"feedback for the next attempt: {one_line(event.receipt.feedback)}")
    return told


def _evidence(event: e.AttemptEnded, seq: int, last_words: LastWords) -> Lines:
    """What a failure can be seen by: the file that was judged, or the last words of a log."""
    if event.receipt.result not in ("fail", "timeout", "partial"):
        return []
    lines: Lines = []
    for path, kept in event.evidence.items():
        words = kept.error or f"{kept.size:,} bytes, kept as evidence/{kept.sha256}"
        lines.append({**line(f"evidence: {path}: {one_line(words)}", seq), "evidence": path})
    if event.agent and event.agent.note:  # its streams are for programs
        told = line(f"its agent said last: {one_line(event.agent.note)}", seq)
        return [*lines, {**told, "text": event.agent.note}]
    for stream, name in (("err", "stderr"), ("out", "stdout")):
        log = event.logs.get(stream)
        if log is not None and (words := last_words(log)):
            told = line(f"its last line on {name}: {words}", seq)
            return [*lines, {**told, "evidence": log.path, "text": words}]
    return lines


def rests_on(reason: Reason, history: History) -> int | None:
    """The record of a reason to wait: what the state says, else the latest of its kind."""
    if reason.seq:
        return reason.seq
    kind = RESTS_ON.get(reason.waiting)
    found = [head.seq for head, event in history if kind and isinstance(event, kind)]
    return found[-1] if found else None


def _now(
    run: Run, task: Task, history: History, now: float, held: Held, made: dict[str, Any]
) -> Lines:
    """What holds at present and what it rests on."""
    if task.status == "queued":
        reason = why_waiting(run, task, now, *held)
        made["waiting"] = reason.waiting.value
        sentence = f"it waits: {reason.sentence}"
        if reason.waiting in (Waiting.BACKOFF, Waiting.QUOTA):
            sentence += f" (in {duration(max(0.0, reason.until - now))})"
        if reason.others:
            from .chosen import lines_of

            if len(others := lines_of(reason.others)) > 1:
                return [line(f"it waits: {reason.short}"), *others]
        return [line(sentence, rests_on(reason, history))]
    if task.status == "leased":
        return [line("it was given to the worker, which has not said that it runs", task.seq)]
    if task.status == "failed":
        return [line(_no_more(task), task.seq)]
    if task.status == "partial":
        return [line(f"{waits_for(task)}; {verify_command(run, task)} ends that", task.seq)]
    return []


def _no_more(task: Task) -> str:
    """Why a failed task gets no further attempt; the rule of core/backoff.py in words."""
    spec = decode_task(task.raw)
    policy = spec.retry_policy
    if policy is None:
        return "no attempt is left: without a retry_policy there is one"
    if task.reason.endswith(MAY_RUN):
        return "no attempt is left: its latest may still run, and nothing runs twice"
    retried = policy.retry_on
    if spec.verify is not None and spec.verify.on_fail == "stop" and task.source == "task":
        return 'no attempt is left: its verification failed, and verify.on_fail = "stop"'
    if task.source not in retried:
        return (
            f"no attempt is left: {task.source} failures are not retried ({', '.join(retried)} are)"
        )
    if task.failures >= policy.max_attempts:
        return f"no attempt is left: max_attempts = {policy.max_attempts}"
    usage = task.more.usage if task.more else e.Usage()
    if why := used_up(spec.budget, usage, task.spent):
        return f"no attempt is left: {why}"
    return "no attempt is left: its run was ending"


def _headline(task: Task, word: str) -> str:
    source = f" ({task.source})" if task.source else ""
    used_up = "; its attempts are used up" if is_exhausted(task) else ""
    return {
        "queued": "is queued.",
        "leased": "is starting.",
        "running": "is running.",
        "verifying": "is being verified.",
        "completed": "has passed.",
        "partial": "waits for somebody's verdict.",
        "failed": f"has {RESULT_WORDS.get(task.result, 'failed')}{source}{used_up}.",
        "cancelled": f"was cancelled{source}.",
        "skipped": "was skipped.",
    }[word]


def _next(run: Run, task: Task, *, alive: bool) -> list[str]:
    name = f"{run.id}/{task.id}"
    if task.status in OPEN:
        if run.status == "paused" or (not alive and run.status in ("running", "stopping")):
            return [f"To go on: fleet resume {run.id}"]
        if task.status == "queued":
            return [f"To see the whole run: fleet explain {run.id}"]
        return [f"To see what it writes: fleet logs {name} --follow"]
    if run.compacted:
        return [f"To see how it was judged: fleet receipts {name}"]
    steps = [f"To see what it wrote: fleet logs {name}"] if task.attempt else []
    if task.status == "partial":
        steps.append(f"To pass it: {verify_command(run, task)}; to refuse it: --fail")
    elif task.status == "failed":
        requires = decode_task(task.raw).requires if task.source == "transport" else None
        if requires is not None and requires.target and not is_here_in(run, requires.target):
            steps.append(f"To try that machine: fleet worker test {requires.target}")
        steps.append(again(run, spent=task.source == "budget"))
    elif task.status == "cancelled":
        steps.append(f"To run what was cancelled: fleet resume {run.id}")
    return steps or [f"To see it all: fleet inspect {name}"]
