"""`fleet artifact add KIND PATH`: a task hands over a file that its spec has not promised."""

from . import inside
from .common import Context


def artifact_add(*, kind: str, path: str, ctx: Context) -> int:
    """Name the file; it is checked now, and hashed at the end of the attempt."""
    told = inside.request(
        ctx, "artifact add", "artifact", kind=kind, path=inside.absolute(ctx, path)
    )
    return inside.say(ctx, told)
