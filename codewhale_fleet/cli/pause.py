"""`fleet pause RUN`: nothing new starts until `fleet resume`; what runs goes on."""

from ..engine import controls as engine
from . import controls, names
from .common import Context


def pause(*, run: str, ctx: Context) -> int:
    """Record it: no manager places anything of a run that the ledger says is paused."""
    ledger = ctx.ledger()
    found = names.run_of(ledger, run)
    control = engine.pause(ledger, found.id, reason="paused on request", by=controls.BY)
    return controls.carry_out(ctx, "pause", control)
