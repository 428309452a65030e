"""The last resort: keep a ledger up to its last good record, set the rest aside, and go on.

`examine` says what is damaged and what would be set aside; `repair` does it, under the append lock.
Nothing is deleted: every file that does not stay as it is goes to quarantine whole. The new active
file is written beside the old one, with the record of the repair as its last line, and renamed into
place; killed anywhere, the same command can be given again. Where nothing may be touched it
refuses: nothing is damaged, a manager is at work, another user's fleet.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from errno import ENOSPC
from pathlib import Path

from msgspec import Struct, structs

from ..core.events import LedgerCompacted, LedgerRepaired
from ..errors import Damaged, FleetError, Refused
from . import place
from .fold import Contradiction
from .heal import QUARANTINE
from .lock import AppendLock
from .reader import unwritable
from .record import BLOCK, LIMIT, decode_head, middle_of, seal, stamp, stated_chain
from .rotate import NEXT
from .segments import FILE, header_of, listed, name_of, number_of
from .store import Ledger
from .verify import Report, verify
from .watermark import FAILED, Watermark, boot_id

_ANEW = "Put a copy back, or set it aside and begin anew: mv {0} {0}.damaged; fleet init"


class Plan(Struct, kw_only=True):
    """What a repair would do, or did. Sizes are bytes."""

    why: str
    """What is wrong with the first record that is not good."""
    segment: int
    """Segment that becomes the active file, and how much of it stays."""
    offset: int
    last: int
    """The last record that is kept."""
    size: int = 0
    """What would be set aside."""
    files: list[str] = []
    """Files that go to quarantine, below the fleet directory."""
    behind: int = 0
    """Records among that which still follow from each other."""
    lost: int = 0
    """Acknowledged records that are not among those kept."""
    failed: bool = False
    """Whether a sync had failed."""
    quarantine: str = ""
    done: bool = False


def examine(fleet_dir: Path) -> Plan:
    """What there is to repair; Refused where there is nothing, or nothing that could be done."""
    folder = place.resolved(fleet_dir)
    report = verify(folder, detail=True)
    failed = (folder / FAILED).exists()
    if report.tail == "newer":
        raise Refused(f"{report.file} was made by a newer version: {report.why}.")
    if report.edited:
        raise Refused(
            f"{report.file} was changed after it was sealed, and its records still follow.",
            "Nothing that could be set aside would mend that. Put the file back from a copy.",
        )
    if report.ok:
        clash = _clash(folder)
        if clash:
            return _planned(folder, report, clash.place, clash.seq, clash.sentence, failed)
        if not failed:
            raise Refused(
                "nothing to repair: every record follows.", "To see it: fleet ledger verify"
            )
        size = (folder / FILE).stat().st_size - report.tail_bytes
        end = _newest(folder), size
        return _planned(folder, report, end, report.last + 1, "an earlier sync failed", failed)
    assert report.bad_segment and report.bad_record and report.bad_offset is not None
    where = report.bad_segment, report.bad_offset
    return _planned(folder, report, where, report.bad_record, report.why, failed)


def _clash(folder: Path) -> Contradiction | None:
    """The record that contradicts the others, where the chain alone is good."""
    try:
        Ledger.open(folder).close()
    except Contradiction as error:
        return error
    except FleetError:
        pass  # an earlier sync failed, or a disk is full: not for the records to mend
    return None


def _planned(
    folder: Path, report: Report, bad: tuple[int, int], record: int, why: str, failed: bool
) -> Plan:
    """Keep everything before the record at `bad`."""
    segment, offset = bad
    if offset == 0:
        segment -= 1
    if segment == 0 or record == 1:
        raise Refused(
            f"{folder} is damaged at its first record, so there is nothing that could be kept.",
            _ANEW.format(folder),
        )
    newest = _newest(folder)
    kept = folder / (FILE if segment == newest else name_of(segment))
    if not kept.exists() or (segment < newest and is_compacted(kept)):
        what = "was compacted" if kept.exists() else "is missing"
        raise Refused(
            f"{kept} {what}, so it can't become the active file, and what follows is damaged.",
            _ANEW.format(folder),
        )
    size = kept.stat().st_size
    offset = offset or size
    later = [folder / name_of(number) for number in _numbers(folder) if number >= segment]
    aside = [path for path in later if path.exists() and not path.samefile(folder / FILE)]
    if segment < newest or offset < size:
        aside.append(folder / FILE)
    rest = sum(path.stat().st_size for path in aside) - (offset if kept in aside else 0)
    return Plan(
        why=why.rstrip("."),
        segment=segment,
        offset=offset,
        last=record - 1,
        size=rest,
        files=[str(path.relative_to(folder)) for path in aside],
        behind=report.behind,
        lost=max(0, report.synced - record + 1),
        failed=failed,
    )


def _newest(folder: Path) -> int:
    """The number of the active file."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    active = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return number_of(active, directory)
    finally:
        os.close(active)
        os.close(directory)


def _numbers(folder: Path) -> list[int]:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sorted(listed(directory))
    finally:
        os.close(directory)


# Doing it -------------------------------------------------------------------------------------


def repair(fleet_dir: Path, busy: Callable[[], bool]) -> Plan:
    """Do what `examine` says. `busy` tells whether a manager is at work; then it is Refused."""
    folder = place.resolved(fleet_dir)
    examine(folder)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with (
            closing(Watermark(folder, directory)) as mark,
            closing(AppendLock.open(folder, directory)) as lock,
            mark.held(),
        ):
            lock.acquire()
            try:
                if busy():
                    raise Refused(
                        f"a manager is at work in {folder}.", "Stop its runs first: fleet status"
                    )
                return _repaired(folder, directory, mark)
            finally:
                lock.release()
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        os.close(directory)


def _repaired(folder: Path, directory: int, mark: Watermark) -> Plan:
    """The repair itself; each step leaves something that the next repair can begin from."""
    plan = examine(folder)
    _probe(folder)
    name = f"{QUARANTINE}/repair-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
    done = structs.replace(plan, done=True, quarantine=name if plan.files else "")
    written = _write_next(folder, done)
    if done.files:
        _set_aside(folder, done)
    (folder / NEXT).rename(folder / FILE)
    os.fsync(directory)
    for file in done.files:
        if file != FILE:
            (folder / file).unlink()
    mark.adopt(boot_id(), written, done.segment)
    (folder / FAILED).unlink(missing_ok=True)
    os.fsync(directory)
    return done


def _probe(folder: Path) -> None:
    """See that the disk takes a sync again."""
    active = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(active)
    except OSError as error:
        raise Damaged(
            f"the disk of {folder} still fails ({error.strerror}), so nothing was changed.",
            "Look at dmesg. Copy the directory to a good disk, and repair it there.",
        ) from error
    finally:
        os.close(active)


def _write_next(folder: Path, plan: Plan) -> int:
    """The active file as it will be: what is kept, and the record of the repair. Durable.

    Compactions are recorded again, as their records may be among what is not kept. Answers the
    number of the last record.
    """
    newest = _newest(folder)
    kept = folder / (FILE if plan.segment == newest else name_of(plan.segment))
    record = LedgerRepaired(
        segment=plan.segment,
        offset=plan.offset,
        bytes=plan.size,
        quarantine=plan.quarantine,
        asked=True,
        behind=plan.behind,
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    target = os.open(folder / NEXT, flags, 0o600)
    try:
        with kept.open("rb") as source:
            chain, seq = _chain_at(source.fileno(), plan), plan.last
            lines = []
            for event in (record, *_compactions(folder, plan.segment)):
                seq += 1
                middle = middle_of(stamp(time.time()), event.payload_version, "", "ledger", "")
                line, chain = seal(event, seq, middle, chain)
                lines.append(line)
            left = plan.offset
            while left and (block := source.read(min(BLOCK, left))):
                _write(target, block)
                left -= len(block)
        _write(target, b"".join(lines))
        os.fsync(target)
    finally:
        os.close(target)
    return seq


def _compactions(folder: Path, segment: int) -> Iterator[LedgerCompacted]:
    """What has to be on record of each compacted file before a segment."""
    for number in range(segment - 1, 0, -1):
        with (folder / name_of(number)).open("rb") as file:
            header = header_of(file.fileno())
            if header:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield structs.replace(header, sha256=digest, cursors={}, latest="")


def is_compacted(path: Path) -> bool:
    """Whether a segment's file is a compacted one."""
    with path.open("rb") as file:
        return header_of(file.fileno()) is not None


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(ENOSPC, os.strerror(ENOSPC))


def _chain_at(descriptor: int, plan: Plan) -> int:
    """The chain value after the last record that is kept."""
    start = max(0, plan.offset - 2 * LIMIT)
    last = os.pread(descriptor, plan.offset - start, start)[:-1].rpartition(b"\n")[2]
    chain = stated_chain(last)
    assert chain is not None and decode_head(last).seq == plan.last
    return chain


def _set_aside(folder: Path, plan: Plan) -> None:
    """Give every file that does not stay as it is a name in quarantine, durably."""
    target = folder / plan.quarantine
    target.mkdir(mode=0o700, parents=True)
    for file in plan.files:
        os.link(folder / file, target / Path(file).name)
    for path in (target, target.parent, folder):
        place.sync_folder(path)
