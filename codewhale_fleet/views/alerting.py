"""Messages to people, in plain words: what is owed, what it waits for, what became of the others.

Pure: records and the outbox come in; sentences and plain rows go out.
"""

from typing import Any, assert_never

from ..core import events as e
from ..core.alert_words import Topic
from ..core.alerts import ENDS, policy_of
from ..core.asks import waiting
from ..core.outbox import Row, outbox
from ..core.state import Run, State, Task, attempt_id
from .units import duration, many, one_line

Alert = e.AlertSent | e.AlertDelayed | e.AlertFailed | e.AlertSuppressed
LISTED = 20
"""Messages that an answer names; the rest is counted."""


def about(cls: str, run: str, count: int = 1) -> str:
    """`restart exhausted of RUN`, with how many it stands for."""
    more = f" (for {count:,})" if count > 1 else ""
    return f"{cls.replace('_', ' ')} of {run}{more}"


def say(head: e.Envelope, event: Alert) -> str:
    """One record in one sentence."""
    match event:
        case e.AlertSent(dry=True):
            return f"{event.adapter} would have been told of {about(event.cls, head.run)}: dry run"
        case e.AlertSent(action="resolve"):
            return f"{event.adapter} was told that {about(event.cls, head.run)} is over"
        case e.AlertSent():
            return f"{event.adapter} was told of {about(event.cls, head.run, event.count)}"
        case e.AlertDelayed():
            wait = "" if event.stuck else f"; again in {duration(event.seconds)}"
            what = about(event.cls, head.run)
            return f"{event.adapter} could not be told of {what}: {one_line(event.why)}{wait}"
        case e.AlertFailed():
            what = about(event.cls, head.run, event.count)
            return f"{event.adapter} is not told of {what}: {one_line(event.why)}"
        case e.AlertSuppressed(why="grouped"):
            what = about(event.cls, head.run)
            return f"{many(event.count, 'alert')} to {event.adapter}, {what}: one message"
        case e.AlertSuppressed(why="limited"):
            what = about(event.cls, head.run, event.count)
            return f"{event.adapter} has had enough for now: {what} goes out with {event.into}"
        case e.AlertSuppressed():
            more = many(event.count, "other alert")
            return f"{event.adapter} has had enough for now: {event.into} stands for {more} too"
        case _:
            assert_never(event)


def waits(row: Row) -> str:
    """What a message waits for."""
    tried = f" (tried {row.tries:,} times)" if row.tries > 1 else ""
    said = f": {one_line(row.words)}" if row.words else ""
    return {
        "owed": "is being sent",
        "held": "is held back, as others like it came just before",
        "stuck": f"waits{said}",
        "delayed": f"waits{said}{tried}",
    }[row.state]


def owed(state: State, run: str = "") -> dict[str, Any] | None:
    """The outbox in short, of all runs or of one; None where nobody is told of anything."""
    if not state.alerts or (run and state.runs[run].alerts is None):
        return None
    rows = outbox(state, run)
    words = ("owed", "held", "delayed", "stuck")
    return {
        **{word: sum(row.state == word for row in rows) for word in words},
        "waiting": [
            {
                "run": row.run,
                "class": row.cls,
                "adapter": row.adapter,
                "action": row.action,
                "state": row.state,
                "about": row.subject,
                "count": row.count,
                "why": waits(row),
            }
            for row in rows[:LISTED]
        ],
    }


def needs(state: State, run: str = "") -> list[tuple[str, str, str]]:
    """What of it a person has to do something about: the run, why, and what to type."""
    stuck: dict[str, list[Row]] = {}
    for row in outbox(state, run):
        if row.state == "stuck":
            stuck.setdefault(row.run, []).append(row)
    found = []
    for name, rows in stuck.items():
        why = one_line(rows[0].words.partition(";")[0])
        said = f"{many(len(rows), 'alert')} can't be sent: {why}"
        found.append((name, said, f"fleet resume {name}"))
    return found


# One thing ------------------------------------------------------------------------------------


def _word(topic: Topic, seq: int) -> str:
    """What became of telling the occasion of record `seq`, which is still so."""
    if topic.held is not None and seq >= topic.held.since:
        return "is held back: others like it came just before"
    if topic.owed is None or seq < topic.owed.since:
        return "was told"
    if topic.stuck or topic.tries:
        return f"could not be told yet: {one_line(topic.words)}"
    return "is being told"


def _of(run: Run, subject: str) -> list[tuple[str, int]]:
    """What adapters know of a task, its attempts and its questions, or of the run itself."""
    assert run.alerts is not None
    return [
        (f"{topic.adapter} {_word(topic, seq)} ({topic.cls.replace('_', ' ')})", seq)
        for topic in run.alerts.topics.values()
        for name, seq in topic.open.items()
        if name == subject or name.startswith(f"{subject}@")
    ]


def told_of(run: Run, task: Task | None = None) -> str | None:
    """The state of alerts in a few words, of a run's own or of a task; None for none."""
    if run.alerts is None:
        return None
    if task is not None:
        return "; ".join(said for said, _ in _of(run, f"{run.id}/{task.id}")) or None
    topics = run.alerts.topics.values()
    counts = {
        "being sent": sum(bool(topic.owed) for topic in topics),
        "held back": sum(bool(topic.held) for topic in topics),
        "open": sum(bool(topic.incident) for topic in topics),
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or None


def explained(run: Run, task: Task) -> list[tuple[str, int]]:
    """Why somebody was, or was not, told how a task is: sentences and their records."""
    alerts = run.alerts
    if alerts is None:
        return []
    found = _of(run, f"{run.id}/{task.id}")
    classes = _classes(run, task)
    if found or not classes:
        return found
    if task.status == "failed" and task.source == "human":
        return [("nobody is told of it, as a person decided it", task.seq)]
    own = policy_of(run, task.id)
    cls = classes[0].replace("_", " ")
    if own is not None and own.events and not set(classes) & set(own.events):
        return [(f"nobody is told of it: its alert_policy leaves out {cls}", 0)]
    if own is not None and (own.after_attempts or 0) > task.attempt:
        most = f"alert_policy.after_attempts = {own.after_attempts}"
        return [(f"nobody is told of it yet: {most}, and this is attempt {task.attempt}", 0)]
    if own is not None and attempt_id(run.id, task.id, task.attempt) in alerts.later:
        most = f"alert_policy.after_minutes_stale = {own.after_minutes_stale}"
        return [(f"nobody is told of it yet: {most}", 0)]
    return [(f"nobody is told of it: no route of its run hears of {cls}", run.seq)]


def _classes(run: Run, task: Task) -> tuple[str, ...]:
    """The classes that how a task is now could be of."""
    if task.status == "failed":
        first = {"budget": ENDS[:1], "verifier": ENDS[1:2]}.get(task.source, ())
        return (*first, ENDS[2])
    if task.status == "partial":
        return ("needs_human",)
    name = attempt_id(run.id, task.id, task.attempt)
    flight = run.flights.get(name)
    if flight is not None and any(one.attempt == name for one in waiting(run)):
        return ("needs_human",)
    return ("stale",) if flight is not None and flight.stale else ()
