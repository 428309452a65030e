"""Sealing the active file and beginning the next one, while others read and append.

Promises, whoever dies and at whatever instant, the machine included: every record stays where its
address says, no record is acknowledged in a file whose name or whose predecessor is not on the
disk, and the next one who comes simply goes on. The order makes it so. The active file is linked
under its number, and that name synced; it is synced itself, and the next one written with its first
record and synced. Then, with the group commit held and under the append lock, if nobody has
appended since, it is renamed into place; where somebody has, the next one is written anew with the
group commit held, so that they who wait for it append no more. The directory is synced before the
group commit goes on, by the next committer if this process is gone. Nothing is synced or hashed
under the append lock.
"""

import hashlib
import os
import time
from errno import EDQUOT, ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.events import LedgerSealed
from ..errors import FleetError
from .heal import QUARANTINE
from .record import Position, decode_head, middle_of, seal, stamp
from .segments import FILE, FOLDER, name_of

if TYPE_CHECKING:
    from .store import Ledger

NEXT = "fleet.next"
"""The next segment until it is renamed; what a killed rotation left is written over."""
HOLD_SECONDS = 0.03
"""So long the group commit is held while others append between preparing and the swap; a second
attempt is always made, as who waits for the group commit appends no more."""
QUIET_SECONDS = 0.01
"""So long at most the end of appending is waited for, with the group commit held."""
_CHUNK = 1 << 20


class Rotation:
    """The rotation of one segment, kept while it is put off: its digest is not begun anew."""

    @staticmethod
    def at_step(step: str) -> None:
        """Called with the name of each step when it is done; tests end the process there."""

    def __init__(self, ledger: "Ledger", segment: int) -> None:
        self.segment = segment
        self._ledger = ledger
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._first = 0

    def run(self, least: int) -> bool:
        """Seal the active file if it has so many bytes; whether that was done."""
        ledger = self._ledger
        at = self._where()
        if at.offset < least or at.segment != self.segment:
            return False
        try:
            folder = self._folder()
        except OSError as error:
            return _put_off(error)
        try:
            flock(folder, LOCK_EX | LOCK_NB)
            self._link(folder)
            self._hash(at)
            self._sync(ledger._descriptor)  # most of it, while others still commit
            prepared = self._prepared()
            with ledger._watermark().held():
                done = self._swapped(prepared)
        except BlockingIOError:
            return False
        except OSError as error:
            return _put_off(error)
        finally:
            os.close(folder)
        ledger.refresh()
        return done

    def _where(self) -> Position:
        """The end of the active file, everything before it folded and healed."""
        ledger = self._ledger
        ledger._begin()
        at = ledger._at
        ledger._end()
        return Position(at.segment, at.offset, at.seq, at.chain)

    def _folder(self) -> int:
        """`segments`, made where it is missing, its own name synced."""
        directory = self._ledger._directory
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(FOLDER, flags, dir_fd=directory)
        except FileNotFoundError:
            pass
        try:
            os.mkdir(FOLDER, 0o700, dir_fd=directory)
        except FileExistsError:
            pass
        self.at_step("made")
        return os.open(FOLDER, flags, dir_fd=directory)

    def _hash(self, at: Position) -> None:
        """Take the file up to a position into the digest."""
        descriptor = self._ledger._descriptor
        if self._first == 0:
            head = os.pread(descriptor, _CHUNK, 0)
            self._first = decode_head(head[: head.find(b"\n")]).seq
        while self._hashed < at.offset:
            size = min(_CHUNK, at.offset - self._hashed)
            self._digest.update(os.pread(descriptor, size, self._hashed))
            self._hashed += size

    def _link(self, folder: int) -> None:
        """Give the active file its name among the sealed ones, durably."""
        directory, name = self._ledger._directory, name_of(self.segment)
        try:
            os.link(FILE, name, src_dir_fd=directory, dst_dir_fd=directory)
        except FileExistsError:
            # A killed rotation left it; or, in a copied directory, it is a file of its own, which
            # no reader looks at.
            kept = os.stat(name, dir_fd=directory)
            if (kept.st_ino, kept.st_dev) != self._ledger._inode:
                _set_aside(self._ledger.dir, name)
                os.link(FILE, name, src_dir_fd=directory, dst_dir_fd=directory)
        self.at_step("linked")
        self._sync(folder)
        self._sync(directory)
        self.at_step("named")

    def _prepared(self) -> Position:
        """Write the next file while others still commit; good as long as nobody appends."""
        at = self._where()
        if at.segment == self.segment:
            self._prepare(at)
        return at

    def _quiet(self) -> Position:
        """The end of the file once nobody appends: who has, waits for the group commit."""
        until = time.monotonic() + QUIET_SECONDS
        at, before = self._where(), Position()
        while at != before and time.monotonic() < until:
            before = at
            time.sleep(QUIET_SECONDS / 10)
            at = self._where()
        return at

    def _swapped(self, prepared: Position) -> bool:
        """Put the next file in place, written anew if need be; False when others always append."""
        attempts, until = 0, time.monotonic() + HOLD_SECONDS
        while attempts < 2 or time.monotonic() < until:
            attempts += 1
            self._ledger._begin()
            try:
                at = self._ledger._at
                if at.segment != self.segment:
                    return False
                if at == prepared:
                    self._swap()
                    break
            finally:
                self._ledger._end()
            prepared = self._quiet()
            if prepared.segment != self.segment:
                return False
            self._prepare(prepared)
        else:
            return False
        self.at_step("unlocked")
        self._ledger._watermark().settle(self.segment + 1, prepared.seq + 1)
        self.at_step("settled")
        return True

    def _prepare(self, at: Position) -> None:
        """Make the active file durable up to `at`, and write the file that would follow it."""
        ledger = self._ledger
        self._hash(at)
        sealed = LedgerSealed(
            segment=at.segment,
            sha256=self._digest.hexdigest(),
            bytes=at.offset,
            first=self._first,
            last=at.seq,
        )
        head = middle_of(stamp(ledger.clock()), sealed.payload_version, "", "ledger", "")
        line, _ = seal(sealed, at.seq + 1, head, at.chain)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(NEXT, flags, 0o600, dir_fd=ledger._directory)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            self.at_step("written")
            self._sync(descriptor)
        finally:
            os.close(descriptor)
        self._sync(ledger._descriptor)
        self.at_step("synced")

    def _swap(self) -> None:
        """Rename the next file over the active one; under the append lock."""
        ledger = self._ledger
        ledger._watermark().announce(self.segment + 1)
        self.at_step("announced")
        directory = ledger._directory
        os.rename(NEXT, FILE, src_dir_fd=directory, dst_dir_fd=directory)
        self.at_step("renamed")
        ledger._watermark().wrote(ledger._at.seq + 1)

    def _sync(self, descriptor: int) -> None:
        """A sync that fails ends all writing, as everywhere; a full disk only this rotation."""
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise
            raise self._ledger._watermark().fail(error) from error


def _set_aside(folder: Path, name: str) -> None:
    """Move a file that is no segment of this ledger to quarantine."""
    (folder / QUARANTINE).mkdir(mode=0o700, exist_ok=True)
    (folder / name).rename(folder / QUARANTINE / f"{Path(name).name}-{time.time_ns()}")


def _put_off(error: OSError) -> bool:
    """False, where the next rotation may do better; else the error as a sentence."""
    if error.errno in (ENOSPC, EDQUOT):
        return False
    raise FleetError(
        f"the ledger can't begin a new segment: {error.strerror}.",
        "It goes on in the present one.",
        exit_code=5,
        code="ledger",
    ) from error
