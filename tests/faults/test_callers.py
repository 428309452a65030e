"""Five hundred people at once ask a fleet at work, then write to it: all are served, none is lost.

The crowd is the one that scripts/bench measures; what came of it is looked at here once more, in
the files.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codewhale_fleet.cli import main
from codewhale_fleet.ledger.store import Ledger

CROWD = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "callers.py"
COUNT = 500


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_five_hundred_callers_at_once_are_all_served_and_nothing_they_were_told_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, CROWD, tmp_path / "crowd"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    crowds = json.loads(done.stdout)
    with capsys.disabled():
        for name, fared in crowds.items():
            print(
                f"\n{COUNT} × fleet {name}: {fared['seconds']:.1f} s, p50 {fared['p50']:.1f} s,"
                f" p99 {fared['p99']:.1f} s"
            )
    for fared in crowds.values():
        assert (fared["callers"], fared["troubles"]) == (COUNT, [])
    root = tmp_path / "crowd" / "fleet"
    asked = {json.loads(path.read_bytes())["runs"][0]["status"] for path in said(root, "status")}
    assert asked == {"running"}
    told = [json.loads(path.read_bytes())["cancelled"] for path in said(root, "append")]
    with Ledger.open(root / ".fleet") as ledger:
        run = next(run for run in ledger.state.runs.values() if run.name == "paused")
        tasks = ledger.hydrate(run.id).tasks
        live = next(run for run in ledger.state.runs.values() if run.name == "live")
        assert len(ledger.hydrate(live.id).order) == 200
    assert sorted(told) == sorted([f"{run.id}/t{number}"] for number in range(1, COUNT + 1))
    assert {tasks[f"t{number}"].status for number in range(1, COUNT + 1)} == {"cancelled"}
    assert main(["ledger", "verify", "--dir", str(root)]) == 0


def said(root: Path, crowd: str) -> list[Path]:
    found = list((root.parent / crowd).glob("*.out"))
    assert len(found) == COUNT
    return found
