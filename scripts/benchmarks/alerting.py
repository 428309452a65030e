"""How soon people are told, and how often: runs whose alerts go to a real receiver by https.

Promises that the moment of an event is the one that its record states, and the moment of a message
the one at which the receiver had read it, by the same clock. Knows nothing of aims.
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from contenders import ENTRY
from measure import LIMIT, end_leftovers
from peers import HOME, Unable

sys.path.insert(0, str(HOME))

from tests.alerts.receiver import Received, Receiver

START = (sys.executable, "-I", "-c", ENTRY)
TOML = """[alerts]
enabled = true
routes = [{ adapter = "hook" }]
[alerts.adapters.hook]
kind = "webhook"
url_env = "CODEWHALE_FLEET_WEBHOOK_URL"
secret_env = "CODEWHALE_FLEET_WEBHOOK_SECRET"
"""
WAITS = {"scorer": {"kind": "manual"}}


def told(directory: Path, tasks: list[dict[str, Any]], least: int) -> tuple[Path, list[Received]]:
    """Run these tasks, and wait for at least so many messages: the ledger, and all that came."""
    directory.mkdir(parents=True)
    (directory / "fleet.toml").write_text(TOML)
    (directory / "s.json").write_text(json.dumps({"name": "bench", "tasks": tasks}))
    receiver = Receiver(directory)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    try:
        with (directory / "said").open("wb") as said:
            done = subprocess.run(
                [*START, "run", "s.json", "--max-workers", "4"],
                cwd=directory,
                env={**kept, **receiver.values},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=LIMIT,
                check=False,
            )
        if done.returncode not in (0, 1, 3):
            raise Unable(f"the run in {directory} went wrong; see said")
        receiver.wait_for(least, LIMIT)
        until_left(directory)
        if receiver.problems:
            raise Unable(f"the receiver found: {receiver.problems[:3]}")
        return directory / ".fleet" / "fleet.jsonl", list(receiver.received)
    finally:
        receiver.close()
        end_leftovers(directory)


def until_left(directory: Path) -> None:
    """Return when the last manager has left: nothing more is sent then."""
    ledger = directory / ".fleet" / "fleet.jsonl"
    until = time.monotonic() + LIMIT
    while True:
        data = ledger.read_bytes()
        if data.count(b'"k":"manager.left"') == data.count(b'"k":"manager.elected"'):
            return
        if time.monotonic() > until:
            raise Unable(f"a manager stays in {directory}")
        time.sleep(0.05)


def seconds_to_first(directory: Path) -> float:
    """From the record of a failure to its message, while another task runs."""
    tasks = [{"id": "fails", "command": "exit 3"}, {"id": "runs", "command": "sleep 1"}]
    ledger, came = told(directory, tasks, 1)
    lines = map(json.loads, ledger.read_text().splitlines())
    ended = next(line["ts"] for line in lines if line["k"] == "attempt.ended")
    return came[0].at - datetime.fromisoformat(ended).timestamp()


def messages_of(directory: Path, events: int) -> int:
    """Messages that so many failures and waits for a person, all within ten seconds, give."""
    tasks = [
        {"id": f"t{number}", "command": "false", **(WAITS if number % 2 else {})}
        for number in range(events)
    ]
    ledger, came = told(directory, tasks, 3)
    lines = map(json.loads, ledger.read_text().splitlines())
    times = [
        datetime.fromisoformat(line["ts"]).timestamp()
        for line in lines
        if line["k"] == "attempt.ended"
    ]
    if len(times) != events or times[-1] - times[0] > 10:
        raise Unable(f"{len(times):,} events in {times[-1] - times[0]:.0f} s is not what was meant")
    return len(came)
