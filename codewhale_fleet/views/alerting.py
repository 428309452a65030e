"""Messages to people, in plain words: what is owed, what it waits for, what became of the others.

Pure: records and the outbox come in; sentences and plain rows go out.
"""

from typing import Any, assert_never

from ..core import events as e
from ..core.outbox import Row, outbox
from ..core.state import State
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
