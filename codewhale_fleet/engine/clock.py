"""The manager's time, and the identity of this boot.

A `Clock` answers the wall clock as it stood at its making, plus what has passed since, a suspended
machine's sleep included: a wall clock that jumps moves nothing.
"""

import time
from pathlib import Path


class Clock:
    """Seconds since the epoch that never jump."""

    def __init__(self) -> None:
        self._offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        """Now."""
        return self._offset + time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's name for this boot; another one means that everything that ran is gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
