"""How soon a run that lost its manager half-way goes on: from `fleet resume` to its first dispatch.

Promises that the run is a real one, whose manager was killed while half of its tasks had ended, and
that the moment measured is the one that the ledger states for the first attempt that the new
manager dispatched. The clock starts before the command is spawned. Knows nothing of aims.
"""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from contenders import ENTRY, fleet_command
from measure import LIMIT, end_leftovers
from peers import Unable

TICK = 0.01
"""Seconds between two looks at the ledger."""
START = (sys.executable, "-I", "-c", ENTRY)
DISPATCHED = b'{"k":"attempt.dispatched"'
ENDED = b'{"k":"attempt.ended"'


class Ledger:
    """The complete lines of a ledger, as they come."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / ".fleet" / "fleet.jsonl"
        self.offset = 0

    def lines(self) -> list[bytes]:
        """What was not seen before."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.splitlines()


def spawned(command: list[str | Path], directory: Path) -> "subprocess.Popen[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    with (directory / "said").open("ab") as said:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )


def half_done(directory: Path, tasks: int) -> tuple[Ledger, str]:
    """A run whose manager was killed once half of its tasks had ended: its ledger and its id."""
    directory.mkdir(parents=True)
    ledger, ended, run = Ledger(directory), 0, ""
    child = spawned(fleet_command(START, directory, tasks), directory)
    until = time.monotonic() + LIMIT
    while ended < tasks // 2:
        for line in ledger.lines():
            ended += line.startswith(ENDED)
            run = run or json.loads(line).get("run", "")
        if child.poll() is not None or time.monotonic() > until:
            raise Unable(f"the run in {directory} was not to be caught half-way; see said")
        time.sleep(TICK)
    child.send_signal(signal.SIGKILL)
    child.wait()
    return ledger, run


def seconds_to_dispatch(directory: Path, tasks: int) -> float:
    """Kill a run of `tasks` × `true` half-way, resume it, and say how long it took to go on."""
    ledger, run = half_done(directory, tasks)
    ledger.lines()
    began = time.time()
    child = spawned([*START, "resume", run, "--dir", directory], directory)
    until = time.monotonic() + LIMIT
    first = ""
    while not first:
        ended = child.poll() is not None
        found = (line for line in ledger.lines() if line.startswith(DISPATCHED))
        first = next((json.loads(line)["ts"] for line in found), "")
        if not first and (ended or time.monotonic() > until):
            raise Unable(f"the run in {directory} was resumed and dispatched nothing; see said")
        time.sleep(TICK)
    child.send_signal(signal.SIGKILL)
    child.wait()
    end_leftovers(directory)
    return datetime.fromisoformat(first).timestamp() - began
