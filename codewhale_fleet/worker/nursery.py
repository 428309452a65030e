"""A limit on how many processes and threads all confined attempts of one runtime have together.

As root, where cgroups of version 1 count processes: one thread of this process lives in a cgroup
with that limit and starts what is confined, which is inside from its first instruction at no cost
(a process that is moved there waits for the kernel, and a fork bomb does not). For any other user:
RLIMIT_NPROC, which the kernel holds for all of a sandbox's user namespace; root is exempt from it.
Promises: a limit that cannot be had changes nothing, and `lacking` says so. It knows no attempts.
"""

from __future__ import annotations

import _thread
import os
import time

from codewhale_fleet.worker import limits, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LIMIT = "pids.max"
_COUNT_SECONDS = 60.0
_TRIES = 50


def directory_of_processes() -> str:
    """This process's cgroup in the hierarchy of version 1 that counts processes; empty if none."""
    path = ""
    for line in (processes.read_file("/proc/self/cgroup", 1 << 16) or b"").decode().split("\n"):
        _, _, rest = line.partition(":")
        kinds, _, where = rest.partition(":")
        if "pids" in kinds.split(","):
            path = where
    for line in (processes.read_file("/proc/self/mountinfo") or b"").decode().split("\n"):
        fields, _, rest = line.partition(" - ")
        words, kind = fields.split(" "), rest.split(" ")
        if not path or kind[0] != "cgroup" or "pids" not in kind[-1].split(","):
            continue
        root = words[3].rstrip("/")
        if path == root or path.startswith(root + "/"):
            found = (words[4] + path[len(root) :]).rstrip("/")
            if os.access(found, os.W_OK):
                return found
    return ""


def lacking() -> str:
    """Why confined attempts have no limit of processes here; empty where they have."""
    if os.geteuid():
        return ""
    if directory_of_processes():
        return ""
    return "no limit of processes holds for root without a cgroup of version 1 that counts them"


class Nursery:
    """Made when the first confined attempt begins. `name` is that of its cgroup."""

    def __init__(self, name: str) -> None:
        self._door = _thread.allocate_lock()
        self._done = _thread.allocate_lock()
        self._spawn: Callable[[], int] | None = None
        self._pid = 0
        self._error: Exception | None = None
        self._counted = 0.0
        self._most = 0
        self._path = ""
        self._lives = os.geteuid() == 0 and self._enter(name)

    def _enter(self, name: str) -> bool:
        parent = directory_of_processes()
        if not parent:
            return False
        path = self._path = f"{parent}/{name}"
        self._door.acquire()
        self._done.acquire()
        try:
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                pass
            _write(f"{path}/{_LIMIT}", limits.SANDBOX_PROCESSES + 1)
            _thread.start_new_thread(self._live, (path,))
        except (OSError, RuntimeError):
            return False
        self._done.acquire()
        return self._pid == 0

    def _live(self, path: str) -> None:
        try:
            _write(f"{path}/tasks", _thread.get_native_id())
        except OSError:
            self._pid = -1
            self._done.release()
            return
        self._done.release()
        while True:
            self._door.acquire()
            if self._spawn is None:
                return
            try:
                self._pid = self._spawn()
            except Exception as error:
                self._error = error
            self._done.release()

    def leave(self) -> None:
        """Nothing is started any more: the cgroup goes with its thread."""
        if not self._lives:
            return
        self._lives, self._spawn = False, None
        self._door.release()
        for _ in range(_TRIES):
            try:
                os.rmdir(self._path)
                return
            except OSError:  # the thread is still in it
                time.sleep(0.001)

    def spawn(self, spawn: Callable[[], int]) -> int:
        """What `spawn` answers, called where the limit holds for what it starts."""
        if not self._lives:
            return self._limited(spawn) if os.geteuid() else spawn()
        self._spawn, self._error = spawn, None
        self._door.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._pid

    def _limited(self, spawn: Callable[[], int]) -> int:
        import resource

        now = processes.clock()
        if not self._most or now - self._counted > _COUNT_SECONDS:
            self._counted, self._most = now, _tasks_of_user() + limits.SANDBOX_PROCESSES
        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        known = [one for one in (soft, hard) if one != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_NPROC, (min([self._most, *known]), hard))
        try:
            return spawn()
        finally:
            resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def _tasks_of_user() -> int:
    """Processes and threads of this user that run already: they count, too."""
    total, user = 0, os.geteuid()
    for pid in processes.all_pids():
        try:
            if os.stat(f"/proc/{pid}").st_uid == user:
                total += len(os.listdir(f"/proc/{pid}/task"))
        except OSError:
            continue
    return total


def _write(path: str, number: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % number)
    finally:
        os.close(fd)
