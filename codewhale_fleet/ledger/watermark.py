"""How far the ledger is known to be on the disk, and the group commit that moves it.

`.fleet/synced` is mapped by every writer: boot id (16 bytes), the last record that is durable, the
last record that is written, the newest segment, the newest one whose name is durable, and whether
this boot's id is durable itself (each 8 bytes, aligned, one store). The file is synced once in a
boot, before anything is appended in it: so after a power loss it may be old, but it tells that
another boot wrote what stands above it. Who holds fleet.sync syncs for everybody: one fdatasync
covers every record that was written before it began, because all of a segment is durable before
the next one has its name, and the name is synced before any record of that segment. A sync that
failed is never tried again, because the kernel tells the error once and may have dropped the page:
`failed` is left behind and no writer goes on.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from struct import Struct as Layout

from ..errors import Damaged
from .lock import open_lock
from .segments import FILE

SYNCED = "synced"
FAILED = "failed"
LAYOUT = Layout("=16sQQQQQ")
_SYNCED_AT, _WRITTEN_AT, _NEWEST_AT, _NAMED_AT, _KEPT_AT = 2, 3, 4, 5, 6
"""Places of the numbers, in units of 8 bytes."""


def boot_id() -> bytes:
    """This boot, as 16 bytes."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text()
    return bytes.fromhex(text.strip().replace("-", ""))


def peek(dir_descriptor: int) -> tuple[bytes, int]:
    """(boot id, last durable record) as the file says; (b"", 0) where nothing is known."""
    try:
        descriptor = os.open(SYNCED, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_descriptor)
    except OSError:
        return b"", 0
    try:
        data = os.pread(descriptor, LAYOUT.size, 0)
    finally:
        os.close(descriptor)
    if len(data) < LAYOUT.size:
        return b"", 0
    boot, synced, *_ = LAYOUT.unpack(data)
    return boot, synced


class Watermark:
    """The mapped watermark of one fleet directory, and its group commit."""

    def __init__(self, folder: Path, dir_descriptor: int) -> None:
        """Map the file, made where it is missing; OSError where it can't be written."""
        self._folder = folder
        self._directory = dir_descriptor
        self._lock = open_lock("fleet.sync", dir_descriptor)
        self._map = self._mapped()
        self._words = memoryview(self._map).cast("Q")

    def _mapped(self) -> mmap.mmap:
        descriptor = open_lock(SYNCED, self._directory)
        try:
            if os.fstat(descriptor).st_size < LAYOUT.size:
                # Two that come here at once both make the same zeros.
                os.ftruncate(descriptor, LAYOUT.size)
                os.posix_fallocate(descriptor, 0, LAYOUT.size)
            return mmap.mmap(descriptor, LAYOUT.size)
        finally:
            os.close(descriptor)

    @property
    def boot(self) -> bytes:
        """The boot whose numbers these are; zeros in a new file."""
        return self._map[:16]

    @property
    def synced(self) -> int:
        """The last record that is known to be on the disk."""
        return self._words[_SYNCED_AT]

    @property
    def named(self) -> int:
        """The newest segment whose name is known to be on the disk."""
        return self._words[_NAMED_AT]

    def wrote(self, seq: int) -> None:
        """Note, under the append lock, that records up to `seq` are in the file."""
        self._words[_WRITTEN_AT] = seq

    def is_of(self, boot: bytes) -> bool:
        """Whether this boot has begun here, and a power loss would not forget that."""
        return self._words[_KEPT_AT] == 1 and self.boot == boot

    def begin(self, descriptor: int, boot: bytes, seq: int, segment: int) -> None:
        """Begin a boot, under the append lock: once in it, as nobody else can know yet."""
        try:
            os.fdatasync(descriptor)
            os.fsync(self._directory)
            self.adopt(boot, seq, segment)
        except OSError as error:
            raise self.fail(error) from error

    def adopt(self, boot: bytes, seq: int, segment: int) -> None:
        """Note, durably, a boot that begins with records up to `seq` on the disk."""
        self._words[_KEPT_AT] = 0
        self._words[_SYNCED_AT] = 0
        self._map[:16] = boot
        self._words[_WRITTEN_AT] = seq
        self._words[_NEWEST_AT] = self._words[_NAMED_AT] = segment
        self._words[_SYNCED_AT] = seq
        self._map.flush()
        self._words[_KEPT_AT] = 1

    def commit(
        self,
        descriptor: int,
        seq: int,
        segment: int,
        sync: Callable[[int], None] | None = None,
    ) -> None:
        """Return when records up to `seq`, which are in the file of `segment`, are on the disk.

        Whoever waited for the lock finds, most times, that the one before has synced for all.
        `sync` stands in for fdatasync in tests.
        """
        words = self._words
        if words[_SYNCED_AT] >= seq:
            return
        flock(self._lock, LOCK_EX)
        try:
            if words[_SYNCED_AT] >= seq:
                return
            self.refuse_failed()
            if segment < words[_NEWEST_AT] and not self._is_active(descriptor):
                words[_SYNCED_AT] = seq  # a sealed segment: durable before the next had its name
                return
            covers = max(seq, words[_WRITTEN_AT])
            (sync or os.fdatasync)(descriptor)
            if segment > words[_NAMED_AT]:
                self._name(segment)
            words[_SYNCED_AT] = covers
        except OSError as error:
            raise self.fail(error) from error
        finally:
            flock(self._lock, LOCK_UN)

    def _is_active(self, descriptor: int) -> bool:
        """Whether an open file is the active one: a rotation may have ended before its swap."""
        try:
            named = os.stat(FILE, dir_fd=self._directory)
        except FileNotFoundError:
            return True
        found = os.fstat(descriptor)
        return (named.st_ino, named.st_dev) == (found.st_ino, found.st_dev)

    def _name(self, segment: int) -> None:
        """Make the newest segment's name durable: its rotation ended before it did."""
        os.fsync(self._directory)
        self._words[_NAMED_AT] = segment

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the group commit, so that nothing is acknowledged meanwhile."""
        flock(self._lock, LOCK_EX)
        try:
            yield
        finally:
            flock(self._lock, LOCK_UN)

    def announce(self, segment: int) -> None:
        """Say that the active file may be `segment` from now on; needs both locks."""
        self._words[_NEWEST_AT] = segment

    def settle(self, segment: int, seq: int) -> None:
        """Make the name of the new segment durable, and with it its records up to `seq`."""
        try:
            self._name(segment)
        except OSError as error:
            raise self.fail(error) from error
        self._words[_SYNCED_AT] = max(seq, self._words[_SYNCED_AT])

    def refuse_failed(self) -> None:
        """Raise Damaged where an earlier sync failed."""
        if os.access(FAILED, os.F_OK, dir_fd=self._directory):
            raise Damaged(
                f"an earlier sync of {self._folder} failed, so its last records may be lost.",
                "Check the disk (dmesg). To see what can be saved, and go on: fleet ledger repair",
            )

    def fail(self, error: OSError) -> Damaged:
        """Note a failed sync, as well as the disk allows, and answer with the error to raise."""
        text = f"{error.strerror}\n".encode()
        try:
            marker = open_lock(FAILED, self._directory)
            os.write(marker, text)
            os.close(marker)
        except OSError:
            pass  # the next writer's own probe is told by the kernel
        return Damaged(
            f"the ledger in {self._folder} can't be made durable: {error.strerror}.",
            "What was acknowledged is kept. Check the disk (dmesg), then: fleet ledger repair",
        )

    def close(self) -> None:
        """Unmap and close."""
        self._words.release()
        self._map.close()
        os.close(self._lock)
