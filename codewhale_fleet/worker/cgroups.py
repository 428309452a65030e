"""Attempts in cgroups of their own, where this host lets us make them: one write ends all of one.

The hot path does not pay for it: an attempt is moved when it has lived for a second, and what it
starts from then on is inside by inheritance, whatever it does to its environment, session and
parent. A move waits for the kernel (10 ms, or 100 under load), so a thread does it.

Promises: directories are made below this process's own cgroup only, and only processes that are
in that cgroup are moved; no controller is enabled; where anything is not allowed (no cgroups of
version 2, not writable, an old kernel) nothing happens and nothing is said, and the sweep does
what it always did. A name follows from the fleet's directory and the attempt, so the next
runtime finds it; where to look stands in runtime/cgroups. It decides nothing about attempts.
"""

from __future__ import annotations

import _thread
import os

from codewhale_fleet.worker import processes
from codewhale_fleet.worker.logs import new_sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable

    from codewhale_fleet.worker.attempts import Attempt
else:
    from _collections import deque

_PASSES = 20
"""Looks for processes that were started while others were being moved."""
_PASSING = (11, 12, 16, 23, 24, 28)
"""EAGAIN, ENOMEM, EBUSY, ENFILE, EMFILE, ENOSPC: the next attempt may fare better."""
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))
"""How mountinfo writes what would break its lines (proc(5))."""
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def own() -> tuple[str, str]:
    """This process's cgroup of version 2, as the kernel calls it, and its directory.

    Both are empty where there is none, or none that can be seen from here.
    """
    path = path_of("self")
    if not path.startswith("/") or "/../" in path + "/":
        return "", ""
    found = ""
    text = os.fsdecode(processes.read_file("/proc/self/mountinfo") or b"")
    for line in text.split("\n"):
        fields, _, rest = line.partition(" - ")
        words = fields.split(" ")
        if not rest.startswith("cgroup2 ") or len(words) < 5:
            continue
        root, point = _plain(words[3]).rstrip("/"), _plain(words[4])
        if path != root and not path.startswith(root + "/"):
            continue
        directory = (point + path[len(root) :]).rstrip("/")
        if os.path.exists(directory + "/cgroup.procs"):
            found = directory if not found or is_writable(directory) else found
    return (path, found) if found else ("", "")


def path_of(pid: int | str) -> str:
    """The cgroup of version 2 that a process is in, as the kernel calls it; empty if unknown."""
    text = os.fsdecode(processes.read_file(f"/proc/{pid}/cgroup", 1 << 16) or b"")
    return next((line[3:] for line in text.split("\n") if line.startswith("0::")), "")


def is_writable(directory: str) -> bool:
    """May we make cgroups there, and move processes from there into them?"""
    return os.access(directory, os.W_OK) and os.access(directory + "/cgroup.procs", os.W_OK)


def lacking() -> str:
    """What keeps us from using cgroup.kill here; empty if nothing. Tried, and taken back."""
    _, directory = own()
    if not directory:
        return "no cgroup of version 2 is mounted that this process is in"
    if not is_writable(directory):
        return f"{directory} is not writable for you"
    probe = f"{directory}/fleet-probe-{os.getpid()}"
    try:
        os.mkdir(probe)
        known = os.path.exists(probe + "/cgroup.kill")
        os.rmdir(probe)
    except OSError as error:
        return f"in {directory} none can be made: {error.strerror}"
    return "" if known else "this kernel has none (Linux 5.14 is needed)"


def _plain(word: str) -> str:
    for written, meant in _ESCAPES:
        word = word.replace(written, meant)
    return word


class Cgroups:
    """The cgroups of one fleet's attempts. `place`: device and inode of its runtime directory.

    `leaders`: running attempts by pid; `children`: those of this process. Everything is called
    by the loop; only `_work` and what it calls runs in the thread.
    """

    def __init__(
        self,
        directory: str,
        place: list[int],
        leaders: dict[int, Attempt],
        children: processes.Children,
    ) -> None:
        self._list = directory + "/cgroups"
        self._prefix = f"fleet-{place[0]:x}-{place[1]:x}-"
        self._leaders = leaders
        self._children = children
        self._path, self._directory = own()
        self._usable = bool(self._directory) and is_writable(self._directory)
        listed = os.fsdecode(processes.read_file(self._list) or b"").split("\n")[:-1]
        self._is_listed = self._directory in listed
        self._parents = list(dict.fromkeys([self._directory, *listed] if self._usable else listed))
        self._made: set[str] = set()
        self._lock = _thread.allocate_lock()
        self._works = False
        self._waiting: deque[tuple[Attempt, list[int]]] = deque()
        self._current: Attempt | None = None

    def name(self, attempt: str) -> str:
        """The name of an attempt's directory."""
        state = new_sha256(len(attempt))
        state.update(os.fsencode(attempt))
        return self._prefix + str(state.hexdigest())[:24]

    # ---- entering

    def enter(self, attempt: Attempt, orphans: list[int]) -> None:
        """Has the processes of `attempt`, `orphans` of it included, moved into its own cgroup."""
        if not self._usable:
            return
        with self._lock:
            self._waiting.append((attempt, orphans))
            if self._works:
                return
            self._works = True
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError:  # no more threads: without
            self._waiting.clear()
            self._works = False

    def _work(self) -> None:
        while True:
            with self._lock:
                self._current = None
                if not self._waiting:
                    self._works = False
                    return
                attempt, orphans = self._waiting.popleft()
                if attempt.ended or not self._usable:
                    continue
                self._current = attempt
            try:
                self._enter(attempt, orphans)
            except OSError as error:
                self._usable = error.errno in _PASSING

    def _enter(self, attempt: Attempt, orphans: list[int]) -> None:
        name = self.name(attempt.id)
        if attempt.adopted and path_of(attempt.pid).endswith("/" + name):
            return
        path = f"{self._directory}/{name}"
        self._made.add(attempt.id)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            pass
        try:
            if not os.path.exists(path + "/cgroup.kill"):
                raise OSError(95, "this kernel has no cgroup.kill")
            self._list_directory()
            door = os.open(path + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._move(attempt, orphans, door)
            finally:
                os.close(door)
        except OSError:
            _remove(path)
            raise

    def _list_directory(self) -> None:
        """Before the first process is moved: where the next runtime has to look."""
        if self._is_listed:
            return
        try:
            fd = os.open(self._list, _APPEND, 0o600)
            try:
                os.write(fd, os.fsencode(self._directory) + b"\n")
            finally:
                os.close(fd)
            self._is_listed = True
        except OSError:  # a full disk: after a kill of this runtime the sweep has to do
            pass

    def _move(self, attempt: Attempt, orphans: list[int], door: int) -> None:
        seen: set[int] = set()
        for _ in range(_PASSES):
            new = [pid for pid in self._family(attempt, orphans) if pid not in seen]
            if not new:
                return
            for pid in new:
                if attempt.ended:
                    return
                seen.add(pid)
                if path_of(pid) != self._path:  # inside by now, or in somebody else's: let it be
                    continue
                try:
                    os.write(door, b"%d" % pid)
                except ProcessLookupError:
                    pass

    def _family(self, attempt: Attempt, orphans: list[int]) -> Iterable[int]:
        """Every process of `attempt`: its leader, what lost its parent, and all below these."""
        lost = processes.all_pids() if attempt.adopted else self._children.now()
        leaders = self._leaders
        own_ones = [pid for pid in lost if pid not in leaders and _is_of(attempt, pid)]
        todo = [attempt.pid, *orphans, *own_ones]
        found: dict[int, None] = {}
        while todo:
            pid = todo.pop()
            if pid not in found:
                found[pid] = None
                todo += processes.children_of(pid)
        return found

    # ---- the end

    def members(self, attempt: Attempt) -> list[int]:
        """What lives in the attempt's cgroup, and in those that it has made below."""
        path = self._find(attempt)
        return _members(path) if path else []

    def kill(self, attempt: Attempt) -> None:
        """SIGKILL to everything in it at once, to what is being forked, too."""
        path = self._find(attempt)
        if path:
            try:
                fd = os.open(path + "/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, b"1")
                finally:
                    os.close(fd)
            except OSError:
                pass

    def remove(self, attempt: Attempt) -> bool:
        """Removes the attempt's directory; False while something in it dies or is being moved."""
        with self._lock:
            if self._current is attempt:
                return False
        path = self._find(attempt)
        gone = not path or _remove(path)
        if gone:
            self._made.discard(attempt.id)
        return gone

    def _find(self, attempt: Attempt) -> str:
        if attempt.id not in self._made and not attempt.adopted:
            return ""
        name = self.name(attempt.id)
        paths = [f"{parent}/{name}" for parent in self._parents]
        return next((path for path in paths if os.path.isdir(path)), "")

    def tidy(self, running: Iterable[str]) -> None:
        """Removes what no running attempt has, where nobody lives in it."""
        kept = {self.name(attempt) for attempt in running}
        left = False
        for parent in self._parents:
            try:
                names = os.listdir(parent)
            except OSError:
                continue
            for name in names:
                if name.startswith(self._prefix):
                    left = name in kept or not _remove(f"{parent}/{name}") or left
        if not left:
            self._is_listed = False
            try:
                os.unlink(self._list)
            except OSError:
                pass


def _is_of(attempt: Attempt, pid: int) -> bool:
    """Is it in the attempt's session or group, or does its environment name the attempt?"""
    facts = processes.facts_of(pid)
    if facts is None or facts.start < attempt.since - 1:
        return False
    if attempt.pid in (facts.session, facts.group):
        return True
    named = processes.attempt_of(pid) == attempt.id
    return named and processes.is_of_fleet(pid, attempt.fleet)


def _below(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _members(path: str) -> list[int]:
    words = (processes.read_file(path + "/cgroup.procs") or b"").split()
    found = [int(word) for word in words if word != b"0"]
    for inner in _below(path):
        found += _members(inner)
    return found


def _remove(path: str) -> bool:
    """Removes a cgroup in which nobody lives, with those that an attempt made below; is it gone?"""
    try:
        os.rmdir(path)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass
    if b"populated 0" not in (processes.read_file(path + "/cgroup.events", 4096) or b""):
        return False
    if not all(_remove(inner) for inner in _below(path)):
        return False
    try:
        os.rmdir(path)
    except OSError:
        return not os.path.exists(path)
    return True
