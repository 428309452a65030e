"""Answers kept for as long as the ledger has not changed, and computed once for all who wait.

An answer is kept under the ledger's device, inode and size: an append-only file of the same size is
the same file. Where the ledger grows all the time, a `Turn` lets one caller compute while the
others wait, and each takes what was computed after it asked: no older than an answer of its own.
All of it is a pure cache: whatever goes wrong with it, the answer is computed anew. This module
imports nothing but `os`, so that an unchanged `fleet status` costs a stat and a read.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

CACHED = "cache/status.json"
"""Where answers lie, below the fleet directory."""
TURN = "cache/turn.lock"
"""Held by whoever computes an answer."""
MAX_KEY = 512
"""Bytes of the longest key that is kept."""
LOOK_SECONDS = 1.0
"""After so long a waiter looks whether the one before it is stopped."""
PATIENCE_SECONDS = 15.0
"""After so long it computes for itself."""


def identity(fleet_dir: str | os.PathLike[str]) -> str:
    """What the ledger is now: device, inode and size; empty where there is none."""
    try:
        found = os.stat(os.path.join(fleet_dir, "fleet.jsonl"))  # noqa: PTH116, PTH118
    except OSError:
        return ""
    return f"{found.st_dev}.{found.st_ino}.{found.st_size}"


def read_cached(
    fleet_dir: str | os.PathLike[str], key: str, since: "tuple[str, int] | None" = None
) -> bytes | None:
    """The answer that was kept for `key` if the ledger is still the same, else None.

    Given an instant (`now()`), instead: the answer if it was begun then or later.
    """
    now = identity(fleet_dir)
    if not now:
        return None
    try:
        descriptor = os.open(_path(fleet_dir, key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    head, _, answer = data.partition(b"\n")
    try:
        kept, boot, instant, rest = head.decode("ascii").split(" ", 3)
        good = kept == now if since is None else boot == since[0] and int(instant) >= since[1]
    except ValueError:
        return None
    return answer if good and rest == _tail(key, answer) else None


def write_cached(
    fleet_dir: str | os.PathLike[str],
    key: str,
    answer: bytes,
    ledger_identity: str,
    begun: "tuple[str, int]" = ("-", 0),
) -> bool:
    """Keep an answer that was computed from the ledger as `Ledger.identity()` names it.

    `begun` is the instant before the ledger was read. Returns whether it was kept; a full disk or
    a read-only directory is no error here.
    """
    if not ledger_identity or len(key) > MAX_KEY:
        return False
    path = _path(fleet_dir, key)
    fresh = f"{path}.{os.getpid()}"
    head = f"{ledger_identity} {begun[0]} {begun[1]} {_tail(key, answer)}\n".encode("ascii")
    data = head + answer
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            whole = os.write(descriptor, data) == len(data)
        finally:
            os.close(descriptor)
        if whole:
            os.replace(fresh, path)  # noqa: PTH105
        else:
            os.unlink(fresh)  # noqa: PTH108
    except OSError:
        return False
    return whole


def _path(fleet_dir: str | os.PathLike[str], key: str) -> str:
    """Where the answer for `key` lies: one file for the plain status, one for each other key."""
    path = os.path.join(fleet_dir, CACHED)  # noqa: PTH118
    if key == "status":
        return path
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in key)
    return f"{path[:-5]}-{name[:100]}.json"


def _tail(key: str, answer: bytes) -> str:
    return f"{len(answer)} {key!a}"


# One computes, the others wait ----------------------------------------------------------------


def now() -> tuple[str, int]:
    """This instant: the boot, and nanoseconds since then; no clock that anybody sets."""
    import time

    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
            boot = file.read().strip()
    except OSError:
        boot = ""
    return boot or "-", time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Turn:
    """A caller's turn at computing an answer. Made when it asks, taken before it reads the ledger.

    Who waited looks first for what was computed since it asked (`asked`). A turn that can't be had
    (a read-only directory, a stopped process before us) is done without: it is no lock of anything
    that counts.
    """

    def __init__(self, fleet_dir: str) -> None:
        self.asked = now()
        self._path = os.path.join(fleet_dir, TURN)  # noqa: PTH118
        self._descriptor = -1

    def take(self) -> bool:
        """Wait for the turn; whether somebody else had it until now."""
        from fcntl import LOCK_EX, LOCK_NB, flock

        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            return self._take_first()
        except OSError:
            return False
        waited = False
        try:
            flock(self._descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            waited = True
            if not self._wait():
                return True
        except OSError:
            return False
        try:
            os.pwrite(self._descriptor, b"%20d\n" % os.getpid(), 0)  # for who waits: is it stopped?
        except OSError:
            pass
        return waited

    def _take_first(self) -> bool:
        """Make the directory of the cache, which is missing, and take the turn then."""
        folder = os.path.dirname(self._path)  # noqa: PTH120
        try:
            os.mkdir(folder, 0o700)  # noqa: PTH102
        except FileExistsError:
            pass
        except OSError:
            return False
        return os.path.isdir(folder) and self.take()  # noqa: PTH112

    def done(self) -> None:
        """Let the next one have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _wait(self) -> bool:
        """Wait for the turn as long as that makes sense; whether it was had."""
        looks = int(PATIENCE_SECONDS / LOOK_SECONDS)
        return any(
            _locked(self._descriptor, LOOK_SECONDS) for _ in range(looks) if not self._is_stopped()
        )

    def _is_stopped(self) -> bool:
        """Whether the process that has the turn is stopped, by a signal or a debugger."""
        try:
            pid = int(os.pread(self._descriptor, 32, 0))
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except (OSError, ValueError, IndexError):
            return False


class _Overdue(Exception):
    """The wait has taken long enough to look around."""


def _locked(descriptor: int, seconds: float) -> bool:
    """Wait for a flock for so long; whether it was had. The kernel wakes one waiter at a time.

    An alarm ends the wait; a thread that can't have one does not wait. `_signal` is what `signal`
    wraps: to import that takes as long as all else that a waiter does.
    """
    import _signal  # type: ignore[import-not-found]
    from fcntl import LOCK_EX, flock

    def overdue(number: int, frame: "FrameType | None") -> None:
        raise _Overdue

    try:
        before = _signal.signal(_signal.SIGALRM, overdue)
    except ValueError:
        return False
    try:
        try:
            _signal.setitimer(_signal.ITIMER_REAL, seconds)
            flock(descriptor, LOCK_EX)
        finally:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
    except (_Overdue, OSError):
        return False
    finally:
        _signal.signal(_signal.SIGALRM, before)
    return True
