"""A connection to the worker runtime of a fleet's directory on this host, started if need be.

Promises: `connect` answers a connected socket at once, without waiting for a runtime that is
only starting (the socket listens before the process exists, so nothing is lost and there is no
race); of callers at the same time exactly one starts it; the path may have any length. What
cannot be reached is `Unreached`. It knows nothing of messages, nor of the road on which the
caller came: a manager on this host, or the relay of one on another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import sys
import time

from codewhale_fleet.worker.limits import ERRORS_BYTES, IDLE_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOTSTRAP = (
    "import sys;sys.path.insert(0,sys.argv.pop(1));"
    "from codewhale_fleet.worker.main import main;main()"
)
_BACKLOG = 128
_CONNECT_SECONDS = 5.0
"""How long a full backlog may keep us: a runtime that is stopped does not accept."""
_AGAIN_SECONDS = 0.02
"""Longest time between two tries at a full backlog; it is cut short by chance."""
_LOCK_SECONDS = 2.0
"""How long a runtime that was just killed may keep its lock."""
_STARTS = 3
"""Runtimes in a row that may die before they are heard of."""
_ROOM = 64 * 1024
"""Bytes of free room below which a runtime that dies at its start most likely died of that."""
_ENVIRONMENT = {
    "FLEET_RUNTIME": "1",
    **{
        name: os.environ[name]
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME")
        if os.environ.get(name)
    },
}
"""A runtime needs nothing of ours but where stores of secrets lie, which it hides, and must not
carry an attempt's id. But without any environment it would look like a process in its exec to a
runtime that sweeps."""
_SIGNALS = [number for number in range(1, 32) if number not in (9, 19)]

_started: set[int] = set()
"""Pids of the keepers that this process started: reaped when they have left."""


class Unreached(Exception):
    """The sentence why there is no runtime to speak to, and what may be done.

    `final`: trying again cannot help.
    """

    def __init__(self, sentence: str, hint: str = "", *, final: bool = False) -> None:
        super().__init__(sentence)
        self.hint = hint
        self.final = final


def connect(
    fleet_dir: str, root: str, *, start: bool = True, idle_seconds: float = IDLE_SECONDS
) -> socket.socket:
    """A connected, non-blocking socket to the runtime of `fleet_dir`, an absolute path.

    Where none lives one is started for the workspace `root`, detached, unless `start` is false;
    `idle_seconds` is its time of rest before it leaves. Raises Unreached.
    """
    _reap()
    runtime = fleet_dir + "/runtime"
    until = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            if start:
                os.makedirs(runtime, 0o700, exist_ok=True)
            with _directory(runtime) as place, _door(place):
                found = _try(place)
                if found is None and start:
                    found = _begin(place, runtime, root, idle_seconds)
            break
        except OSError as error:
            if isinstance(error, BlockingIOError) and time.monotonic() < until:
                time.sleep(random.random() * _AGAIN_SECONDS)
                continue
            raise Unreached(
                f"the worker runtime in {runtime} cannot be reached: {error.strerror or error}"
            ) from None
    if found is None:
        raise _none(runtime)
    return found


def _none(runtime: str) -> Unreached:
    return Unreached(
        f"no worker runtime lives in {runtime}", "it is started by the next `fleet run`"
    )


def _reap() -> None:
    for pid in tuple(_started):
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process has reaped it
            done = pid
        if done:
            _started.discard(pid)


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _none(path) from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _door(place: int) -> Iterator[None]:
    """Nobody else starts a runtime here, and none leaves, while this is held (microseconds)."""
    fd = os.open("door", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=place)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _try(place: int) -> socket.socket | None:
    """A connection to a runtime that listens; None if nobody does. BlockingIOError: too many."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect(f"/proc/self/fd/{place}/runtime.sock")
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        return None
    except OSError:
        client.close()
        raise
    return client


def _lock(place: int, runtime: str) -> int:
    """The lock of the workspace, held; the new runtime inherits it."""
    fd = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=place)
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.005)
                continue
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise Unreached(
                f"a worker runtime holds {runtime} (process {pid}), but its socket is gone",
                f"end it with `kill {pid}` and try again; its tasks will be judged lost",
            ) from None
        return fd


def _begin(place: int, runtime: str, root: str, idle_seconds: float) -> socket.socket:
    """A connection to a new runtime; one that is killed at its start is followed by another."""
    for _ in range(_STARTS):
        lock = _lock(place, runtime)
        try:
            _start(place, runtime, root, lock, idle_seconds)
        finally:
            os.close(lock)
        found = _try(place)
        if found:
            return found
    room = os.statvfs(runtime)
    if room.f_bavail * room.f_frsize < _ROOM:
        raise Unreached(
            f"the worker runtime in {runtime} can't start: no space is left on its disk.",
            "What was recorded is kept. Make room, then go on: fleet resume",
        )
    raise Unreached(
        f"the worker runtime in {runtime} died at its start",
        f"its last words are in {runtime}/runtime.err",
    )


def _start(place: int, runtime: str, root: str, lock: int, idle_seconds: float) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        temporary = f".sock.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)
        listener.bind(f"/proc/self/fd/{place}/{temporary}")
        os.chmod(temporary, 0o600, dir_fd=place)
        listener.listen(_BACKLOG)
        os.rename(temporary, "runtime.sock", src_dir_fd=place, dst_dir_fd=place)
        listener.set_inheritable(True)
        os.set_inheritable(lock, True)
        arguments = ["--fd", str(listener.fileno()), "--lock", str(lock)]
        if idle_seconds != IDLE_SECONDS:
            arguments += ["--idle", str(idle_seconds)]
        _spawn(runtime, root, arguments)


def _spawn(runtime: str, root: str, arguments: list[str]) -> None:
    errors = runtime + "/runtime.err"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with contextlib.suppress(FileNotFoundError):
        if os.stat(errors).st_size > ERRORS_BYTES:
            flags |= os.O_TRUNC
    packages = __file__
    for _ in range(3):
        packages = os.path.dirname(packages)
    argv = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, os.path.realpath(packages), root]
    pid = os.posix_spawn(
        sys.executable,
        [*argv, "--dir", os.path.dirname(runtime), *arguments],
        _ENVIRONMENT,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, errors, flags, 0o600),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=_SIGNALS,
    )
    _started.add(pid)
