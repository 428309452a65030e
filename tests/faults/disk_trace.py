"""Records what the real writers do to a fleet directory, so that a power loss can be played.

`python -m tests.faults.disk_trace TRACE PLACE [segment-bytes=N] [snapshot-after=N] -- WORDS…` runs
`fleet WORDS` with a recorder around the calls that change files: create, write, truncate, allocate,
rename, link, unlink, mkdir, sync; around each store into the mapped watermark; and around what is
acted upon (messages to the runtime) or shown. Several processes may write one trace: an operation
and its line are one step under a lock of its own, so the trace has the order in which things
happened. The worker runtime's files are left out: it begins anew after another boot.
"""

from __future__ import annotations

# ruff: noqa: PTH115, PTH118
import base64
import fcntl
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEFT_OUT = frozenset(("runtime", "logs", "evidence", "scratch", "reserve"))
"""Parts of a fleet directory that are not the ledger's."""

_write, _open, _stat, _fstat, _flock = os.write, os.open, os.stat, os.fstat, fcntl.flock


class Recorder:
    """The trace of this process."""

    def __init__(self, trace: str, fleet: str) -> None:
        self.fleet = os.path.realpath(fleet)
        self._file = _open(trace, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def step(self, do: Callable[[], Any], tell: Callable[[Any], dict[str, Any] | None]) -> Any:
        """Do it and note it, as one step among all processes."""
        _flock(self._file, fcntl.LOCK_EX)
        try:
            answer = do()
            said = tell(answer)
            if said is not None:
                _write(self._file, json.dumps(said).encode() + b"\n")
            return answer
        finally:
            _flock(self._file, fcntl.LOCK_UN)

    def note(self, **said: Any) -> None:
        """Something that changes no file: shown, or said to the runtime."""
        self.step(lambda: None, lambda _: said)

    def holds(self, descriptor: int) -> bool:
        """Whether a descriptor is of a file of the ledger."""
        try:
            return self._inside(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            return False

    def _inside(self, path: str) -> bool:
        path = path.removesuffix(" (deleted)")
        if path == self.fleet:
            return True
        first = path.removeprefix(self.fleet + "/")
        return first != path and first.partition("/")[0] not in LEFT_OUT

    def place(self, path: Any, directory: int | None) -> tuple[int, str] | None:
        """(inode of the directory, name) of a path in the fleet, else None."""
        folder, name = os.path.split(os.fspath(path))
        if directory is not None:
            folder = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), folder)
        folder = os.path.realpath(folder or ".")
        if not (self._inside(f"{folder}/{name}") or f"{folder}/{name}" == self.fleet):
            return None
        return _stat(folder).st_ino, name


def text(data: Any) -> str:
    """Bytes for a JSON line."""
    return base64.b64encode(bytes(data)).decode()


def install(recorder: Recorder) -> None:
    """Put the recorder around the calls of `os`; before the product is imported."""
    for wrap in (_writes, _syncs, _sizes, _names, _opens):
        wrap(recorder)


def _writes(recorder: Recorder) -> None:
    def write(descriptor: int, data: Any) -> int:
        if not recorder.holds(descriptor):
            return _write(descriptor, data)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        at = 0

        def do() -> int:
            nonlocal at
            here = os.lseek(descriptor, 0, os.SEEK_CUR)
            at = _fstat(descriptor).st_size if flags & os.O_APPEND else here
            return _write(descriptor, data)

        def tell(count: int) -> dict[str, Any]:
            return {
                "op": "write", "file": _fstat(descriptor).st_ino, "at": at,
                "data": text(bytes(data)[:count]),
            }  # fmt: skip

        count: int = recorder.step(do, tell)
        return count

    os.write = write


def _syncs(recorder: Recorder) -> None:
    def syncing(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            if not recorder.holds(descriptor):
                return real(descriptor)
            said = {"op": "sync", "file": _fstat(descriptor).st_ino}
            recorder.step(lambda: real(descriptor), lambda _: said)
            return None

        return sync

    os.fsync, os.fdatasync = syncing(os.fsync), syncing(os.fdatasync)  # type: ignore[assignment]


def _sizes(recorder: Recorder) -> None:
    truncate, allocate = os.ftruncate, os.posix_fallocate

    def ftruncate(descriptor: int, size: int) -> None:
        if not recorder.holds(descriptor):
            return truncate(descriptor, size)
        said = {"op": "truncate", "file": _fstat(descriptor).st_ino, "size": size}
        recorder.step(lambda: truncate(descriptor, size), lambda _: said)
        return None

    def posix_fallocate(descriptor: int, offset: int, size: int) -> None:
        if not recorder.holds(descriptor):
            return allocate(descriptor, offset, size)
        found = _fstat(descriptor)
        end = max(found.st_size, offset + size)
        said = {"op": "truncate", "file": found.st_ino, "size": end}
        recorder.step(lambda: allocate(descriptor, offset, size), lambda _: said)
        return None

    os.ftruncate, os.posix_fallocate = ftruncate, posix_fallocate  # type: ignore[assignment]


def _names(recorder: Recorder) -> None:
    link, unlink, mkdir = os.link, os.unlink, os.mkdir

    def moving(real: Callable[..., None]) -> Callable[..., None]:
        def move(src: Any, dst: Any, **options: Any) -> None:
            come = recorder.place(src, options.get("src_dir_fd"))
            go = recorder.place(dst, options.get("dst_dir_fd"))
            if come is None or go is None:
                return real(src, dst, **options)
            said = {"op": "rename", "from": come, "to": go}
            recorder.step(lambda: real(src, dst, **options), lambda _: said)
            return None

        return move

    def linking(src: Any, dst: Any, **options: Any) -> None:
        come = recorder.place(src, options.get("src_dir_fd"))
        go = recorder.place(dst, options.get("dst_dir_fd"))
        if come is None or go is None:
            return link(src, dst, **options)
        said = {"op": "link", "from": come, "to": go}
        recorder.step(lambda: link(src, dst, **options), lambda _: said)
        return None

    def unlinking(path: Any, *, dir_fd: int | None = None) -> None:
        where = recorder.place(path, dir_fd)
        if where is None:
            return unlink(path, dir_fd=dir_fd)
        said = {"op": "unlink", "at": where}
        recorder.step(lambda: unlink(path, dir_fd=dir_fd), lambda _: said)
        return None

    def making(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        where = recorder.place(path, dir_fd)
        if where is None:
            return mkdir(path, mode, dir_fd=dir_fd)

        def tell(_: None) -> dict[str, Any]:
            return {"op": "mkdir", "at": where, "file": _stat(path, dir_fd=dir_fd).st_ino}

        recorder.step(lambda: mkdir(path, mode, dir_fd=dir_fd), tell)
        return None

    os.rename, os.replace = moving(os.rename), moving(os.replace)
    os.link, os.unlink, os.mkdir = linking, unlinking, making  # type: ignore[assignment]


def _opens(recorder: Recorder) -> None:
    def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = None
        if flags & (os.O_CREAT | os.O_TRUNC):
            where = recorder.place(path, dir_fd)
        if where is None:
            return _open(path, flags, mode, dir_fd=dir_fd)
        new = False

        def do() -> int:
            nonlocal new
            try:
                _stat(path, dir_fd=dir_fd)
            except FileNotFoundError:
                new = True
            return _open(path, flags, mode, dir_fd=dir_fd)

        def tell(descriptor: int) -> dict[str, Any] | None:
            node = _fstat(descriptor).st_ino
            if new:
                return {"op": "create", "at": where, "file": node}
            if flags & os.O_TRUNC:
                return {"op": "truncate", "file": node, "size": 0}
            return None

        descriptor: int = recorder.step(do, tell)
        return descriptor

    os.open = opening


# The watermark's mapped stores -------------------------------------------------------------------


class Words:
    """The watermark's numbers; each store is a line of the trace."""

    def __init__(self, words: Any, node: int, recorder: Recorder) -> None:
        self._words, self._node, self._recorder = words, node, recorder

    def __getitem__(self, index: int) -> int:
        return int(self._words[index])

    def __setitem__(self, index: int, value: int) -> None:
        def do() -> None:
            self._words[index] = value

        data = text(value.to_bytes(8, sys.byteorder))
        said = {"op": "store", "file": self._node, "at": 8 * index, "data": data}
        self._recorder.step(do, lambda _: said)

    def release(self) -> None:
        self._words.release()


class Mapped:
    """The watermark's bytes, likewise."""

    def __init__(self, mapped: Any, node: int, recorder: Recorder) -> None:
        self._mapped, self._node, self._recorder = mapped, node, recorder

    def __getitem__(self, index: Any) -> Any:
        return self._mapped[index]

    def __setitem__(self, index: slice, value: bytes) -> None:
        def do() -> None:
            self._mapped[index] = value

        said = {"op": "store", "file": self._node, "at": index.start or 0, "data": text(value)}
        self._recorder.step(do, lambda _: said)

    def flush(self) -> None:
        said = {"op": "sync", "file": self._node}
        self._recorder.step(self._mapped.flush, lambda _: said)

    def close(self) -> None:
        self._mapped.close()


def install_watermark(recorder: Recorder) -> None:
    """Put the recorder between every Watermark and its memory."""
    from codewhale_fleet.ledger.watermark import SYNCED, Watermark

    begin = Watermark.__init__

    def beginning(self: Watermark, folder: Path, directory: int) -> None:
        begin(self, folder, directory)
        node = _stat(SYNCED, dir_fd=directory).st_ino
        self._words = Words(self._words, node, recorder)  # type: ignore[assignment]
        self._map = Mapped(self._map, node, recorder)  # type: ignore[assignment]

    Watermark.__init__ = beginning  # type: ignore[method-assign]


def install_acts(recorder: Recorder) -> None:
    """Note what is said to the runtime and what is shown."""
    import socket

    def telling(real: Callable[..., Any]) -> Callable[..., Any]:
        def tell(self: Any, data: Any, *rest: Any) -> Any:
            if b'"m":' in bytes(data):
                recorder.note(op="said", data=text(data))
            return real(self, data, *rest)

        return tell

    for name in ("send", "sendall"):
        setattr(socket.socket, name, telling(getattr(socket.socket, name)))

    class Shown:
        def __init__(self, under: Any) -> None:
            self._under = under

        def write(self, words: str) -> int:
            recorder.note(op="shown", text=words)
            return int(self._under.write(words))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._under, name)

    sys.stdout = Shown(sys.stdout)  # type: ignore[assignment]


def main() -> None:
    """Run one `fleet` command under the recorder."""
    trace, place, *more = sys.argv[1 : sys.argv.index("--")]
    words = sys.argv[sys.argv.index("--") + 1 :]
    os.chdir(place)
    recorder = Recorder(trace, f"{place}/.fleet")
    install(recorder)
    install_watermark(recorder)
    install_acts(recorder)
    from codewhale_fleet.cli import main as fleet
    from codewhale_fleet.ledger import reader
    from codewhale_fleet.ledger.store import Ledger

    for option in more:
        name, _, value = option.partition("=")
        if name == "segment-bytes":
            Ledger.segment_bytes = int(value)
        else:
            reader.SNAPSHOT_AFTER = int(value)
    code = fleet(words)
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
