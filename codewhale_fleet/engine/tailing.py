"""What an attempt on another machine has written so far, while it still runs.

Its logs come by themselves when it is over. Until then whoever looks has the manager fetch what is
new of them into the fleet's directory, where logs always lie; nothing is fetched that nobody looks
at. Where it cannot be had, what is here is all there is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..core.fleet_words import LOCAL
from ..core.load import place_of
from ..core.state import split_attempt
from ..errors import Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.state import Run
    from .manager import Manager

SECONDS = 5.0
"""How long who looks waits for it."""


def fetch(fleet_dir: Path, run: Run, attempt: str) -> None:
    """Have what an attempt in flight elsewhere has written here, as far as that is possible."""
    from .sockets import connect

    flight = run.flights.get(attempt) if run.workers else None
    if flight is None or place_of(run.id, flight.worker) == LOCAL:
        return
    with suppress(OSError, Unreachable):
        caller = connect(fleet_dir / "manager.sock")
        if caller is not None:
            with caller:
                caller.settimeout(SECONDS)
                caller.sendall(b'{"m":"tail","attempt":"%s"}\n' % attempt.encode())
                caller.recv(256)


def pass_on(manager: Manager, attempt: str) -> None:
    """Somebody looks: ask the machine where it runs."""
    from .launch import plan

    with suppress(ValueError):
        run = manager.ledger.state.open_runs.get(split_attempt(attempt)[0])
        flight = run.flights.get(attempt) if run else None
        endpoint = manager.endpoint_of(run, flight) if run and flight else None
        if run and flight and endpoint and endpoint.worker != LOCAL and endpoint.greeted:
            state = manager.ledger.state
            made = plan(run, run.tasks[flight.task], state.fleet, manager.ledger.dir)
            paths = [made["out"], made["err"]]
            endpoint.say({"m": "tail", "attempt": attempt, "paths": paths})
            endpoint.flush(manager.poll)
            return
    manager.callers.tailed(attempt)
