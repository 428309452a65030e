"""Log files that a task writes straight into, kept within bounds, and the one way to read them.

A log that passes twice its limit loses its middle: the blocks are punched out of the file, so
its size goes on counting everything that was written, and head and tail (half the limit each,
to the block) stay. A log that never gets there loses nothing. The hole's extent stands in a
small file beside the log (`PATH.hole`), written before the punch, so that a reader never takes
zeros for output. Where a file system cannot punch, nothing is dropped and only the ceiling holds.

It knows nothing of attempts; offsets and sizes are bytes.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import codec, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from codewhale_fleet.worker.metering import Follower

_BLOCK = 4096
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_fallocate: Callable[..., int] | None = None


def _punch(path: str, start: int, end: int) -> bool:
    """Gives the blocks of [start, end) back; False where that is not supported."""
    global _fallocate  # noqa: PLW0603 (ctypes is 4 ms: bound at the first punch, once)
    import ctypes

    if _fallocate is None:
        library = ctypes.CDLL(None, use_errno=True)
        call = getattr(library, "fallocate64", None) or library.fallocate
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        _fallocate = call
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return _fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, end - start) == 0
    finally:
        os.close(fd)


def hole_of(path: str) -> tuple[int, int]:
    """What was punched out of the log at `path`, as [start, end); (0, 0) if nothing."""
    try:
        fd = os.open(path + ".hole", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    try:
        start, end = codec.decode(os.read(fd, 4096))["hole"]
        return int(start), int(end)
    except (OSError, ValueError, TypeError, KeyError):
        return 0, 0
    finally:
        os.close(fd)


def _state_hole(path: str, start: int, end: int) -> None:
    name = path + ".hole"
    if end <= start:
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(name + ".new", flags, 0o600)
    try:
        os.write(fd, codec.encode({"hole": [start, end]}))
    finally:
        os.close(fd)
    os.rename(name + ".new", name)


def move(path: str, target: str) -> None:
    """A log, and what is said of its middle, takes the place of another one."""
    _state_hole(target, *hole_of(path))
    os.replace(path, target)
    _state_hole(path, 0, 0)


class Log:
    """One stream of one attempt while it is written. `size` counts all that was ever written."""

    __slots__ = ("_keep", "_limit", "follower", "hole", "path", "punchable", "size")

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.size = 0
        self.hole = hole_of(path)
        self.punchable = True
        self.follower: Follower | None = None
        """Who reads along: nothing goes before it has read and kept it."""
        self._limit = limit
        self._keep = max(limit // 2, 1)

    @property
    def dropped(self) -> int:
        """Bytes that are gone."""
        return self.hole[1] - self.hole[0]

    def look(self) -> int:
        """Measures the log, punches if it is due, answers the bytes written since the last look."""
        try:
            size = os.stat(self.path).st_size
        except OSError:  # the task moved it away: what is left is not ours
            return 0
        grown = max(size - self.size, 0)
        self.size = size
        if size - self.dropped > 2 * self._limit:
            self._bound()
        return grown

    def seal(self) -> None:
        """The last look: a log that ever lost something ends within its limit."""
        self.look()
        if self.dropped and self.size - self.dropped > self._limit:
            self._bound()

    def leap(self, dropped: int) -> None:
        """So many bytes are left out at its end, as if they had been written and were gone."""
        start, before = (self.hole[0], self.hole[1]) if self.dropped else (self.size, 0)
        end = self.size + dropped
        _state_hole(self.path, start, end)
        os.truncate(self.path, end)
        if before and self.punchable:
            first, last = -(-before // _BLOCK) * _BLOCK, self.size // _BLOCK * _BLOCK
            if last > first:
                _punch(self.path, first, last)
        self.hole, self.size = (start, end), end

    def _bound(self) -> None:
        start = -(-self._keep // _BLOCK) * _BLOCK
        end = (self.size - self._keep) // _BLOCK * _BLOCK
        before = self.hole
        follower = self.follower
        if follower is not None:
            end = min(end, follower.reached // _BLOCK * _BLOCK)
        if not self.punchable or end <= max(start, before[1]):
            return
        if follower is not None:
            follower.keep()
        try:
            _state_hole(self.path, start, end)
            if _punch(self.path, max(start, before[1]), end):
                self.hole = (start, end)
                return
            _state_hole(self.path, *before)
        except OSError:  # a full or read-only disk: the log is whole, and the ceiling holds
            pass
        self.punchable = False


def _segments(size: int, hole: tuple[int, int]) -> list[tuple[int, int]]:
    start, end = min(hole[0], size), min(hole[1], size)
    if end <= start:
        return [(0, size)] if size else []
    return [piece for piece in ((0, start), (end, size)) if piece[1] > piece[0]]


def digest(path: str, size: int, hole: tuple[int, int]) -> Generator[None, None, str]:
    """SHA-256 of the kept bytes (head, then tail); yields after each chunk, for other work."""
    pieces = _segments(size, hole)
    state = new_sha256(sum(end - start for start, end in pieces))
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for start, end in pieces:
            at = start
            while at < end:
                data = os.pread(fd, min(end - at, limits.CHUNK_BYTES), at)
                if not data:
                    break
                state.update(data)
                at += len(data)
                if at < end:
                    yield
    finally:
        os.close(fd)
    return str(state.hexdigest())


def new_sha256(size: int) -> Any:
    """A SHA-256 state; `hashlib` (5 ms to import, faster by the megabyte) only for large input."""
    if size <= 256 * 1024:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]  # <= 3.11
        except ImportError:
            try:
                from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
            except ImportError:
                from hashlib import sha256
    else:
        from hashlib import sha256
    return sha256()


def read_log(
    path: str | os.PathLike[str],
    max_bytes: int | None = None,
    *,
    tail: bool = True,
    marker: bool = True,
) -> tuple[bytes, int]:
    """The kept bytes of a log and how many were dropped from its middle.

    `max_bytes` keeps the last (`tail`) or the first that many of the kept bytes. Where the
    answer spans the hole, a line says so in its place (`marker`), so that head and tail never
    read as if they followed each other. A log that does not exist is empty.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", 0
    try:
        for _ in range(5):  # again if the middle was punched meanwhile
            hole = hole_of(name)
            size = os.fstat(fd).st_size
            pieces = _limited(_segments(size, hole), max_bytes, tail)
            parts = [_read_all(fd, start, end) for start, end in pieces]
            if hole_of(name) == hole:
                break
    finally:
        os.close(fd)
    dropped = min(hole[1], size) - min(hole[0], size)
    if len(parts) == 2 and marker:
        before = b"" if parts[0].endswith(b"\n") else b"\n"
        parts.insert(1, before + b"[... %d bytes dropped ...]\n" % dropped)
    return b"".join(parts), dropped


def _limited(
    pieces: list[tuple[int, int]], max_bytes: int | None, tail: bool
) -> list[tuple[int, int]]:
    if max_bytes is None:
        return pieces
    found: list[tuple[int, int]] = []
    room = max_bytes
    for start, end in reversed(pieces) if tail else pieces:
        take = min(room, end - start)
        room -= take
        if take and tail:
            found.insert(0, (end - take, end))
        elif take:
            found.append((start, start + take))
    return found


def _read_all(fd: int, start: int, end: int) -> bytes:
    parts: list[bytes] = []
    while start < end:
        data = os.pread(fd, min(end - start, limits.CHUNK_BYTES), start)
        if not data:
            break
        parts.append(data)
        start += len(data)
    return b"".join(parts)
