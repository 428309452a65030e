"""Examining one file of a ledger: how far its records follow, and what it is as a whole.

`quickly` takes a sealed file in one pass: its SHA-256, and the chain from end to end. That says
everything as long as both are right; `closely` follows the chain line by line, and so finds the
place where it breaks. Which digest is right, and what that means, is not known here.
"""

import hashlib
import os
import re
from pathlib import Path
from zlib import crc32

from msgspec import Struct

from ..core.events import LedgerCompacted, LedgerSealed
from ..errors import FleetError
from .record import (
    BLOCK,
    FORMAT,
    LIMIT,
    SEAL,
    Position,
    decode_head,
    follow_chain,
    follows,
    format_of,
    payload_of,
    stated_chain,
)
from .segments import compactions, header_of

_SEQ = b',"seq":'
_SEALED = b'{"k":"ledger.sealed",'
_SEALS = re.compile(rb',"c":"[0-9a-f]{8}"\}\n')

Job = tuple[int, Position, str, bool]
"""(number, where it must go on, path, detail) of a file that is to be examined."""


class Part(Struct, kw_only=True):
    """What was found in one file. `at` is after its last good record."""

    at: Position
    first: int
    size: int = 0
    why: str = ""
    newer: bool = False
    sealed: LedgerSealed | None = None
    """What its first record says about the one before."""
    sha256: str = ""
    quick: bool = False
    """Whether lines were not looked at one by one."""
    words: dict[str, int] = {}
    count: int = 0
    """Records that follow."""
    header: LedgerCompacted | None = None
    """What heads it, if it is a compacted file; `at` is then after all that it replaces."""
    recorded: list[LedgerCompacted] = []
    """Compactions that are recorded in it."""


def examine_sealed(job: Job) -> Part:
    """A sealed file, quickly if that says enough."""
    _, at, path, detail = job
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = header_of(descriptor)
        if header:
            return _compacted(descriptor, at, header, detail)
        part = None if detail else _quickly(descriptor, at)
        return part or closely(descriptor, at, detail, sealed=True)
    finally:
        os.close(descriptor)


def _quickly(descriptor: int, start: Position) -> Part | None:
    """The whole file in one pass, or None where something in it does not follow.

    Bodies seed one another, so the chain value of a block is the CRC of its bodies without their
    seals. Whether the seals between are right, only the digest tells.
    """
    at = Position(start.segment, 0, start.seq, start.chain)
    part = Part(at=at, first=at.seq + 1, size=os.fstat(descriptor).st_size, quick=True)
    digest = hashlib.sha256()
    while at.offset < part.size:
        block = os.pread(descriptor, BLOCK, at.offset)
        end = block.rfind(b"\n") + 1
        if end < len(block):
            block = block[:end]
        if at.offset == 0 and not _begins(block, part):
            return None
        digest.update(block)
        part.recorded += compactions(block)
        at.chain = crc32(b"".join(_SEALS.split(block)), at.chain)
        at.seq += block.count(b"\n")
        at.offset += end
        last = block[block.rfind(b"\n", 0, end - 1) + 1 : end - 1]
        if end == 0 or number_in(last) != at.seq or stated_chain(last) != at.chain:
            return None
    part.sha256 = digest.hexdigest()
    part.count = at.seq - part.first + 1
    return part


def _compacted(descriptor: int, at: Position, header: LedgerCompacted, detail: bool) -> Part:
    """A compacted file: its own chain, and numbers that never fall."""
    part = Part(at=at, first=at.seq + 1, size=os.fstat(descriptor).st_size, header=header)
    digest = hashlib.sha256()
    start, last = at.seq, at.seq
    while not part.why and (block := os.pread(descriptor, BLOCK, at.offset)):
        end = block.rfind(b"\n") + 1
        if end == 0:
            part.why = "its last record is not whole"
            break
        digest.update(memoryview(block)[:end])
        lines = block[:end].split(b"\n")
        lines.pop()
        good, at.chain = follow_chain(lines, at.chain)
        if good < len(lines):
            del lines[good:]
            part.why = f"record {number_in(lines[-1]) if lines else last + 1:,} is not followed"
        for line in lines:
            if number_in(line) < last:
                part.why = f"record {number_in(line):,} stands behind record {last:,}"
                break
            last = number_in(line)
            if part.sealed is None and line.startswith(_SEALED):
                part.sealed = _sealing(line)
        heading = at.offset == 0
        part.recorded += list(compactions(block[:end]))[heading:]
        if detail:
            _decode(lines[heading:], part)
        part.count += len(lines) - heading
        at.offset += sum(map(len, lines)) + len(lines)
    if not part.why and (header.first != start + 1 or not start < last <= header.last):
        part.why = "it is no part of this ledger"
    if not part.why:
        part.sha256 = digest.hexdigest()
        at.seq, at.chain = header.last, int(header.chain, 16)
    return part


def _begins(block: bytes, part: Part) -> bool:
    """Note what a file's first record seals; False where the file is of a newer format."""
    first = block[: block.find(b"\n")]
    if first.startswith(_SEALED):
        part.sealed = _sealing(first)
    return format_of(first) <= FORMAT


def closely(descriptor: int, at: Position, detail: bool, *, sealed: bool) -> Part:
    """Follow the chain from `at`, the beginning of a file, as far as it goes."""
    part = Part(at=at, first=at.seq + 1, size=os.fstat(descriptor).st_size)
    digest = hashlib.sha256()
    while not part.why:
        block = os.pread(descriptor, BLOCK, at.offset)
        end = block.rfind(b"\n") + 1
        if end == 0:
            break
        if at.offset == 0 and not _begins(block, part):
            kind = format_of(block[: block.find(b"\n")])
            part.why, part.newer = f"its format is {kind}", True
            break
        if sealed:
            digest.update(memoryview(block)[:end])
        part.recorded += compactions(block[:end])
        lines = block[:end].split(b"\n")
        lines.pop()
        _check(lines, at, part, detail)
    part.count = at.seq - part.first + 1
    part.sha256 = digest.hexdigest() if sealed and at.offset == part.size else ""
    return part


def _check(lines: list[bytes], at: Position, part: Part, detail: bool) -> None:
    """Move `at` over the lines that follow; says in the part why one does not."""
    good, chain = follow_chain(lines, at.chain)
    if good < len(lines):
        del lines[good:]
        part.why = f"record {at.seq + good + 1:,} does not follow from {at.seq + good:,}"
    misnumbered = _misnumbered(lines, at.seq)
    if misnumbered is not None:
        part.why = f"record {at.seq + misnumbered + 1:,} bears another number"
        del lines[misnumbered:]
    if detail:
        unread = _decode(lines, part)
        if unread is not None:
            del lines[unread:]
    if lines:
        at.chain = chain if len(lines) == good else int(lines[-1][-10:-2], 16)
    at.offset += sum(map(len, lines)) + len(lines)
    at.seq += len(lines)


def _sealing(line: bytes) -> LedgerSealed | None:
    try:
        event = payload_of(decode_head(line))
    except (ValueError, FleetError):
        return None
    return event if isinstance(event, LedgerSealed) else None


def _misnumbered(lines: list[bytes], seq: int) -> int | None:
    """Index of the first line whose number is not the next one."""
    if not lines or number_in(lines[-1]) == seq + len(lines):
        return None
    for index, line in enumerate(lines):
        if number_in(line) != seq + index + 1:
            return index
    return None


def number_in(line: bytes) -> int:
    """The number that a line bears; -1 where it bears none."""
    first = line.find(_SEQ) + len(_SEQ)
    digits = line[first : line.find(b",", first)]
    return int(digits) if digits.isdigit() else -1


def _decode(lines: list[bytes], part: Part) -> int | None:
    """Decode every record; index of the first that can't be, with the reason in the part."""
    for index, line in enumerate(lines):
        try:
            head = decode_head(line)
            payload_of(head)
        except ValueError as error:
            part.why = f"its head can't be read: {error}"
            return index
        except FleetError as error:
            part.why = error.sentence.rstrip(".")
            part.newer = "newer version" in error.sentence
            return index
        part.words[head.k] = part.words.get(head.k, 0) + 1
    return None


def behind(descriptor: int, offset: int) -> int:
    """Lines behind the damage that continue the line before them."""
    count = 0
    before = b""
    while block := os.pread(descriptor, BLOCK, offset):
        end = block.rfind(b"\n") + 1
        if end == 0:
            if len(block) < LIMIT:
                break
            offset += len(block)
            before = b""
            continue
        for line in block[: end - 1].split(b"\n"):
            if len(before) > SEAL and follows(line, before):
                count += 1
            before = line
        offset += end
    return count


def last_line(path: Path) -> bytes:
    """The last complete line of a file, without its newline."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * LIMIT))
        data = file.read()
    return data[: data.rfind(b"\n")].rpartition(b"\n")[2]


def begins_with(descriptor: int, path: Path) -> bool:
    """Whether an open file begins with all that is in another one."""
    offset = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            if os.pread(descriptor, len(block), offset) != block:
                return False
            offset += len(block)
    return True
