"""A task's spec out of its row: decoded when somebody needs it, and not before."""

from msgspec import json

from .spec import Task, claims_of

_decoder: json.Decoder[Task] | None = None


def decode_task(raw: bytes) -> Task:
    """The spec of a task, from its sparse JSON as it stands in the ledger."""
    global _decoder  # noqa: PLW0603 (made at first use: most commands never need it)
    if _decoder is None:
        _decoder = json.Decoder(Task)
    return _decoder.decode(raw)


def priority_of(task: Task) -> int:
    """Lower runs first; `metadata.priority` counts where `priority` says nothing."""
    if task.priority:
        return task.priority
    written = task.metadata.get("priority", 0)
    return written if isinstance(written, int) else 0


__all__ = ["claims_of", "decode_task", "priority_of"]
