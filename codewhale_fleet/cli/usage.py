"""`fleet usage add`: a task says what it has used; it counts as what an agent's stream says."""

from ..errors import FleetError
from . import inside
from .common import Context


def usage_add(
    *,
    tokens_in: "int | None" = None,
    tokens_out: "int | None" = None,
    tokens_cached: "int | None" = None,
    tool_calls: "int | None" = None,
    cost_usd: "float | None" = None,
    ctx: Context,
) -> int:
    """Add figures to the usage of the attempt."""
    given = {
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "tokens_cached": tokens_cached,
        "tool_calls": tool_calls,
        "cost_usd": cost_usd,
    }
    inside.refuse_outside(ctx, "usage add")
    if all(value is None for value in given.values()):
        raise FleetError("fleet usage add needs a figure.", "fleet usage add --tokens-out 500")
    return inside.say(ctx, inside.request(ctx, "usage add", "usage", **given))
