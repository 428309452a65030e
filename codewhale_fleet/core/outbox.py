"""What is to be done about alerts now, and what is recorded of it.

Pure: the part of `decide`, of the duties and of waiting that is about messages to people. `due`
yields what time and pace ask to be recorded, `sendable` what may be sent; `outbox` is the same for
people. Which facts owe a message is for core/alerts.py, when it goes out for core/topics.py.
"""

from collections.abc import Iterator

from msgspec import Struct

from . import commands as c
from . import events as e
from .alert_words import Batch, Topic
from .alerts import policy_of
from .backoff import wait_to_send
from .liveness import seconds_of
from .state import Run, State
from .topics import LIMIT, LIMIT_SECONDS, NAMED, is_over, message_key, owing

MOST_SECONDS = 86_400.0
"""A message that could not be sent so long after what it tells is given up."""
STUCK_SECONDS = 7 * 86_400.0
"""The same of one that waits for values which nobody brings."""

SILENT_SECONDS = 300.0
"""An attempt in flight that nobody has heard of for so long is stale."""


class Letter(Struct, frozen=True, kw_only=True):
    """A message as it is to go out."""

    run: str
    cls: str
    adapter: str
    key: str
    incident: str
    """The key that stays the same from the first message of an incident to its end."""
    action: str
    batch: Batch | None
    """What it is about; None for an end."""
    channel: str = ""
    stuck: bool = False
    """Whether it is recorded that values which it needs are gone."""


# Deciding -------------------------------------------------------------------------------------


def decide_alert(state: State, run: Run, command: c.AlertCommand, now: float) -> e.Event | None:
    """The record of what becomes of a message; None where it is so already."""
    topic = run.alerts.topics.get(f"{command.cls} {command.adapter}") if run.alerts else None
    if topic is None:
        return None
    if isinstance(command, c.GroupAlerts):
        return _grouped(topic, command, now)
    if message_key(topic) != command.key:
        return None
    match command:
        case c.CarryAlerts():
            return e.AlertSuppressed(
                cls=topic.cls,
                adapter=topic.adapter,
                why="carried",
                key=command.key,
                into=command.into,
                count=command.count,
                names=list(command.names),
            )
        case c.FoldAlerts() if topic.owed is not None:
            return e.AlertSuppressed(
                cls=topic.cls,
                adapter=topic.adapter,
                why="limited",
                key=command.key,
                into=command.into,
                count=topic.owed.count,
                names=[topic.owed.first.subject],
            )
        case c.ReportAlert():
            return _reported(topic, command, now)
    return None


def _grouped(topic: Topic, command: c.GroupAlerts, now: float) -> e.Event | None:
    held = topic.held
    if topic.owed is not None or held is None or held.key != command.key or held.until > now:
        return None
    return e.AlertSuppressed(
        cls=topic.cls,
        adapter=topic.adapter,
        why="grouped",
        key=held.key,
        count=held.count,
        names=[held.first.subject, *held.others],
    )


def _reported(topic: Topic, command: c.ReportAlert, now: float) -> e.Event:
    owed = topic.owed
    action, count = ("trigger", owed.count) if owed is not None else ("resolve", 1)
    if command.state == "sent":
        return e.AlertSent(
            cls=topic.cls,
            adapter=topic.adapter,
            key=command.key,
            action=action,
            count=count,
            digest=command.digest,
            dry=command.dry,
            words=command.words,
        )
    why = command.words
    old = owed is not None and now - seconds_of(owed.first.ts) > MOST_SECONDS
    if command.state == "failed" or (old and command.state == "retry"):
        if command.state == "retry":
            why = f"given up after {MOST_SECONDS / 3600:g} h: {why}"
        return e.AlertFailed(
            cls=topic.cls,
            adapter=topic.adapter,
            key=command.key,
            why=why,
            action=action,
            count=count,
        )
    stuck = command.state == "stuck"
    seconds = 0.0 if stuck else wait_to_send(topic.tries, command.after, command.jitter)
    return e.AlertDelayed(
        cls=topic.cls, adapter=topic.adapter, key=command.key, why=why, seconds=seconds, stuck=stuck
    )


# What is due ----------------------------------------------------------------------------------


def due(state: State, now: float) -> Iterator[c.Command]:
    """What is to be recorded now; the caller takes each command before the next."""
    for name in tuple(state.owing):
        run = state.runs[name]
        if run.alerts is None:
            continue
        for attempt, when in tuple(run.alerts.later.items()):
            flight = run.flights.get(attempt)
            if when <= now and flight is not None:
                own = policy_of(run, flight.task)
                quiet = 60.0 * ((own.after_minutes_stale or 0) if own is not None else 0)
                yield c.ReportStill(attempt=attempt, worker=flight.worker, quiet=quiet)
        for topic in run.alerts.topics.values():
            if topic.stuck and now - _since(topic) > STUCK_SECONDS:
                yield c.ReportAlert(
                    run=run.id,
                    cls=topic.cls,
                    adapter=topic.adapter,
                    key=message_key(topic),
                    state="failed",
                    words=f"given up after a week: {topic.words}",
                )
            if topic.owed is None and topic.held is not None and topic.held.until <= now:
                key = topic.held.key
                yield c.GroupAlerts(run=run.id, cls=topic.cls, adapter=topic.adapter, key=key)
    yield from _as_one(state, now)


def _since(topic: Topic) -> float:
    """When what is owed of a topic happened; of an end, when its receiver last heard of it."""
    return seconds_of(topic.owed.first.ts) if topic.owed is not None else topic.quiet_at


def silence(state: State, now: float) -> Iterator[c.Command]:
    """Attempts of runs with alerts that nobody has heard of for too long, or hears of again."""
    for run in state.open_runs.values():
        for attempt, flight in run.flights.items() if run.alerts is not None else ():
            heard = seconds_of(max(flight.ts, state.beats.get(flight.worker, "")))
            silent = now - heard >= SILENT_SECONDS
            if silent != bool(flight.stale) and (silent or flight.silent):
                yield c.ReportStill(
                    attempt=attempt,
                    worker=flight.worker,
                    quiet=round(max(0.0, now - heard), 3),
                    moves=not silent,
                )


def _as_one(state: State, now: float) -> Iterator[c.Command]:
    """What waits for an adapter that has had enough goes into one message: the oldest."""
    crowds: dict[str, list[tuple[Run, Topic, Batch]]] = {}
    for run, topic in owing(state):
        fresh = topic.owed is not None and topic.tries == 0 and not topic.stuck
        if fresh and topic.owed and free_at(state, topic.adapter) > now:
            crowds.setdefault(topic.adapter, []).append((run, topic, topic.owed))
    for crowd in crowds.values():
        if len(crowd) < 2:
            continue
        crowd.sort(key=lambda one: one[2].first.seq)
        (run, topic, first), *others = crowd
        count = sum(batch.count for _, _, batch in others)
        into = f"{first.key.partition('+')[0]}+{first.count + count}"
        names = [batch.first.subject for _, _, batch in others]
        yield c.CarryAlerts(
            run=run.id,
            cls=topic.cls,
            adapter=topic.adapter,
            key=first.key,
            into=into,
            count=count,
            names=tuple(names[:NAMED]),
        )
        for other, its, batch in others:
            yield c.FoldAlerts(
                run=other.id, cls=its.cls, adapter=its.adapter, key=batch.key, into=into
            )


def free_at(state: State, adapter: str) -> float:
    """The second from which an adapter may get another message; 0 for now."""
    pace = state.pace.get(adapter, ())
    return pace[-LIMIT] + LIMIT_SECONDS if len(pace) >= LIMIT else 0.0


def letter_of(run: Run, topic: Topic) -> Letter:
    """What is owed of a topic, as it is to go out."""
    batch = topic.owed
    return Letter(
        run=run.id,
        cls=topic.cls,
        adapter=topic.adapter,
        key=message_key(topic),
        incident=topic.incident or message_key(topic),
        action="resolve" if batch is None else "trigger",
        batch=batch,
        channel=topic.channel,
        stuck=topic.stuck,
    )


def sendable(state: State, now: float) -> Iterator[Letter]:
    """What may be sent now, the oldest of each adapter first; an end is not held back by pace."""
    found = [
        (topic.owed.first.seq if topic.owed else 0, letter_of(run, topic))
        for run, topic in owing(state)
        if topic.not_before <= now and (topic.owed is None or free_at(state, topic.adapter) <= now)
    ]
    found.sort(key=lambda one: one[0])
    for _, letter in found:
        yield letter


def wake_at(state: State, now: float) -> float | None:
    """The earliest second after now at which time alone changes what is due or may be sent."""
    times: list[float] = []
    for name in state.owing:
        alerts = state.runs[name].alerts
        if alerts is None:
            continue
        times += alerts.later.values()
        for topic in alerts.topics.values():
            if topic.owed is not None or is_over(topic):
                times.append(max(topic.not_before, free_at(state, topic.adapter)))
            elif topic.held is not None:
                times.append(topic.held.until)
    return min((when for when in times if when > now), default=None)


def wants_manager(state: State) -> bool:
    """Whether a manager could do something about what is owed, now or later.

    Not where all that is owed waits for values that somebody has to bring.
    """
    return any(
        not topic.stuck and (topic.owed or topic.held or is_over(topic))
        for name in state.owing
        if (alerts := state.runs[name].alerts) is not None
        for topic in alerts.topics.values()
    )


# For people -----------------------------------------------------------------------------------


class Row(Struct, frozen=True, kw_only=True):
    """Something that is to be sent, and what it waits for.

    `state`: owed; delayed (until `next_at`, after `tries` that came to nothing); stuck (it needs
    values that somebody has to bring); held (gathers until `next_at`).
    """

    run: str
    cls: str
    adapter: str
    key: str
    action: str
    state: str
    subject: str = ""
    reason: str = ""
    ts: str = ""
    count: int = 1
    others: list[str] = []
    next_at: float = 0.0
    tries: int = 0
    words: str = ""


def outbox(state: State, run: str = "") -> list[Row]:
    """Everything that is still to be sent, of all runs or of one, the oldest first."""
    rows = [
        row
        for name in state.owing
        if (alerts := state.runs[name].alerts) is not None and run in ("", name)
        for topic in alerts.topics.values()
        for row in _rows(name, topic)
    ]
    return sorted(rows, key=lambda row: (row.ts, row.run, row.key))


def _rows(run: str, topic: Topic) -> Iterator[Row]:
    waits = "stuck" if topic.stuck else "delayed" if topic.tries else "owed"
    if topic.owed is not None:
        yield _row(run, topic, topic.owed, waits)
    elif is_over(topic):
        yield Row(
            run=run,
            cls=topic.cls,
            adapter=topic.adapter,
            key=topic.incident,
            action="resolve",
            state=waits,
            next_at=topic.not_before,
            tries=topic.tries,
            words=topic.words,
        )
    if topic.held is not None:
        yield _row(run, topic, topic.held, "held")


def _row(run: str, topic: Topic, batch: Batch, waits: str) -> Row:
    held = waits == "held"
    return Row(
        run=run,
        cls=topic.cls,
        adapter=topic.adapter,
        key=batch.key,
        action="trigger",
        state=waits,
        subject=batch.first.subject,
        reason=batch.first.reason,
        ts=batch.first.ts,
        count=batch.count,
        others=batch.others,
        next_at=batch.until if held else topic.not_before,
        tries=0 if held else topic.tries,
        words="" if held else topic.words,
    )
