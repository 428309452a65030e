"""`fleet restart ID…`: a new attempt now, from any end; what runs is ended first."""

from ..engine import controls as engine
from . import controls
from .common import Context
from .hints import of_id


def restart(*, ids: list[str], ctx: Context) -> int:
    """Record it, see that a manager has the run, and return when the old attempts have ended."""
    ledger = ctx.ledger()
    aims = controls.aims(ledger, ids)
    control = engine.restart(ledger, aims, reason="restarted on request", by=controls.BY)
    ctx.hint = of_id(str(ledger.dir), "restart", ids)
    return controls.carry_out(ctx, "restart", control)
