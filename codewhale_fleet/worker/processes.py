"""What the kernel says about processes, and the few calls that `os` does not have.

Promises: a process that is gone is None or an empty answer, never an exception. Facts come from
/proc (proc(5)); start times are seconds on the boot clock, to a hundredth. It knows nothing of
attempts beyond the name of the variable that carries their id.
"""

from __future__ import annotations

import os
import time

ATTEMPT_VARIABLE = "FLEET_ATTEMPT_ID"
FLEET_VARIABLE = "FLEET_ID"
_MARK = b"\0" + ATTEMPT_VARIABLE.encode() + b"="
_FLEET_MARK = b"\0" + FLEET_VARIABLE.encode() + b"="
_TICKS = float(os.sysconf("SC_CLK_TCK"))
_PR_SET_CHILD_SUBREAPER = 36


def clock() -> float:
    """Seconds since boot, suspended time included: the one clock of this runtime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ProcessFacts:
    """One process at one moment. `start`: boot clock, seconds; `cpu`: user + system, seconds, and
    `cpu_children` that of the children it has waited for."""

    __slots__ = ("cpu", "cpu_children", "group", "parent", "session", "start", "state")

    def __init__(self, fields: list[bytes]) -> None:
        self.state = fields[0]
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        self.cpu_children = (int(fields[13]) + int(fields[14])) / _TICKS
        self.start = int(fields[19]) / _TICKS


def read_file(path: str, limit: int = 1 << 20) -> bytes | None:
    """The first `limit` bytes of a small file, or None if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.read(fd, limit)
        while 0 < len(found) < limit:
            more = os.read(fd, limit - len(found))
            if not more:
                break
            found += more
        return found
    except OSError:
        return None
    finally:
        os.close(fd)


def facts_of(pid: int) -> ProcessFacts | None:
    """State, family, session, times of `pid`; works for a zombie too."""
    text = read_file(f"/proc/{pid}/stat", 4096)
    if not text:
        return None
    return ProcessFacts(text[text.rfind(b")") + 2 :].split())


def environment_of(pid: int) -> bytes:
    """The first environment of `pid`; empty if it is gone, and for a moment while it executes."""
    return read_file(f"/proc/{pid}/environ") or b""


def attempt_of(pid: int) -> str | None:
    """The attempt that the first environment of `pid` names; None if none, or it is gone."""
    return attempt_in(environment_of(pid))


def attempt_in(environment: bytes) -> str | None:
    """The attempt that an environment names; None if none."""
    return _variable_in(environment, _MARK)


def is_of_fleet(pid: int, fleet: str) -> bool:
    """May `pid` belong to `fleet`? A copied fleet's attempts have the same ids: this tells."""
    return not fleet or _variable_in(environment_of(pid), _FLEET_MARK) in (None, fleet)


def _variable_in(environment: bytes, mark: bytes) -> str | None:
    text = b"\0" + environment
    at = text.rfind(mark)
    if at < 0:
        return None
    at += len(mark)
    return os.fsdecode(text[at : text.find(b"\0", at)])


def all_pids() -> list[int]:
    """Every process that /proc shows (0.5 ms: for recovery only)."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


class Children:
    """The children of a single-threaded process, 1 µs a look (a scan of /proc takes 500)."""

    __slots__ = ("_fd", "_pid")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC
            self._fd = os.open(f"/proc/{pid}/task/{pid}/children", flags)
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            self._fd = -1

    def now(self) -> list[int]:
        """Pids of the children, zombies included; may miss one while others come and go."""
        if self._fd < 0:
            return [p for p in all_pids() if (f := facts_of(p)) and f.parent == self._pid]
        try:
            text = os.pread(self._fd, 65536, 0)
            at = len(text)
            while at and (more := os.pread(self._fd, 65536, at)):
                text += more
                at += len(more)
        except OSError:  # that process is gone
            return []
        return [int(word) for word in text.split()]


def is_inside(pid: int) -> bool:
    """Whether it lives, or lived, in a process namespace below that of /proc: in a sandbox."""
    text = read_file(f"/proc/{pid}/status", 1 << 16) or b""
    _, found, rest = text.partition(b"\nNSpid:")
    return bool(found) and len(rest.partition(b"\n")[0].split()) > 1


def children_of(pid: int) -> list[int]:
    """Those of each of its threads; none on a kernel that does not tell them."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        text = read_file(f"/proc/{pid}/task/{thread}/children") or b""
        found += [int(word) for word in text.split()]
    return found


def below(pid: int) -> list[int]:
    """All that descend from it, as far as their parents live; the dead are not counted."""
    found: list[int] = []
    todo = children_of(pid)
    while todo:
        one = todo.pop()
        if (facts := facts_of(one)) and facts.state != b"Z":
            found.append(one)
        todo += children_of(one)
    return found


def send_signal(pid: int, number: int, *, group: bool = False) -> bool:
    """Sends a signal to a process or to a whole group; False if there is none to take it."""
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except OSError:
        return False
    return True


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children (prctl(2))."""
    arguments = (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:  # beneath ctypes, whose import takes 4 ms of the start-up
        import _ctypes

        address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        if _ctypes.call_function(address, arguments) == 0:
            return
    except (ImportError, AttributeError, OSError):
        pass
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "this kernel cannot make a process a subreaper")
