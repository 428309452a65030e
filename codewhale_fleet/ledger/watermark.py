"""How far the ledger is known to be on the disk, and the group commit that moves it.

`.fleet/synced` is mapped by every writer: boot id (16 bytes), the last record that is durable, the
last record that is written (each 8 bytes, aligned, one store). Who holds fleet.sync syncs for
everybody: one fdatasync covers every record that was written before it began. A sync that failed is
never tried again, because the kernel tells the error once and may have dropped the page: `failed`
is left behind and no writer goes on.
"""

import mmap
import os
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from struct import Struct as Layout

from ..errors import Damaged
from .lock import open_lock

SYNCED = "synced"
FAILED = "failed"
LAYOUT = Layout("=16sQQ")
_SYNCED_AT, _WRITTEN_AT = 2, 3
"""Places of the two counters, in units of 8 bytes."""


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
    boot, synced, _ = LAYOUT.unpack(data)
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

    def wrote(self, seq: int) -> None:
        """Note, under the append lock, that records up to `seq` are in the file."""
        self._words[_WRITTEN_AT] = seq

    def adopt(self, boot: bytes, seq: int) -> None:
        """Begin a boot, under the append lock, with records up to `seq` on the disk."""
        self._words[_SYNCED_AT] = 0
        self._map[:16] = boot
        self._words[_WRITTEN_AT] = seq
        self._words[_SYNCED_AT] = seq

    def commit(self, descriptor: int, seq: int, sync: Callable[[int], None] | None = None) -> None:
        """Return when records up to `seq`, which are written, are on the disk.

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
            covers = max(seq, words[_WRITTEN_AT])
            (sync or os.fdatasync)(descriptor)
            words[_SYNCED_AT] = covers
        except OSError as error:
            raise self.fail(error) from error
        finally:
            flock(self._lock, LOCK_UN)

    def refuse_failed(self) -> None:
        """Raise Damaged where an earlier sync failed."""
        if os.access(FAILED, os.F_OK, dir_fd=self._directory):
            raise Damaged(
                f"an earlier sync of {self._folder} failed, so its last records may be lost.",
                f"Check the disk (dmesg) and the ledger (fleet ledger verify), then remove "
                f"{self._folder / FAILED} to go on.",
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
            f"What was acknowledged is kept. Check the disk (dmesg), then remove "
            f"{self._folder / FAILED} to go on.",
        )

    def close(self) -> None:
        """Unmap and close."""
        self._words.release()
        self._map.close()
        os.close(self._lock)
