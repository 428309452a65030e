from pathlib import Path

import pytest

from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger.verify import verify

from .builders import a_ledger, beat, tear


def test_a_good_ledger_is_counted(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, runs=2)
    report = verify(ledger.dir, detail=True)
    assert (report.ok, report.tail, report.why) == (True, "whole", "")
    assert report.records == report.synced == ledger.seq
    assert report.words["attempt.ended"] == 6
    assert sum(report.words.values()) == ledger.seq
    line = (ledger.dir / "fleet.jsonl").read_bytes()
    assert report.chain.encode() == line[-11:-3]


def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    tear(tmp_path, b'{"k"')
    report = verify(ledger.dir)
    assert (report.ok, report.tail, report.tail_bytes) == (True, "torn", 4)
    assert report.records == ledger.seq


def test_damage_in_the_middle_is_located_and_what_is_behind_it_counted(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger, 10)
    ledger.sync()
    path = ledger.dir / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    offset = sum(map(len, lines[:-8]))
    lines[-8] = lines[-8].replace(b'"w"', b'"v"')
    path.write_bytes(b"".join(lines))
    report = verify(ledger.dir, detail=True)
    assert (report.ok, report.tail) == (False, "damaged")
    assert (report.bad_offset, report.bad_record) == (offset, ledger.seq - 7)
    assert report.behind == 7
    assert "does not follow" in report.why


def test_a_removed_and_a_repeated_record_are_found(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    path = ledger.dir / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4] + lines[5:]))
    assert verify(ledger.dir).bad_record == 5
    path.write_bytes(b"".join(lines[:5] + lines[4:]))
    assert verify(ledger.dir).bad_record == 6


def test_verify_says_where_there_is_no_fleet(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="there is no fleet"):
        verify(tmp_path / ".fleet")
