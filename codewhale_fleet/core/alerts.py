"""Which recorded facts somebody is owed a message about, and whose they are.

A fact is an occasion of a class; where it could be of several, each adapter is told it as the first
of them that it hears of. What is no news to people owes nothing: what they asked for, answered or
judged themselves. A task may narrow the classes (`events`), put them off (`after_attempts`,
`after_minutes_stale`) and name channels of its own; a run without alerts has none of this. When a
message goes out is for core/topics.py.

Handlers of `evolve`, called after the state has taken the record. They look at rows and at what is
in flight, never at time; a record about what is not known any more changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from msgspec import Struct, json

from . import events as ev
from . import topics
from .alert_words import Occasion, RunAlerts, Topic
from .liveness import seconds_of
from .spec_hosts import AlertPolicy, Channel, PagerDutyChannel
from .state import Run, State, attempt_id
from .topics import over

REASON_BYTES = 240

ENDS = ("budget_exceeded", "verifier_failed", "restart_exhausted")
"""Classes that a task's failing for good may be of."""
_CAPPED = ("budget_exceeded", "restart_exhausted")
_PLAIN = ("restart_exhausted",)


class _Own(Struct):
    alert_policy: AlertPolicy | None = None


_own_of = json.Decoder(_Own).decode


def note(state: State, head: ev.Envelope, event: ev.Event) -> None:
    """Take a record in, after the state has: what it owes, and what it discharges."""
    handler = HANDLERS.get(type(event))
    run = state.runs.get(head.run) if handler is not None else None
    if run is not None and run.alerts is not None and handler is not None:
        handler(state, run, head, event)
        topics.index(state, run)


# Who hears of it ------------------------------------------------------------------------------


class _Target(Struct, frozen=True):
    """An adapter that hears of something, as which class."""

    cls: str
    adapter: str
    channel: str = ""
    resolves: bool = False


@lru_cache(maxsize=64)
def _routed(config: bytes) -> dict[str, dict[str, bool]]:
    """Class -> adapters of the config that hear of it, and whether they know of incidents."""
    from .alert_config import CLASSES, AlertConfig, PagerDuty, adapters_for

    read = json.decode(config, type=AlertConfig)
    return {
        cls: {
            name: isinstance(read.adapters.get(name), PagerDuty) for name in adapters_for(read, cls)
        }
        for cls in CLASSES
    }


def label_of(channel: Channel) -> str:
    """What a task's own channel is called: its kind, the name of its secret, and what else there
    is to it."""
    more = getattr(channel, "severity", "") or getattr(channel, "secret_ref", "")
    name = f"{channel.__struct_config__.tag}:{channel.url_ref or ''}"
    return f"{name}/{more}" if more else name


def channels_of(tasks: Iterable[bytes]) -> Iterator[Channel]:
    """The channels that tasks, as JSON, name for themselves."""
    for raw in tasks:
        if b'"alert_policy"' in raw and (own := _own_of(raw).alert_policy) is not None:
            yield from own.channels


def policy_of(run: Run, task: str) -> AlertPolicy | None:
    """What a task says of its own alerts, or None."""
    if run.alerts is None or not run.alerts.policies:
        return None
    raw = run.tasks[task].raw
    return _own_of(raw).alert_policy if b'"alert_policy"' in raw else None


def _targets(alerts: RunAlerts, classes: tuple[str, ...], own: AlertPolicy | None) -> list[_Target]:
    """Who hears of something that is of these classes: each adapter once, as the first of them."""
    heard = [cls for cls in classes if own is None or not own.events or cls in own.events]
    found: dict[str, _Target] = {}
    routed = _routed(alerts.config)
    for cls in heard:
        for adapter, resolves in routed[cls].items():
            found.setdefault(adapter, _Target(cls, adapter, "", resolves))
    for channel in own.channels if own is not None and heard else ():
        resolves = isinstance(channel, PagerDutyChannel)
        name, data = label_of(channel), json.encode(channel).decode()
        found.setdefault(name, _Target(heard[0], name, data, resolves))
    return list(found.values())


def _tell(run: Run, head: ev.Envelope, occasion: Occasion, task: str, *classes: str) -> None:
    """Somebody is owed this, unless it is too early for what the task says."""
    alerts = run.alerts
    assert alerts is not None
    own = policy_of(run, task) if task else None
    if own is not None and (own.after_attempts or 0) > run.tasks[task].attempt:
        return
    at = seconds_of(head.ts)
    for target in _targets(alerts, classes, own):
        name = f"{target.cls} {target.adapter}"
        topic = alerts.topics.get(name)
        if topic is None:
            topic = alerts.topics[name] = Topic(
                cls=target.cls,
                adapter=target.adapter,
                channel=target.channel,
                resolves=target.resolves,
            )
        topics.join(run, topic, occasion, at)


# Occasions ------------------------------------------------------------------------------------


def trimmed(text: str) -> str:
    """A reason on one line, of at most REASON_BYTES; what was cut ends in three dots."""
    data = " ".join(text.split()).encode("utf-8", "replace")
    if len(data) <= REASON_BYTES:
        return data.decode()
    return data[: REASON_BYTES - 3].decode("utf-8", "ignore") + "..."


def _landed(
    state: State, run: Run, head: ev.Envelope, event: ev.AttemptEnded | ev.AttemptLost
) -> None:
    """An attempt is over: it does not hang, it asks nothing, and perhaps it decides its task."""
    ended = event if isinstance(event, ev.AttemptEnded) else None
    if ended is not None and ended.late:
        return
    assert run.alerts is not None
    run.alerts.later.pop(event.attempt, None)
    over(run, event.attempt, "stale")
    for question in _asked_by(run, event.attempt):
        over(run, question, "needs_human")
    if event.retry_after is not None:
        return
    classes: tuple[str, ...] = _PLAIN
    if event.receipt.source == "budget" or (ended and ended.why == "budget"):
        classes = _CAPPED
    elif event.receipt.source == "verifier" or (ended and ended.steps):
        classes = ENDS[1:]
    _decided(run, head, event.attempt, event.receipt, classes, ended.worker if ended else "")


def _asked_by(run: Run, attempt: str) -> Iterator[str]:
    """Questions of an attempt, by key: they are numbered without gaps."""
    key, number = attempt, 1
    while key in run.questions:
        yield key
        number += 1
        key = f"{attempt}:{number}"


def _judged(state: State, run: Run, head: ev.Envelope, event: ev.ReceiptRecorded) -> None:
    assert run.alerts is not None
    for topic in run.alerts.topics.values():
        topic.left = 0
    _decided(run, head, event.attempt, event.receipt, (), "")


def _decided(
    run: Run,
    head: ev.Envelope,
    attempt: str,
    receipt: ev.Receipt,
    classes: tuple[str, ...],
    worker: str,
) -> None:
    """A task waits for a person, or failed for good, or nothing is the matter with it any more.

    `classes`: those of a failure; none where a person says so.
    """
    subject, _, number = attempt.rpartition("@")
    name = subject[len(run.id) + 1 :]
    reason = trimmed(receipt.reason)
    occasion = Occasion(subject, head.seq, head.ts, reason, worker, int(number))
    fails = receipt.result in ("fail", "timeout")
    if receipt.result != "partial":
        over(run, subject, "needs_human")
    else:
        _tell(run, head, occasion, name, "needs_human")
    if fails and classes:
        _tell(run, head, occasion, name, *classes)
    else:
        over(run, subject, *ENDS)


def _cancelled(state: State, run: Run, head: ev.Envelope, event: ev.TaskCancelled) -> None:
    _recheck(run)


def _unplaced(state: State, run: Run, head: ev.Envelope, event: ev.TaskUnplaced) -> None:
    """Tasks that failed for good, without an attempt of theirs, or another one."""
    for name in event.tasks:
        attempt = attempt_id(run.id, name, run.tasks[name].attempt)
        _decided(run, head, attempt, event.receipt, _PLAIN, "")


def _recheck(run: Run) -> None:
    """Tasks that had failed, and were cancelled while they waited for another attempt."""
    assert run.alerts is not None
    for topic in run.alerts.topics.values():
        for subject in tuple(topic.open) if topic.cls in ENDS else ():
            task = run.tasks.get(subject.partition("/")[2])
            if task is not None and task.status == "cancelled":
                over(run, subject, topic.cls)


def _stopped(state: State, run: Run, head: ev.Envelope, event: ev.RunStopped) -> None:
    _recheck(run)
    if event.source == "budget":
        occasion = Occasion(run.id, head.seq, head.ts, trimmed(event.reason))
        _tell(run, head, occasion, "", "budget_exceeded")


def _went_on(state: State, run: Run, head: ev.Envelope, event: ev.Event) -> None:
    """A person has it go on."""
    assert run.alerts is not None
    run.alerts.told = ""
    for topic in run.alerts.topics.values():
        topic.left = 0
    over(run, run.id, "budget_exceeded")


def _stale(state: State, run: Run, head: ev.Envelope, event: ev.WorkerStale) -> None:
    alerts, flight = run.alerts, run.flights.get(event.attempt)
    if alerts is None or flight is None:
        return
    own = policy_of(run, flight.task)
    short = 60.0 * (own.after_minutes_stale or 0) - event.quiet if own is not None else 0.0
    if short > 0:
        alerts.later[event.attempt] = seconds_of(head.ts) + short
        return
    alerts.later.pop(event.attempt, None)
    what = "no sign of life" if flight.silent else "no output and no processor time"
    reason = f"{what} for {event.quiet:,.0f} s"
    occasion = Occasion(event.attempt, head.seq, head.ts, reason, event.worker)
    _tell(run, head, occasion, flight.task, "stale")


def _recovered(state: State, run: Run, head: ev.Envelope, event: ev.WorkerRecovered) -> None:
    assert run.alerts is not None
    run.alerts.later.pop(event.attempt, None)
    over(run, event.attempt, "stale")


def _asked(state: State, run: Run, head: ev.Envelope, event: ev.QuestionAsked) -> None:
    flight = run.flights.get(event.attempt)
    if event.answer is None and flight is not None:
        key = event.attempt if event.number == 1 else f"{event.attempt}:{event.number}"
        occasion = Occasion(key, head.seq, head.ts, trimmed(event.text), event.worker)
        _tell(run, head, occasion, flight.task, "needs_human")


def _answered(state: State, run: Run, head: ev.Envelope, event: ev.QuestionAnswered) -> None:
    key = event.attempt if event.number == 1 else f"{event.attempt}:{event.number}"
    over(run, key, "needs_human")


def _finished(state: State, run: Run, head: ev.Envelope, event: ev.RunFinished) -> None:
    """Nothing more comes, so what is held back waits for nothing."""
    alerts = run.alerts
    assert alerts is not None
    topics.finished(run, event.alerts)
    if not event.known:
        occasion = Occasion(run.id, head.seq, head.ts, summed_up(event))
        _tell(run, head, occasion, "", "run_completed")
    for topic in alerts.topics.values():
        if topic.held is not None:
            topic.held.until = 0.0
    alerts.told = event.status


def summed_up(event: ev.RunFinished) -> str:
    """How a run came out, in words."""
    passed = event.counts.get("completed", 0) + event.counts.get("skipped", 0)
    said = [f"{passed:,} of {sum(event.counts.values()):,} passed"]
    said += [
        f"{count:,} {name}"
        for name in ("failed", "partial", "cancelled")
        if (count := event.counts.get(name, 0))
    ]
    return f"{event.status}: {', '.join(said)}"


HANDLERS: dict[type[ev.Event], Callable[[State, Run, ev.Envelope, Any], None]] = {
    ev.AttemptEnded: _landed,
    ev.AttemptLost: _landed,
    ev.ReceiptRecorded: _judged,
    ev.TaskCancelled: _cancelled,
    ev.TaskUnplaced: _unplaced,
    ev.TaskQueued: _went_on,
    ev.RunStopped: _stopped,
    ev.RunResumed: _went_on,
    ev.RunFinished: _finished,
    ev.WorkerStale: _stale,
    ev.WorkerRecovered: _recovered,
    ev.QuestionAsked: _asked,
    ev.QuestionAnswered: _answered,
    **topics.HANDLERS,
}
"""Which records may owe something, or discharge it."""
