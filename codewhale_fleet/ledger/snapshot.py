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

from msgspec import Struct, msgpack, structs

from ..core.rebuild import rebuild
from ..core.state import Flight, Manager, Run, State, Task
from .record import Position
from .segments import Missing, Segments

NAME = "cache/snapshot"
MAGIC = b"fleetsn1"
HEAD = Layout("=8sIIQ")
"""Magic, shape of the state, CRC32 of the body, size of the body."""
MOST_BYTES = 1 << 31


class Kept(Struct, array_like=True):
    """The body: where it was taken, of which file, and the state without its indexes."""

    device: int
    inode: int
    at: Position
    state: State


def shape() -> int:
    """A number that changes when a field of the state does."""
    names = [
        f"{kind.__name__}:{','.join(kind.__struct_fields__)}"
        for kind in (State, Run, Task, Flight, Manager, Position)
    ]
    return crc32(";".join(names).encode())


def save(folder: Path, descriptor: int, state: State, at: Position) -> bool:
    """Write a snapshot of `state` at `at`; whether it could be written."""
    found = os.fstat(descriptor)
    body = msgpack.encode(Kept(found.st_dev, found.st_ino, at, _slim(state)))
    data = HEAD.pack(MAGIC, shape(), crc32(body), len(body)) + body
    path = folder / NAME
    fresh = path.with_name(f"snapshot.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        kept = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            whole = os.write(kept, data) == len(data)
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
        runs[name] = slim
    return structs.replace(state, runs=runs, open_runs={})


def load(folder: Path, files: Segments, limit: int | None = None) -> tuple[State, Position] | None:
    """The newest snapshot of this very ledger, up to record `limit`; None when there is none."""
    try:
        kept = _read(folder / NAME)
    except (OSError, ValueError):
        return None
    if kept is None or (limit is not None and kept.at.seq > limit) or not _is_of(kept, files):
        return None
    try:
        rebuild(kept.state)
    except (LookupError, ValueError):
        return None
    return kept.state, kept.at


def _read(path: Path) -> Kept | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if not HEAD.size < size < MOST_BYTES:
            return None
        data = os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)
    magic, kind, digest, length = HEAD.unpack_from(data)
    body = memoryview(data)[HEAD.size :]
    if magic != MAGIC or kind != shape() or length != len(body) or digest != crc32(body):
        return None
    return msgpack.decode(body, type=Kept)


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
