"""`fleet stop RUN… | --all`: nothing new starts, what runs is interrupted, the rest cancelled."""

from ..engine import controls as engine
from ..errors import FleetError
from ..ledger.store import Ledger
from . import controls, names
from .common import Context, print_json


def stop(*, runs: list[str] | None = None, all: bool = False, ctx: Context) -> int:
    """Record it, and return when the runs are finished. A second stop joins the first."""
    if all and runs:
        raise FleetError("--all means every run, and here are some besides.", "Leave out one.")
    if not all and not runs:
        raise FleetError(
            "nothing was named that is to stop.",
            "One run: fleet stop RUN\nEvery open one: fleet stop --all",
        )
    ledger = ctx.ledger()
    found = list(ledger.state.open_runs) if all else [_run(ledger, one) for one in runs or ()]
    if not found:
        if ctx.json:
            print_json({"verb": "stop", "runs": [], "attempts": [], "exit_code": 0})
        else:
            ctx.note("No run is open, so there is nothing to stop.")
        return 0
    control = engine.stop(ledger, found, reason="stopped on request", by=controls.BY)
    return controls.carry_out(ctx, "stop", control)


def _run(ledger: Ledger, text: str) -> str:
    target = names.resolve(ledger, text)
    if target.task is not None or target.worker:
        raise FleetError(
            f"{target.id} is no run, and runs are what fleet stop stops.",
            f"To end only that: fleet interrupt {target.id}",
        )
    return target.run.id
