"""Runs one command in a fresh directory and says how long it took and what memory it had.

Promises: the clock covers the command from spawn to exit and nothing else; nothing is deleted; what
a run of fleet leaves behind (its idle runtime) is ended before the next run starts. Knows nothing
of what is compared with what.
"""

import os
import select
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import Unable

LIMIT = 1800.0
"""Seconds after which a run counts as hung."""
TICK = 0.05
"""Seconds between two readings of the memory of known processes."""
SCAN = 0.5
"""Seconds between two looks for further processes."""


@dataclass
class Run:
    """One timed command. `memory`: KiB at the highest, by process."""

    seconds: float
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        """MB of all its processes, each at its own highest: no less than the true peak."""
        return sum(self.memory.values()) * 1024 / 1e6


@dataclass(frozen=True)
class Contender:
    """One of those that are compared. `prepare(directory, tasks)` answers the command, untimed."""

    name: str
    prepare: Callable[[Path, int], Sequence[str | Path]]
    check: Callable[[Path, int], None] = lambda directory, tasks: None
    """Raises `Unable` where the run did not do its work."""


def belongs(pid: int, directory: bytes) -> bool:
    """A Python process that works in `directory`, or names it in its arguments or environment."""
    place = Path("/proc", str(pid))
    try:
        if "python" not in (place / "exe").readlink().name:
            return False
        if bytes((place / "cwd").readlink()) == directory:
            return True
        said = (place / "cmdline").read_bytes() + b"\0" + (place / "environ").read_bytes()
    except OSError:
        return False
    return directory in said


def processes(directory: Path) -> set[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return {pid for pid in pids if pid != os.getpid() and belongs(pid, os.fsencode(directory))}


def highest(pid: int) -> int:
    """KiB of the process's high-water mark, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(row.split()[1]) for row in status.splitlines() if "VmHWM" in row), 0)


def title(pid: int, directory: Path) -> str:
    """The process's command line, shortened, with its directory left out."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        words = []
    line = " ".join(words).replace(str(directory), ".").strip()
    return f"{pid} {line}"[:100]


class Watch(threading.Thread):
    """Reads the memory of a run's processes until told to stop.

    A process counts once two scans saw it: a task between fork and exec looks like its parent.
    """

    def __init__(self, pid: int, directory: Path) -> None:
        super().__init__(daemon=True)
        self.directory = directory
        self.seen: dict[int, int] = {pid: 2}
        self.marks: dict[int, int] = {}
        self.titles: dict[int, str] = {}
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        due = time.monotonic()
        while not self.stopping.wait(TICK):
            if time.monotonic() >= due:
                for pid in processes(self.directory):
                    self.seen[pid] = self.seen.get(pid, 0) + 1
                    self.titles[pid] = title(pid, self.directory)
                due = time.monotonic() + SCAN
            for pid in self.seen:
                self.marks[pid] = max(self.marks.get(pid, 0), highest(pid))

    def stop(self) -> dict[str, int]:
        self.stopping.set()
        self.join()
        kept = [pid for pid, times in self.seen.items() if times >= 2]
        return {self.titles.get(pid, str(pid)): self.marks.get(pid, 0) for pid in kept}


def await_exit(child: "subprocess.Popen[bytes]") -> None:
    """Waits without polling, so that the end is seen when it happens."""
    descriptor = os.pidfd_open(child.pid)
    try:
        if not select.select([descriptor], [], [], LIMIT)[0]:
            child.kill()
    finally:
        os.close(descriptor)
    child.wait()


def end_leftovers(directory: Path) -> None:
    """Ends what the run left running; only processes of that very directory."""
    pids = processes(directory)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        until = time.monotonic() + 3
        while (pids := processes(directory)) and time.monotonic() < until:
            time.sleep(0.02)
        if not pids:
            return


def timed(contender: Contender, directory: Path, tasks: int, memory: bool = False) -> Run:
    directory.mkdir(parents=True)
    command = contender.prepare(directory, tasks)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    environment["PARALLEL_HOME"] = str(directory)
    with (
        (directory / "stdout").open("wb") as out,
        (directory / "stderr").open("wb") as err,
    ):
        began = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        watch = Watch(child.pid, directory) if memory else None
        await_exit(child)
        seconds = time.perf_counter() - began
    run = Run(seconds, watch.stop() if watch else {})
    end_leftovers(directory)
    if child.returncode != 0:
        said = (directory / "stderr").read_text(errors="replace")[-600:]
        raise Unable(f"{contender.name} ended with {child.returncode} in {directory}:\n{said}")
    contender.check(directory, tasks)
    return run


def race(
    contenders: Sequence[Contender], tasks: int, repeat: int, work: Path, warm_up: int
) -> dict[str, list[Run]]:
    """Every contender `repeat` times, interleaved, after a small one each that does not count."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for place, contender in enumerate(contenders):
        timed(contender, work / f"warm-up-{place}", warm_up)
    for turn in range(repeat):
        for place in range(len(contenders)):
            which = (place + turn) % len(contenders)
            contender = contenders[which]
            run = timed(contender, work / f"{turn + 1}-{which}", tasks)
            runs[contender.name].append(run)
    return runs


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)
