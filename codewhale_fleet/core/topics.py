"""When what somebody is owed goes out, and as how many messages.

A topic is one class of one run for one adapter. Its first occasion after a quiet time is owed at
once, alone; what follows within its window gathers, and becomes the next message by a record
(`alert.suppressed`, grouped). So what a message stands for is recorded before it is sent, and one
that is sent again after a crash is the same, under the same key. Windows grow while occasions keep
coming. What is over before it was told is taken back; when all that was told is over, a receiver
that knows of incidents is owed the end. An adapter that has had enough messages for now gets one
for all topics. Part of `evolve`, and pure: times come from records.
"""

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import json

from . import events as ev
from .alert_words import Batch, Occasion, Topic, without_open
from .liveness import seconds_of
from .state import Run, State

FIRST_WINDOW_SECONDS = 60.0
"""How long a topic holds back what follows a message; twice as long each time it has to."""
LONGEST_WINDOW_SECONDS = 3600.0
NAMED = 5
"""Other subjects that a message names; the rest is counted."""
LIMIT = 8
"""Messages that an adapter gets within LIMIT_SECONDS; what is owed beyond that goes as one."""
LIMIT_SECONDS = 60.0
FINISH_BYTES = 150_000
"""Most bytes of topics in the record that finishes a run; it has to fit a line."""


def key_of(run: str, cls: str, seq: int) -> str:
    """What a receiver knows the message by that begins with the occasion of record `seq`."""
    return f"{run}/{cls}#{seq}"


def join(run: Run, topic: Topic, occasion: Occasion, at: float) -> None:
    """One more occasion of a topic, at this second."""
    known = topic.open.pop(occasion.subject, 0)
    if topic.cls != "run_completed":
        topic.open[occasion.subject] = occasion.seq
    held = topic.held
    if held is not None:
        if known < held.since:  # else it is in there, and was not told yet
            held.count += 1
            if len(held.others) < NAMED:
                held.others.append(occasion.subject)
        return
    key = key_of(run.id, topic.cls, occasion.seq)
    batch = Batch(key=key, first=occasion, since=occasion.seq)
    if topic.owed is None and at >= topic.quiet_at:
        topic.owed = batch
        topic.window = FIRST_WINDOW_SECONDS
        topic.quiet_at = at + topic.window
    else:
        batch.until = topic.quiet_at
        topic.held = batch


def over(run: Run, subject: str, *classes: str) -> None:
    """A subject is not any more what it was; what nobody was told of it is taken back."""
    assert run.alerts is not None
    for topic in run.alerts.topics.values():
        if topic.cls not in classes or not (seq := topic.open.pop(subject, 0)):
            continue
        held = topic.held
        if held is None or seq < held.since:
            continue
        held.count -= 1
        if held.count == 0:
            topic.held = None
        elif subject in held.others:
            held.others.remove(subject)
        elif held.first.subject == subject:
            later = (name for name, told in topic.open.items() if told >= held.since)
            name = held.others.pop(0) if held.others else next(later)
            held.first = Occasion(name, topic.open[name], held.first.ts)
            held.key = key_of(run.id, topic.cls, held.first.seq)


def is_over(topic: Topic) -> bool:
    """Whether its receiver is owed the end of what it has open."""
    return bool(
        topic.incident
        and not topic.shared
        and not (topic.open or topic.left or topic.owed or topic.held)
    )


def message_key(topic: Topic) -> str:
    """The key of what is owed now: a message, or the end of what is open; empty for nothing."""
    if topic.owed is not None:
        return topic.owed.key
    return topic.incident if is_over(topic) else ""


def index(state: State, run: Run) -> None:
    """Keep the run among those that owe something, or take it out."""
    alerts = run.alerts
    assert alerts is not None
    if alerts.later or any(
        topic.owed or topic.held or is_over(topic) for topic in alerts.topics.values()
    ):
        state.owing[run.id] = run.seq
    else:
        state.owing.pop(run.id, None)


def owing(state: State) -> Iterator[tuple[Run, Topic]]:
    """Topics of which something is to be sent as it stands, of the runs that owe anything."""
    for name in state.owing:
        run = state.runs[name]
        for topic in run.alerts.topics.values() if run.alerts else ():
            if topic.owed is not None or is_over(topic):
                yield run, topic


# What became of messages ----------------------------------------------------------------------


def _topic(run: Run, event: Any) -> Topic | None:
    assert run.alerts is not None
    return run.alerts.topics.get(f"{event.cls} {event.adapter}")


def _done(topic: Topic) -> None:
    topic.tries, topic.not_before, topic.words, topic.stuck = 0, 0.0, "", False


def _sent(state: State, run: Run, head: ev.Envelope, event: ev.AlertSent) -> None:
    pace = state.pace.setdefault(event.adapter, [])
    pace.append(seconds_of(head.ts))
    del pace[:-LIMIT]
    topic = _topic(run, event)
    if topic is None:
        return
    if event.action == "trigger" and topic.resolves and topic.cls != "run_completed":
        topic.incident = topic.incident or event.key
    _discharged(topic, event)


def _failed(state: State, run: Run, head: ev.Envelope, event: ev.AlertFailed) -> None:
    topic = _topic(run, event)
    if topic is not None:
        _discharged(topic, event)


def _discharged(topic: Topic, event: ev.AlertSent | ev.AlertFailed) -> None:
    if event.action == "resolve":
        if topic.incident == event.key:
            topic.incident, topic.shared = "", False
            _done(topic)
    elif topic.owed is not None and topic.owed.key == event.key:
        topic.owed = None
        _done(topic)


def _delayed(state: State, run: Run, head: ev.Envelope, event: ev.AlertDelayed) -> None:
    topic = _topic(run, event)
    if topic is not None and message_key(topic) == event.key:
        topic.words, topic.stuck = event.why, event.stuck
        if not event.stuck:
            topic.tries += 1
            topic.not_before = seconds_of(head.ts) + event.seconds


def _suppressed(state: State, run: Run, head: ev.Envelope, event: ev.AlertSuppressed) -> None:
    topic = _topic(run, event)
    if topic is None:
        return
    held, owed = topic.held, topic.owed
    if event.why == "grouped" and owed is None and held is not None and held.key == event.key:
        topic.owed, topic.held = held, None
        topic.window = min(2 * topic.window, LONGEST_WINDOW_SECONDS) or FIRST_WINDOW_SECONDS
        topic.quiet_at = seconds_of(head.ts) + topic.window
    elif owed is None or owed.key != event.key:
        return
    elif event.why == "limited":
        topic.owed = None
        _done(topic)
    elif event.why == "carried":
        owed.key, owed.count = event.into, owed.count + event.count
        owed.others = [*owed.others, *event.names][:NAMED]
        topic.shared = topic.resolves


# What is kept ---------------------------------------------------------------------------------


def kept_at_end(run: Run) -> list[Topic]:
    """Topics that count beyond the end of a run, without what is open one by one."""
    if run.alerts is None:
        return []
    kept = [
        without_open(topic, len(topic.open))
        for topic in run.alerts.topics.values()
        if topic.owed or topic.held or topic.incident or topic.open
    ]
    if len(json.encode(kept)) > FINISH_BYTES:
        for batch in (batch for topic in kept for batch in (topic.owed, topic.held) if batch):
            batch.others = []
            batch.first = Occasion(batch.first.subject, batch.first.seq, batch.first.ts)
    return kept


def finished(run: Run, kept: list[Topic]) -> None:
    """What the record of its end says is owed is owed, whoever has read the detail."""
    alerts = run.alerts
    assert alerts is not None
    seen = {name: topic.open for name, topic in alerts.topics.items()}
    alerts.later, alerts.topics = {}, {}
    for topic in kept:
        name = f"{topic.cls} {topic.adapter}"
        alerts.topics[name] = topic
        topic.open = seen.get(name, {})


def earlier(state: State, seconds: float) -> None:
    """The clock lost so much: waits end as much earlier on it."""
    for name in state.owing:
        alerts = state.runs[name].alerts
        for topic in alerts.topics.values() if alerts else ():
            topic.quiet_at -= seconds
            topic.not_before -= seconds
            if topic.held is not None:
                topic.held.until -= seconds
        if alerts:
            alerts.later = {name: when - seconds for name, when in alerts.later.items()}
    state.pace = {name: [at - seconds for at in pace] for name, pace in state.pace.items()}


HANDLERS: dict[type[ev.Event], Callable[[State, Run, ev.Envelope, Any], None]] = {
    ev.AlertSent: _sent,
    ev.AlertFailed: _failed,
    ev.AlertDelayed: _delayed,
    ev.AlertSuppressed: _suppressed,
}
"""For core/alerts.py."""
