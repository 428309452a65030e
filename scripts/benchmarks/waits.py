"""How long a writer waits beside a rotation and beside a compaction, and how long without them.

Promises that both are of the same writers, in the same run, over spans of the same length: what is
looked at first is the time from the beginning to the end of the rotation or the compaction, then as
long a time after it. A wait is one record from the asking to its being durable; it belongs to each
span that it touches. Every writer is a process of its own and appends at a steady pace. The ledger
is a real one: runs that have finished, written by the product's own commands, and durable before
anything is measured. Where processors are kept busy, they are so over both spans, and compaction is
as nice as the product's own. Knows no aims.
"""

import os
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from append import Gate, Whole, quiet
from peers import HOME, Unable
from status import Writer

sys.path.insert(0, str(HOME))

from codewhale_fleet.engine.housekeeping import NICENESS
from codewhale_fleet.ledger.compact import Compaction
from codewhale_fleet.ledger.store import Ledger

RUNS = 20
TASKS, FEW_TASKS = 2_500, 100
"""Tasks of each run: 100,000 records and some; the few are for processors that are busy."""
PACE = 0.01
"""Seconds between two records of one writer, from the end of one to the asking of the next."""
LEAD = 0.3
"""Seconds that writers append before anything begins, and between the two spans."""
SPAN = 0.25
"""Seconds that a span lasts at least: a rotation alone is too short to tell anything."""
LATER = "2999-01-01"
"""An instant before which every run has finished."""
_WAIT = struct.Struct("=dd")
Span = tuple[float, float]


@dataclass(frozen=True)
class Waits:
    """Milliseconds that writers waited, sorted: `beside` the work, and `without` it."""

    beside: list[float]
    without: list[float]
    seconds: float
    """How long the work took."""


def at(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)]


def finished_runs(place: Path, tasks: int) -> Path:
    """A ledger of finished runs of so many tasks, in one file; where it lies."""
    writer = Writer(place)
    for number in range(RUNS):
        writer.run(f"bench-{number}", tasks, tasks)
    writer.ledger.sync()
    writer.ledger.close()
    return place / ".fleet"


def rotation(ledger: Ledger) -> None:
    if not ledger.rotate_if_due(1):
        raise Unable("the rotation was put off")


def compaction(ledger: Ledger) -> None:
    compacted(ledger, 0)


def nice_compaction(ledger: Ledger) -> None:
    compacted(ledger, NICENESS)


def compacted(ledger: Ledger, niceness: int) -> None:
    if [done.runs for done in Compaction(ledger, LATER, niceness=niceness).run()] != [RUNS]:
        raise Unable("the compaction left something")


@dataclass(frozen=True)
class Case:
    """Some writers, and what is done beside them."""

    name: str
    work: Callable[[Ledger], None]
    writers: int
    tasks: int = TASKS
    busy: bool = False
    """Whether every processor is kept busy."""


CASES = [
    Case("rotation, 1 writer", rotation, 1),
    Case("rotation, 4 writers", rotation, 4),
    Case("rotation, 16 writers", rotation, 16),
    Case("compaction, 1 writer", compaction, 1),
    Case("compaction, 4 writers", compaction, 4),
    Case("compaction, 16 writers", compaction, 16),
    Case("nice compaction, 4 writers, busy", nice_compaction, 4, FEW_TASKS, busy=True),
]


def measured(case: Case, source: Path, place: Path) -> Waits:
    with busy() if case.busy else nullcontext():
        return beside(source, place, case.writers, case.work)


def beside(source: Path, place: Path, writers: int, work: Callable[[Ledger], None]) -> Waits:
    """What writers wait while `work` is done on a copy of a ledger, and after it."""
    folder = place / ".fleet"
    shutil.copytree(source, folder)
    with Ledger.open(folder) as ledger:
        if work is not rotation:
            rotation(ledger)  # only a sealed segment can be compacted
        ledger.snapshot()
        os.sync()
        with quiet():
            crowd = Crowd(folder, writers)
            time.sleep(LEAD)
            began = time.monotonic()
            work(ledger)
            seconds = time.monotonic() - began
            length = max(seconds, SPAN)
            time.sleep(length - seconds + LEAD)
            later = time.monotonic()
            time.sleep(length)
            waits = crowd.ended()
    spans = [(began, began + length), (later, later + length)]
    first, second = (within(waits, span) for span in spans)
    if not first or not second:
        raise Unable("no writer wrote anything")
    return Waits(first, second, seconds)


@contextmanager
def busy() -> Iterator[None]:
    """Keep every processor busy meanwhile."""
    pids = []
    with quiet():
        for _ in range(os.cpu_count() or 1):
            if pid := os.fork():
                pids.append(pid)
                continue
            parent = os.getppid()
            while os.getppid() == parent:
                pass
            os._exit(0)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def within(waits: list[Span], span: Span) -> list[float]:
    """Milliseconds of the waits that touch a span, sorted."""
    return sorted(1000 * (end - begin) for begin, end in waits if begin < span[1] and end > span[0])


class Crowd:
    """Writers, each a process, that append until they are ended."""

    def __init__(self, folder: Path, writers: int) -> None:
        self.stop, self.hold = os.pipe()
        self.told: dict[int, int] = {}
        gate = Gate()
        for _ in range(writers):
            here, there = os.pipe()
            if pid := os.fork():
                os.close(there)
                self.told[pid] = here
                continue
            code = 1
            try:
                os.close(self.hold)
                os.close(gate.open)
                waits = self.appended(Whole(folder), gate)
                os.close(here)
                with os.fdopen(there, "wb") as out:
                    out.write(b"".join(_WAIT.pack(*wait) for wait in waits))
                code = 0
            finally:
                os._exit(code)
        gate.let_go(writers)

    def appended(self, appender: Whole, gate: Gate) -> list[Span]:
        """Append until told to stop: when each record was asked for, and when it was durable."""
        appender.append()
        os.set_blocking(self.stop, False)
        gate.wait()
        waits = []
        while not self.stopped():
            began = time.monotonic()
            appender.append()
            waits.append((began, time.monotonic()))
            time.sleep(PACE)
        return waits

    def stopped(self) -> bool:
        try:
            os.read(self.stop, 1)
        except BlockingIOError:
            return False
        return True

    def ended(self) -> list[Span]:
        """End all of them: every wait there was."""
        os.close(self.hold)
        data = b""
        for here in self.told.values():
            with os.fdopen(here, "rb") as file:
                data += file.read()
        failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in self.told)
        if failed:
            raise Unable(f"{failed} of {len(self.told)} writers failed")
        return list(_WAIT.iter_unpack(data))
