"""What may be cut from the end of a ledger: only what was provably never acknowledged.

Two cases, both above the watermark. A last line without its newline: the write was torn. And, after
another boot, everything from the first record that does not follow: a power loss wrote blocks out
of order, and so may have left whole records behind a gap. None of them can have been acknowledged,
because one sync covers all that stands before. Everything else is damage, and damage is told, not
touched.
"""

import os
import time
from errno import ENOSPC
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from ..errors import Damaged
from .record import REPAIR_HINT, Position

QUARANTINE = "quarantine"
MOST = 1 << 30
"""Bytes of the longest tail that is looked at; a longer one is damage."""


class Tail(Struct, frozen=True):
    """What stands after the last good record. `why` is empty when it may be cut."""

    segment: int
    offset: int
    size: int
    torn: bool
    """Nothing but a piece of one line."""
    why: str = ""


def examine(descriptor: int, at: Position, *, synced: int, boot: bytes, now_boot: bytes) -> Tail:
    """Judge the bytes after `at`, given the watermark (boot is empty where there is none)."""
    size = os.fstat(descriptor).st_size - at.offset
    if size > MOST:
        return Tail(at.segment, at.offset, size, False, _does_not_follow(at))
    data = _read(descriptor, at.offset, size)
    torn = b"\n" not in data
    if at.seq + 1 <= synced:
        why = f"record {at.seq + 1:,} was acknowledged and is not whole"
        return Tail(at.segment, at.offset, size, torn, why if torn else _does_not_follow(at))
    if at.offset == 0 and at.seq:
        # A segment's first record is on the disk before the segment has its name.
        return Tail(at.segment, 0, size, torn, _does_not_follow(at))
    if torn:
        return Tail(at.segment, at.offset, size, True)
    if not boot or boot == now_boot or boot == bytes(16):
        return Tail(at.segment, at.offset, size, False, _does_not_follow(at))
    return Tail(at.segment, at.offset, size, False)


def _does_not_follow(at: Position) -> str:
    return f"record {at.seq + 1:,} does not follow from {at.seq:,}"


def _read(descriptor: int, offset: int, size: int) -> bytes:
    parts = []
    while size > 0:
        part = os.pread(descriptor, min(size, 1 << 24), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


def cut(descriptor: int, folder: Path, tail: Tail) -> str:
    """Move a tail to quarantine, under the append lock; its path below the fleet directory."""
    data = _read(descriptor, tail.offset, tail.size)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{QUARANTINE}/{tail.segment:06d}-{tail.offset}-{stamp}-{os.getpid()}"
    try:
        (folder / QUARANTINE).mkdir(mode=0o700, exist_ok=True)
        kept = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(kept, data) != len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            os.fsync(kept)
        finally:
            os.close(kept)
    except OSError as error:
        raise Damaged(
            f"the ledger in {folder} ends in {tail.size:,} bytes of an unfinished record, which "
            f"can't be set aside: {error.strerror}.",
            "Nothing was changed. Make room, then ask again.",
        ) from error
    os.ftruncate(descriptor, tail.offset)
    return name


def refuse(file: Path, offset: int, why: str) -> NoReturn:
    """Raise the Damaged that names the place."""
    raise Damaged(f"{file} is damaged at byte {offset:,} ({why}).", REPAIR_HINT)


def refuse_missing(folder: Path, at: Position, synced: int) -> NoReturn:
    """Raise the Damaged for acknowledged records that are gone."""
    raise Damaged(
        f"{folder / 'fleet.jsonl'} is damaged at byte {at.offset:,} (it ends after record "
        f"{at.seq:,}, and records up to {synced:,} were acknowledged).",
        f"{REPAIR_HINT}. If an older copy was put back on purpose, remove {folder / 'synced'}",
    )
