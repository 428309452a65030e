"""Examining a ledger without changing it: is every record there, and as it was written?

The chain is checked line by line; `detail` also decodes every record and, where the chain breaks,
looks at what stands behind the break. Nothing is repaired and no lock is taken.
"""

import os
from pathlib import Path

from msgspec import Struct

from ..errors import FleetError
from . import heal, place
from .fold import BLOCK
from .reader import FILE, no_fleet
from .record import (
    FORMAT,
    LIMIT,
    SEAL,
    Position,
    decode_head,
    follow_chain,
    follows,
    format_of,
    payload_of,
)
from .watermark import boot_id, peek

_SEQ = b',"seq":'


class Report(Struct, kw_only=True):
    """What was found. Offsets and sizes are bytes."""

    file: str
    ok: bool = True
    records: int = 0
    """Records that follow from the beginning."""
    size: int = 0
    why: str = ""
    """What is wrong with the record after them; empty when nothing is."""
    bad_offset: int | None = None
    bad_record: int | None = None
    tail: str = "whole"
    """whole; torn or unfinished (the next writer sets it aside); damaged; newer."""
    tail_bytes: int = 0
    synced: int = 0
    """Last record known to be durable; 0 when nothing is known."""
    chain: str = "00000000"
    """Chain value after the last good record: names this ledger up to here."""
    words: dict[str, int] = {}
    """Records by word (with detail)."""
    behind: int = 0
    """Whole records behind the damage that continue each other (with detail)."""


def verify(fleet_dir: Path, *, detail: bool = False) -> Report:
    """Check the whole ledger of a fleet."""
    folder = place.resolved(fleet_dir)
    if not (folder / FILE).exists():
        raise no_fleet(folder)
    place.check(folder)
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise place.unreadable(folder / FILE) from error
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The watermark first: what it covers must then be in the file.
        boot, synced = peek(directory)
        report = Report(file=str(folder / FILE), synced=synced)
        at = Position()
        _check(descriptor, at, report, detail)
        _judge_tail(descriptor, at, report, boot, detail)
    finally:
        os.close(descriptor)
        os.close(directory)
    return report


def _check(descriptor: int, at: Position, report: Report, detail: bool) -> None:
    """Move `at` over every record that follows; fills the report's counts."""
    while not report.why:
        block = os.pread(descriptor, BLOCK, at.offset)
        end = block.rfind(b"\n") + 1
        if end == 0:
            break
        lines = block[:end].split(b"\n")
        lines.pop()
        good, chain = follow_chain(lines, at.chain)
        if at.seq == 0 and format_of(lines[0]) > FORMAT:
            report.why, report.tail = f"its format is {format_of(lines[0])}", "newer"
            return
        if good < len(lines):
            del lines[good:]
            report.why = f"record {at.seq + good + 1:,} does not follow from {at.seq + good:,}"
        misnumbered = _misnumbered(lines, at.seq)
        if misnumbered is not None:
            report.why = f"record {at.seq + misnumbered + 1:,} bears another number"
            del lines[misnumbered:]
        if detail:
            unread = _decode(lines, report)
            if unread is not None:
                del lines[unread:]
        if lines:
            at.chain = chain if len(lines) == good else int(lines[-1][-10:-2], 16)
        at.offset += sum(map(len, lines)) + len(lines)
        at.seq += len(lines)
    report.records = at.seq
    report.chain = f"{at.chain:08x}"


def _misnumbered(lines: list[bytes], seq: int) -> int | None:
    """Index of the first line whose number is not the next one."""
    if not lines or _number(lines[-1]) == seq + len(lines):
        return None
    for index, line in enumerate(lines):
        if _number(line) != seq + index + 1:
            return index
    return None


def _number(line: bytes) -> int:
    first = line.find(_SEQ) + len(_SEQ)
    digits = line[first : line.find(b",", first)]
    return int(digits) if digits.isdigit() else -1


def _decode(lines: list[bytes], report: Report) -> int | None:
    """Decode every record; index of the first that can't be, with the reason in the report."""
    for index, line in enumerate(lines):
        try:
            head = decode_head(line)
            payload_of(head)
        except ValueError as error:
            report.why = f"its head can't be read: {error}"
            return index
        except FleetError as error:
            report.why = error.sentence.rstrip(".")
            report.tail = "newer" if "newer version" in error.sentence else report.tail
            return index
        report.words[head.k] = report.words.get(head.k, 0) + 1
    return None


def _judge_tail(descriptor: int, at: Position, report: Report, boot: bytes, detail: bool) -> None:
    """Say what stands after the last good record, and whether anything acknowledged is missing."""
    report.size = os.fstat(descriptor).st_size
    report.tail_bytes = report.size - at.offset
    if report.tail == "newer":
        report.ok = False
    elif report.tail_bytes:
        tail = heal.examine(
            descriptor,
            at,
            synced=report.synced,
            boot=boot,
            now_boot=boot_id(),
        )
        report.tail = "torn" if tail.torn else "unfinished"
        if tail.why:
            report.ok, report.tail, report.why = False, "damaged", report.why or tail.why
        else:
            report.why = ""
    elif at.seq < report.synced:
        report.ok, report.tail = False, "damaged"
        report.why = f"it ends here, and records up to {report.synced:,} were acknowledged"
    if not report.ok:
        report.bad_offset, report.bad_record = at.offset, at.seq + 1
        if detail:
            report.behind = _behind(descriptor, at.offset)


def _behind(descriptor: int, offset: int) -> int:
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
