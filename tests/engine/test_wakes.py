"""What a manager wakes up for while work goes on that says nothing: its heartbeat, and no more."""

import json
import os
import select
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import events as e
from codewhale_fleet.core.state import State
from codewhale_fleet.engine import manager
from codewhale_fleet.engine.housekeeping import Housekeeping
from codewhale_fleet.engine.runs import asker_environment, create_run
from codewhale_fleet.engine.session import Nobody, run_to_end
from codewhale_fleet.ledger.store import Ledger
from tests.faults.disk_small import fill, small_disk
from tests.faults.programs import Programs

from .test_controls import manager_of, place
from .test_kill import fleet, until_ran

__all__ = ["place"]

pytestmark = pytest.mark.slow

SECONDS = 5.0
"""More than two looks at the disk are apart."""


def waits(pid: int) -> int:
    """How often a process has gone to sleep so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])


def beats(folder: Path) -> int:
    return (folder / ".fleet/fleet.jsonl").read_text().count('"worker.heartbeat"')


def slept(folder: Path, pid: int) -> int:
    """Wake-ups of a manager in some seconds without a heartbeat."""
    for _ in range(3):
        before = beats(folder), waits(pid)
        select.select([], [], [], SECONDS)
        after = beats(folder), waits(pid)
        if before[0] == after[0]:
            return after[1] - before[1]
    raise AssertionError("a heartbeat in every window, of which there is one in 30 seconds")


@pytest.mark.parametrize("stage", ["attempt", "verifier"])
def test_a_manager_sleeps_while_an_agent_or_its_verifier_says_nothing(
    place: Path, stage: str
) -> None:
    agents = (
        '[agents.quiet]\ncommand = ["sh", "-c", "echo up >> ran; exec cat go"]\n'
        "[agents.quiet.usage]\ntokens_in = [{ path = 'in' }]\n"
        '[agents.quick]\ncommand = ["true"]\nusage = "none"\n'
    )
    (place / "fleet.toml").write_text(agents)
    os.mkfifo(place / "go")
    task: dict[str, Any] = {"id": "t", "agent": "quiet", "instructions": "Be quiet."}
    if stage == "verifier":
        judge = {"kind": "code_whale_verifier_prompt", "prompt": "Well?", "agent": "quiet"}
        task |= {"agent": "quick", "scorer": judge}
    tasks = [task, {"id": "later", "command": "true"}]
    (place / "demo.json").write_text(json.dumps({"name": "demo", "max_workers": 1, "tasks": tasks}))
    process = fleet(place, "run", "demo.json")
    try:
        until_ran(place, 1)
        pid = manager_of(place)
        select.select([], [], [], 2.0)  # the fact that it runs comes after a second
        assert slept(place, pid) == 0
    finally:
        (place / "go").write_text("go\n")
        process.communicate(timeout=60)


def test_work_that_fills_the_disk_is_told_at_a_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "HEARTBEAT_RECORD_SECONDS", 2.5)
    told: list[str] = []

    class Filling(Nobody):
        """Fills the disk once the attempt runs; lets it end once that was told."""

        def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
            if any(isinstance(event, e.AttemptStarted) for _, event in records):
                fill(small, leave=3_000_000)

        def note(self, sentence: str) -> None:
            told.append(sentence)
            (small / "go").touch()

    with small_disk(tmp_path / "small", "tmpfs", 8 << 20) as small:
        (small / "fleet.toml").write_text("[disk]\nwarn_below_mb = 4\nstop_below_mb = 1\n")
        task = {"id": "t", "command": "until test -e go; do sleep 0.05; done"}
        with Ledger.open(small / ".fleet", create=True) as ledger:
            raw = [json.dumps(task).encode()]
            run = create_run(ledger, raw, name="r", max_workers=1, workspace=small)
            run_to_end(ledger, run, asker=asker_environment([]), observer=Filling())
            assert ledger.state.runs[run].result == "completed"
        Programs(small)._ask_to_leave()
    assert len(told) == 1 and "are free on the fleet's disk" in told[0]


def test_many_records_are_worth_a_wake_up_and_few_are_not(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / ".fleet", create=True) as ledger:
        house = Housekeeping(ledger)
        assert not house.is_due
        house._kept -= 20_000
        assert house.is_due
        house.idle(100.0)
        assert not house.is_due and house.next > 100.0
