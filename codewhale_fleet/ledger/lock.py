"""The append lock: one writer at a time, whoever dies.

`flock` on fleet.lock, with signals blocked while it is held, so that no handler runs and nothing
ends the process between deciding and writing. A waiter past WAIT_SECONDS names who holds it. It is
never held during a sync, a callback or other I/O. Not for use across a fork.
"""

import os
import signal
import time
from _signal import pthread_sigmask, setitimer  # type: ignore[import-not-found]
from _signal import signal as handle
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path
from types import FrameType

from ..errors import Damaged

WAIT_SECONDS = 5.0
"""After so long a waiter looks at who holds the lock."""
PATIENCE_SECONDS = 60.0
"""After so long it gives up."""
POLL_SECONDS = 0.002
"""Between attempts in a thread that can't have an alarm."""
HELD_BACK = frozenset(
    int(number)
    for number in (
        signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM,
        signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
    )
)  # fmt: skip
"""Signals that wait until the lock is free again.

Masks and handlers are set by `_signal` itself: `signal` makes an enum of each number, 20 µs a time.
"""


class _Overdue(Exception):
    """The wait for the lock has taken WAIT_SECONDS."""


class AppendLock:
    """`fleet.lock` of one fleet directory, opened anew if somebody replaced the file."""

    def __init__(self, folder: Path, descriptor: int, dir_descriptor: int) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self._directory = dir_descriptor
        self._mask: set[int] = set()
        self._inode = inode_of(descriptor)

    @classmethod
    def open(cls, folder: Path, dir_descriptor: int) -> "AppendLock":
        """Open or make the lock file; OSError where the directory can't be written."""
        return cls(folder, open_lock("fleet.lock", dir_descriptor), dir_descriptor)

    def acquire(self) -> None:
        """Wait for the lock; Damaged, with the holder's name, when it can't be had."""
        while True:
            mask = pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
            try:
                if not self._try():
                    pthread_sigmask(signal.SIG_SETMASK, mask)
                    self._wait()
                    pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
                if self._is_current():
                    self._mask = mask
                    return
                os.close(self._descriptor)
                self._descriptor = open_lock("fleet.lock", self._directory)
                self._inode = inode_of(self._descriptor)
            except BaseException:
                flock(self._descriptor, LOCK_UN)
                pthread_sigmask(signal.SIG_SETMASK, mask)
                raise
            pthread_sigmask(signal.SIG_SETMASK, mask)

    def release(self) -> None:
        """Free the lock, then let waiting signals through."""
        flock(self._descriptor, LOCK_UN)
        pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def close(self) -> None:
        """Close the file; frees the lock where it is held."""
        os.close(self._descriptor)

    def _try(self) -> bool:
        try:
            flock(self._descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_current(self) -> bool:
        try:
            return os.stat("fleet.lock", dir_fd=self._directory).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _wait(self) -> None:
        began = time.monotonic()
        while not wait_for(self._descriptor, WAIT_SECONDS):
            waited = time.monotonic() - began
            pid, stopped = holder(self._inode)
            if stopped or waited > PATIENCE_SECONDS:
                raise self._stuck(pid, stopped, waited)

    def _stuck(self, pid: int, stopped: bool, waited: float) -> Damaged:
        if not pid:
            return Damaged(f"{self._folder} has been locked for {waited:.0f} s.", "Ask again.")
        what = f"process {pid} ({command_of(pid)})" + (", which is stopped" if stopped else "")
        hint = f"kill -CONT {pid} lets it go on; " if stopped else ""
        return Damaged(
            f"{self._folder} has been locked for {waited:.0f} s by {what}.",
            f"{hint}kill -9 {pid} ends it: nothing that was acknowledged is lost.",
        )


def inode_of(descriptor: int) -> int:
    """The inode of an open file, which never changes."""
    return os.fstat(descriptor).st_ino


def open_lock(name: str, dir_descriptor: int) -> int:
    """A lock file of the fleet directory, made where it is missing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(name, flags, 0o600, dir_fd=dir_descriptor)


def wait_for(descriptor: int, seconds: float) -> bool:
    """Wait for a flock for so long; whether it was had.

    The kernel's queue is fair, so the main thread blocks in it under an alarm (whatever alarm was
    set before is set again); another thread, which can't have one, asks again and again.
    """

    def overdue(number: int, frame: FrameType | None) -> None:
        raise _Overdue

    try:
        before = handle(signal.SIGALRM, overdue)
    except ValueError:
        return _ask_again(descriptor, seconds)
    pending, interval = setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        flock(descriptor, LOCK_EX)
        setitimer(signal.ITIMER_REAL, 0)
    except _Overdue:
        return False
    finally:
        setitimer(signal.ITIMER_REAL, 0)
        handle(signal.SIGALRM, before)
        if pending:
            left = max(0.001, pending - (time.monotonic() - began))
            setitimer(signal.ITIMER_REAL, left, interval)
    return True


def _ask_again(descriptor: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_SECONDS)
        else:
            return True
    return False


def holder(inode: int, locks: str | None = None) -> tuple[int, bool]:
    """Who holds a flock on the file of this inode, and whether that process is stopped.

    From the text of /proc/locks; (0, False) when nobody is found there.
    """
    if locks is None:
        try:
            locks = Path("/proc/locks").read_text()
        except OSError:
            return 0, False
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            pid = int(fields[4])
            return max(pid, 0), is_stopped(pid)
    return 0, False


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in ("T", "t")


def command_of(pid: int) -> str:
    """The beginning of a process's command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return b" ".join(words).decode("utf-8", "replace").strip()[:80] or "gone"
