"""How fast records become durable: the ledger against the bare system calls that it needs.

Promises that both sides write the same bytes to the same file system in the same run, turn about.
One process: write and fdatasync of as many lines. Many processes, a record each, let go at once:
flock, write, and one fdatasync for all who wait. Everybody has opened its files and appended once
before the clock starts, and the files are looked through afterwards: every record is there once.
Knows no aims.
"""

import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from typing import Protocol

from peers import HOME, Unable

sys.path.insert(0, str(HOME))

from codewhale_fleet.core.commands import ReportBeat
from codewhale_fleet.ledger.store import Ledger

WORKERS = ("bench-local-1",)
SECONDS = 0.15
"""About how long one measurement of one side takes."""


def commit(ledger: Ledger, records: int) -> None:
    """Record so many heartbeats and wait until they are durable."""
    with ledger.transaction("manager") as transaction:
        for _ in range(records):
            transaction.submit(ReportBeat(workers=WORKERS))
    ledger.sync()


def alone(place: Path, batch: int) -> tuple[float, float]:
    """Records a second that one process makes durable, `batch` at once: (raw, ledger)."""
    place.mkdir(parents=True)
    with Ledger.open(place / ".fleet", create=True) as ledger:
        commit(ledger, 2)
        line = (place / ".fleet" / "fleet.jsonl").read_bytes().splitlines(True)[-1]
        raw = os.open(place / "raw", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        data = line * batch

        def bare() -> None:
            os.write(raw, data)
            os.fdatasync(raw)

        def whole() -> None:
            commit(ledger, batch)

        try:
            return rate(bare) * batch, rate(whole) * batch
        finally:
            os.close(raw)


def rate(step: Callable[[], None]) -> float:
    """How often a second a step is done, after a few that do not count."""
    for _ in range(3):
        step()
    began, times = time.perf_counter(), 0
    while (now := time.perf_counter()) - began < SECONDS:
        step()
        times += 1
    return times / (now - began)


# Many processes ---------------------------------------------------------------------------------


class Appender(Protocol):
    def append(self) -> None:
        """Make one record durable."""

    def refresh(self) -> None:
        """Take in what the others have appended."""


class Whole:
    """A process that has the ledger open."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(folder)

    def append(self) -> None:
        with self.ledger.transaction("cli:user") as transaction:
            transaction.submit(ReportBeat(workers=WORKERS))
        self.ledger.sync()

    def refresh(self) -> None:
        self.ledger.refresh()


class Bare:
    """The least that many appenders need: a lock, a write, and a group commit."""

    def __init__(self, place: Path, line: bytes) -> None:
        self.line = line
        self.lock, self.sync, self.file, marks = (
            os.open(place / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            for name in ("lock", "sync", "raw", "marks")
        )
        os.ftruncate(marks, 16)
        self.words = memoryview(mmap.mmap(marks, 16)).cast("Q")

    def append(self) -> None:
        flock(self.lock, LOCK_EX)
        os.write(self.file, self.line)
        mine = self.words[0] = self.words[0] + 1
        flock(self.lock, LOCK_UN)
        flock(self.sync, LOCK_EX)
        if self.words[1] < mine:
            covered = self.words[0]
            os.fdatasync(self.file)
            self.words[1] = covered
        flock(self.sync, LOCK_UN)

    def refresh(self) -> None:
        """It knows nothing of the others."""


class Gate:
    """Holds processes back until all have come."""

    def __init__(self) -> None:
        self.here, self.come = os.pipe()
        self.held, self.open = os.pipe()

    def wait(self) -> None:
        """In a process: say that it has come, and wait."""
        os.write(self.come, b".")
        os.read(self.held, 1)

    def let_go(self, processes: int) -> float:
        """Wait for all, let them go, and say when."""
        while processes:
            processes -= len(os.read(self.here, processes))
        began = time.monotonic()
        os.close(self.open)
        return began


def crowd(processes: int, opened: Callable[[], Appender]) -> list[float]:
    """Seconds from letting go until each process was done, sorted.

    Each has opened what it needs, has appended once, and knows what the others appended by then.
    """
    first, second = Gate(), Gate()
    here, told = os.pipe()
    children = []
    for _ in range(processes):
        if pid := os.fork():
            children.append(pid)
            continue
        code = 1
        try:
            os.close(first.open)
            os.close(second.open)
            appender = opened()
            appender.append()
            first.wait()
            appender.refresh()
            second.wait()
            appender.append()
            os.write(told, b"%020.6f\n" % time.monotonic())
            code = 0
        finally:
            os._exit(code)
    os.close(told)
    first.let_go(processes)
    began = second.let_go(processes)
    text = b""
    while more := os.read(here, 1 << 16):
        text += more
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
    for descriptor in (here, first.here, first.come, first.held, second.here, second.come):
        os.close(descriptor)
    os.close(second.held)
    if failed or text.count(b"\n") != processes:
        raise Unable(f"{failed} of {processes} appending processes failed")
    return sorted(float(one) - began for one in text.split())


def together(place: Path, processes: int, turn: int) -> tuple[list[float], list[float]]:
    """Seconds until each of so many processes had its record durable: (bare, ledger)."""
    place.mkdir(parents=True)
    folder = place / ".fleet"
    with Ledger.open(folder, create=True) as ledger:
        commit(ledger, 2)
        before = ledger.seq
    line = (folder / "fleet.jsonl").read_bytes().splitlines(True)[-1]

    def bare() -> Appender:
        return Bare(place, line)

    def whole() -> Appender:
        return Whole(folder)

    with quiet():
        if turn % 2:
            second = crowd(processes, whole)
            first = crowd(processes, bare)
        else:
            first = crowd(processes, bare)
            second = crowd(processes, whole)
    with Ledger.open(folder) as ledger:
        if ledger.seq != before + 2 * processes:
            raise Unable(f"{ledger.seq - before} of {2 * processes} records stand in {folder}")
    if (place / "raw").stat().st_size != 2 * processes * len(line):
        raise Unable(f"lines are missing in {place / 'raw'}")
    return first, second


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that is buffered here is written again by a child."""
    sys.stdout.flush()
    sys.stderr.flush()
    yield
