"""Counts the boundaries of one process, and ends that process at the one that is named.

A boundary is a point where the process is about to make something durable or visible (a write, a
sync, a spawn, a signal, a lock let go, a message), or has just done so. `install` puts a counter
around the calls of the standard library that can do this; it is to be called before the product
is imported. Nothing is counted until `arm`. Promises: no sleeps, no threads; the count and the
names of the boundaries stand in a mapped file, so they outlive a SIGKILL. The product knows
nothing of it.

For other faults than a death: `on_boundary` is called with the name of every boundary and may do
anything there (for instance switch on a failing disk) instead of a kill.
"""

from __future__ import annotations

# ruff: noqa: PTH115, PTH119, PTH123
# pathlib would be one more import of the worker than it has.
import fcntl
import mmap
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TRACE_BYTES = 1 << 18
"""Room for the names of about 5,000 boundaries."""

BOTH_SIDES = ("write", "fdatasync", "fsync", "posix_spawn", "send", "sendall")
"""Calls with a boundary after them too: between them and the next call something may be stored."""

ONE_SIDE = (
    "pwrite", "ftruncate", "rename", "replace", "link", "unlink", "mkdir", "kill", "killpg",
    "waitpid", "wait4",
)  # fmt: skip
"""Calls that have only the boundary before them: what follows is the next call's."""

_write = os.write
_fork = os.fork
_open = os.open
_kill = os.kill


class _Counter:
    """This process's count. `at`: the boundary to die at, 0 for none."""

    armed = False
    n = 0
    at = 0
    victims: tuple[str, ...] = ("self",)
    how: int = signal.SIGKILL
    trace: mmap.mmap | None = None
    used = 0
    both = True
    """Whether the boundary after a call differs from the one before the next: it does where the
    process stores into mapped memory (the ledger's watermark), and does not in the worker."""


on_boundary: Callable[[int, str], None] | None = None
_here = _Counter()


def arm(
    at: int,
    trace: str,
    victims: tuple[str, ...] = ("self",),
    how: int = signal.SIGKILL,
) -> None:
    """From now on boundaries are counted into `trace`; number `at` sends `how` to `victims`.

    A victim is `self` or `parent`.
    """
    descriptor = _open(trace, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.truncate(descriptor, TRACE_BYTES)
    _here.trace = mmap.mmap(descriptor, TRACE_BYTES)
    os.close(descriptor)
    _here.n, _here.used, _here.at, _here.victims = 0, 0, at, victims
    _here.armed, _here.how = True, how


def disarm() -> None:
    """Nothing is counted any more in this process."""
    _here.armed = False


def read(trace: str) -> list[str]:
    """The names of the boundaries that a process passed, in order."""
    try:
        with open(trace, "rb") as file:
            return file.read().rstrip(b"\0").decode().splitlines()
    except FileNotFoundError:
        return []


def boundary(name: str) -> None:
    """Count one, and die here if it is the one."""
    if not _here.armed:
        return
    _here.n += 1
    line = name.encode() + b"\n"
    end = _here.used + len(line)
    if _here.trace is not None and end <= TRACE_BYTES:
        _here.trace[_here.used : end] = line
        _here.used = end
    if on_boundary is not None:
        on_boundary(_here.n, name)
    if _here.n == _here.at:
        for victim in _here.victims:
            _kill(os.getppid() if victim == "parent" else os.getpid(), _here.how)


def install() -> None:
    """Put the counter around the calls; before the product is imported."""
    for name in (*BOTH_SIDES, *ONE_SIDE):
        if hasattr(os, name):
            setattr(os, name, _around(getattr(os, name), name))
    os.open = _opening
    fcntl.flock = _unlocking(fcntl.flock)


def install_sockets() -> None:
    """The same for what programs with `socket` objects send and accept."""
    import socket

    for name in ("send", "sendall", "connect", "listen"):
        setattr(socket.socket, name, _around(getattr(socket.socket, name), name))


def _around(real: Callable[..., Any], name: str) -> Callable[..., Any]:
    both = name in BOTH_SIDES

    def tapped(*args: Any, **options: Any) -> Any:
        if not _here.armed:
            return real(*args, **options)
        what = f"{name} {_target(args[0] if args else '')}"
        if what == "pwrite oom_score_adj":  # of its own process, and nobody's business
            return real(*args, **options)
        boundary("about to " + what)
        result = real(*args, **options)
        if both and _here.both:
            boundary("has just " + what)
        return result

    return tapped


def _target(of: object) -> str:
    if isinstance(of, int):
        try:
            return os.path.basename(os.readlink(f"/proc/self/fd/{of}")) or "?"
        except OSError:
            return str(of)
    return os.path.basename(str(of)) if isinstance(of, str | os.PathLike) else ""


def _opening(path: Any, flags: int, *args: Any, **options: Any) -> int:
    if _here.armed and flags & (os.O_CREAT | os.O_TRUNC):
        boundary(f"about to open {_target(path)}")
    return _open(path, flags, *args, **options)


def _unlocking(real: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    def tapped(descriptor: Any, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            boundary(f"about to unlock {_target(descriptor)}")
        real(descriptor, operation)

    return tapped


# The worker runtime: two processes of one fork -------------------------------------------------


def arm_worker(config: dict[str, Any]) -> None:
    """Count in the keeper or in the first runtime that it forks.

    `count`: whose boundaries; `at`: the one to die at; `kill`: runtime, keeper or both; `trace`;
    `runtime_at`: where the keeper's boundaries are counted, the runtime dies at this one of its.
    """
    first = True

    def forking() -> int:
        nonlocal first
        boundary("about to fork")
        pid = _fork()
        if pid:
            first = False
            return pid
        disarm()
        if first and config["count"] == "runtime":
            kill = {"runtime": ("self",), "keeper": ("parent",), "both": ("parent", "self")}
            arm(config["at"], config["trace"], kill[config["kill"]])
        elif first:
            arm(config["runtime_at"], config["trace"] + ".runtime")
        first = False
        return 0

    install()
    os.fork = forking
    _here.both = False
    if config["count"] == "keeper":
        arm(config["at"], config["trace"])
