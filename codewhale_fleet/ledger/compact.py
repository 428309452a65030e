"""Dropping the detail of runs that finished long ago, from whole sealed segments.

A segment is read and rewritten beside itself: what the fleet and other runs recorded stays as it
is, of the runs that are meant only what concerns the run as a whole stays, and rows that sum up
their tasks and attempts. The new file is synced; a record with its SHA-256 is made durable, from
which on nobody can bring those runs back; then it is renamed over the old one. Killed anywhere, the
old file or the new one stands there, both are valid, and the next compaction begins anew. Newer
segments come first, so that the rows are there before anything goes that they sum up. Nothing is
read, written or synced under the append lock; who has the old file open goes on in it. A niceness
is that of reading alone, which takes nearly all of the time: who holds a lock that others wait for,
or writes to a file system whose journal they wait for, is not nice.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import TypeVar

from msgspec import Struct, structs

from ..core.events import LedgerCompacted
from ..core.state import Run
from ..core.summary import meant, waits
from ..errors import Refused
from .lock import open_lock
from .reader import unwritable
from .record import BLOCK
from .rewrite import Rewriting
from .segments import FOLDER, header_of, name_of
from .store import Ledger

LOCK = "fleet.compact"
"""Held by whoever compacts."""
FRESH = ".compacting"
"""How the name of an unfinished file ends; what a killed compaction left is written over."""
SYNC_BYTES = 4 << 20
"""The new file is synced in such pieces: one large sync would hold up the group commit's."""
ATTEMPTS = 3
"""So often a segment is tried whose runs were brought back meanwhile."""

_Answer = TypeVar("_Answer")


class Segment(Struct, kw_only=True):
    """What compaction did to one segment. Sizes are bytes."""

    segment: int
    runs: int
    dropped: int
    before: int
    after: int


class _Changed(Exception):
    """A run that was meant goes on again."""


class Compaction:
    """Compaction of one ledger: detail of runs that finished before `before`, a timestamp.

    `whole`: only segments all of whose finished runs are meant, so that each is rewritten once.
    `niceness`: how much less than others it asks for the processor, as for `os.nice`.
    """

    @staticmethod
    def at_step(step: str) -> None:
        """Called with the name of each step when it is done; tests end the process there."""

    def __init__(
        self, ledger: Ledger, before: str, *, whole: bool = False, niceness: int = 0
    ) -> None:
        self._ledger = ledger
        self._before = before
        self._whole = whole
        self._niceness = niceness
        self._through = 0
        self.runs: set[str] = set()
        """Runs that lost detail."""

    def run(self) -> list[Segment]:
        """Compact every segment that has something to drop, the newest first."""
        ledger = self._ledger
        ledger.refresh()
        try:
            lock = open_lock(LOCK, ledger._directory)
        except OSError as error:
            raise unwritable(ledger.dir, error) from error
        try:
            flock(lock, LOCK_EX | LOCK_NB)
            self._through = ledger.position[0] - 1
            self._tidy()
            numbers = range(self._through, 0, -1)
            return [done for number in numbers if (done := self._segment(number))]
        except BlockingIOError:
            raise Refused(
                "another compaction is at work here.", "Ask again when it is done."
            ) from None
        except OSError as error:
            raise unwritable(ledger.dir, error) from error
        finally:
            os.close(lock)

    def _tidy(self) -> None:
        """Remove what killed compactions have left."""
        for path in (self._ledger.dir / FOLDER).glob(f"*{FRESH}"):
            path.unlink()

    def _segment(self, number: int) -> Segment | None:
        for _ in range(ATTEMPTS):
            chosen = self._chosen(number)
            if not chosen:
                return None
            descriptor, _ = self._ledger._files.open(number)
            try:
                return self._rewritten(descriptor, number, chosen)
            except _Changed:
                self._ledger.refresh()
            finally:
                os.close(descriptor)
        return None

    def _chosen(self, number: int) -> dict[str, Run]:
        """The runs that are meant and have records here; none where nothing new is to be done."""
        runs = self._ledger.state.runs.values()
        chosen = {run.id: run for run in meant(runs, number, self._before, self._through)}
        if self._whole and any(
            run.status == "finished"
            and run.id not in chosen
            and not waits(run)
            and run.opened_at[0] <= number <= run.closed_at[0]
            for run in runs
        ):
            return {}
        return chosen

    def _rewritten(self, descriptor: int, number: int, chosen: dict[str, Run]) -> Segment | None:
        ledger = self._ledger
        old = header_of(descriptor)
        if old and (old.runs == len(chosen) or min(self._before, old.before) == self._before):
            return None
        work = Rewriting(ledger, descriptor, number, chosen, self._before)
        aside(work.read, self._niceness)
        self.at_step("read")
        if not (work.dropped or work.summed_up):
            return None
        head = work.header(old, self._through)
        fresh = f"{name_of(number)[: -len('.jsonl')]}{FRESH}"
        try:
            digest, size = _write(ledger._directory, fresh, work.lines(head))
        except BaseException:
            (ledger.dir / fresh).unlink(missing_ok=True)
            raise
        self.at_step("written")
        self._record(structs.replace(head, sha256=digest, cursors={}, latest=""), chosen)
        self.at_step("recorded")
        directory = ledger._directory
        os.rename(fresh, name_of(number), src_dir_fd=directory, dst_dir_fd=directory)
        self.at_step("renamed")
        folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.at_step("synced")
        self.runs |= chosen.keys()
        return Segment(
            segment=number,
            runs=len(chosen),
            dropped=work.dropped.total(),
            before=os.fstat(descriptor).st_size,
            after=size,
        )

    def _record(self, event: LedgerCompacted, chosen: dict[str, Run]) -> None:
        """Say durably what the file will be, unless a run goes on again."""
        self._ledger.refresh()  # so that little is left to be read under the lock
        with self._ledger.transaction("ledger") as transaction:
            runs = transaction.state.runs
            if any(
                runs[name].status != "finished" or runs[name].closed_at[0] > self._through
                for name in chosen
            ):
                raise _Changed
            transaction.record(event, "", "")
        self._ledger.sync()


def aside(work: Callable[[], _Answer], niceness: int) -> _Answer:
    """Do what needs no lock, nicely: in a thread of its own, as that alone is made nice.

    Nobody gets rid of a niceness, and who has one with a lock in his hand keeps all writers waiting
    while the processors are busy: 380 ms were seen.
    """
    if not niceness:
        return work()
    with ThreadPoolExecutor(1, "aside", os.nice, (niceness,)) as one:
        return one.submit(work).result()


def _write(directory: int, name: str, lines: Iterator[bytes]) -> tuple[str, int]:
    """Write and sync a new file; its SHA-256 and its size."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    digest, unsynced = hashlib.sha256(), 0
    try:
        for data in _blocks(lines):
            digest.update(data)
            if os.write(descriptor, data) != len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            unsynced += len(data)
            if unsynced > SYNC_BYTES:
                os.fdatasync(descriptor)
                unsynced = 0
        os.fsync(descriptor)
        return digest.hexdigest(), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
