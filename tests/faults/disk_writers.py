"""The real writers whose traces are played: a run with a command beside it, rotation, healing."""

import json
import os
import random
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import disk_model
from .disk_loss import Player, _has_whole_lines
from .disk_model import Disk, Losses
from .programs import Programs

ROOT = Path(__file__).resolve().parents[2]
GONE_SECONDS = 90.0
"""A runtime that is not heard leaves by itself after a minute."""
Trace = list[dict[str, Any]]

_RETRIED = 'test "${FLEET_ATTEMPT_ID##*@}" -gt 1'
_AGAIN = {"max_attempts": 3, "initial_backoff_seconds": 0, "retry_on": ["task", "transport"]}
TASKS: list[dict[str, Any]] = [
    {"id": "plain", "command": "true"},
    {"id": "retried", "command": _RETRIED, "retry_policy": _AGAIN},
    {"id": "fails", "command": "exit 3"},
    {"id": "held", "command": "exec sleep 600"},
]
"""`held` lasts until a command ends it."""


def traced(trace: Path, place: Path, words: list[str], *options: str) -> "subprocess.Popen[str]":
    """A `fleet WORDS` under the recorder; what it says comes through its pipe."""
    recorder = [sys.executable, "-m", "tests.faults.disk_trace", str(trace), str(place)]
    return subprocess.Popen(
        [*recorder, *options, "--", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def a_run(place: Path, *options: str) -> Trace:
    """A run with a retry, a failure and a task that another process interrupts."""
    spec = {"name": "small", "max_workers": 2, "tasks": TASKS}
    (place / "small.json").write_text(json.dumps(spec))
    trace = place / "trace"
    run = traced(trace, place, ["run", "small.json"], *options)
    assert run.stdout
    said, name = "", ""
    for line in run.stdout:
        said += line
        if "failed" in line and not name:
            name = json.loads(_last_start(trace))["attempt"].partition("/")[0]
            other = traced(trace, place, ["interrupt", f"{name}/held"], *options)
            told, _ = other.communicate(timeout=60)
            assert other.returncode == 0, told
    assert run.wait(timeout=60) == 1, said
    _leave(place)
    return disk_model.read(trace)


def _last_start(trace: Path) -> bytes:
    import base64

    for op in reversed(disk_model.read(trace)):
        if op["op"] == "said":
            for line in base64.b64decode(op["data"]).splitlines():
                if line.startswith(b'{"m":"start"'):
                    return line
    raise AssertionError("nothing was started")


def a_rotation(place: Path) -> Trace:
    """The same with segments that are sealed, and snapshots taken, after a few records."""
    trace = a_run(place, "segment-bytes=700", "snapshot-after=5")
    renamed = [op["to"][1] for op in trace if op["op"] == "rename"]
    assert renamed.count("fleet.jsonl") >= 2, "no segment was sealed"
    assert "snapshot" in renamed, "no snapshot was taken"
    return trace


def a_healing(place: Path, before: Trace) -> tuple[Trace, Disk, int]:
    """A power loss in the middle of `before`, then another manager: its trace, and from where."""
    player = Player(place / ".fleet", bound=64, seed=2)
    dice = random.Random(2)
    for op in before:
        player.disk.do(op)
        player.truth.learn(player.disk, op)
        if player.truth.required < 6 or op["op"] != "write":
            continue
        for content in Losses(player.disk, 512).some(32, dice):
            player._make(content)
            if _is_torn_with_more_behind(place / ".fleet", player.truth.required):
                return (*_resumed(place), player.truth.required)
    raise AssertionError("no state of this trace has whole records behind a gap")


def _is_torn_with_more_behind(fleet: Path, required: int) -> bool:
    data = (fleet / "fleet.jsonl").read_bytes()
    end = 0
    for _ in range(required):
        end = data.find(b"\n", end) + 1
    rest = fleet.with_name("rest")
    rest.write_bytes(data[end:])
    return b"\0\0\0\0" in data[end:] and _has_whole_lines(rest)


def _resumed(place: Path) -> tuple[Trace, Disk]:
    start = Disk.of(place / ".fleet")
    trace = place / "healing"
    resumed = traced(trace, place, ["resume", "@last"])
    held = ""
    assert resumed.stdout
    run = ""
    for line in resumed.stdout:
        held += line
        if not run and trace.exists() and b'"op": "said"' in trace.read_bytes():
            run = "@last"
            stop = traced(trace, place, ["stop", "--all"])
            told, _ = stop.communicate(timeout=60)
            assert stop.returncode == 0, told
    assert resumed.wait(timeout=60) in (1, 130), held
    assert any((place / ".fleet" / "quarantine").iterdir()), "nothing had to be healed"
    _leave(place)
    return disk_model.read(trace), start


def _leave(place: Path) -> None:
    """The runtime of a place is not needed any more: ask it to go, and see its keeper gone."""
    try:
        keeper = os.pidfd_open(int((place / ".fleet/runtime/lock").read_text()))
    except (OSError, ValueError):  # there is none
        return
    Programs(place)._ask_to_leave()
    gone = select.select([keeper], [], [], GONE_SECONDS)[0]
    os.close(keeper)
    assert gone, f"the runtime of {place} does not leave"


def room() -> Path:
    """A directory in memory, where a sync costs nothing; what is made there is small."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix="fleet-faults-", dir="/dev/shm"))


def tidy(place: Path, wrong: bool) -> None:
    """Remove a room, unless something in it is to be looked at."""
    if not wrong:
        shutil.rmtree(place, ignore_errors=True)
