"""What a manager does when nothing is due: seal, snapshot, and once a day drop what is old.

No duty: left undone it costs room and time, never an answer. A rotation and a snapshot are done at
once, as they take a fraction of a second and are rare; compaction and collecting are a child
process, of the lowest priority where it only reads or removes, and only where `[retention]` of
fleet.toml asks for them.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FleetError
from ..ledger.store import Ledger
from .disk import roots, settings_of

if TYPE_CHECKING:
    from ..wire.fleetfile import Retention

LOOK_SECONDS = 5.0
"""Shortest time between two looks."""
DAY_SECONDS = 86_400.0
IDLE_RECORDS = 20_000
"""Records after which a snapshot is worth writing while runs go on."""
LAST_RECORDS = 1_000
"""The same at the end, when there are no rows to write."""
MARK = "cache/housekeeping"
"""Its time is when old detail and files were last seen to."""
ERRORS = "housekeeping.err"
NICENESS = 19
"""Of what needs no lock."""


def retention_of(places: list[Path]) -> "Retention | None":
    """What the first fleet.toml says; None where there is none, or it says nothing of that."""
    found = settings_of(places)
    if found is None or found.retention == type(found.retention)():
        return None
    return found.retention


class Housekeeping:
    """One manager's; `idle` may be called as often as it likes."""

    def __init__(self, ledger: Ledger) -> None:
        self.next = 0.0
        """When it looks again, by the clock that it is told."""
        self._ledger = ledger
        self._kept = ledger.seq
        self._child = 0

    @property
    def is_due(self) -> bool:
        """Whether it is worth waking up for: else it waits for a wake-up that comes anyway."""
        return self._ledger.seq - self._kept >= IDLE_RECORDS

    def idle(self, now: float) -> None:
        """Nothing is due: do what there is to do, if it is time."""
        if now < self.next:
            return
        self.next = now + LOOK_SECONDS
        self._keep(IDLE_RECORDS)
        self._see_to_retention()

    def leave(self) -> None:
        """The manager is done."""
        self._keep(LAST_RECORDS)
        self._see_to_retention()

    def _keep(self, records: int) -> None:
        with suppress(FleetError):  # told by whoever writes next
            self._ledger.rotate_if_due()
        if self._ledger.seq - self._kept >= records and self._ledger.snapshot():
            self._kept = self._ledger.seq

    def _see_to_retention(self) -> None:
        """Start the child, where that is asked for and a day has passed."""
        if self._child:
            with suppress(ChildProcessError):
                if os.waitpid(self._child, os.WNOHANG) == (0, 0):
                    return
            self._child = 0
        mark = self._ledger.dir / MARK
        with suppress(OSError):
            if time.time() - mark.stat().st_mtime < DAY_SECONDS:
                return
        try:
            if retention_of(roots(self._ledger.dir, self._ledger.state)) is None:
                return
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            mark.touch(mode=0o600)
            self._child = _spawn(self._ledger.dir)
        except (OSError, FleetError):
            return  # a read-only directory; a fleet.toml that is told elsewhere


def _spawn(folder: Path) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    errors = os.open(folder / ERRORS, flags, 0o600)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "codewhale_fleet.engine.housekeeping", str(folder)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(null)
        os.close(errors)


def see_to_retention(folder: Path) -> None:
    """Compact and collect, as fleet.toml says."""
    from ..ledger.compact import Compaction, aside
    from ..ledger.record import stamp
    from .collecting import collect

    with Ledger.open(folder) as ledger:
        asked = retention_of(roots(folder, ledger.state))
        if asked is None:
            return
        if asked.files_days is not None:
            oldest = asked.files_days * DAY_SECONDS
            aside(lambda: collect(ledger, oldest, dry_run=False), NICENESS)
        if asked.detail_days is not None:
            before = stamp(max(0.0, ledger.clock() - asked.detail_days * DAY_SECONDS))
            if Compaction(ledger, before, whole=True, niceness=NICENESS).run():
                ledger.snapshot()


if __name__ == "__main__":
    try:
        see_to_retention(Path(sys.argv[1]))
    except FleetError as error:
        sys.stderr.write(f"{error.sentence}\n")
