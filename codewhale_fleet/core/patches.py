"""What attempts with a directory of their own have changed, and what is kept of it.

Pure. A patch is an artifact like any other, kept by its digest; the state remembers the latest one
of a task for the attempt that may go on from it.
"""

from . import events as ev
from .state import Run
from .usage import more_of

KIND = "patch"
"""Kind of the artifact; no task may give it a place."""


def patch_of(event: ev.AttemptEnded) -> ev.Artifact | None:
    """What an attempt has changed; None where it has changed nothing, or not in its own place."""
    if not event.isolated:
        return None
    return next((one for one in event.artifacts if one.kind == KIND), None)


def changed(run: Run, event: ev.AttemptEnded) -> None:
    """Remember what an attempt has changed, unless nobody knows all of it."""
    if not event.isolated or event.unsaved or event.late:
        return
    name, _, number = event.attempt[len(run.id) + 1 :].rpartition("@")
    found = patch_of(event)
    more = more_of(run.tasks[name])
    more.patch, more.base = (found.sha256, event.base) if found else ("", "")
    more.patch_of = int(number) if found else 0


def may_go(event: ev.AttemptEnded) -> bool:
    """Whether an attempt's own directory holds nothing that anybody still needs."""
    return bool(event.isolated) and event.receipt.result == "pass" and not event.unsaved
