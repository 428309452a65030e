"""`fleet manager` (hidden): a manager without a run of its own, started detached by others."""

from .common import Context


def manager(*, ready: int | None = None, settle: bool = False, ctx: Context) -> int:
    """Manage every open run; leave when none is open. `ready` is told once callers are heard."""
    from ..engine.session import serve_manager

    serve_manager(ctx.ledger(), ready=ready, settle=settle)
    return 0
