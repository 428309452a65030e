"""`fleet interrupt ID…`: end what runs, cancel what is queued; its task can be run again."""

from ..engine import controls as engine
from . import controls
from .common import Context
from .hints import of_id


def interrupt(*, ids: list[str], ctx: Context) -> int:
    """Record it, and return when the attempts have ended and nothing of them is left."""
    ledger = ctx.ledger()
    aims = controls.aims(ledger, ids)
    control = engine.interrupt(ledger, aims, reason="interrupted on request", by=controls.BY)
    ctx.hint = of_id(str(ledger.dir), "interrupt", ids)
    return controls.carry_out(ctx, "interrupt", control)
