"""How long `fleet status --json` takes over long ledgers: kept, from a snapshot, and from nothing.

Promises real ledgers, written by the product's own commands: one open run in which all but a few
tasks have passed, and many finished runs. Each kind of answer takes its turn with a bare Python
that does nothing, so that what is told is the time above that. Files are in the page cache.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from contenders import ENTRY
from peers import HOME, Unable

sys.path.insert(0, str(HOME))

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.ledger.store import Ledger

BARE = (sys.executable, "-I", "-c", "pass")
STATUS = (sys.executable, "-I", "-c", ENTRY, "status", "--json", "--dir")
KEPT = ("status.json", "brief", "snapshot")
"""Files below `.fleet/cache`."""
TAIL = 100
"""Records that stand after the snapshot."""
BOOT = "0b2a9c3e-6d7f-4b1e-9c8a-1234567890ab"
PASS = e.Receipt(result="pass", scorer="exit_code")


class Writer:
    """Writes runs of tasks that pass, eight to a commit, as a manager does; durable at the end."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True)
        self.place = place
        self.ledger = Ledger.open(place / ".fleet", create=True)
        self.facts = 0

    def run(self, name: str, tasks: int, done: int) -> None:
        with self.ledger.transaction("manager") as transaction:
            created = e.RunCreated(name=name, digest="", max_workers=4, workspace=str(self.place))
            transaction.submit(c.CreateRun(run=name, created=created))
            for first in range(1, tasks + 1, 4_000):
                some = range(first, min(first + 4_000, tasks + 1))
                raws = tuple(b'{"id":"t%d","command":["true"]}' % number for number in some)
                transaction.submit(c.AddTasks(run=name, tasks=raws))
            transaction.submit(c.StartRun(run=name, count=tasks))
            slots = e.WorkerEnrolled(slots=4, host="bench", boot=BOOT, cores=2)
            transaction.submit(c.Enrol(run=name, enrolled=slots))
        for first in range(1, done + 1, 8):
            self.passed(name, range(first, min(first + 8, done + 1)))
            if first % 8_000 == 1:
                self.ledger.sync()
        if done == tasks:
            with self.ledger.transaction("manager") as transaction:
                transaction.submit(c.FinishRun(run=name, seconds=1.0))

    def passed(self, name: str, tasks: Sequence[int]) -> None:
        with self.ledger.transaction("manager") as transaction:
            for number in tasks:
                worker = f"{name}-local-{number % 4 + 1}"
                place = c.Place(run=name, task=f"t{number}", worker=worker, boot=BOOT, why="bench")
                transaction.submit(place)
            for number in tasks:
                self.facts += 1
                ended = e.AttemptEnded(
                    attempt=f"{name}/t{number}@1",
                    worker=f"{name}-local-{number % 4 + 1}",
                    src=("rt-bench", self.facts),
                    seconds=0.004,
                    receipt=PASS,
                    exit=0,
                    cpu=0.001,
                )
                transaction.submit(c.ReportEnded(ended=ended))

    def tail(self) -> None:
        """Append a little."""
        for _ in range(TAIL):
            with self.ledger.transaction("manager") as transaction:
                transaction.submit(c.ReportBeat(workers=("bench-local-1",)))
        self.ledger.sync()


def one_open_run(place: Path, records: int) -> Writer:
    """A ledger of so many records; all but eight tasks of its run have passed."""
    writer = Writer(place)
    tasks = records // 2 + 8
    writer.run("bench", tasks, tasks - 8)
    writer.ledger.sync()
    return writer


def many_finished(place: Path, runs: int) -> Writer:
    writer = Writer(place)
    for number in range(runs):
        writer.run(f"bench-{number}", 2, 2)
    writer.ledger.sync()
    return writer


def forget(place: Path, names: Sequence[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            (place / ".fleet" / "cache" / name).unlink()


def seconds_of(command: Sequence[str | Path]) -> tuple[float, bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise Unable(f"{command[-1]}: {done.stderr.decode(errors='replace')[-400:]}")
    return seconds, done.stdout


def answers(writer: Writer, times: int, scratch_times: int) -> dict[str, list[float]]:
    """Milliseconds above a bare Python, by kind: unchanged, after a tail, without a snapshot."""
    place = writer.place
    found: dict[str, list[float]] = {"unchanged": [], "snapshot and tail": [], "no snapshot": []}

    def ask(kind: str) -> None:
        bare, _ = seconds_of(BARE)
        seconds, said = seconds_of([*STATUS, place])
        if json.loads(said)["seq"] != writer.ledger.seq:
            raise Unable(f"the status of {place} is not that of its last record")
        found[kind].append((seconds - bare) * 1000)

    for _ in range(scratch_times):
        forget(place, KEPT)
        ask("no snapshot")
    for _ in range(times):
        writer.tail()
        ask("snapshot and tail")
        ask("unchanged")
    return found
