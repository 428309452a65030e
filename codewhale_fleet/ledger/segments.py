"""The files of a ledger: the active one, and the sealed ones before it.

Segment N is `fleet.jsonl` while it grows and `segments/00000N.jsonl` once it is sealed. Which
number the active file bears stands in its own first record, so neither a link that a killed
rotation left behind nor a copied directory misleads a reader. A missing segment is damage. One that
was compacted has a file of the same name, headed by `ledger.compacted`; as its offsets are others
than before, it counts as a whole: an offset in it means its beginning or its end. What the records
mean is not known here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ..core.events import LedgerCompacted
from ..errors import Damaged, FleetError
from .record import BLOCK, LIMIT, REPAIR_HINT, decode_head, payload_of

FILE = "fleet.jsonl"
"""The active file."""
FOLDER = "segments"
_FIRST_BYTES = 512
"""More than stands before the number in a segment's first record."""
_SEALED = b'{"k":"ledger.sealed","seq":'
_NUMBER = b'"d":{"segment":'
_BEGUN = b'{"k":"fleet.initialized","seq":1,'
_COMPACTED = b'{"k":"ledger.compacted","seq":'

Address = tuple[int, int]
"""(segment, offset)."""


class Missing(Damaged):
    """A segment that should be there is not."""


def name_of(number: int) -> str:
    """Where a sealed segment lies, below the fleet directory."""
    return f"{FOLDER}/{number:06d}.jsonl"


def listed(directory: int) -> dict[int, int]:
    """Number -> inode of the files in `segments`; none where there is no such directory."""
    try:
        folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return {}
    try:
        with os.scandir(folder) as found:
            names = [(entry.name.removesuffix(".jsonl"), entry.inode()) for entry in found]
    finally:
        os.close(folder)
    return {int(name): inode for name, inode in names if len(name) >= 6 and name.isdecimal()}


def number_of(descriptor: int, directory: int) -> int:
    """The number of an active file, by its first record; by what is sealed where that fails."""
    head = os.pread(descriptor, _FIRST_BYTES, 0)
    if head.startswith(_BEGUN):
        return 1
    place = head.find(_NUMBER) + len(_NUMBER)
    digits = head[place : head.find(b",", place)]
    if head.startswith(_SEALED) and digits.isdigit():
        return int(digits) + 1
    own = os.fstat(descriptor).st_ino
    return (
        max((number for number, inode in listed(directory).items() if inode != own), default=0) + 1
    )


class Segments:
    """The files of one fleet directory, opened by number; keeps none of them open."""

    def __init__(self, folder: Path, directory: int, *, writable: bool) -> None:
        self._folder = folder
        self._directory = directory
        kind = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW if writable else os.O_RDONLY
        self._flags = kind | os.O_CLOEXEC

    def open_active(self) -> tuple[int, int]:
        """Descriptor and number of the active file."""
        try:
            active = os.open(FILE, self._flags, dir_fd=self._directory)
        except FileNotFoundError as error:
            raise self.replaced("was removed") from error
        return active, number_of(active, self._directory)

    def open(self, number: int) -> tuple[int, bool]:
        """Descriptor of a segment, and whether it is sealed. Missing where there is none.

        The active file is looked at first: what is older than it has its name for good.
        """
        active, newest = self.open_active()
        if newest == number:
            return active, False
        os.close(active)
        if number < newest:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                return os.open(name_of(number), flags, dir_fd=self._directory), True
            except FileNotFoundError:
                pass
        raise Missing(f"{self._folder / name_of(number)} is missing.", REPAIR_HINT)

    def is_sealed(self, number: int, inode: tuple[int, int]) -> bool:
        """Whether the file of this inode and device is a sealed segment and no more the active one.

        So it is, too, if it was compacted and another file has its name. Damaged where it is none.
        """
        try:
            named = os.stat(FILE, dir_fd=self._directory)
        except FileNotFoundError as error:
            raise self.replaced("was removed") from error
        if (named.st_ino, named.st_dev) == inode:
            return False
        try:
            kept = os.stat(name_of(number), dir_fd=self._directory)
        except FileNotFoundError as error:
            raise self.replaced("was replaced") from error
        if (kept.st_ino, kept.st_dev) != inode and not self.is_compacted(number):
            raise self.replaced("was replaced")
        return True

    def is_compacted(self, number: int) -> bool:
        """Whether a sealed segment's file is a compacted one."""
        try:
            descriptor, sealed = self.open(number)
        except Missing:
            return False
        try:
            return sealed and header_of(descriptor) is not None
        finally:
            os.close(descriptor)

    def replaced(self, what: str) -> Damaged:
        """The refusal to go on with another file than the one that was folded."""
        return Damaged(
            f"{self._folder / FILE} {what} while it was in use.",
            "Nothing was written. Put it back, or begin anew in another directory.",
        )

    def extents(self, start: Address, stop: Address) -> Iterator[tuple[int, int, int, int]]:
        """(segment, descriptor, from, to) of every file between two addresses, one after another.

        Of a compacted file it is all but its heading. The descriptor is open until the next one is
        asked for.
        """
        number, offset = max(start, (1, 0))
        while number <= stop[0]:
            descriptor, sealed = self.open(number)
            try:
                size = os.fstat(descriptor).st_size
                end = stop[1] if number == stop[0] else size
                head = heading(descriptor) if sealed else b""
                if head:
                    offset, end = len(head), size
                yield number, descriptor, offset, end
            finally:
                os.close(descriptor)
            number, offset = number + 1, 0

    def before(self, end: Address, size: int) -> Address:
        """Where the line begins that holds the byte `size` before `end`, over all segments."""
        number, offset = end
        while size > offset and number > 1:
            try:
                descriptor, _ = self.open(number - 1)
            except Missing:
                return number, 0
            number, size = number - 1, size - offset
            offset = os.fstat(descriptor).st_size
            os.close(descriptor)
        if size >= offset:
            return number, 0
        descriptor, _ = self.open(number)
        wanted = offset - size
        start = max(0, wanted - BLOCK)
        try:
            block = os.pread(descriptor, wanted - start, start)
        finally:
            os.close(descriptor)
        return number, start + block.rfind(b"\n") + 1


def heading(descriptor: int) -> bytes:
    """The first line of a compacted file, with its newline; empty where the file is none."""
    if os.pread(descriptor, len(_COMPACTED), 0) != _COMPACTED:
        return b""
    block = os.pread(descriptor, LIMIT, 0)
    return block[: block.find(b"\n") + 1]


def header_of(descriptor: int) -> LedgerCompacted | None:
    """What heads a compacted file; None where the file is none, or that can't be read."""
    line = heading(descriptor)
    return _read(line) if line else None


def _read(line: bytes) -> LedgerCompacted | None:
    try:
        event = payload_of(decode_head(line))
    except (ValueError, FleetError):
        return None
    return event if isinstance(event, LedgerCompacted) else None


def compactions(block: bytes) -> Iterator[LedgerCompacted]:
    """The `ledger.compacted` records among whole lines, as far as they can be read."""
    place = block.find(_COMPACTED)
    while place >= 0:
        end = block.find(b"\n", place)
        if place == 0 or block[place - 1] == 10:
            event = _read(block[place:end])
            if event:
                yield event
        place = block.find(_COMPACTED, end)
