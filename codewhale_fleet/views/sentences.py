"""Every record in plain words: the one place that says what an event means to a person.

`say` promises a sentence for every word of core/events.py (a test says each once) that rests on its
record alone: it knows no state.
"""

from typing import assert_never

from ..core import events as e
from . import asking
from .units import duration, many, one_line
from .usage import said, warned

SHOWN_NAMES = 3
"""Ids that a sentence names; the rest is counted."""


def how_ended(event: e.AttemptEnded) -> str:
    """How an attempt's process ended: `exit 1`, `signal 9`, `unknown exit`, or why none began."""
    if event.unstarted:
        return f"never started: {one_line(event.unstarted)}"
    if event.exit is not None:
        return f"exit {event.exit}"
    if event.signal is not None:
        return f"signal {event.signal}"
    return "exit unknown"


def judged(receipt: e.Receipt) -> str:
    """A receipt in words: `passed`, `failed (task): exit 1`."""
    word = RESULT_WORDS.get(receipt.result, receipt.result)
    if receipt.result == "pass":
        return word
    source = f" ({receipt.source})" if receipt.source else ""
    reason = one_line(receipt.reason)
    return f"{word}{source}" + (f": {reason}" if reason and reason != word else "")


RESULT_WORDS = {
    "pass": "passed",
    "fail": "failed",
    "timeout": "timed out",
    "partial": "waits for a person",
    "skip": "was cancelled",
}
"""A receipt's result, as a verb."""


def again(seconds: float | None) -> str:
    """What comes after an attempt, as the end of a sentence; empty when the receipt decides."""
    if seconds is None:
        return ""
    return f"; again in {duration(seconds)}" if seconds else "; again at once"


def verdict(head: e.Envelope, event: e.ReceiptRecorded) -> str:
    """A later verdict as the end of a sentence: `was passed by cli:user: it works`."""
    word = {"pass": "passed", "fail": "failed"}.get(event.receipt.result, event.receipt.result)
    reason = one_line(event.receipt.reason)
    return f"was {word} by {head.by or 'somebody'}" + (f": {reason}" if reason else "")


def names(ids: list[str], prefix: str = "") -> str:
    """Some ids by name, the rest counted."""
    shown = ", ".join(prefix + one for one in ids[:SHOWN_NAMES])
    rest = len(ids) - SHOWN_NAMES
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def say(head: e.Envelope, event: e.Event) -> str:
    """One record in one sentence, without its number and time."""
    if isinstance(event, e.ReceiptRecorded):
        return f"{event.attempt} {verdict(head, event)}"
    if isinstance(event, _ATTEMPT):
        return _of_attempt(event)
    if isinstance(event, e.AttemptProgressed) and event.step and not event.warn:
        return f"{event.attempt} is over, and is being verified (step {event.step})"
    if isinstance(event, e.AttemptProgressed) and (said := progress(event)):
        return said
    if isinstance(event, _RUN):
        return _of_run(head, event)
    if isinstance(event, _ALERT):
        from . import alerting

        return alerting.say(head, event)
    if isinstance(event, _WORKER) or (isinstance(event, e.WorkerEnrolled) and event.worker):
        from . import workers

        return workers.say(event)
    return asking.say(head, event) or _of_fleet(head, event)


def progress(event: e.AttemptProgressed) -> str:
    """What an agent tells while it works."""
    if warning := warned(event):
        return f"{event.attempt} {warning}"
    if own := asking.progressed(event):
        return f"{event.attempt} {own}" if event.checkpoint else f"{event.attempt} goes on: {own}"
    told = ", ".join(part for part in (said(event.agent.usage), event.agent.note) if part)
    return f"{event.attempt} goes on" + (f": {told}" if told else "")


_ALERT = (e.AlertSent, e.AlertDelayed, e.AlertFailed, e.AlertSuppressed)
_ATTEMPT = (e.AttemptDispatched, e.AttemptStarted, e.AttemptEnded, e.AttemptLost)
_RUN = (
    e.RunCreated, e.TasksAdded, e.RunStarted, e.RunStopped, e.RunPaused, e.RunResumed,
    e.RunFinished, e.RunSummarized, e.TaskQueued, e.TaskCancelled, e.TaskUnplaced,
    e.ControlRequested, e.WorkersAdded,
)  # fmt: skip

_WORKER = (
    e.WorkerRegistered, e.WorkerDraining, e.WorkerRetired, e.WorkerUnreachable,
    e.InventoryDiscovered,
)  # fmt: skip

_Attempt = e.AttemptDispatched | e.AttemptStarted | e.AttemptEnded | e.AttemptLost
_Run = (
    e.RunCreated
    | e.TasksAdded
    | e.RunStarted
    | e.RunStopped
    | e.RunPaused
    | e.RunResumed
    | e.RunFinished
    | e.RunSummarized
    | e.TaskQueued
    | e.TaskCancelled
    | e.TaskUnplaced
    | e.WorkersAdded
    | e.ControlRequested
)


def _of_attempt(event: _Attempt) -> str:
    match event:
        case e.AttemptDispatched():
            why = f": {event.why}" if event.why else ""
            return f"{event.attempt} went to {event.worker}{why}"
        case e.AttemptStarted():
            return f"{event.attempt} runs on {event.worker} as process {event.pid}"
        case e.AttemptEnded():
            late = " (too late to count)" if event.late else ""
            told = f"{event.attempt} {judged(event.receipt)}{late} after {duration(event.seconds)}"
            return told + again(event.retry_after)
        case e.AttemptLost():
            told = f"{event.attempt} was lost: {one_line(event.why)}"
            return told + again(event.retry_after)
        case _:
            assert_never(event)


def _of_run(head: e.Envelope, event: _Run) -> str:
    run = head.run
    match event:
        case e.RunCreated():
            return (
                f"{run} was drafted from {event.spec or 'its command'} for {head.by or 'someone'}"
            )
        case e.TasksAdded():
            return f"{run} got {many(len(event.tasks), 'task')}"
        case e.RunStarted():
            return f"{run} was started with {many(event.count, 'task')}"
        case e.RunStopped():
            return f"{run} was stopped ({event.source}): {one_line(event.reason)}"
        case e.RunPaused():
            return f"{run} was paused: {one_line(event.reason)}"
        case e.RunResumed():
            return f"{run} goes on" + (", failed tasks too" if event.failed else "")
        case e.RunFinished():
            counts = ", ".join(f"{count:,} {word}" for word, count in event.counts.items() if count)
            return f"{run} finished in {duration(event.seconds, exact=True)}: {counts}"
        case e.RunSummarized():
            return f"{run} is summed up since {event.on[:10]}: {many(len(event.tasks), 'task')}"
        case e.TaskQueued():
            return f"{names(event.tasks, run + '/')} queued again: {one_line(event.why)}"
        case e.TaskCancelled():
            return f"{names(event.tasks, run + '/')} cancelled: {one_line(event.why)}"
        case e.TaskUnplaced():
            return f"{names(event.tasks, run + '/')} {judged(event.receipt)}"
        case e.WorkersAdded():
            return f"{run} may use {many(len(event.workers), 'more worker')}"
        case e.ControlRequested():
            reason = f": {one_line(event.reason)}" if event.reason else ""
            return f"{head.by or 'someone'} asked to {event.verb} {names(event.attempts)}{reason}"
        case _:
            assert_never(event)


def _of_fleet(head: e.Envelope, event: e.Event) -> str:
    match event:
        case e.FleetInitialized():
            return f"the ledger of {event.fleet} begins"
        case e.FleetCopied():
            return f"this is a copy of {event.was}; from here on it is {event.fleet}"
        case e.WorkerStale():
            silent = f"nothing written, no processor time for {duration(event.quiet)}"
            return f"{event.attempt} on {event.worker} is stale: {silent}"
        case e.WorkerRecovered():
            return f"{event.attempt} on {event.worker} moves again after {duration(event.quiet)}"
        case e.ManagerElected():
            return f"process {event.pid} on {event.host} became manager, epoch {event.epoch}"
        case e.ManagerLeft():
            return f"the manager of epoch {event.epoch} left in order"
        case e.WorkerEnrolled():
            slots = many(event.slots, "worker slot")
            return f"{head.run} got {slots} on {event.host} ({many(event.cores, 'core')})"
        case e.WorkerHeartbeat():
            return f"heard of {names(event.workers)}"
        case e.LedgerSealed():
            held = f"records {event.first:,} to {event.last:,}"
            return f"segment {event.segment} was sealed with {held}"
        case e.LedgerCompacted():
            dropped = many(sum(event.dropped.values()), "record")
            runs = many(event.runs, "finished run")
            return f"segment {event.segment} was compacted: {dropped} of {runs} dropped"
        case e.LedgerRepaired(asked=True, quarantine=""):
            return "the ledger was repaired; nothing had to be set aside"
        case e.LedgerRepaired(asked=True):
            return f"the ledger was repaired: {event.bytes:,} bytes went to {event.quarantine}"
        case e.LedgerRepaired():
            return f"{event.bytes:,} bytes that were never acknowledged went to {event.quarantine}"
        case _:
            return head.k
