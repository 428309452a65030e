"""The start of the worker runtime: arguments, the workspace's lock, the socket, then the keeper.

    python -I -S -c '...main()' PACKAGES ROOT --dir FLEETDIR [--fd N] [--lock N] [--idle SECONDS]

`--fd` is a listening unix socket and `--lock` an already locked descriptor of runtime/lock, both
inherited; without them they are made here. Promises: one runtime a workspace; a second one
leaves with a sentence. Imports nothing that a first hello does not need (12 ms, of which Python
takes 8).
"""

from __future__ import annotations

import _socket
import fcntl
import os
import sys

from codewhale_fleet.worker import limits
from codewhale_fleet.worker.asks import SOCKET
from codewhale_fleet.worker.keeper import keep
from codewhale_fleet.worker.place import Home, Place

_BACKLOG = 128
_ALREADY = 4
_WRONG = 2


def _leave(sentence: str, status: int) -> None:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(status)


def _arguments(words: list[str]) -> tuple[str, dict[str, str]]:
    root, rest = words[0], words[1:]
    given = {rest[at]: rest[at + 1] for at in range(0, len(rest) - 1, 2)}
    unknown = set(given) - {"--dir", "--fd", "--lock", "--idle"}
    if unknown or len(rest) % 2 or "--dir" not in given:
        raise ValueError
    return root, given


def _close_strangers(given: dict[str, str]) -> None:
    """Whatever else was inherited stays neither here nor in any task."""
    wanted = {given.get("--fd"), given.get("--lock"), "0", "1", "2"}
    for name in os.listdir("/proc/self/fd"):
        if name not in wanted:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of this very listing
                pass


def _locked(directory: str, inherited: str | None) -> int:
    if inherited is not None:
        os.set_inheritable(int(inherited), False)
        return int(inherited)
    fd = os.open(directory + "/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _leave(f"a worker runtime already lives in {directory}", _ALREADY)
    return fd


def bind(directory: str, name: str = "runtime.sock") -> _socket.socket:
    """A listening socket DIRECTORY/NAME; the directory's path may have any length."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        temporary = f".sock.{os.getpid()}"
        listener.bind(f"/proc/self/fd/{place}/{temporary}")
        os.chmod(temporary, 0o600, dir_fd=place)
        listener.listen(_BACKLOG)
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    finally:
        os.close(place)
    return listener


def _listener(directory: str, inherited: str | None) -> _socket.socket:
    if inherited is None:
        return bind(directory)
    fd = int(inherited)
    os.set_inheritable(fd, False)
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)


def main() -> None:
    """Becomes the keeper of a runtime; does not return before that left."""
    try:
        root, given = _arguments(sys.argv[1:])
        idle = float(given.get("--idle", limits.IDLE_SECONDS))
        fleet_dir = os.path.abspath(given["--dir"])
        directory = fleet_dir + "/runtime"
    except (ValueError, IndexError):
        _leave("usage: ROOT --dir FLEETDIR [--fd N] [--lock N] [--idle SECONDS]", _WRONG)
    try:
        _close_strangers(given)
        os.makedirs(directory, 0o700, exist_ok=True)
        lock = _locked(directory, given.get("--lock"))
        os.ftruncate(lock, 0)
        try:
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)  # for people; nothing here reads it
        except OSError:  # a full disk keeps nobody from ending what runs
            pass
        listener = _listener(directory, given.get("--fd"))
        listener.setblocking(False)
        os.chdir(root)
        tasks = bind(directory, SOCKET)
        tasks.setblocking(False)
        place = Place(Home(root), fleet_dir, listener, tasks, lock, idle)
        status = keep(place)
    except OSError as error:
        _leave(f"the worker runtime cannot start in {directory}: {error}", _WRONG)
    sys.stderr.flush()
    os._exit(status)
