"""The files of a ledger: the active one, and the sealed ones before it.

Segment N is `fleet.jsonl` while it grows and `segments/00000N.jsonl` once it is sealed. Which
number the active file bears stands in its own first record, so neither a link that a killed
rotation left behind nor a copied directory misleads a reader. A missing segment is damage, unless
a `ledger.compacted` record names it. What the records mean is not known here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ..core.events import LedgerCompacted
from ..errors import Damaged
from .record import BLOCK, REPAIR_HINT, decode_head, payload_of

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

        Damaged where it is neither.
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
            if self.gap(number) is not None:
                return True
            raise self.replaced("was replaced") from error
        if (kept.st_ino, kept.st_dev) != inode:
            raise self.replaced("was replaced")
        return True

    def replaced(self, what: str) -> Damaged:
        """The refusal to go on with another file than the one that was folded."""
        return Damaged(
            f"{self._folder / FILE} {what} while it was in use.",
            "Nothing was written. Put it back, or begin anew in another directory.",
        )

    def gap(self, number: int) -> LedgerCompacted | None:
        """The record that says why a segment need not be there, or None where none does."""
        _, newest = active = self.open_active()
        os.close(active[0])
        for later in range(number + 1, newest + 1):
            try:
                descriptor, _ = self.open(later)
            except Missing:
                continue
            try:
                for event in _compactions(descriptor):
                    if event.segments[0] <= number <= event.segments[1]:
                        return event
            finally:
                os.close(descriptor)
        return None

    def extents(self, start: Address, stop: Address) -> Iterator[tuple[int, int, int, int]]:
        """(segment, descriptor, from, to) of every file between two addresses, one after another.

        The descriptor is open until the next one is asked for.
        """
        number, offset = max(start, (1, 0))
        while number <= stop[0]:
            try:
                descriptor, _ = self.open(number)
            except Missing:
                gap = self.gap(number)
                if gap is None:
                    raise
                number, offset = gap.segments[1] + 1, 0
                continue
            try:
                end = stop[1] if number == stop[0] else os.fstat(descriptor).st_size
                yield number, descriptor, offset, end
            finally:
                os.close(descriptor)
            number, offset = number + 1, 0


def _compactions(descriptor: int) -> Iterator[LedgerCompacted]:
    """The `ledger.compacted` records of one file."""
    offset = 0
    while block := os.pread(descriptor, BLOCK, offset):
        size = block.rfind(b"\n") + 1
        place = block.find(_COMPACTED, 0, size)
        while place >= 0:
            end = block.find(b"\n", place)
            if place == 0 or block[place - 1] == 10:
                event = payload_of(decode_head(block[place:end]))
                assert isinstance(event, LedgerCompacted)
                yield event
            place = block.find(_COMPACTED, end, size)
        if size == 0:
            return
        offset += size
