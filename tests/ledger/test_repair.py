import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from codewhale_fleet.core import events as e
from codewhale_fleet.errors import Damaged, FleetError, Refused
from codewhale_fleet.ledger.repair import examine, repair
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify

from .builders import a_ledger, beat, canonical, python, tear
from .test_heal import a_ledger_line
from .test_verify import three_segments


def nobody() -> bool:
    return False


def flip(path: Path, number: int) -> None:
    """Damage a file's record of that number, counted from 1."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"by"', b'"bY"')
    path.write_bytes(b"".join(lines))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def goes_on(folder: Path, last: int) -> Ledger:
    """The ledger after a repair that kept so many records: whole, and good for more."""
    report = verify(folder, detail=True)
    assert report.ok, report
    assert report.records == report.synced == last + 1
    ledger = Ledger.open(folder)
    beat(ledger)
    ledger.sync()
    assert ledger.seq == last + 2
    assert verify(folder).ok
    return ledger


def test_a_good_ledger_is_not_touched(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    tear(tmp_path)
    before = contents(ledger.dir)
    for ask in (lambda: examine(ledger.dir), lambda: repair(ledger.dir, nobody)):
        with pytest.raises(Refused, match="nothing to repair") as found:
            ask()
        assert found.value.exit_code == 4
    assert contents(ledger.dir) == before


def test_a_manager_at_work_is_not_robbed_of_its_ledger(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    flip(ledger.dir / "fleet.jsonl", 5)
    before = contents(ledger.dir)
    with pytest.raises(Refused, match="a manager is at work") as found:
        repair(ledger.dir, lambda: True)
    assert found.value.exit_code == 4
    assert contents(ledger.dir) == before


def test_damage_in_the_active_file_costs_what_is_behind_it(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    before = contents(ledger.dir)
    flip(ledger.dir / "fleet.jsonl", 8)
    damaged = (ledger.dir / "fleet.jsonl").read_bytes()
    plan = examine(ledger.dir)
    assert (plan.last, plan.segment, plan.done, plan.lost) == (7, 1, False, ledger.seq - 7)
    assert plan.files == ["fleet.jsonl"]
    assert plan.behind == ledger.seq - 8
    assert "does not follow" in plan.why
    assert contents(ledger.dir)["synced"] == before["synced"]
    done = repair(ledger.dir, nobody)
    assert done.done
    assert (ledger.dir / done.quarantine / "fleet.jsonl").read_bytes() == damaged
    after = goes_on(ledger.dir, 7)
    repaired = [event for _, event in after.records(containing=b'"ledger.repaired"')]
    assert repaired == [
        e.LedgerRepaired(
            segment=1,
            offset=plan.offset,
            bytes=len(damaged) - plan.offset,
            quarantine=done.quarantine,
            asked=True,
            behind=plan.behind,
        )
    ]
    with pytest.raises(Damaged, match="was replaced while it was in use"):
        beat(ledger)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_damage_in_a_sealed_segment_sets_all_later_ones_aside(tmp_path: Path, number: int) -> None:
    ledger = three_segments(tmp_path)
    first = (ledger.dir / "segments" / "000001.jsonl").read_bytes().count(b"\n")
    flip(ledger.dir / "segments" / "000002.jsonl", number)
    done = repair(ledger.dir, nobody)
    kept = first + number - 1
    assert (done.last, done.segment) == (kept, 1 if number == 1 else 2)
    names = sorted(path.name for path in (ledger.dir / done.quarantine).iterdir())
    wanted = ["000002.jsonl", "fleet.jsonl"]
    assert names == (["000001.jsonl", *wanted] if number == 1 else wanted)
    after = goes_on(ledger.dir, kept)
    assert after.position[0] == done.segment
    assert after.rotate_if_due(1)
    assert verify(ledger.dir).ok


def test_a_missing_segment_ends_the_ledger_before_it(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    (ledger.dir / "segments" / "000002.jsonl").unlink()
    first = (ledger.dir / "segments" / "000001.jsonl").read_bytes().count(b"\n")
    assert repair(ledger.dir, nobody).behind > 0
    goes_on(ledger.dir, first)


def test_acknowledged_records_that_are_gone_are_given_up(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    path = ledger.dir / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]))
    plan = examine(ledger.dir)
    assert (plan.last, plan.lost, plan.files) == (ledger.seq - 3, 3, [])
    repair(ledger.dir, nobody)
    goes_on(ledger.dir, ledger.seq - 3)


def test_after_a_failed_sync_what_is_there_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger, 2)

    def broken(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(Damaged, match="can't be made durable") as found:
        ledger.sync()
    assert found.value.hint.endswith("fleet ledger repair")
    tear(tmp_path)
    before = contents(ledger.dir)
    with pytest.raises(Damaged, match="still fails"):
        repair(ledger.dir, nobody)
    assert contents(ledger.dir) == before
    monkeypatch.undo()
    with pytest.raises(Damaged, match="an earlier sync"):
        beat(Ledger.open(ledger.dir))
    done = repair(ledger.dir, nobody)
    assert (done.failed, done.last, done.lost) == (True, ledger.seq, 0)
    assert not (ledger.dir / "failed").exists()
    goes_on(ledger.dir, ledger.seq)


def test_a_record_that_contradicts_the_others_is_set_aside(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    a_ledger_line(tmp_path, k="run.paused", run="nowhere", d={"reason": "x"})
    (ledger.dir / "synced").unlink()
    assert "contradicts" in examine(ledger.dir).why
    repair(ledger.dir, nobody)
    goes_on(ledger.dir, ledger.seq)


def test_where_nothing_could_be_kept_or_mended_nothing_is_done(tmp_path: Path) -> None:
    def the_first(folder: Path) -> None:
        flip(folder / "fleet.jsonl", 1)

    def newer(folder: Path) -> None:
        line = b'{"k":"fleet.initialized","seq":1,"d":{"fleet":"f","format":2},"hash":"x"}\n'
        (folder / "fleet.jsonl").write_bytes(line)

    def none(folder: Path) -> None:
        shutil.rmtree(folder)

    cases: list[tuple[Callable[[Path], None], str, int]] = [
        (the_first, "nothing that could be kept", 4),
        (newer, "newer version", 4),
        (none, "there is no fleet", 2),
    ]
    for number, (damage, why, code) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        folder = a_ledger(tmp_path / str(number)).dir
        damage(folder)
        with pytest.raises(FleetError, match=why) as found:
            repair(folder, nobody)
        assert found.value.exit_code == code


def test_an_edited_segment_is_left_where_it_is(tmp_path: Path) -> None:
    from .test_verify import with_other_letters

    ledger = three_segments(tmp_path)
    path = ledger.dir / "segments" / "000002.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], with_other_letters(lines[1]), *lines[2:]]))
    with pytest.raises(Refused, match="was changed after it was sealed"):
        repair(ledger.dir, nobody)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from codewhale_fleet.ledger import repair
    left = int(sys.argv[2])
    def dying(call):
        def step(*args, **named):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)
        return step
    os.fsync, os.link, os.unlink, os.rename = map(dying, (os.fsync, os.link, os.unlink, os.rename))
    repair.repair(Path(sys.argv[1]), lambda: False)
"""


@pytest.mark.slow
def test_a_repair_that_is_killed_anywhere_can_be_given_again(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    ledger = three_segments(tmp_path / "whole")
    first = (ledger.dir / "segments" / "000001.jsonl").read_bytes().count(b"\n")
    flip(ledger.dir / "segments" / "000002.jsonl", 3)
    (ledger.dir / "failed").touch()
    wanted = None
    for step in range(1, 40):
        folder = tmp_path / str(step) / ".fleet"
        shutil.copytree(ledger.dir, folder)
        code = python(KILLED, str(folder), str(step)).wait(60)
        if code == 0:
            break
        assert code == -9
        try:
            repair(folder, nobody)
        except Refused as error:
            assert "nothing to repair" in error.sentence
        assert not (folder / "failed").exists()
        report = verify(folder)
        assert report.ok, (step, report)
        assert report.records in (first + 3, first + 4), step
        state = canonical(Ledger.open(folder))
        wanted = wanted or state["runs"]
        assert state["runs"] == wanted
    else:
        raise AssertionError("it never came to its end")
    assert step > 8
