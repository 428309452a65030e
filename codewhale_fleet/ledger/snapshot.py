"""The folded state on disk, so that a long ledger need not be folded from its beginning.

A pure cache: it names the ledger it is of (device, inode, offset, chain value), carries a digest of
itself and of the shape of the state, and whoever finds any of that wrong folds from the beginning.
Rows of finished runs and all indexes are left out; the first are read from the ledger when asked
for, the second made anew.
"""

import os
from pathlib import Path
from struct import Struct as Layout
from zlib import crc32

from msgspec import Raw, Struct, msgpack, structs

from ..core.alert_words import Batch, Occasion, RunAlerts, Topic
from ..core.fleet_words import Discovered, WorkerRow
from ..core.rebuild import rebuild
from ..core.state import Datum, Flight, Manager, Question, Run, State, Task
from ..core.tally import Brief, Rest, condensed, expand
from .record import Position
from .segments import Missing, Segments

NAME = "cache/snapshot"
BRIEF = "cache/brief"
"""What a status needs of it, in a file of its own: some kilobytes where the whole has megabytes."""
MAGIC = b"fleetsn1"
HEAD = Layout("=8sIIQ")
"""Magic, shape of the state, CRC32 of the body, size of the body."""
MOST_BYTES = 1 << 31


class Kept(Struct, array_like=True):
    """The body: where it was taken, of which file, and what was kept, not yet decoded."""

    device: int
    inode: int
    at: Position
    body: Raw


def shape() -> int:
    """A number that changes when a field of what is kept does."""
    names = [
        f"{kind.__name__}:{','.join(kind.__struct_fields__)}"
        for kind in (
            State,
            Run,
            Task,
            Flight,
            Manager,
            Question,
            Datum,
            Position,
            Brief,
            Rest,
            RunAlerts,
            Topic,
            Batch,
            Occasion,
            WorkerRow,
            Discovered,
        )
    ]
    return crc32(";".join(names).encode())


def save(folder: Path, descriptor: int, state: State, at: Position) -> bool:
    """Write a snapshot of `state` at `at`, and the brief one; whether both could be written."""
    return save_brief(folder, descriptor, condensed(state, Rest()), at) and _write(
        folder, NAME, descriptor, at, msgpack.encode(_slim(state))
    )


def save_brief(folder: Path, descriptor: int, brief: Brief, at: Position) -> bool:
    """Write what a status needs of the state at `at`; whether it could be written."""
    return _write(folder, BRIEF, descriptor, at, msgpack.encode(brief))


def _write(folder: Path, name: str, descriptor: int, at: Position, body: bytes) -> bool:
    found = os.fstat(descriptor)
    # As Kept is written, but for the copy of a body of many megabytes.
    place = b"\x94" + b"".join(map(msgpack.encode, (found.st_dev, found.st_ino, at)))
    size = len(place) + len(body)
    head = HEAD.pack(MAGIC, shape(), crc32(body, crc32(place)), size)
    path = folder / name
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        kept = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            whole = os.writev(kept, (head, place, body)) == HEAD.size + size
        finally:
            os.close(kept)
        if whole:
            fresh.replace(path)
        else:
            fresh.unlink()
    except OSError:
        return False
    return whole


def _slim(state: State) -> State:
    """The state without what can be made anew; shares everything else."""
    runs = {}
    for name, run in state.runs.items():
        slim = structs.replace(
            run, order=[], ready=[], timers=[], load={}, crowd=[], claims={}, parked={}, behind={}
        )
        if run.status == "finished":
            slim.tasks, slim.flights, slim.open, slim.mean = {}, {}, 0, 0.0
            slim.questions, slim.data = {}, {}
            if run.alerts is not None:
                slim.alerts = run.alerts.shed()
        slim.board = None
        runs[name] = slim
    return structs.replace(state, runs=runs, open_runs={}, moved={}, moves=0)


def load(folder: Path, files: Segments, limit: int | None = None) -> tuple[State, Position] | None:
    """The newest snapshot of this very ledger, up to record `limit`; None when there is none."""
    kept = _read(folder, NAME, files, limit)
    try:
        if kept is None:
            return None
        state = msgpack.decode(kept.body, type=State)
        rebuild(state)
    except (LookupError, ValueError):
        return None
    return state, kept.at


def load_brief(
    folder: Path, files: Segments, limit: int | None = None
) -> tuple[Brief, Position] | None:
    """The same for the brief one."""
    kept = _read(folder, BRIEF, files, limit)
    try:
        if kept is None:
            return None
        brief = msgpack.decode(kept.body, type=Brief)
        expand(brief)
    except (LookupError, ValueError):
        return None
    return brief, kept.at


def _read(folder: Path, name: str, files: Segments, limit: int | None) -> Kept | None:
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        if not HEAD.size < size < MOST_BYTES:
            return None
        data = os.pread(descriptor, size, 0)
        magic, kind, digest, length = HEAD.unpack_from(data)
        body = memoryview(data)[HEAD.size :]
        if magic != MAGIC or kind != shape() or length != len(body) or digest != crc32(body):
            return None
        kept = msgpack.decode(body, type=Kept)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
    if (limit is not None and kept.at.seq > limit) or not _is_of(kept, files):
        return None
    return kept


def _is_of(kept: Kept, files: Segments) -> bool:
    """Whether its segment is the file that was folded, and says so where the snapshot ends."""
    at = kept.at
    try:
        descriptor, _ = files.open(at.segment)
    except Missing:
        return False
    try:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != (kept.device, kept.inode) or at.offset == 0:
            return False
        return os.pread(descriptor, 11, at.offset - 11) == b'%08x"}\n' % at.chain
    finally:
        os.close(descriptor)
