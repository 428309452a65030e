"""The local road: a unix socket to the worker runtime of this workspace, started if need be.

Promises what `worker/starting.py` does, with `Unreachable` and its sentence where there is no way.
"""

from __future__ import annotations

import socket
from pathlib import Path

from codewhale_fleet.errors import Unreachable
from codewhale_fleet.worker import starting
from codewhale_fleet.worker.limits import IDLE_SECONDS


def connect(
    fleet_dir: Path, *, start: bool = True, idle_seconds: float = IDLE_SECONDS
) -> socket.socket:
    """A connected, non-blocking socket to the runtime of `fleet_dir` (ROOT/.fleet).

    Where none lives one is started, detached, unless `start` is false; `idle_seconds` is its
    time of rest before it leaves. Raises Unreachable.
    """
    here = fleet_dir.absolute()
    try:
        return starting.connect(str(here), str(here.parent), start=start, idle_seconds=idle_seconds)
    except starting.Unreached as error:
        raise Unreachable(str(error), error.hint) from None
