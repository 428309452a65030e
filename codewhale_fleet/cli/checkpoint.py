"""`fleet checkpoint PATH|TEXT`: a task leaves something for its next attempt."""

import os

from . import inside
from .common import Context


def checkpoint(*, note: str, ctx: Context) -> int:
    """Keep a file, or text where there is no such file; FLEET_CHECKPOINT names it the next time."""
    path = inside.absolute(ctx, note)
    is_file = "\n" not in note and "\0" not in note and os.path.lexists(path)
    file, text = (path, None) if is_file else (None, note)
    return inside.say(ctx, inside.request(ctx, "checkpoint", "checkpoint", path=file, text=text))
