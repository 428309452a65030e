"""Killed at every boundary from a failure to the end of its run: each message arrives, as itself.

The manager is a real one that ends itself at the boundary of that number; a real receiver keeps
what comes. Whoever goes on has the values from the worker runtime, not from a shell.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ..alerts.receiver import Receiver
from ..cli.driver import environment
from ..engine.test_kill import pids_of_runtime
from . import tap

pytestmark = pytest.mark.slow

TAPPED = """
import sys
from tests.faults import tap
tap.install()
at, trace = int(sys.argv[1]), sys.argv[2]
import codewhale_fleet.engine.session
from codewhale_fleet.cli import main
tap.install_sockets()
tap.arm(at, trace)
sys.exit(main(sys.argv[3:]))
"""
TOML = """[alerts]
enabled = true
routes = [{ events = ["restart_exhausted", "run_completed"], adapter = "hook" }]
[alerts.adapters.hook]
kind = "webhook"
url_env = "CODEWHALE_FLEET_WEBHOOK_URL"
secret_env = "CODEWHALE_FLEET_WEBHOOK_SECRET"
"""
SPEC = {"name": "night", "tasks": [{"id": "a", "command": "exit 3"}]}


def records(place: Path) -> list[dict[str, Any]]:
    file = place / ".fleet" / "fleet.jsonl"
    data = file.read_bytes() if file.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def words(place: Path) -> list[str]:
    return [one["k"] for one in records(place)]


class Place:
    """A directory, its receiver, and a manager that dies there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.receiver = Receiver(place)
        (place / "fleet.toml").write_text(TOML)
        (place / "s.json").write_text(json.dumps(SPEC))

    def die(self, at: int) -> list[str]:
        """Run it to the boundary of that number, or to its end for 0; what was passed."""
        subprocess.run(
            [sys.executable, "-c", TAPPED, str(at), "trace", "run", "s.json"],
            cwd=self.place,
            env=environment(**self.receiver.values),
            capture_output=True,
            timeout=60,
        )
        return tap.read(str(self.place / "trace"))

    def go_on(self) -> None:
        """Managers that were given nothing, until nothing is to be done."""
        until = time.monotonic() + 60
        while not self.is_done():
            assert time.monotonic() < until, words(self.place)
            subprocess.run(
                [sys.executable, "-m", "codewhale_fleet", "manager", "--dir", ".fleet"],
                cwd=self.place,
                env=environment(),
                capture_output=True,
                timeout=60,
            )

    def is_done(self) -> bool:
        found = words(self.place)
        return found.count("alert.sent") == 2 and found[-1] == "manager.left"

    def end(self) -> None:
        self.receiver.close()
        for pid in pids_of_runtime(self.place):
            os.kill(pid, 9)


def test_whoever_dies_where_each_message_arrives_and_is_known_again(tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole")
    passed = whole.die(0)
    whole.go_on()
    whole.end()
    assert len(whole.receiver.received) == 2
    wrong: list[str] = []
    tried = twice = 0
    for at in range(len(passed), 0, -1):
        one = Place(tmp_path / str(at))
        where = one.die(at)[-1:]
        if "attempt.ended" not in words(one.place):
            one.end()
            break
        one.go_on()
        one.end()
        tried += 1
        events = [got.body["event"] for got in one.receiver.received]
        keys = [event["key"] for event in events]
        twice += len(keys) - len(set(keys))
        recorded = [got["d"]["key"] for got in records(one.place) if got["k"] == "alert.sent"]
        told = sorted({event["class"] for event in events})
        if len(set(keys)) != 2 or told != ["restart_exhausted", "run_completed"]:
            wrong.append(f"{at} {where}: received {keys}")
        if len(set(recorded)) != 2 or one.receiver.problems:
            wrong.append(f"{at} {where}: recorded {recorded}, {one.receiver.problems}")
    assert wrong == []
    assert tried > 10 and twice > 0, "nobody died between sending and recording"
