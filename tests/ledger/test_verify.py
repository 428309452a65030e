import os
from pathlib import Path
from zlib import crc32

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.errors import Damaged, FleetError
from codewhale_fleet.ledger import verify as verifying
from codewhale_fleet.ledger.record import SEAL
from codewhale_fleet.ledger.store import Ledger
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


def three_segments(folder: Path) -> Ledger:
    ledger = a_ledger(folder, runs=2)
    for _ in range(2):
        assert ledger.rotate_if_due(1)
        with ledger.transaction("test") as transaction:
            beats = tuple(f"{letter}{letter}" for letter in "abcdefghijklmnopqrst")
            transaction.submit(c.ReportBeat(workers=beats))
        beat(ledger, 3)
    ledger.sync()
    return ledger


@pytest.mark.parametrize("processes", [False, True])
def test_segments_are_counted_together_in_one_process_or_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    monkeypatch.setattr(verifying, "PARALLEL_BYTES", 0 if processes else 1 << 60)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ledger = three_segments(tmp_path)
    report = verify(ledger.dir, detail=True)
    assert report.ok, report
    assert (report.segments, report.records) == (3, ledger.seq)
    assert sum(report.words.values()) == ledger.seq
    files = [ledger.dir / "fleet.jsonl", *(ledger.dir / "segments").iterdir()]
    assert report.size == sum(path.stat().st_size for path in files)
    path = ledger.dir / "segments" / "000002.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
    report = verify(ledger.dir, detail=True)
    assert (report.ok, report.file, report.bad_segment) == (False, str(path), 2)
    assert report.bad_offset == data.rfind(b"\n", 0, -1) + 1


def test_every_flipped_bit_in_a_sealed_segment_is_found_where_it_is(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    path = ledger.dir / "segments" / "000002.jsonl"
    data = path.read_bytes()
    first = (ledger.dir / "segments" / "000001.jsonl").read_bytes().count(b"\n")
    for place in range(0, len(data), 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        report = verify(ledger.dir)
        began = data.rfind(b"\n", 0, place) + 1
        assert (report.ok, report.bad_segment, report.bad_offset) == (False, 2, began), place
        assert report.bad_record == first + data.count(b"\n", 0, place) + 1
        assert report.records == report.bad_record - 1
        if place % 7 == 0:
            with pytest.raises(Damaged):
                Ledger.open(ledger.dir)


def test_a_truncated_sealed_segment_is_damage(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    path = ledger.dir / "segments" / "000001.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    report = verify(ledger.dir)
    assert (report.bad_segment, report.bad_offset) == (1, data.rfind(b"\n", 0, -1) + 1)
    with pytest.raises(Damaged, match=r"000001.jsonl is damaged at byte .* is not whole"):
        Ledger.open(ledger.dir)
    path.write_bytes(data[: data.rfind(b"\n", 0, -1) + 1])
    assert not verify(ledger.dir).ok
    with pytest.raises(Damaged, match="does not follow"):
        Ledger.open(ledger.dir)


def test_swapped_and_missing_segments_are_found(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    folder = ledger.dir / "segments"
    one, two, kept = folder / "000001.jsonl", folder / "000002.jsonl", tmp_path / "kept"
    two.rename(kept)
    report = verify(ledger.dir, detail=True)
    assert (report.bad_segment, report.bad_offset, report.why) == (2, 0, "it is missing")
    assert report.bad_record == one.read_bytes().count(b"\n") + 1
    assert report.behind > 0
    one.rename(two)
    kept.rename(one)
    report = verify(ledger.dir)
    assert (report.bad_segment, report.bad_record) == (1, 1)
    with pytest.raises(Damaged):
        Ledger.open(ledger.dir)


def test_a_segment_that_was_edited_and_chained_again_is_found(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    path = ledger.dir / "segments" / "000001.jsonl"
    lines = path.read_bytes().splitlines()
    assert b'"slots":2' in lines[4]
    lines[4] = lines[4].replace(b'"slots":2', b'"slots":9')
    chain, made = 0, []
    for line in lines:
        body = line[:-SEAL]
        chain = crc32(body, chain)
        made.append(body + b',"c":"%08x"}\n' % chain)
    path.write_bytes(b"".join(made))
    report = verify(ledger.dir)
    assert (report.ok, report.bad_segment, report.bad_offset) == (False, 2, 0)


def test_an_edit_that_keeps_every_crc_is_found_by_the_digest(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    path = ledger.dir / "segments" / "000002.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = with_other_letters(lines[1])
    path.write_bytes(b"".join(lines))
    assert Ledger.open(ledger.dir).seq == ledger.seq, "the chain alone does not tell"
    report = verify(ledger.dir)
    assert (report.ok, report.edited, report.bad_segment) == (False, True, 2)
    assert "SHA-256" in report.why
    assert report.records == report.bad_record - 1 if report.bad_record else False


def with_other_letters(line: bytes) -> bytes:
    """The line with some letters as capitals, and the same CRC: a sum of bits, so it can be had."""
    places = [line.index(b'"aa"') + 1 + gap for gap in range(20 * 5 - 3)]
    places = [place for place in places if line[place : place + 1].isalpha()]
    basis: dict[int, tuple[int, int]] = {}
    for number, place in enumerate(places):
        changed = line[:place] + bytes([line[place] ^ 32]) + line[place + 1 :]
        effect, used = crc32(line) ^ crc32(changed), 1 << number
        while effect and (found := basis.get(effect.bit_length())):
            effect, used = effect ^ found[0], used ^ found[1]
        if not effect:
            made = bytearray(line)
            for bit, where in enumerate(places):
                made[where] ^= 32 * (used >> bit & 1)
            assert crc32(made) == crc32(line)
            return bytes(made)
        basis[effect.bit_length()] = effect, used
    raise AssertionError("forty letters are more than thirty-two bits")


def test_segments_after_the_active_file_are_told(tmp_path: Path) -> None:
    ledger = three_segments(tmp_path)
    (ledger.dir / "fleet.jsonl").unlink()
    (ledger.dir / "segments" / "000001.jsonl").rename(ledger.dir / "fleet.jsonl")
    (ledger.dir / "synced").unlink()
    report = verify(ledger.dir)
    assert (report.ok, report.strays) == (False, ["segments/000002.jsonl"])
