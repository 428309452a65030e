"""The ledger as one object: fold, decide, append, sync.

`Ledger` holds the folded state of one fleet. Anybody may read it; who writes opens a transaction,
which takes the append lock, folds what others wrote, decides each command on the newest state and
writes all its records with one `write`. `sync` makes them durable, together with whatever other
processes wait for. One thread uses a Ledger; a forked child opens its own.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from msgspec import Raw

from ..core import commands as c
from ..core.decide import Known, decide
from ..core.events import Envelope, Event, LedgerRepaired, RunCreated, RunFinished
from ..core.evolve import evolve
from ..core.state import State
from ..errors import FleetError, Refused
from . import heal, place, snapshot
from .fold import Broken
from .lock import AppendLock
from .reader import Reader, no_fleet, unwritable
from .record import LIMIT, Position, decode_head, middle_of, seal, stamp
from .segments import FILE
from .watermark import Watermark

if TYPE_CHECKING:
    from .rotate import Rotation

_NOTHING = Raw(b"{}")


class Fenced(Refused):
    """A writer of an epoch that is over: another manager was elected."""

    code = "fenced"


class Ledger(Reader):
    """One fleet's ledger. Make it with `open`."""

    segment_bytes: ClassVar[int] = 64 * 1024 * 1024
    """Size from which the active file is due to be sealed."""

    def __init__(self, folder: Path, directory: int, descriptor: int, *, writable: bool) -> None:
        super().__init__(folder, directory, descriptor, writable=writable)
        self.spare: Callable[[], bool] | None = None
        """Makes a little room on a full disk, once; a manager's. Called under the append lock."""
        self.repaired: list[str] = []
        """Tails that this process set aside: paths below the directory."""
        self._lock: AppendLock | None = None
        self._mark: Watermark | None = None
        self._adopted = False
        """Whether the watermark is of this boot for sure."""
        self._rotation: Rotation | None = None
        self._put_off = 0
        """Size of the active file from which `sync` tries again to seal it."""

    @classmethod
    def open(cls, fleet_dir: Path, *, create: bool = False) -> "Ledger":
        """Open the ledger of `fleet_dir` (a directory, or a file that says `dir: PATH`).

        `create` begins one where there is none. Raises FleetError: no fleet here, not yours,
        damaged, newer.
        """
        folder = place.resolved(fleet_dir)
        if create:
            place.make(folder)
        if not folder.is_dir():
            raise no_fleet(folder)
        place.check(folder)
        ledger = cls._opened(folder, create)
        try:
            ledger._load()
            if ledger.seq == 0:  # empty, or what a power loss left of the first record
                if not create:
                    raise no_fleet(folder)
                ledger._begin_fleet()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _begin_fleet(self) -> None:
        """Write the first record unless somebody has."""
        if self._segment > 1:
            self._refuse(0, "its first record is missing")
        with self.transaction("fleet") as transaction:
            transaction.submit(c.Initialize(fleet=place.new_fleet()))
        self.sync()  # the file's name became durable when this boot was begun

    def close(self) -> None:
        """Close every file; what was written stays written."""
        if self._mark:
            self._mark.close()
        if self._lock:
            self._lock.close()
        self._mark = self._lock = None
        super().close()

    def after_fork(self) -> None:
        """In the new process: locks of its own. The old one may only read from here on."""
        self._mark = self._lock = None

    def snapshot(self) -> bool:
        """Write the snapshot, if everything in the state is durable; whether it was written."""
        if self._stale or (self._mark and self._mark.synced < self._at.seq):
            return False
        return snapshot.save(self.dir, self._descriptor, self.state, self._at)

    def settle(self) -> None:
        """Join the group commit for what is written and not yet durable, whoever wrote it.

        A follower is told of the write, not of the sync; and its writer may have died between.
        """
        if not self._writable or self._size_of_same_file() == self._at.offset:
            return
        descriptor, segment = self._files.open_active()
        try:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, 2 * LIMIT, max(0, size - 2 * LIMIT))
            lines = data[: data.rfind(b"\n") + 1].splitlines()
            mark = self._watermark()
            if lines and mark.boot == self._boot:
                mark.commit(descriptor, decode_head(lines[-1]).seq, segment)
        finally:
            os.close(descriptor)

    def rotate_if_due(self, limit: int | None = None) -> bool:
        """Seal the active file if it has `limit` bytes (else `segment_bytes`); whether it was.

        Housekeeping, for when there is nothing else to do: it takes a few syncs and, for 64 MiB,
        some 50 ms of hashing; others append meanwhile. Not done where somebody else is at it, where
        others append all the time, or where the disk is full: all that is no error.
        """
        least = self.segment_bytes if limit is None else limit
        if not self._writable or self._last()[1] < max(1, least):
            return False
        from .rotate import Rotation

        if self._rotation is None or self._rotation.segment != self._segment:
            self._rotation = Rotation(self, self._segment)
        return self._rotation.run(least)

    def transaction(self, by: str, *, epoch: int | None = None) -> "Transaction":
        """A context in which commands are decided and recorded, all or (on an exception) none.

        `by` stands in each record. A manager gives its `epoch`: Fenced when it is over.
        """
        return Transaction(self, by, epoch)

    def sync(self) -> None:
        """Return when every record in the state is durable."""
        if self._mark:
            self._mark.commit(self._descriptor, self._at.seq, self._segment)
            if self._at.offset > max(2 * self.segment_bytes, self._put_off):
                self._put_off = self._at.offset + self.segment_bytes // 8
                with suppress(FleetError):  # what was to be synced is
                    if self.rotate_if_due():
                        self._put_off = 0

    def _watermark(self) -> Watermark:
        if self._mark is None:
            self._mark = Watermark(self.dir, self._directory)
        return self._mark

    def _begin(self) -> None:
        """Take the lock with the state at the end of the file."""
        lock, mark = self._writers()
        mark.refuse_failed()
        lock.acquire()
        try:
            if self._size_of_same_file() != self._at.offset or self._stale or not self._adopted:
                self._catch_up(mark)
            if mark.synced > self._at.seq:
                heal.refuse_missing(self.dir, self._at, mark.synced)
        except OSError as error:
            lock.release()
            raise unwritable(self.dir, error) from error
        except BaseException:
            lock.release()
            raise

    def _writers(self) -> tuple[AppendLock, Watermark]:
        """Lock and watermark; the first time, a sync that probes the disk."""
        if self._lock is not None:
            return self._lock, self._watermark()
        if not self._writable:
            raise unwritable(self.dir, OSError(EROFS, os.strerror(EROFS)))
        try:
            mark = self._watermark()
            lock = AppendLock.open(self.dir, self._directory)
        except OSError as error:
            raise unwritable(self.dir, error) from error
        self._lock = lock
        mark.refuse_failed()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise mark.fail(error) from error
        return lock, mark

    def _size_of_same_file(self) -> int:
        """Size of the active file; -1 where that is a newer segment than the one held."""
        try:
            named = os.stat(FILE, dir_fd=self._directory)
        except FileNotFoundError as error:
            raise self._files.replaced("was removed") from error
        if (named.st_ino, named.st_dev) == self._inode:
            return named.st_size
        self._files.is_sealed(self._segment, self._inode)
        return -1

    def _catch_up(self, mark: Watermark) -> None:
        """Fold to the end of the files, under the lock, and heal the tail where that is allowed."""
        if self._is_stale():
            self._restore(None)
        try:
            self._folded(None, fresh=self._at.seq == 0)
        except Broken as broken:
            self._judge(broken)
        cut: LedgerRepaired | None = None
        if os.fstat(self._descriptor).st_size > self._at.offset:
            cut = self._cut(mark)
        if mark.synced > self._at.seq:
            heal.refuse_missing(self.dir, self._at, mark.synced)
        if not mark.is_of(self._boot):  # before anything is appended in this boot
            mark.begin(self._descriptor, self._boot, self._at.seq, self._segment)
        self._adopted = True
        if cut and self._at.seq:
            with Transaction(self, "ledger", None, locked=True) as transaction:
                transaction.record(cut, "", "")

    def _cut(self, mark: Watermark) -> LedgerRepaired:
        tail = heal.examine(
            self._descriptor,
            self._at,
            synced=mark.synced,
            boot=mark.boot,
            now_boot=self._boot,
        )
        if tail.why:
            self._refuse(tail.offset, tail.why)
        name = heal.cut(self._descriptor, self.dir, tail)
        self.repaired.append(name)
        return LedgerRepaired(
            segment=tail.segment, offset=tail.offset, bytes=tail.size, quarantine=name
        )

    def _append(self, data: bytes, at: Position) -> None:
        """One write under the lock; on a full disk whole lines stay and the torn one goes."""
        whole = 0
        while True:
            problem = OSError(ENOSPC, os.strerror(ENOSPC))  # what a short write means
            try:
                written = os.write(self._descriptor, data[whole:])
            except OSError as error:
                written, problem = 0, error
            whole = data.rfind(b"\n", 0, whole + written) + 1
            if whole == len(data):
                self._at = at
                self._watermark().wrote(at.seq)
                return
            if os.fstat(self._descriptor).st_size > self._at.offset + whole:
                os.ftruncate(self._descriptor, self._at.offset + whole)
            if problem.errno not in (ENOSPC, EDQUOT) or not (self.spare and self.spare()):
                break
        self._stale = True
        raise unwritable(self.dir, problem)

    def _end(self) -> None:
        if self._lock:
            self._lock.release()
        if self._stale:
            self._restore(None)
            self._fold(None, fresh=True)


class Transaction:
    """Commands decided one after the other under the append lock. `now` is seconds, wall clock."""

    def __init__(self, ledger: Ledger, by: str, epoch: int | None, *, locked: bool = False) -> None:
        self._ledger = ledger
        self._by = by
        self._epoch = epoch
        self._locked = locked
        self._lines: list[bytes] = []
        self._heard: list[tuple[Envelope, Event]] = []
        self._at = Position()
        self._ts = ""
        self._middles: dict[tuple[str, int, str], bytes] = {}
        """Middles of lines, by run, payload version and key: `ts` and `by` stay the same."""
        self.now = 0.0

    @property
    def state(self) -> State:
        """The newest state, with what this transaction has recorded."""
        return self._ledger.state

    def __enter__(self) -> "Transaction":
        ledger = self._ledger
        if not self._locked:
            ledger._begin()
        at = ledger._at
        self._at = Position(at.segment, at.offset, at.seq, at.chain)
        self.now = ledger.clock()
        self._ts = stamp(self.now)
        if self._epoch is not None and ledger.state.epoch != self._epoch:
            ledger._end()
            raise Fenced(
                f"another manager was elected (epoch {ledger.state.epoch}; this one was "
                f"{self._epoch}).",
                "Nothing was changed. Ask that manager.",
                code="fenced",
            )
        return self

    def submit(self, command: c.Command, *, key: str = "") -> Event | Known:
        """Decide a command and record its event; Refused where it may not be done.

        `key` is the asker's idempotency key. A refusal that is caught leaves the others standing.
        """
        run = c.run_of(command)
        ledger = self._ledger
        if type(command) in _NEEDS_ROWS and run in ledger.state.runs:
            ledger.hydrate(run)
        decision = decide(ledger.state, command, self.now)
        if isinstance(decision, Event):
            self.record(decision, run, key)
        return decision

    def record(self, event: Event, run: str, key: str) -> None:
        """Evolve an event and keep its line for the write."""
        at = self._at
        seq, version = at.seq + 1, event.payload_version
        middle = self._middles.get((run, version, key))
        if middle is None:
            middle = middle_of(self._ts, version, run, self._by, key)
            self._middles[run, version, key] = middle
        line, chain = seal(event, seq, middle, at.chain)
        state = self._ledger.state
        self._lines.append(line)
        head = Envelope(event.word, seq, self._ts, _NOTHING, version, run, self._by, key)
        evolve(state, head, event)
        if self._ledger.listener:
            self._heard.append((head, event))
        kind = type(event)
        if kind is RunCreated:
            state.runs[run].opened_at = (at.segment, at.offset)
        at.offset += len(line)
        at.seq, at.chain = seq, chain
        if kind is RunFinished:
            state.runs[run].closed_at = (at.segment, at.offset)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ledger = self._ledger
        try:
            if kind is None and self._lines:
                ledger._append(b"".join(self._lines), self._at)
            elif self._lines:
                ledger._stale = True
        finally:
            if not self._locked:
                ledger._end()
        if kind is None and ledger.listener:
            for head, event in self._heard:
                ledger.listener(head, event)


_NEEDS_ROWS = frozenset((c.Restart, c.ResumeRun, c.Interrupt, c.StopRun, c.Judge))
"""Commands that look at the rows of a run that may have finished."""
