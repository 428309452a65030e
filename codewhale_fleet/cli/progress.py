"""`fleet progress [PERCENT] TEXT`: a task says how far it is."""

from ..errors import FleetError
from . import inside
from .common import Context


def progress(*, words: list[str], ctx: Context) -> int:
    """Tell it; of many in a short time the latest is shown."""
    inside.refuse_outside(ctx, "progress")
    percent = _percent(words[0])
    text = " ".join(words if percent is None else words[1:])
    if percent is not None and not 0 <= percent <= 100:
        raise FleetError(f"{words[0]} is no percentage from 0 to 100.", 'fleet progress 40 "half"')
    told = inside.request(ctx, "progress", "progress", percent=percent, text=text or None)
    return inside.say(ctx, told)


def _percent(word: str) -> "float | None":
    """A number, with or without its sign; None where the word is none."""
    try:
        return float(word[:-1] if word.endswith("%") else word)
    except ValueError:
        return None
