"""A disk that fails: each sync and each write of the ledger's files, in turn, answers EIO once."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.cli.driver import fleet

from . import forty
from .disk_writers import ROOT, _leave
from .report import LONGEST, PROPERTY, Row

Record = Callable[[str, object], None]
TASKS = [{"id": name, "command": "true"} for name in ("a", "b", "c")]
BEFORE_A_RECORD = 3
"""Syncs before the ledger has a first record: a failure there leaves a fleet not begun."""


def _failing(
    place: Path, kind: str, number: int, *words: str
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        ["fiu-run", "-x", sys.executable, "-m", "tests.faults.disk_eio",
         str(place), kind, str(number), "--", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("FLEET")},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _place(root: Path, number: int) -> Path:
    place = root / str(number)
    place.mkdir()
    (place / "t.json").write_text(json.dumps({"name": "r", "max_workers": 1, "tasks": TASKS}))
    return place


def _goes_on(place: Path) -> None:
    """The work that was begun comes to its end, and the ledger is whole."""
    for run in forty.started_runs(place) or [""]:
        finished = any(
            r["k"] == "run.finished" and r.get("run") == run for r in forty.records(place)
        )
        if not finished:
            words = ["resume", run] if run else ["run", "t.json"]
            done = fleet(place, *words)
            assert done.returncode == 0, done.stdout + done.stderr
    done = fleet(place, "ledger", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    found = forty.Found(place, {task["id"]: "pass" for task in TASKS})
    assert not found.wrong, found.wrong
    _leave(place)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_a_sync_that_fails_ends_all_writing_until_a_repair(
    tmp_path: Path, record_property: Record
) -> None:
    row = Row("a sync that fails", "every sync of a run")
    for number in itertools.count(1):
        place = _place(tmp_path, number)
        done = _failing(place, "sync", number, "run", "t.json")
        noted = (place / "faults").read_text()
        if "failed: EIO" not in noted:
            assert done.returncode == 0, done.stderr
            # Two runs may differ by a sync that served both: each of this one's was tried before.
            assert noted.count("\n") < number, "a boundary was passed over"
            _leave(place)
            break
        row.boundaries += 1
        row.kills += 1
        assert done.returncode == 5, f"{number}: {done.returncode} {done.stdout}{done.stderr}"
        assert "Input/output error" in done.stderr
        acknowledged = forty.started_runs(place)
        if (place / ".fleet" / "failed").exists():
            for words in (["run", "t.json"], ["run", "t.json", "--detach"]):
                refused = fleet(place, *words)
                assert refused.returncode == 5, f"{number}: {words} {refused.stdout}"
                assert "an earlier sync" in refused.stderr
                assert "fleet ledger repair" in refused.stderr
            assert forty.started_runs(place) == acknowledged
            repaired = fleet(place, "ledger", "repair", "--yes")
            if forty.records(place):
                assert repaired.returncode == 0, repaired.stdout + repaired.stderr
            else:  # not even the first record: there is nothing to keep
                assert repaired.returncode == 4 and f"mv {place}/.fleet" in repaired.stderr
                (place / ".fleet").rename(place / "set aside")
        else:
            assert number <= BEFORE_A_RECORD, f"sync {number} failed and left no mark: {noted}"
        _goes_on(place)
    assert row.boundaries > BEFORE_A_RECORD + 4
    print(f"{row.boundaries} syncs failed, one a run")
    record_property(PROPERTY, {"rows": [asdict(row)]})


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_a_write_that_fails_is_told_and_the_next_writer_goes_on(
    tmp_path: Path, record_property: Record
) -> None:
    row = Row("a write that fails", "every write of a run")
    for number in itertools.count(1):
        place = _place(tmp_path, number)
        done = _failing(place, "write", number, "run", "t.json")
        noted = (place / "faults").read_text()
        if "failed: EIO" not in noted:
            assert done.returncode == 0, done.stderr
            _leave(place)
            break
        row.boundaries += 1
        row.kills += 1
        assert done.returncode == 5, f"{number}: {done.returncode} {done.stdout}{done.stderr}"
        assert "can't be written: Input/output error" in done.stderr
        assert not (place / ".fleet" / "failed").exists()
        data = (place / ".fleet" / "fleet.jsonl").read_bytes()
        assert data[-1:] in (b"\n", b""), "half a line was left"
        _goes_on(place)
    assert row.boundaries > 5
    print(f"{row.boundaries} writes failed, one a run")
    record_property(PROPERTY, {"rows": [asdict(row)]})
