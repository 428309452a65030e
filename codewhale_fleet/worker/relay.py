"""The far end of a connection: between a channel's stdin and stdout and the runtime of this host.

    python3 -I -S -c '...main()' STATE ROOT [trial]

It starts the runtime where none lives, passes every line on as it is, and carries what lines only
name: before a fact it sends the logs and the evidence that the fact refers to, and what is sent to
it before the line that needs it lies in STATE/inputs, by its digest, for a week after the last use.
Promises: whoever reads a fact at the other end has its files already; a file that was acknowledged
is removed here; a dropped connection loses nothing, because the runtime tells everything again that
was not acknowledged. It knows of a message's fields only where files are named. A trial leaves
nothing of STATE behind.
"""

from __future__ import annotations

import os
import select
import sys
import time

from codewhale_fleet.worker import codec, frames, limits, login, machine, starting
from codewhale_fleet.worker.protocol import Broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import Any

EVIDENCE, INPUTS = "evidence", "inputs"
_INPUT_SECONDS = 7 * 24 * 3600.0
"""How long an input is kept that nobody has asked for."""
_HEX = frozenset("0123456789abcdef")
_TELLS = (b'"sha256":', b'"path":')
"""A fact without these names no file."""
_READ = 256 * 1024


class Unkept(Broken):
    """A file that was sent cannot be kept."""


class Relay:
    """One connection, from its hello to its end."""

    def __init__(self, state: str, runtime: socket.socket) -> None:
        self._state = state
        self._runtime = runtime
        self._asked = frames.Reader()
        self._told = frames.Lines()
        self._kept = -1
        self._target = ""
        self._sent: list[tuple[int, list[str]]] = []
        """Facts whose files were sent, by their number: removed once acknowledged."""

    def run(self) -> None:
        """Passes on until one side is gone."""
        poll = select.epoll()
        poll.register(0, select.EPOLLIN)
        poll.register(self._runtime.fileno(), select.EPOLLIN)
        self._runtime.setblocking(True)
        alive = True
        while alive:
            for fd, _ in poll.poll():
                alive = (self._hear() if fd == 0 else self._tell()) and alive

    # ---- from the connector

    def _hear(self) -> bool:
        data = os.read(0, _READ)
        for frame, piece in self._asked.receive(data):
            if frame is None:
                self._runtime.sendall(piece)
                self._forget(piece)
            elif not piece:
                self._begin(frame)
            else:
                self._write(piece)
            if frame is not None and not frame.left and self._kept >= 0:
                self._keep()
        return bool(data)

    def _begin(self, frame: frames.Frame) -> None:
        if frame.word == "have":
            known = [sha for sha in frame.fields.get("sha256", ()) if self._has(sha)]
            write(frames.line_of("had", {"id": frame.fields.get("id"), "sha256": known}))
        elif frame.word == "put":
            self._target = input_path(frame.fields.get("sha256"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                os.makedirs(f"{self._state}/{INPUTS}", 0o700, exist_ok=True)
                self._kept = os.open(f"{self._state}/{self._target}.{os.getpid()}", flags, 0o600)
            except OSError as error:
                raise self._full(error) from None
        elif frame.word == "tail":
            self._tail(frame.fields)
        else:
            raise Broken(f"no frame is called {frame.word}")

    def _has(self, sha256: object) -> bool:
        try:
            os.utime(f"{self._state}/{input_path(sha256)}")  # it is in use
        except OSError:
            return False
        return True

    def _write(self, piece: bytes) -> None:
        try:
            while piece:
                piece = piece[os.write(self._kept, piece) :]
        except OSError as error:
            remove(f"{self._state}/{self._target}.{os.getpid()}")
            raise self._full(error) from None

    def _full(self, error: OSError) -> Broken:
        return Unkept(f"files cannot be kept in its {self._state}: {error.strerror}")

    def _keep(self) -> None:
        """A file has come whole: it gets its name, if that is what it holds."""
        from codewhale_fleet.worker.logs import digest

        os.close(self._kept)
        self._kept = -1
        path = f"{self._state}/{self._target}"
        temporary = f"{path}.{os.getpid()}"
        if whole(digest(temporary, os.stat(temporary).st_size, (0, 0))) == path[-64:]:
            os.rename(temporary, path)
        else:
            os.unlink(temporary)

    def _tail(self, fields: dict[str, Any]) -> None:
        """A piece of a log that is still being written."""
        path = log_path(fields.get("path"))
        try:
            fd = os.open(f"{self._state}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            write(frames.line_of("tail", {**fields, "size": -1}))
            return
        try:
            size = os.fstat(fd).st_size
            offset = max(int(fields.get("offset", 0)), 0)
            count = max(min(size - offset, int(fields.get("count", 0)), limits.LINE_BYTES), 0)
            parts = [(at, n) for at, n in frames.extents(fd, offset + count) if at + n > offset]
            parts = [(max(at, offset), at + n - max(at, offset)) for at, n in parts]
            said = {**fields, "size": size, "count": count, "parts": parts, **self._hole(path)}
            write(frames.line_of("tail", said))
            for piece in frames.pieces(fd, parts):
                write(piece)
        finally:
            os.close(fd)

    def _keep_input(self, path: str) -> None:
        """A copy stays, as of what is carried here."""
        os.makedirs(f"{self._state}/{INPUTS}", 0o700, exist_ok=True)
        try:
            os.link(f"{self._state}/{path}", f"{self._state}/{input_path(path[-64:])}")
        except OSError:  # it is there, or no file can have two names here
            pass

    def _hole(self, path: str) -> dict[str, Any]:
        """What was dropped from the middle of a log."""
        if not os.path.exists(f"{self._state}/{path}.hole"):
            return {}
        from codewhale_fleet.worker.logs import hole_of

        return {"hole": hole_of(f"{self._state}/{path}")}

    def _forget(self, lines: bytes) -> None:
        """What the manager has taken to heart need not be kept here."""
        if b'"ack"' not in lines or not self._sent:
            return
        for line in lines.splitlines():
            message = codec.decode(line) if b'"ack"' in line else None
            if not message or message.get("m") != "ack":
                continue
            while self._sent and self._sent[0][0] <= message["n"]:
                for path in self._sent.pop(0)[1]:
                    remove(f"{self._state}/{path}")
                    if path.startswith("logs/"):
                        remove(f"{self._state}/{path}.hole")

    # ---- from the runtime

    def _tell(self) -> bool:
        data = self._runtime.recv(_READ)
        lines = self._told.receive(data)
        if lines:
            self._pass(lines)
        return bool(data)

    def _pass(self, lines: bytes) -> None:
        if not any(sign in lines for sign in _TELLS):
            write(lines)
            return
        plain = bytearray()
        for line in lines.splitlines(keepends=True):
            if any(sign in line for sign in _TELLS):
                write(plain)
                plain.clear()
                self._send_files(codec.decode(line))
            plain += line
        write(plain)

    def _send_files(self, fact: dict[str, Any]) -> None:
        sent = []
        for path in dict.fromkeys(named(fact)):
            try:
                fd = os.open(f"{self._state}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:  # the fact says what it can of it; the reader will miss the file
                continue
            try:
                size = os.fstat(fd).st_size
                parts = frames.extents(fd, size)
                said = {"path": path, "size": size, "parts": parts, **self._hole(path)}
                write(frames.line_of("file", said))
                for piece in frames.pieces(fd, parts):
                    write(piece)
            finally:
                os.close(fd)
            if fact.get("f") == "data":  # other attempts may ask for it
                self._keep_input(path)
            sent.append(path)
        if sent and type(fact.get("n")) is int:
            self._sent.append((fact["n"], sent))


def named(value: Any) -> Iterator[str]:
    """The paths, below the state directory, of the files that a fact names."""
    if type(value) is dict:
        path, sha256 = value.get("path"), value.get("sha256")
        if type(path) is str and path.startswith("logs/"):
            yield log_path(path)
        elif type(sha256) is str and len(sha256) == 64:
            yield evidence_path(sha256)
        for one in value.values():
            yield from named(one)
    elif type(value) is list:
        for one in value:
            yield from named(one)


def evidence_path(sha256: object, place: str = EVIDENCE) -> str:
    """Where a file is kept by its digest."""
    if type(sha256) is not str or len(sha256) != 64 or not _HEX.issuperset(sha256):
        raise Broken("a digest has 64 hexadecimal digits")
    return f"{place}/{sha256}"


def input_path(sha256: object) -> str:
    """Where a file lies that was carried here; evidence goes once it is told, and this stays."""
    return evidence_path(sha256, INPUTS)


def forget_inputs(state: str) -> None:
    """Inputs that were not asked for in a long time are gone."""
    before = time.time() - _INPUT_SECONDS
    try:
        names = os.listdir(f"{state}/{INPUTS}")
    except OSError:  # there are none
        return
    for name in names:
        path = f"{state}/{INPUTS}/{name}"
        try:
            if os.stat(path).st_mtime < before:
                os.unlink(path)
        except FileNotFoundError:  # another relay was faster
            continue


def log_path(path: object) -> str:
    """A log's path, which does not leave its directory."""
    if type(path) is not str or not path.startswith("logs/") or ".." in path.split("/"):
        raise Broken("a log lies below logs/")
    return path


def facts(state: str, root: str) -> dict[str, Any]:
    """What the other end has to know of this place."""
    return {"state": state, "root": root, "base": login.base(), **machine.facts()}


def whole(work: Iterator[None]) -> Any:
    """The answer of work that is done in pieces."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def write(data: bytes | bytearray) -> None:
    """All of it, to the connector."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def remove(path: str) -> None:
    """A file that is not needed here any more, if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def keep_reserve(state: str) -> None:
    """A little room for the ends of what runs: the runtime gives it up when the disk is full."""
    try:
        disk = os.statvfs(state)
        size = max(4096, min(256 * 1024, disk.f_blocks * disk.f_frsize // 64))
        if disk.f_bavail * disk.f_frsize < 16 * size:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{state}/reserve", flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError:  # there is one, or this file system has no such thing
        pass


def checked(root: str) -> str:
    """The directory that work runs in; Unreached where none can."""
    why = ""
    if not os.path.isabs(root):
        why = f"its working directory {root} is no absolute path"
    elif not os.path.lexists(root):
        why = f"its working directory {root} does not exist"
    elif not os.path.isdir(root):
        why = f"its working directory {root} is no directory"
    elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        why = f"its working directory {root} is closed to this login"
    if why:
        raise starting.Unreached(why, f"Make it there: mkdir -p {root}", final=True)
    return os.path.abspath(root)


def main(words: list[str] | None = None) -> int:
    """Connects, says so, and passes on; leaves with a sentence where that cannot be."""
    state, root, *more = sys.argv[1:] if words is None else words
    trial = more == ["trial"]
    first = b"\n"  # a login shell may have ended its greeting without one
    try:
        root = checked(os.path.expanduser(root))
        state = os.path.abspath(os.path.expanduser(state))
        try:
            os.makedirs(state, 0o700, exist_ok=True)
        except OSError as error:
            raise starting.Unreached(f"its {state} cannot be made: {error.strerror}") from None
        runtime = starting.connect(state, root)
        forget_inputs(state)
        if not trial:
            keep_reserve(state)
        write(first + frames.line_of("ready", facts(state, root)))
        first = b""
        Relay(state, runtime).run()
        if trial:
            import shutil

            shutil.rmtree(state, ignore_errors=True)
    except starting.Unreached as reason:
        told = {"sentence": str(reason), "hint": reason.hint, "final": reason.final}
        _last(first + frames.line_of("unreached", told))
    except (Broken, OSError, ValueError) as error:
        told = {"sentence": str(error), "unkept": isinstance(error, Unkept)}
        _last(first + frames.line_of("broken", told))
    return 0


def _last(line: bytes) -> None:
    try:
        write(line)
    except OSError:  # nobody is there to hear it
        pass
