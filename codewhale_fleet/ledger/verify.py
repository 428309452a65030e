"""Examining a ledger without changing it: is every record there, and as it was written?

The chain is checked line by line in every segment, and each sealed segment against the SHA-256 that
the next one states; several segments are checked in as many processes as there are cores. `detail`
also decodes every record and, where the chain breaks, looks at what stands behind the break.
Nothing is repaired and no lock is taken.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from ..core.events import LedgerCompacted
from . import heal, place
from .examine import Job, Part, begins_with, behind, closely, examine_sealed, last_line, number_in
from .reader import no_fleet
from .record import Position, stated_chain
from .segments import FILE, Segments, header_of, listed, name_of, number_of
from .watermark import boot_id, peek

PARALLEL_BYTES = 1 << 24
"""From so many sealed bytes other processes are worth their start."""


class Report(Struct, kw_only=True):
    """What was found. Offsets and sizes are bytes."""

    file: str
    """The active file, or the one that is damaged."""
    ok: bool = True
    segments: int = 1
    """Files that the ledger has."""
    compacted: int = 0
    """Files of them that lost the detail of finished runs."""
    records: int = 0
    """Records that follow from the beginning."""
    last: int = 0
    """Number of the last of them."""
    size: int = 0
    why: str = ""
    """What is wrong with the record after them; empty when nothing is."""
    bad_segment: int | None = None
    bad_offset: int | None = None
    bad_record: int | None = None
    edited: bool = False
    """A sealed segment's records follow, and yet it is not what was sealed."""
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
    strays: list[str] = []
    """Files that stand after the active one, where nothing may stand."""


def verify(fleet_dir: Path, *, detail: bool = False) -> Report:
    """Check the whole ledger of a fleet."""
    folder = place.resolved(fleet_dir)
    if not (folder / FILE).exists():
        raise no_fleet(folder)
    place.check(folder)
    try:
        active = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise place.unreadable(folder / FILE) from error
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Verifying(folder, directory, active, detail).report()
    finally:
        os.close(active)
        os.close(directory)


class _Verifying:
    """One examination: the active file is open, the sealed ones are opened one by one."""

    def __init__(self, folder: Path, directory: int, active: int, detail: bool) -> None:
        # The watermark first: what it covers must then be in the files.
        self.boot, synced = peek(directory)
        self.folder = folder
        self.directory = directory
        self.active = active
        self.detail = detail
        self.newest = number_of(active, directory)
        self.files = Segments(folder, directory, writable=False)
        self.found = Report(file=str(folder / FILE), synced=synced)
        self.recorded: set[tuple[int, str]] = set()
        """Segment and SHA-256 of each compacted file that the ledger speaks of."""
        self.broken = False
        """Whether a file has a record that does not follow, so that not all were read."""

    def report(self) -> Report:
        """Everything, put together in order."""
        found = self.found
        jobs = list(self.jobs())
        parts = dict(zip((job[0] for job in jobs), self.examined(jobs), strict=True))
        found.segments = len(parts)
        found.size = sum(part.size for part in parts.values())
        found.compacted = sum(part.header is not None for part in parts.values())
        for whole in parts.values():
            self.recorded |= {(one.segment, one.sha256) for one in whole.recorded}
            self.broken = self.broken or bool(whole.why)
        before: Part | None = None
        for number in range(1, self.newest + 1):
            part = parts.get(number)
            if part is None:
                at = before.at if before else Position()
                self.damaged(number, 0, at.seq + 1, "it is missing")
                break
            if before and self.is_edited(before, part):
                break
            self.count(part)
            before = part
            if part.why or (number < self.newest and part.size > part.at.offset):
                break
        if before and found.ok:
            self.judge_end(before)
        if before and found.ok:
            self.find_strays(before.at)
        if self.detail and not found.ok and found.bad_segment:
            found.behind = sum(self.behind(found.bad_segment, found.bad_offset or 0))
        return found

    def jobs(self) -> Iterator[Job]:
        """What is to be examined: each file that is there."""
        last, header = b"", None
        for number in range(1, self.newest + 1):
            path = self.folder / name_of(number)
            if number < self.newest and not path.exists():
                last, header = b"", None
                continue
            at = Position(number, 0, 0, 0)
            if last:
                at.seq, at.chain = number_in(last), stated_chain(last) or 0
            elif header:
                at.seq, at.chain = header.last, int(header.chain, 16)
            yield number, at, "" if number == self.newest else str(path), self.detail
            header, last = None, b""
            if number < self.newest:
                header = _header(path)
                last = b"" if header else last_line(path)

    def examined(self, jobs: list[Job]) -> list[Part]:
        """Every file's part; the active one is examined here, the others beside it."""
        *sealed, (_, at, _, detail) = jobs
        size = sum(os.stat(path).st_size for _, _, path, _ in sealed)  # noqa: PTH116
        workers = min(os.cpu_count() or 1, len(jobs))
        if workers < 2 or size < PARALLEL_BYTES:
            parts = [examine_sealed(job) for job in sealed]
            parts.append(closely(self.active, at, detail, sealed=False))
        else:
            import multiprocessing

            with multiprocessing.get_context("fork").Pool(workers) as pool:
                others = pool.map_async(examine_sealed, sealed, chunksize=1)
                last = closely(self.active, at, detail, sealed=False)
                parts = [*others.get(), last]
        for index, job in enumerate(sealed):
            after = parts[index + 1].sealed
            if parts[index].quick and (after is None or after.sha256 != parts[index].sha256):
                parts[index] = self.looked_at(job)
        return parts

    def looked_at(self, job: Job) -> Part:
        """A sealed file again, line by line."""
        _, at, path, detail = job
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return closely(descriptor, at, detail, sealed=True)
        finally:
            os.close(descriptor)

    def count(self, part: Part) -> None:
        found, at = self.found, part.at
        found.records += part.count
        found.chain, found.last = f"{at.chain:08x}", at.seq
        for word, count in part.words.items():
            found.words[word] = found.words.get(word, 0) + count

    def damaged(self, number: int, offset: int, record: int, why: str) -> None:
        found = self.found
        found.ok, found.tail, found.why = False, "damaged", why
        found.bad_segment, found.bad_offset, found.bad_record = number, offset, record
        if number != self.newest:
            found.file = str(self.folder / name_of(number))

    def is_edited(self, part: Part, after: Part) -> bool:
        """Whether a sealed segment is not what the one after it says."""
        number, sealed = part.at.segment, after.sealed
        if after.at.offset == 0:
            return False  # damaged at the seal itself
        why = "it is not what was sealed: its SHA-256 is another"
        digest = part.header.original if part.header else part.sha256
        if sealed and sealed.segment == number and sealed.sha256 == digest:
            if part.header is None or (number, part.sha256) in self.recorded:
                return False
            if self.broken:  # its record may stand behind the damage
                return False
            why = "it is not what compaction has recorded: its SHA-256 is another"
        self.damaged(number, 0, part.first, why)
        self.found.edited = True
        self.found.records -= part.count
        return True

    def judge_end(self, part: Part) -> None:
        """Say what stands after the last good record, and whether anything is missing there."""
        found, at = self.found, part.at
        rest = part.size - at.offset
        if part.newer:
            self.damaged(at.segment, at.offset, at.seq + 1, part.why)
            found.tail = "newer"
        elif at.segment < self.newest and (part.why or rest):
            why = part.why or f"record {at.seq + 1:,} is not whole"
            self.damaged(at.segment, at.offset, at.seq + 1, why)
        elif rest:
            found.tail_bytes = rest
            tail = heal.examine(
                self.active, at, synced=found.synced, boot=self.boot, now_boot=boot_id()
            )
            found.tail = "torn" if tail.torn else "unfinished"
            if tail.why:
                self.damaged(at.segment, at.offset, at.seq + 1, part.why or tail.why)
        elif at.seq < found.synced:
            why = f"it ends here, and records up to {found.synced:,} were acknowledged"
            self.damaged(at.segment, at.offset, at.seq + 1, why)
        elif at.seq == 0 and self.newest > 1:
            self.damaged(at.segment, 0, 1, "its first record is missing")

    def find_strays(self, at: Position) -> None:
        """Files numbered as the active one or later; a link to it is no stray, nor a copy of it."""
        active, newest = self.files.open_active()
        try:
            for number, inode in sorted(listed(self.directory).items()):
                copied = number == newest and begins_with(active, self.folder / name_of(number))
                if number >= newest and inode != os.fstat(active).st_ino and not copied:
                    self.found.strays.append(name_of(number))
        finally:
            os.close(active)
        if self.found.strays:
            self.damaged(newest, at.offset, at.seq + 1, "segments stand after the active file")

    def behind(self, number: int, offset: int) -> Iterator[int]:
        """Lines behind the damage that continue the line before them, file by file."""
        for later in range(number, self.newest + 1):
            if later == self.newest:
                yield behind(self.active, offset)
            elif (path := self.folder / name_of(later)).exists():
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    yield behind(descriptor, offset)
                finally:
                    os.close(descriptor)
            offset = 0


def _header(path: Path) -> LedgerCompacted | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return header_of(descriptor)
    finally:
        os.close(descriptor)
