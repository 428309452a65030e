"""Waiting for news in the ledger, without asking again and again.

The kernel tells of each write (inotify, by way of watchfiles). A write is not yet a durable record,
so a follower joins the group commit before it shows one; that also helps on a record whose writer
died between write and sync.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from watchfiles._rust_notify import RustNotify

from ..core.events import Envelope, Event
from .segments import FILE
from .store import Ledger

STEP_MS = 5
"""Silence after a change that ends a batch of changes."""
BATCH_MS = 20
"""Longest time that changes are gathered."""
LONGEST_WAIT_MS = 3_600_000

Record = tuple[Envelope, Event]


class Watch:
    """A watch on one ledger file. Begin it before reading, so that nothing falls between."""

    def __init__(self, folder: Path) -> None:
        self._name = FILE
        self._notify = RustNotify([str(folder)], False, False, 0, False, False)

    def wait(self, seconds: float | None) -> bool:
        """Whether the ledger changed within so long; KeyboardInterrupt on Ctrl-C."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = LONGEST_WAIT_MS
            if until is not None:
                left = min(left, max(1, int((until - time.monotonic()) * 1000)))
            found = self._notify.watch(BATCH_MS, STEP_MS, left, None)
            if found == "signal":
                raise KeyboardInterrupt
            if isinstance(found, set) and any(self._is_ledger(path) for _, path in found):
                return True
            if until is not None and time.monotonic() >= until:
                return False

    def _is_ledger(self, path: str) -> bool:
        return path.rpartition("/")[2] == self._name

    def close(self) -> None:
        """End the watch."""
        self._notify.close()


def follow(
    ledger: Ledger, *, until: float | None = None, tick: float | None = None
) -> Iterator[list[Record]]:
    """New durable records, as they come: at once (perhaps none), then whenever there are some.

    The ledger's state covers them. Ends at `until` (time.monotonic); with `tick`, an empty list
    comes after so many quiet seconds. Takes the place of the ledger's listener meanwhile.
    """
    found: list[Record] = []
    before = ledger.listener

    def hear(head: Envelope, event: Event) -> None:
        found.append((head, event))
        if before:
            before(head, event)

    watch = Watch(ledger.dir)
    ledger.listener = hear
    try:
        ledger.settle()
        ledger.refresh()
        yield found[:]
        found.clear()
        while until is None or time.monotonic() < until:
            left = None if until is None else max(0.0, until - time.monotonic())
            wait = tick if left is None else left if tick is None else min(tick, left)
            if watch.wait(wait):
                ledger.settle()
                ledger.refresh()
            if found or tick is not None:
                yield found[:]
                found.clear()
    finally:
        ledger.listener = before
        watch.close()
