"""Managers that are stopped, replaced or elected at once; other boots, copies, clocks, memory."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import campaign, forty
from .report import PROPERTY

Record = Callable[[str, object], None]
Ask = Callable[..., dict[str, Any]]
TAKEOVER_SECONDS = 1.0
"""From a manager's death to the next dispatch by whoever waited."""


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Perform a scenario in a place of its own; its result, with nothing wrong in it."""
    server = campaign.Server()
    number = itertools.count()

    def perform(scenario: str, **job: Any) -> dict[str, Any]:
        place = str(tmp_path / str(next(number)))
        result = server.ask({"place": place, "victim": scenario, "at": 0, **job})
        assert not result["wrong"], campaign.told([result])
        return result

    yield perform
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_manager_that_was_stopped_past_its_takeover_wakes_up_fenced(ask: Ask) -> None:
    sends = [
        number
        for number, name in enumerate(ask("manager")["boundaries"], 1)
        if name.startswith("about to send")
    ]
    chosen = sends[2 :: max(1, len(sends) // 8)]
    results = [ask("stopped manager", at=number) for number in chosen]
    taken = [result for result in results if not result.get("past")]
    assert len(taken) >= 4
    assert sum(result["twice"] + result["lost"] for result in taken) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_waits_takes_over_within_a_second_of_the_managers_death(
    ask: Ask, record_property: Record
) -> None:
    asked = [ask("takeover", at=at)["figures"] for at in range(60, 180, 10)]
    found = [figures for figures in asked if "manager.elected" in figures]
    assert len(found) >= 8, "most of these boundaries must come before the run's end"
    elected = max(figure["manager.elected"] for figure in found)
    dispatched = max(figure["attempt.dispatched"] for figure in found)
    said = f"election {elected} s, next dispatch {dispatched} s, longest of {len(found)}"
    figures = {"from a manager's death to": said}
    record_property(PROPERTY, {"figures": figures})
    assert dispatched <= TAKEOVER_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_twenty_runs_at_once_one_manages_at_a_time_and_all_pass(ask: Ask) -> None:
    for _ in range(3):
        assert ask("race", callers=20)["figures"]["elections"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("at", [60, 110, 160])
def test_after_a_reboot_open_attempts_are_lost_and_retried_and_none_starts_twice(
    ask: Ask, at: int
) -> None:
    result = ask("reboot", at=at)
    assert result["twice"] == result["lost"] == 0
    assert result["unknown"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_copy_of_a_live_workspace_leaves_the_original_alone(ask: Ask) -> None:
    for at in (70, 120):
        ask("copied", at=at)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("jump", ["+2d", "-2d"])
def test_a_clock_that_jumped_between_two_managers_changes_nothing(ask: Ask, jump: str) -> None:
    for at in (70, 130):
        ask("clock jump", at=at, jump=jump)


@pytest.fixture
def narrow() -> Iterator[Path]:
    """A memory cgroup of 64 MiB, below the one that this test runs in."""
    line = next(
        line.partition("::")[2] or line.rpartition(":")[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if ":memory:" in line or line.startswith("0::")
    )
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    at = next(
        (m.split()[4] for m in mounts if " - cgroup " in m and "memory" in m.split()[-1]),
        "/sys/fs/cgroup",
    )
    made = Path(at + line.rstrip("/")) / f"fleet-faults-{os.getpid()}"
    made.mkdir()
    for name in ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        if (made / name).exists():
            (made / name).write_text(str(64 << 20))
    yield made
    made.rmdir()


def test_a_real_death_by_the_memory_killer_is_named_on_the_receipt(
    tmp_path: Path, narrow: Path
) -> None:
    hog = "import os;k=[];\nwhile True: k.append(bytearray(os.urandom(1<<20)))"
    enter = f"echo $$ > {narrow}/cgroup.procs"
    task = {"id": "hog", "command": f"{enter}; exec {sys.executable} -c '{hog}'"}
    (tmp_path / "t.json").write_text(json.dumps({"tasks": [task]}))
    run = subprocess.run(
        [sys.executable, "-m", "codewhale_fleet", "run", "t.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    (end,) = [r["d"] for r in forty.records(tmp_path) if r["k"] == "attempt.ended"]
    assert end["signal"] == 9
    assert "out of memory" in end["receipt"]["reason"]
