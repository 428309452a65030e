"""The ledger as a reader sees it: no lock, no repair, nothing that is not durable.

`Reader` folds the files into `state` (from the snapshot where there is a good one) and takes in
what is new when asked; where its file was sealed meanwhile, it goes on in the next. A last line
without its newline, or a tail that the next writer would cut, is not there yet; any other line that
does not follow is damage.

A compaction may put another file in place of a sealed one at any moment. The newest comes first
there and the oldest is opened first here: after a file that has lost a run's detail comes none that
still has it. Ends of runs are known by number, and a sealed file is read whatever the watermark
says, as it was durable before the next one had its name: so the end of a run is read with what was
dropped because of it. Only the rows of a run that goes on can be found gone, and then it has ended.
"""

import os
import time
from collections.abc import Callable, Iterator
from errno import EACCES, EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import NoReturn, Self

from ..core.events import Envelope, Event
from ..core.state import Run, State
from ..core.tally import Rest, Unknown, condensed
from ..errors import Damaged, FleetError
from . import heal, place, snapshot
from .fold import Broken, Finishes, Gone, Listener, finishes_after, fold
from .record import Position
from .rows import hydrated, is_shed, is_whole, records
from .segments import FILE, Address, Segments, header_of, name_of, number_of
from .stretches import WHOLE, Way
from .watermark import boot_id, peek

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
        self.rest: Rest | None = None
        """Sums over finished runs that are not in the state; None where all are."""
        self._way: Way = WHOLE
        self._directory = directory
        self._files = Segments(folder, directory, writable=writable)
        self._descriptor = descriptor
        """The segment that is being read, most times the active file."""
        self._segment = number_of(descriptor, directory)
        self._sealed = False
        """Whether that file is sealed, so that nothing more comes in there."""
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
        if self._is_stale():
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
        boot, acknowledged = peek(self._directory)  # before: others go on meanwhile
        limit = acknowledged if boot == self._boot and acknowledged else None
        self._restore(limit)
        if self._fold(limit, fresh=True) > SNAPSHOT_AFTER:
            self._keep()
        if self._at.seq < acknowledged:
            heal.refuse_missing(self.dir, self._at, acknowledged)

    def _keep(self) -> None:
        snapshot.save(self.dir, self._descriptor, self.state, self._at)

    def keep_brief(self) -> None:
        """Keep what a status needs of the state, for the next `Glance`."""
        brief = condensed(self.state, self.rest or Rest())
        snapshot.save_brief(self.dir, self._descriptor, brief, self._at)

    def _is_stale(self) -> bool:
        return self._stale or os.fstat(self._descriptor).st_size < self._at.offset

    def _restore(self, limit: int | None) -> None:
        """Begin from the snapshot, or from nothing, in the State object that callers hold."""
        fresh, at = self._kept(limit) or (State(), Position())
        at = self._turn_to(at)
        self._at = at
        for name in State.__struct_fields__:
            setattr(self.state, name, getattr(fresh, name))
        self._stale = False

    def _kept(self, limit: int | None) -> tuple[State, Position] | None:
        return snapshot.load(self.dir, self._files, limit)

    def _turn_to(self, at: Position) -> Position:
        """Hold the file of a position."""
        if at.segment == self._segment:
            return at
        descriptor, sealed = self._files.open(at.segment)
        os.close(self._descriptor)
        self._descriptor, self._segment, self._sealed = descriptor, at.segment, sealed
        found = os.fstat(descriptor)
        self._inode = found.st_ino, found.st_dev
        return at

    def _next(self) -> None:
        """Go on in the segment after a sealed one that is folded to its end."""
        at = self._at
        if os.fstat(self._descriptor).st_size > at.offset:
            raise Broken(at, "its last record is not whole")
        self._at = self._turn_to(Position(at.segment + 1, 0, at.seq, at.chain))
        if os.fstat(self._descriptor).st_size == 0:
            raise Broken(self._at, "its first record is missing")

    def _refuse(self, offset: int, why: str) -> NoReturn:
        heal.refuse(self.dir / (name_of(self._segment) if self._sealed else FILE), offset, why)

    def _fold(self, limit: int | None, *, fresh: bool = False) -> int:
        """Fold as a reader: a tail that a writer would cut is not there yet."""
        began = self._at.seq
        try:
            return self._folded(limit, fresh=fresh)
        except Broken as broken:
            self._judge(broken)
            return self._at.seq - began

    def _judge(self, broken: Broken) -> None:
        """Refuse what is broken, unless it is a tail that a writer would cut."""
        size = os.fstat(self._descriptor).st_size
        if self._sealed or size == self._at.offset:
            self._refuse(self._at.offset, broken.why)
        tail = self._tail()
        if tail.why:
            self._refuse(tail.offset, tail.why)

    def _folded(self, limit: int | None, *, fresh: bool = False) -> int:
        """Fold to the end, of the active file up to record `limit`; how many records."""
        began = self._at.seq
        told, since = 0, (0, 0)
        while True:
            try:
                self._fold_all(limit, fresh=fresh or told > 0)
            except Gone as gone:
                if gone.seq <= told:
                    raise
                told, since = gone.seq, gone.place
                self._restore(limit)
            else:
                break
        if told and self.listener and not fresh:
            for head, event in self.records(start=since):
                if head.seq >= told:
                    self.listener(head, event)
        return self._at.seq - began

    def _fold_all(self, limit: int | None, *, fresh: bool, everywhere: bool = False) -> None:
        """Fold every file from here on; `everywhere`: the limit is one of sealed files, too."""
        listener = None if fresh else self.listener
        finishes = None
        try:
            if fresh:
                last = self._last()
                finishes = finishes_after(self._files, self._at, last, limit, everywhere=everywhere)
            while True:
                bound = limit if everywhere or not self._sealed else None
                self._fold_file(bound, finishes, listener)
                if bound is not None and self._at.seq >= bound:
                    break
                if self._sealed:
                    self._next()
                elif self._files.is_sealed(self._segment, self._inode):
                    self._sealed = True  # what came in before that is folded first
                else:
                    break
        except Broken:
            if finishes and max(finishes.values()) > self._at.seq:
                # Rows were left out for the sake of an end that does not count: again, with them.
                last_good = self._at.seq
                self._restore(limit)
                self._fold_all(last_good, fresh=True, everywhere=True)
            raise
        except FleetError:
            self._stale = True
            raise

    def _fold_file(
        self, limit: int | None, finishes: Finishes | None, listener: Listener | None
    ) -> None:
        """Fold the file that is open, up to record `limit`."""
        if self._fold_compacted(limit, finishes, listener):
            return
        fold(
            self._files,
            self._descriptor,
            self.state,
            self._at,
            limit=limit,
            finishes=finishes,
            listener=listener,
            way=self._way,
        )

    def _fold_compacted(
        self, limit: int | None, finishes: Finishes | None, listener: Listener | None
    ) -> bool:
        """Fold the file at whose beginning we stand, if it is a compacted one; whether it is."""
        header = header_of(self._descriptor) if self._sealed and self._at.offset == 0 else None
        if header is None:
            return False
        if self._way is not WHOLE:
            raise Unknown
        from .compacted import fold_compacted

        fold_compacted(
            self._files,
            self._descriptor,
            self.state,
            self._at,
            header,
            limit=limit,
            finishes=finishes,
            listener=listener,
        )
        return True

    def _last(self) -> Address:
        """Where the files end now."""
        if not self._sealed:
            return self._segment, os.fstat(self._descriptor).st_size
        descriptor, number = self._files.open_active()
        try:
            return number, os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _tail(self) -> heal.Tail:
        boot, synced = peek(self._directory)
        return heal.examine(
            self._descriptor, self._at, synced=synced, boot=boot, now_boot=self._boot
        )

    def records(
        self,
        run: str | None = None,
        start: Address = (0, 0),
        stop: Address | None = None,
        containing: bytes | None = None,
    ) -> Iterator[tuple[Envelope, Event]]:
        """Records that the state covers, of one run, whose line contains some bytes.

        Of a named run that was compacted, the rows that sum it up come as the records they stand
        for; all runs together, as they are.
        """
        end = min(stop or self.position, self.position)
        found = records(self._files, start, end, run=run, containing=containing)
        if run:
            from ..core.summed import told_one_by_one

            found = told_one_by_one(found, containing)
        for head, event in found:
            if head.seq <= self.seq:
                yield head, event

    def hydrate(self, run_id: str) -> Run:
        """The run with its rows: those of a finished one may have to be read from the file."""
        run = self.state.runs[run_id]
        if is_shed(run):
            full = hydrated(self._files, run, self.seq)
            if not is_whole(full):
                self.refresh()  # it went on and was compacted since
                run = self.state.runs[run_id]
                full = hydrated(self._files, run, self.seq) if is_shed(run) else run
            run = self.state.runs[run_id] = full
        return run

    def files(self) -> Iterator[tuple[Path, int]]:
        """Each file that the state covers, oldest first, and how many of its bytes it covers.

        Open the last one soon: it gets its other name when it is sealed.
        """
        for number, descriptor, _, end in self._files.extents((1, 0), self.position):
            path = self.dir / name_of(number)
            sealed = path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino
            yield path if sealed else self.dir / FILE, end

    def before(self, end: Address, size: int) -> Address:
        """Where the line begins that holds the byte `size` before `end`, over all segments."""
        return self._files.before(end, size)


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
