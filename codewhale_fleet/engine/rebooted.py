"""Attempts that a restart of the machine cut off while they had a directory of their own.

What they had changed is still there, and nobody else would keep it: the worker runtime makes their
patch as at any other end, and only then is the attempt over. Promises: nothing is lost that was
written to disk, an attempt without such a directory is lost at once, and none is started again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.greeting import of_another_boot
from .launch import plan

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.state import State
    from .endpoint import Endpoint
    from .manager import Manager


def cut_off(state: State, fleet_dir: Path, boot: str) -> dict[str, str]:
    """Attempt -> run, of what was placed before this boot and has left a directory."""
    there: dict[str, str] = {}
    if not (fleet_dir / "worktrees").is_dir():
        return there
    for attempt, run_id in of_another_boot(state, boot).items():
        run = state.runs[run_id]
        task = run.tasks[run.flights[attempt].task]
        own = plan(run, task, state.fleet, fleet_dir).get("isolate")
        if own and _is_made(fleet_dir / own["directory"]):
            there[attempt] = run_id
    return there


def _is_made(directory: Path) -> bool:
    """Whether it is there, and whoever was to work in it had begun."""
    beside = [directory.with_name(directory.name + end) for end in (".json", ".entering")]
    return directory.is_dir() and beside[0].exists() and not beside[1].exists()


def tell(manager: Manager, endpoint: Endpoint) -> None:
    """Have the runtime end what was cut off; it knows what it was told before."""
    state = manager.ledger.state
    for attempt, run_id in endpoint.cut_off.items():
        run = state.runs[run_id]
        flight = run.flights.get(attempt)
        if flight is not None:
            row, folder = run.tasks[flight.task], manager.ledger.dir
            made = plan(run, row, state.fleet, folder, endpoint.there)
            word = {"m": "cut-off", "attempt": attempt, "slot": flight.worker, "plan": made}
            endpoint.say(word)
    endpoint.cut_off = {}
