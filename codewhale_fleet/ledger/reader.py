"""The ledger as a reader sees it: no lock, no repair, nothing above the watermark.

`Reader` opens the file, folds it into `state` (from the snapshot where there is a good one) and
takes in what is new when asked. A last line without its newline, or a tail that the next writer
would cut, is not there yet; any other line that does not follow is damage.
"""

import os
import time
from collections.abc import Callable, Iterator
from errno import EACCES, EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Self

from ..core.events import Envelope, Event
from ..core.state import Run, State
from ..errors import Damaged, FleetError
from . import heal, place, snapshot
from .fold import Broken, fold, hydrated, is_shed, records
from .record import Position
from .watermark import boot_id, peek

FILE = "fleet.jsonl"
SNAPSHOT_AFTER = 20_000
"""Records folded by one opening, after which a snapshot is worth writing."""


class Reader:
    """One fleet's ledger, for reading. `store.Ledger` adds writing, and is what callers open."""

    def __init__(self, folder: Path, directory: int, descriptor: int, *, writable: bool) -> None:
        self.dir = folder
        self.state = State()
        """Everything folded so far; the same object for the life of the ledger."""
        self.listener: Callable[[Envelope, Event], None] | None = None
        """Told of each record once, in order: read from others, or written here. It only takes
        note: it may be called under the append lock."""
        self.clock: Callable[[], float] = time.time
        """Seconds since the epoch, for records written here."""
        self._directory = directory
        self._descriptor = descriptor
        self._writable = writable
        self._at = Position()
        self._stale = False
        """Whether `state` is ahead of the file and must be made anew."""
        self._boot = boot_id()
        found = os.fstat(descriptor)
        self._inode = found.st_ino, found.st_dev

    @classmethod
    def _opened(cls, folder: Path, create: bool) -> Self:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:
                made = flags | os.O_RDWR | (os.O_CREAT if create else 0)
                descriptor, writable = os.open(FILE, made, 0o600, dir_fd=directory), True
            except OSError as error:
                if error.errno not in (EACCES, EROFS) or create:
                    raise
                descriptor = os.open(FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                writable = False
        except FileNotFoundError as error:
            os.close(directory)
            raise no_fleet(folder) from error
        except OSError as error:
            os.close(directory)
            if isinstance(error, PermissionError):
                raise place.unreadable(folder / FILE) from error
            raise unwritable(folder, error) from error
        return cls(folder, directory, descriptor, writable=writable)

    def close(self) -> None:
        """Close every file; what was written stays written."""
        os.close(self._descriptor)
        os.close(self._directory)
        self._descriptor = self._directory = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """The last record in the state."""
        return self._at.seq

    @property
    def position(self) -> tuple[int, int]:
        """(segment, offset) after the last record in the state."""
        return self._at.segment, self._at.offset

    def identity(self) -> str:
        """What `cache.write_cached` wants: the ledger, at the size that the state covers."""
        inode, device = self._inode
        return f"{device}.{inode}.{self._at.offset}"

    def refresh(self) -> int:
        """Take in, without a lock, what others made durable since; how many records."""
        if self._stale or os.fstat(self._descriptor).st_size < self._at.offset:
            self._load()
            return self.seq
        limit = self._limit()
        if limit is not None and limit <= self._at.seq:
            return 0
        return self._fold(limit)

    def _limit(self) -> int | None:
        """The last record that a reader may show; None when all that are whole may be."""
        boot, synced = peek(self._directory)
        return synced if boot == self._boot and synced else None

    def _load(self) -> None:
        """Read everything anew, from the snapshot if it is good."""
        limit = self._limit()
        self._replace(snapshot.load(self.dir, self._descriptor, limit))
        if self._fold(limit, fresh=True) > SNAPSHOT_AFTER:
            snapshot.save(self.dir, self._descriptor, self.state, self._at)
        acknowledged = peek(self._directory)[1] if limit is None else limit
        if self._at.seq < acknowledged:
            heal.refuse_missing(self.dir, self._at, acknowledged)

    def _replace(self, found: tuple[State, Position] | None) -> None:
        """Put another state into the State object that callers hold."""
        fresh, self._at = found or (State(), Position())
        for name in State.__struct_fields__:
            setattr(self.state, name, getattr(fresh, name))
        self._stale = False

    def _fold(self, limit: int | None, *, fresh: bool = False) -> int:
        """Fold as a reader: a tail that a writer would cut is not there yet."""
        began = self._at.seq
        try:
            return self._folded(limit, fresh=fresh)
        except Broken:
            tail = self._tail()
            if tail.why:
                heal.refuse(self.dir, tail)
            return self._at.seq - began

    def _folded(self, limit: int | None, *, fresh: bool = False) -> int:
        try:
            return fold(
                self._descriptor,
                self.state,
                self._at,
                limit=limit,
                fresh=fresh,
                listener=None if fresh else self.listener,
            )
        except FleetError:
            self._stale = True
            raise

    def _tail(self) -> heal.Tail:
        boot, synced = peek(self._directory)
        return heal.examine(
            self._descriptor, self._at, synced=synced, boot=boot, now_boot=self._boot
        )

    def records(
        self,
        run: str | None = None,
        start: tuple[int, int] = (0, 0),
        stop: tuple[int, int] | None = None,
        containing: bytes | None = None,
    ) -> Iterator[tuple[Envelope, Event]]:
        """Records in the file that the state covers, of one run, whose line contains some bytes."""
        end = min(stop or self.position, self.position)
        return records(self._descriptor, start, end, run=run, containing=containing)

    def hydrate(self, run_id: str) -> Run:
        """The run with its rows: those of a finished one may have to be read from the file."""
        run = self.state.runs[run_id]
        if is_shed(run):
            run = self.state.runs[run_id] = hydrated(self._descriptor, run)
        return run


def no_fleet(folder: Path) -> FleetError:
    return FleetError(
        f"there is no fleet in {folder}.", "To begin one here: fleet init", code="no_fleet"
    )


def unwritable(folder: Path, error: OSError) -> Damaged:
    """The sentence for a write that the system refused."""
    if error.errno in (ENOSPC, EDQUOT):
        return Damaged(
            f"no space is left for the ledger in {folder} ({error.strerror}).",
            "What was acknowledged is kept, this was not recorded. Make room, then ask again.",
            code="no_space",
        )
    return Damaged(
        f"the ledger in {folder} can't be written: {error.strerror}.",
        "What was acknowledged is kept. Look at the mount and its permissions.",
        code="unwritable",
    )
