"""The real programs, started by fork with their imports done, in the place of one experiment.

A forked program closes what an exec would close, begins with its own signals and counters, and runs
the product's own `main`; a manager that it detaches is started the same way. The worker runtime is
started as always, and counts its boundaries where the experiment asks for it.
"""

import contextlib
import io
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codewhale_fleet.cli import main
from codewhale_fleet.errors import Unreachable
from codewhale_fleet.hosts import local

from . import tap

PATIENCE = 40.0
"""Seconds after which something that should have ended is stuck."""


DYING_SECONDS = 1.0
"""What was killed may take so long to be gone; what was not sleeps for minutes here."""

ASKED = 4
"""Times that a runtime is asked to leave."""


class Stuck(Exception):
    """What was waited for has not come."""


class Programs:
    """Everything that is started in one place. This process is a subreaper."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ended: dict[int, int] = {}
        self._count = 0

    # ---- starting

    def start(
        self,
        words: list[str],
        *,
        me: int | None = None,
        manager: int | None = None,
        worker: dict[str, Any] | None = None,
        how: int = signal.SIGKILL,
        before: Callable[[], None] | None = None,
    ) -> int:
        """Fork a `fleet WORDS`; its pid. `me`, `manager`: count its (its detached manager's)
        boundaries and die at this one, 0 for never (`how`: of what); `worker`: see
        `tap.arm_worker`; `before`: called in the new process first."""
        self._count += 1
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setpgid(0, 0)
            self._stdio()
            os.posix_spawn = _Spawner(  # type: ignore[assignment]
                self.place, manager, worker, os.posix_spawn
            )
            if before is not None:
                before()
            if me is not None:
                tap.arm(me, str(self.place / "trace"), how=how)
            code = main(words)
            sys.stdout.flush()
            tap.boundary("about to exit")
            os._exit(code)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)

    def _stdio(self) -> None:
        out = os.open(self.place / "words", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        for descriptor in (null, out):
            os.close(descriptor)
        sys.stdout, sys.stderr = _Shown.on(1), _Shown.on(2)

    def words(self) -> str:
        """What the latest program said."""
        said = self.place / "words"
        return said.read_text(errors="replace").strip()[-2000:] if said.exists() else ""

    # ---- waiting

    def wait(self, pid: int) -> int:
        """The exit code (negative: signal) of a process; reaps every other orphan meanwhile."""
        until = time.monotonic() + PATIENCE
        while pid not in self._ended:
            self._reap_one(until, f"{self.describe(pid)} did not end")
        return self._ended[pid]

    def _reap_one(self, until: float, what: str) -> None:
        def overdue(*_: object) -> None:
            raise Stuck(f"{what}; {self.words()}")

        signal.signal(signal.SIGALRM, overdue)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, until - time.monotonic()))
        try:
            pid, status = os.waitpid(-1, 0)
            self._ended[pid] = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            raise Stuck(what) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def wait_until_stopped(self, pid: int) -> bool:
        """True when a process has stopped, False when it has ended instead."""
        status = os.waitpid(pid, os.WUNTRACED)[1]
        if not os.WIFSTOPPED(status):
            self._ended[pid] = os.waitstatus_to_exitcode(status)
        return os.WIFSTOPPED(status)

    def until_ran(self, lines: int) -> None:
        """Wait until tasks have written so many lines into `ran`."""
        ran = self.place / "ran"
        until = time.monotonic() + PATIENCE
        while not ran.exists() or ran.read_bytes().count(b"\n") < lines:
            if time.monotonic() > until:
                raise Stuck(f"{lines} tasks did not begin; {self.words()}")
            os.sched_yield()

    def told(self, name: str) -> int:
        """The pid that a spawner has noted last for `name`."""
        return int((self.place / f"{name}.pid").read_text().split()[-1])

    def until_managers_have_left(self) -> None:
        """Wait for every detached manager that was started here."""
        noted = self.place / "manager.pid"
        for word in noted.read_text().split() if noted.exists() else ():
            if int(word) in self._ended or int(word) in descendants(os.getpid()):
                self.wait(int(word))

    # ---- who is there

    def worker_pids(self) -> set[int]:
        """The keeper and the runtime that live now, as the runtime's lock and /proc say."""
        here = str(self.place / ".fleet").encode()
        return {pid for pid in descendants(os.getpid()) if here in _command(pid).split(b"\0")}

    def strays(self) -> list[str]:
        """Whoever lives beside keeper and runtime, and is not just dying."""
        found = []
        for pid in descendants(os.getpid()) - self.worker_pids():
            what = self.describe(pid)
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                if not select.select([descriptor], [], [], DYING_SECONDS)[0]:
                    found.append(what)
                os.close(descriptor)
        return found

    def targets(self, victim: str, asked: int) -> list[int]:
        """The processes that a victim's name stands for at this moment."""
        if victim not in ("runtime", "keeper", "runtime + keeper"):
            return [asked]
        pids = self.worker_pids()
        keepers = [pid for pid in pids if _parent(pid) not in pids]
        # A task that is just being spawned looks like its runtime, whose child it is.
        runtimes = [pid for pid in pids if _parent(pid) in keepers]
        return {"runtime": runtimes, "keeper": keepers}.get(victim, keepers + runtimes)

    def describe(self, pid: int) -> str:
        """A pid and its command line."""
        return f"{pid} ({_command(pid).replace(bytes(1), b' ').decode(errors='replace')[:120]})"

    def spec(self, name: str, tasks: list[dict[str, Any]], workers: int) -> None:
        """A spec NAME.json in this place."""
        written = {"name": name, "max_workers": workers, "tasks": tasks}
        (self.place / f"{name}.json").write_text(json.dumps(written))

    # ---- the end

    def kill_all(self) -> None:
        """SIGKILL to everything that lives, until nothing does."""
        while pids := descendants(os.getpid()):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap_one(time.monotonic() + PATIENCE, "a killed process does not end")

    def end_runtime(self) -> list[str]:
        """Ask the runtime of this place alone to leave; who of it is still there."""
        pids = self.worker_pids()
        keepers = [pid for pid in pids if _parent(pid) not in pids]  # they reap the runtimes
        self._ask_to_leave()
        for pid in keepers:
            with contextlib.suppress(Stuck):
                self.wait(pid)
        return [self.describe(pid) for pid in self.worker_pids()]

    def end_everything(self) -> list[str]:
        """Ask the runtime to leave, then see that nothing is left; what had to be killed.

        A runtime that was to die may do so while it leaves: its keeper starts it again.
        """
        for _ in range(ASKED):
            asked = self._ask_to_leave()
            until = time.monotonic() + (3.0 if asked else 0.0)
            with contextlib.suppress(Stuck):
                while True:
                    self._reap_one(until, "")
            if not descendants(os.getpid()):
                return []
        left = []
        for pid in descendants(os.getpid()):
            left.append(self.describe(pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _ask_to_leave(self) -> bool:
        from msgspec import json

        try:
            line = local.connect(self.place / ".fleet", start=False)
        except (Unreachable, OSError):
            return True
        hello = {"m": "hello", "protocol": 1, "fleet": "", "epoch": 1_000_000, "cursors": {}}
        with line, contextlib.suppress(OSError):
            line.settimeout(5)
            line.sendall(json.encode(hello) + b"\n")
            answer = b""
            while b"\n" not in answer and (more := line.recv(1 << 20)):
                answer += more
            if b"\n" in answer:
                heard = json.decode(answer.partition(b"\n")[0])
                line.sendall(b'{"m":"ack","n":%d}\n{"m":"leave"}\n' % heard["journal"])
                while line.recv(1 << 20):
                    pass
            return True
        return False


class _Spawner:
    """Stands for os.posix_spawn in a program: detached managers are forked, runtimes counted."""

    def __init__(
        self, place: Path, manager: int | None, worker: dict[str, Any] | None, real: Any
    ) -> None:
        self.place = place
        self.manager = manager
        self.worker = worker
        self.real = real

    def __call__(self, path: str, argv: Sequence[str], env: Any, **options: Any) -> int:
        if list(argv[1:5]) == ["-P", "-m", "codewhale_fleet", "manager"]:
            tap.boundary("about to posix_spawn a manager")
            pid = self._fork_manager(list(argv[4:]), options)
            with (self.place / "manager.pid").open("a") as noted:
                noted.write(f"{pid}\n")
            tap.boundary("has just posix_spawn a manager")
            return pid
        if self.worker and "-S" in argv:
            code = (
                "import sys;sys.path.insert(0,sys.argv.pop(1));from tests.faults import tap;"
                f"tap.arm_worker({self.worker!r});"
                "from codewhale_fleet.worker.main import main;main()"
            )
            argv = [*argv[:4], code, *argv[5:]]
            self.worker = None
        started: int = self.real(path, argv, env, **options)
        return started

    def _fork_manager(self, words: list[str], options: dict[str, Any]) -> int:
        pid = os.fork()
        if pid:
            return pid
        tap.disarm()
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for _, source, target in options["file_actions"]:
                os.dup2(source, target)
            _close_as_an_exec_would()
            if self.manager is not None:
                tap.arm(self.manager, str(self.place / "trace"))
            self.manager = None
            code = main(words)
            tap.boundary("about to exit")
            os._exit(code)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)


class _Shown(io.FileIO):
    """A standard stream whose writes are boundaries: what a person or a pipe sees."""

    @classmethod
    def on(cls, descriptor: int) -> io.TextIOWrapper:
        raw = io.BufferedWriter(cls(descriptor, "w", closefd=False))
        return io.TextIOWrapper(raw, line_buffering=descriptor == 2)

    def write(self, data: Any) -> int:
        tap.boundary("about to show")
        return super().write(data)


def _close_as_an_exec_would() -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (the numbers alone)
        with contextlib.suppress(OSError):
            if int(name) > 2 and not os.get_inheritable(int(name)):
                os.close(int(name))


def descendants(pid: int) -> set[int]:
    """Every living process below `pid`; zombies are not counted."""
    found: set[int] = set()
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in map(int, children):
        if _state(child) not in ("Z", ""):
            found.add(child)
        found |= descendants(child)
    return found


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
