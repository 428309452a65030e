"""One alert as a value: what happened, to what, and whether it begins or is over.

Promises an event object of the reference's shape, bounded, whatever the reason holds. Knows no
adapter, no variable and no network.
"""

from typing import Any, Literal

from msgspec import Struct

REASON_BYTES = 240
"""Longest reason that is sent."""
OTHERS = 20
"""Most keys of grouped alerts that are sent along."""
COMMANDS = 8
"""Most commands that are sent."""
NAME_CHARACTERS = 1024
"""Longest name, key or command that is sent whole."""

STATUSES = {"stale": "stale", "restart_exhausted": "failed", "run_completed": "completed"}
"""Class -> the status that it tells, where it is not its own name."""


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sent to one adapter.

    `key` is the same however often it is sent: receivers know it again by that. `incident` is what
    later messages about the same, and its end, share with it; empty: the key.
    """

    key: str
    incident: str = ""
    action: Literal["trigger", "resolve"] = "trigger"
    cls: str
    run: str
    worker: str = ""
    task: str = ""
    attempt: str = ""
    status: str = ""
    """Empty: what the class says."""
    reason: str = ""
    commands: list[str] = []
    """What to type next. Empty: status of the run, and inspect of what it is about."""
    count: int = 1
    """Alerts that this one message stands for."""
    others: list[str] = []
    """Keys, or names, of those that it stands for beside itself."""
    ts: str = ""
    """When it happened, RFC 3339."""
    adapter: str = ""
    """Name of the adapter that it goes to."""


def status_of(message: Message) -> str:
    """The status that a message tells."""
    return message.status or STATUSES.get(message.cls, message.cls)


def commands_of(message: Message) -> list[str]:
    """What a reader may type: safe commands that only look."""
    if message.commands:
        return list(message.commands)
    looks = [f"fleet status {message.run}" if message.run else "fleet status"]
    if message.attempt:
        looks.append(f"fleet inspect {message.attempt}")
    elif message.task:
        looks.append(f"fleet inspect {whole_task(message)}")
    if message.worker:
        looks.append(f"fleet inspect {message.worker}")
    return looks


def whole_task(message: Message) -> str:
    """The task as commands take it: RUN/TASK."""
    task = message.task
    return task if "/" in task or not message.run else f"{message.run}/{task}"


def event_of(message: Message) -> dict[str, Any]:
    """The event object: the fields of the reference, then ours."""
    return {
        "class": message.cls,
        "run_id": _cut(message.run),
        "worker_id": _cut(message.worker) or None,
        "task_id": _cut(message.task) or None,
        "status": _cut(status_of(message)),
        "reason": shortened(message.reason),
        "commands": [_cut(command) for command in commands_of(message)[:COMMANDS]],
        "key": _cut(message.key),
        "incident": _cut(message.incident or message.key),
        "action": message.action,
        "attempt": _cut(message.attempt) or None,
        "count": message.count,
        "others": [_cut(other) for other in message.others[:OTHERS]],
        "ts": message.ts or None,
    }


def _cut(name: str) -> str:
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def shortened(reason: str, limit: int = REASON_BYTES) -> str:
    """A reason on one line, of at most `limit` bytes; what was cut ends in three dots."""
    plain = " ".join(reason.split())
    data = plain.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "..."


def headline(message: Message) -> str:
    """One line for people: what, where, why."""
    what = message.cls.replace("_", " ")
    if message.action == "resolve":
        what = f"{what} is over"
    where = whole_task(message) if message.task else message.attempt or message.worker
    line = f"{what}: {where or message.run or 'the fleet'}"
    if message.count > 1:
        line += f" and {message.count - 1:,} more"
    reason = shortened(message.reason)
    return f"{line}: {reason}" if reason else line
