import os
from pathlib import Path

import pytest

from codewhale_fleet.errors import Damaged, FleetError
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify

from .builders import a_full_disk, a_ledger, a_run, beat, canonical


def test_a_full_disk_keeps_whole_lines_and_says_so(tmp_path: Path) -> None:
    with a_full_disk(tmp_path / "small") as folder:
        ledger = a_ledger(folder)
        (folder / "ballast").write_bytes(b"x" * 100_000)
        text = "x" * 20_000
        acknowledged = 0
        with pytest.raises(Damaged, match="no space is left") as found:
            for number in range(100):
                with ledger.transaction("cli:user") as transaction:
                    for part in range(3):
                        a_run(transaction, f"s{number}-{part}", spec=text)
                ledger.sync()
                acknowledged = ledger.seq
        assert (found.value.exit_code, found.value.code) == (5, "no_space")
        assert "Make room" in found.value.hint
        report = verify(folder / ".fleet")
        assert (report.ok, report.tail) == (True, "whole")
        assert report.records >= acknowledged
        assert ledger.seq == report.records
        full = pytest.raises(Damaged, match="no space is left")
        with full, ledger.transaction("cli:user") as transaction:
            a_run(transaction, "more", spec=text * 4)
        (folder / "ballast").unlink()
        beat(ledger)
        ledger.sync()
        assert canonical(Ledger.open(folder / ".fleet")) == canonical(ledger)
        ledger.close()


def test_no_fleet_can_begin_on_a_full_disk_and_the_error_is_a_sentence(tmp_path: Path) -> None:
    with a_full_disk(tmp_path / "small", "64k") as folder:
        (folder / "ballast").write_bytes(b"x" * 60_000)
        with pytest.raises(FleetError, match=r"[Nn]o space") as found:
            Ledger.open(folder / ".fleet", create=True)
        assert found.value.exit_code == 5


def test_a_failed_sync_stops_this_writer_and_every_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    other = Ledger.open(tmp_path / ".fleet")
    beat(other)
    beat(ledger)

    def broken(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(Damaged, match="can't be made durable: Input/output error"):
        ledger.sync()
    monkeypatch.undo()
    assert (tmp_path / ".fleet" / "failed").exists()
    for writer in (ledger, other, Ledger.open(tmp_path / ".fleet")):
        with pytest.raises(Damaged, match="an earlier sync") as found:
            beat(writer)
        assert "fleet ledger repair" in found.value.hint
    (tmp_path / ".fleet" / "failed").unlink()
    beat(ledger)
    ledger.sync()
    assert verify(tmp_path / ".fleet").ok


def test_a_ledger_that_is_removed_or_replaced_in_use_is_noticed(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(Damaged, match="was removed while it was in use"):
        beat(ledger)
    path.write_bytes(data)
    with pytest.raises(Damaged, match="was replaced while it was in use"):
        beat(ledger)


def test_a_directory_that_is_renamed_goes_on(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    (tmp_path / ".fleet").rename(tmp_path / "elsewhere")
    beat(ledger)
    ledger.sync()
    assert Ledger.open(tmp_path / "elsewhere").seq == ledger.seq


def test_a_lock_file_that_is_removed_still_locks(tmp_path: Path) -> None:
    ledger, other = a_ledger(tmp_path), Ledger.open(tmp_path / ".fleet")
    beat(other)
    (tmp_path / ".fleet" / "fleet.lock").unlink()
    beat(ledger)
    beat(other)
    assert verify(tmp_path / ".fleet").records == other.seq
