"""What is done when nothing is due, and a repair beside a runtime that knows more."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.engine import housekeeping
from codewhale_fleet.engine.housekeeping import DAY_SECONDS, LOOK_SECONDS, Housekeeping
from codewhale_fleet.ledger import snapshot
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify

from ..ledger.builders import a_ledger, a_run, an_attempt, beat
from .test_kill import ask, pids_of_runtime, records
from .test_takeover import Fleet, end

pytestmark = pytest.mark.slow


def kept(ledger: Ledger) -> int:
    """The record up to which there is a snapshot; 0 without one."""
    found = snapshot.load(ledger.dir, ledger._files)
    return found[1].seq if found else 0


def test_a_snapshot_and_a_new_segment_are_made_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    monkeypatch.setattr(housekeeping, "IDLE_RECORDS", 10)
    house = Housekeeping(ledger)
    house.idle(100.0)
    assert kept(ledger) == 0
    beat(ledger, 10)
    ledger.sync()
    house.idle(100.0 + LOOK_SECONDS / 2)
    assert kept(ledger) == 0, "it looks now and then only"
    house.idle(100.0 + LOOK_SECONDS)
    assert kept(ledger) == ledger.seq
    beat(ledger, 9)
    ledger.sync()
    house.idle(100.0 + 3 * LOOK_SECONDS)
    assert kept(ledger) == ledger.seq - 9
    monkeypatch.setattr(Ledger, "segment_bytes", 1000)
    house.idle(100.0 + 5 * LOOK_SECONDS)
    assert ledger.position[0] == 2
    assert verify(ledger.dir).ok


def test_what_is_not_durable_yet_is_in_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    monkeypatch.setattr(housekeeping, "LAST_RECORDS", 1)
    house = Housekeeping(ledger)
    beat(ledger)
    house.leave()
    assert kept(ledger) == 0
    ledger.sync()
    house.leave()
    assert kept(ledger) == ledger.seq


def waited(house: Housekeeping) -> None:
    assert os.waitpid(house._child, 0)[1] == 0
    house._child = 0


def old(folder: Path) -> tuple[Ledger, Path]:
    """A run of 40 days ago, in a sealed segment, with a log."""
    ledger = Ledger.open(folder / ".fleet", create=True)
    ledger.clock = lambda: time.time() - 40 * DAY_SECONDS
    with ledger.transaction("test") as transaction:
        a_run(transaction, "old", 1)
        an_attempt(transaction, "old", "t0", 1)
        transaction.submit(c.FinishRun(run="old", seconds=1.0))
    ledger.clock = time.time
    assert ledger.rotate_if_due(1)
    log = ledger.dir / "logs" / "old" / "t0.1.out"
    log.parent.mkdir(parents=True)
    log.write_text("x")
    return ledger, log


def test_retention_is_seen_to_once_a_day_where_it_is_written(tmp_path: Path) -> None:
    ledger, log = old(tmp_path)
    house = Housekeeping(ledger)
    house.leave()
    assert not house._child, "nobody asked for it"
    (tmp_path / "fleet.toml").write_text("[retention]\nfiles_days = 30\n")
    house.leave()
    waited(house)
    assert not log.exists()
    assert verify(ledger.dir).compacted == 0
    (tmp_path / "fleet.toml").write_text("[retention]\ndetail_days = 30\n")
    house.leave()
    assert not house._child, "that was today"
    mark = ledger.dir / housekeeping.MARK
    os.utime(mark, (time.time() - 2 * DAY_SECONDS,) * 2)
    house.leave()
    waited(house)
    report = verify(ledger.dir)
    assert (report.ok, report.compacted) == (True, 1)
    ledger.refresh()
    assert ledger.state.runs["old"].compacted
    assert (ledger.dir / housekeeping.ERRORS).read_text() == ""


def test_a_fleet_toml_that_can_not_be_read_stops_nobody(tmp_path: Path) -> None:
    ledger, log = old(tmp_path)
    (tmp_path / "fleet.toml").write_text("[retention]\nfiles_days = 'soon'\n")
    house = Housekeeping(ledger)
    house.leave()
    assert not house._child
    assert log.exists()


def test_status_is_fast_after_a_big_run(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("".join(f"{number}\n" for number in range(700)))
    code, out, err = ask(tmp_path, "run", "--each", "lines", "-j", "8", "--", "true")
    assert code == 0, out + err
    with Ledger.open(tmp_path / ".fleet") as ledger:
        assert kept(ledger) > 0
        assert ledger.seq - kept(ledger) < 5
    for pid in pids_of_runtime(tmp_path):
        end(pid)


# A repair beside a runtime --------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path / "work")
    yield made
    for pid in pids_of_runtime(made.place):
        end(pid)


def damage(place: Path, word: str) -> None:
    """Change the first record of this word, in the middle of what was acknowledged."""
    path = place / ".fleet" / "fleet.jsonl"
    data = path.read_bytes()
    at = data.index(b'{"k":"%b"' % word.encode())
    path.write_bytes(data[: at + 30] + b"?" + data[at + 31 :])


def test_a_repair_ends_an_idle_runtime_that_knows_more(fleet: Fleet) -> None:
    fleet.begin()
    fleet.go()
    fleet.wait()
    keeper = pids_of_runtime(fleet.place)[0]
    damage(fleet.place, "manager.elected")
    code, out, err = ask(fleet.place, "ledger", "repair")
    assert code == 5, out + err
    assert "A worker runtime that knows of them is ended too" in out
    assert pids_of_runtime(fleet.place)[0] == keeper
    code, out, err = ask(fleet.place, "ledger", "repair", "--yes")
    assert code == 0, out + err
    assert "it was idle, and was ended" in out
    assert pids_of_runtime(fleet.place) == []
    assert len(list((fleet.place / ".fleet/quarantine").glob("runtime-*/journal.jsonl"))) == 1
    (fleet.place / "u.json").write_text(
        json.dumps({"name": "u", "tasks": [{"id": "a", "command": "true"}]})
    )
    code, out, err = ask(fleet.place, "run", "u.json")
    assert code == 0, out + err


def test_a_repair_beside_work_in_flight_is_refused_and_leaves_no_record(fleet: Fleet) -> None:
    fleet.begin()
    os.kill(fleet.manager, signal.SIGKILL)
    before = len(records(fleet.place))
    damage(fleet.place, "manager.elected")
    data = (fleet.place / ".fleet/fleet.jsonl").read_bytes()
    code, out, err = ask(fleet.place, "ledger", "repair", "--yes")
    assert code == 4, out + err
    assert "/long@1 runs in " in err and "would not be kept" in err
    assert "Wait until it has ended" in err
    assert (fleet.place / ".fleet/fleet.jsonl").read_bytes() == data
    assert data.count(b"\n") == before
    fleet.go()
    end_of: list[Any] = []
    journal = fleet.place / ".fleet/runtime/journal.jsonl"
    from watchfiles import watch

    for _ in watch(journal.parent, step=5, debounce=10, rust_timeout=100, yield_on_timeout=True):
        end_of = [line for line in journal.read_bytes().splitlines() if b'"f":"ended"' in line]
        if end_of:
            break
    code, out, err = ask(fleet.place, "ledger", "repair", "--yes")
    assert code == 0, out + err
    assert pids_of_runtime(fleet.place) == []


def test_a_repair_keeps_compactions_on_record(tmp_path: Path) -> None:
    from codewhale_fleet.ledger.compact import Compaction
    from codewhale_fleet.ledger.repair import repair

    ledger, _ = old(tmp_path)
    assert len(Compaction(ledger, "2999").run()) == 1
    beat(ledger, 3)
    ledger.sync()
    path = ledger.dir / "fleet.jsonl"
    data = path.read_bytes()
    at = data.index(b'{"k":"ledger.compacted"')
    path.write_bytes(data[: at + 30] + b"?" + data[at + 31 :])
    ledger.close()
    done = repair(tmp_path / ".fleet", lambda: False)
    assert done.lost == 4
    report = verify(tmp_path / ".fleet", detail=True)
    assert (report.ok, report.compacted) == (True, 1), report
    again = Ledger.open(tmp_path / ".fleet")
    assert again.state.runs["old"].compacted
    beat(again)
    again.sync()
    assert verify(again.dir).ok
