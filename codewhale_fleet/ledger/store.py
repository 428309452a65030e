"""The ledger as one object: fold, decide, append, sync.

`Ledger` holds the folded state of one fleet. Anybody may read it; who writes opens a transaction,
which takes the append lock, folds what others wrote, decides each command on the newest state and
writes all its records with one `write`. `sync` makes them durable, together with whatever other
processes wait for. One thread uses a Ledger; a forked child opens its own.
"""

import os
import random
from errno import ENOSPC, EROFS
from pathlib import Path
from types import TracebackType

from msgspec import Raw

from ..core import commands as c
from ..core.decide import Known, decide
from ..core.events import Envelope, Event, LedgerRepaired, RunCreated, RunFinished
from ..core.evolve import evolve
from ..core.state import State
from ..errors import Damaged, Refused
from . import heal, place, snapshot
from .fold import Broken
from .lock import AppendLock
from .reader import FILE, Reader, no_fleet, unwritable
from .record import Position, decode_head, middle_of, seal, stamp
from .watermark import Watermark, peek

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_NOTHING = Raw(b"{}")


class Fenced(Refused):
    """A writer of an epoch that is over: another manager was elected."""

    code = "fenced"


class Ledger(Reader):
    """One fleet's ledger. Make it with `open`."""

    def __init__(self, folder: Path, directory: int, descriptor: int, *, writable: bool) -> None:
        super().__init__(folder, directory, descriptor, writable=writable)
        self.repaired: list[str] = []
        """Tails that this process set aside: paths below the directory."""
        self._lock: AppendLock | None = None
        self._mark: Watermark | None = None
        self._adopted = False
        """Whether the watermark is of this boot for sure."""

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
            if create:
                ledger._begin_fleet()
            elif os.fstat(ledger._descriptor).st_size == 0 and not peek(ledger._directory)[1]:
                raise no_fleet(folder)
            ledger._load()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _begin_fleet(self) -> None:
        """Write the first record unless somebody has."""
        if os.fstat(self._descriptor).st_size:
            return
        chance = random.SystemRandom()
        name = "fl-" + "".join(chance.choice(_ID_LETTERS) for _ in range(10))
        with self.transaction("fleet") as transaction:
            transaction.submit(c.Initialize(fleet=name))
        self.sync()
        place.sync_folder(self.dir)

    def close(self) -> None:
        """Close every file; what was written stays written."""
        if self._mark:
            self._mark.close()
        if self._lock:
            self._lock.close()
        self._mark = self._lock = None
        super().close()

    def snapshot(self) -> bool:
        """Write the snapshot, if everything in the state is durable; whether it was written."""
        if self._stale or (self._mark and self._mark.synced < self._at.seq):
            return False
        return snapshot.save(self.dir, self._descriptor, self.state, self._at)

    def settle(self) -> None:
        """Join the group commit for what is written and not yet durable, whoever wrote it.

        A follower is told of the write, not of the sync; and its writer may have died between.
        """
        size = os.fstat(self._descriptor).st_size
        if not self._writable or size <= self._at.offset:
            return
        data = os.pread(self._descriptor, size - self._at.offset, self._at.offset)
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        mark = self._watermark()
        if lines and mark.boot == self._boot:
            mark.commit(self._descriptor, decode_head(lines[-1]).seq)

    def transaction(self, by: str, *, epoch: int | None = None) -> "Transaction":
        """A context in which commands are decided and recorded, all or (on an exception) none.

        `by` stands in each record. A manager gives its `epoch`: Fenced when it is over.
        """
        return Transaction(self, by, epoch)

    def sync(self) -> None:
        """Return when every record in the state is durable."""
        if self._mark:
            self._mark.commit(self._descriptor, self._at.seq)

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
            size = self._size_of_same_file()
            if size != self._at.offset or self._stale or not self._adopted:
                self._catch_up(mark, size)
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
        try:
            named = os.stat(FILE, dir_fd=self._directory)
        except FileNotFoundError as error:
            raise self._was_replaced("was removed") from error
        if (named.st_ino, named.st_dev) != self._inode:
            raise self._was_replaced("was replaced")
        return named.st_size

    def _was_replaced(self, what: str) -> Damaged:
        return Damaged(
            f"{self.dir / FILE} {what} while it was in use.",
            "Nothing was written. Put it back, or begin anew in another directory.",
        )

    def _catch_up(self, mark: Watermark, size: int) -> None:
        """Fold to the end of the file, under the lock, and heal its tail where that is allowed."""
        if self._stale or size < self._at.offset:
            self._replace(snapshot.load(self.dir, self._descriptor))
        if size > self._at.offset:
            try:
                self._folded(None, fresh=self._at.seq == 0)
            except Broken:
                pass
            if size > self._at.offset:
                self._heal(mark)
        if mark.synced > self._at.seq:
            heal.refuse_missing(self.dir, self._at, mark.synced)
        self._adopted = True
        if mark.boot != self._boot:
            os.fdatasync(self._descriptor)  # once in a boot, and nobody else can know yet
            mark.adopt(self._boot, self._at.seq)

    def _heal(self, mark: Watermark) -> None:
        tail = heal.examine(
            self._descriptor,
            self._at,
            synced=mark.synced,
            boot=mark.boot,
            now_boot=self._boot,
        )
        if tail.why:
            heal.refuse(self.dir, tail)
        name = heal.cut(self._descriptor, self.dir, tail)
        self.repaired.append(name)
        with Transaction(self, "ledger", None, locked=True) as transaction:
            transaction.record(
                LedgerRepaired(offset=tail.offset, bytes=tail.size, quarantine=name), "", ""
            )

    def _append(self, data: bytes, at: Position) -> None:
        """One write under the lock; on a full disk whole lines stay and the torn one goes."""
        problem: OSError | None = None
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            written, problem = 0, error
        if written == len(data):
            self._at = at
            self._watermark().wrote(at.seq)
            return
        self._stale = True
        whole = data.rfind(b"\n", 0, written) + 1
        if os.fstat(self._descriptor).st_size > self._at.offset + whole:
            os.ftruncate(self._descriptor, self._at.offset + whole)
        raise unwritable(self.dir, problem or OSError(ENOSPC, os.strerror(ENOSPC)))

    def _end(self) -> None:
        if self._lock:
            self._lock.release()
        if self._stale:
            self._replace(snapshot.load(self.dir, self._descriptor))
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
        self._middles: dict[tuple[str, int, str], str] = {}
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
        run = _run_of(command)
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
        seq, version, ts = at.seq + 1, event.payload_version, self._ts
        middle = self._middles.get((run, version, key))
        if middle is None:
            middle = middle_of(ts, version, run, self._by, key)
            self._middles[run, version, key] = middle
        line, chain = seal(event, seq, middle, at.chain)
        state = self._ledger.state
        self._lines.append(line)
        head = Envelope(event.word, seq, ts, _NOTHING, version, run, self._by, key)
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


_NEEDS_ROWS = frozenset((c.Restart, c.ResumeRun, c.Interrupt, c.StopRun))
"""Commands that look at the rows of a run that may have finished."""
_OF_THE_FLEET = frozenset((c.Initialize, c.Elect, c.Leave, c.ReportBeat))


def _run_of(command: c.Command) -> str:
    """The run that a command is about; empty for the fleet's own."""
    if isinstance(command, c.ReportEnded):
        return command.ended.attempt.partition("/")[0]
    if isinstance(command, c.ReportStarted | c.ReportLost):
        return command.attempt.partition("/")[0]
    return "" if type(command) in _OF_THE_FLEET else getattr(command, "run", "")
