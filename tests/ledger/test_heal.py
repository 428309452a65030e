import json
import shutil
from pathlib import Path
from zlib import crc32

import pytest

from codewhale_fleet.errors import Damaged, FleetError
from codewhale_fleet.ledger import fold
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify
from codewhale_fleet.ledger.watermark import LAYOUT, Watermark

from .builders import a_ledger, a_run, an_attempt, beat, canonical, kill, python, tear


def set_watermark(folder: Path, *, seq: int | None = None, boot: bytes | None = None) -> None:
    path = folder / ".fleet" / "synced"
    was_boot, was_seq, *others = LAYOUT.unpack(path.read_bytes())
    boot = was_boot if boot is None else boot
    path.write_bytes(LAYOUT.pack(boot, was_seq if seq is None else seq, *others))


def quarantined(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in (folder / ".fleet" / "quarantine").glob("*")]


def last_record(folder: Path) -> dict[str, object]:
    lines = (folder / ".fleet" / "fleet.jsonl").read_bytes().splitlines()
    found = json.loads(lines[-2])
    assert isinstance(found, dict)
    return found


def test_a_torn_tail_above_the_watermark_is_set_aside_and_recorded(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    size = (tmp_path / ".fleet" / "fleet.jsonl").stat().st_size
    tear(tmp_path, b'{"k":"worker.hea')
    other = Ledger.open(tmp_path / ".fleet")
    beat(other)
    other.sync()
    assert quarantined(tmp_path) == [b'{"k":"worker.hea']
    repaired = last_record(tmp_path)
    assert repaired["k"] == "ledger.repaired"
    assert repaired["d"] == {
        "segment": 1,
        "offset": size,
        "bytes": 16,
        "quarantine": other.repaired[0],
    }
    assert other.seq == ledger.seq + 2
    assert verify(tmp_path / ".fleet", detail=True).ok
    ledger.refresh()
    assert canonical(ledger) == canonical(other)


def test_a_torn_tail_below_the_watermark_is_damage(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    for _ in range(2):
        with pytest.raises(Damaged) as found:
            Ledger.open(tmp_path / ".fleet")
        offset = data.rfind(b"\n", 0, -1) + 1
        assert f"damaged at byte {offset:,} " in found.value.sentence
        assert "acknowledged" in found.value.sentence
        assert "fleet ledger repair" in found.value.hint
    with pytest.raises(Damaged, match="acknowledged"):
        beat(ledger)
    assert path.read_bytes() == data[:-5]


def test_with_no_watermark_only_a_torn_line_is_cut(tmp_path: Path) -> None:
    a_ledger(tmp_path)
    (tmp_path / ".fleet" / "synced").unlink()
    tear(tmp_path)
    beat(Ledger.open(tmp_path / ".fleet"))
    assert len(quarantined(tmp_path)) == 1
    (tmp_path / ".fleet" / "synced").unlink()
    tear(tmp_path, b"\0" * 100 + b"\n")
    with pytest.raises(Damaged, match="does not follow"):
        Ledger.open(tmp_path / ".fleet")


def test_an_invalid_complete_tail_is_cut_only_after_another_boot(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    seq = ledger.seq
    tear(tmp_path, b"\0" * 4096 + b"garbage\n" + b"\0" * 10)
    with pytest.raises(Damaged, match="does not follow"):
        beat(Ledger.open(tmp_path / ".fleet"))
    set_watermark(tmp_path, boot=b"another boot id.")
    reader = Ledger.open(tmp_path / ".fleet")
    assert reader.seq == seq
    beat(reader)
    reader.sync()
    assert len(quarantined(tmp_path)[0]) == 4096 + 8 + 10
    assert verify(tmp_path / ".fleet").ok
    assert verify(tmp_path / ".fleet").synced == seq + 2


def test_after_another_boot_an_invalid_record_that_was_acknowledged_is_damage(
    tmp_path: Path,
) -> None:
    ledger = a_ledger(tmp_path)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1] = b"\0" * (len(lines[-1]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    set_watermark(tmp_path, boot=b"another boot id.")
    with pytest.raises(Damaged):
        beat(Ledger.open(tmp_path / ".fleet"))
    set_watermark(tmp_path, seq=ledger.seq - 1)
    beat(Ledger.open(tmp_path / ".fleet"))


def test_after_another_boot_whole_records_behind_a_gap_are_cut_with_it(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger, 5)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-4] = b"\0" * len(lines[-4])
    path.write_bytes(b"".join(lines))
    with pytest.raises(Damaged, match=f"record {ledger.seq - 3} does not follow"):
        beat(Ledger.open(tmp_path / ".fleet"))
    set_watermark(tmp_path, boot=b"another boot id.")
    after = Ledger.open(tmp_path / ".fleet")
    assert after.seq == ledger.seq - 4
    beat(after)
    after.sync()
    assert quarantined(tmp_path) == [b"".join(lines[-4:])]
    assert verify(tmp_path / ".fleet", detail=True).ok


def test_what_a_power_loss_left_of_the_first_record_is_cut_and_the_fleet_begun(
    tmp_path: Path,
) -> None:
    for left in (b"\0" * 80, b'{"k":"fleet.init', b"\0" * 80 + b"\n" + b"\0" * 9):
        folder = tmp_path / str(len(left))
        a_ledger(folder).close()
        (folder / ".fleet" / "fleet.jsonl").write_bytes(left)
        set_watermark(folder, seq=0, boot=b"another boot id.")
        with pytest.raises(FleetError, match="no fleet"):
            Ledger.open(folder / ".fleet")
        ledger = Ledger.open(folder / ".fleet", create=True)
        assert ledger.seq == 1
        beat(ledger)
        assert quarantined(folder) == [left]
        assert verify(folder / ".fleet", detail=True).ok


def test_the_watermark_is_on_the_disk_before_anything_is_appended_in_a_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    ledger.close()
    set_watermark(tmp_path, boot=b"another boot id.")
    begun: list[int] = []
    adopt = Watermark.adopt

    def dies(mark: Watermark, boot: bytes, seq: int, segment: int) -> None:
        adopt(mark, boot, seq, segment)
        begun.append(seq)
        if len(begun) == 1:
            mark._words[6] = 0  # as when the process ends before the file is synced
            raise KeyboardInterrupt

    monkeypatch.setattr(Watermark, "adopt", dies)
    with pytest.raises(KeyboardInterrupt):
        beat(Ledger.open(tmp_path / ".fleet"))
    beat(Ledger.open(tmp_path / ".fleet"))
    beat(Ledger.open(tmp_path / ".fleet"))
    assert len(begun) == 2


def test_acknowledged_records_that_are_gone_are_damage(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(Damaged, match=f"ends after record {ledger.seq - 2}, and records up to"):
        Ledger.open(tmp_path / ".fleet")
    path.write_bytes(b"")
    with pytest.raises(Damaged):
        Ledger.open(tmp_path / ".fleet")
    with pytest.raises(Damaged):
        Ledger.open(tmp_path / ".fleet", create=True)


def test_every_truncation_is_either_healed_or_told(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, tasks=1)
    durable = (tmp_path / ".fleet" / "fleet.jsonl").stat().st_size
    beat(ledger, 2)
    data = (tmp_path / ".fleet" / "fleet.jsonl").read_bytes()
    ledger.close()
    for size in range(0, len(data), 7):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / ".fleet", copy / ".fleet")
        (copy / ".fleet" / "fleet.jsonl").write_bytes(data[:size])
        if size < durable:
            with pytest.raises(Damaged):
                Ledger.open(copy / ".fleet")
            continue
        healed = Ledger.open(copy / ".fleet")
        beat(healed)
        healed.sync()
        assert verify(copy / ".fleet", detail=True).ok
        healed.close()


def test_every_flipped_bit_is_found_where_it_is(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, tasks=1)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    data = path.read_bytes()
    ledger.close()
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        report = verify(tmp_path / ".fleet")
        began = data.rfind(b"\n", 0, place) + 1
        assert (report.ok, report.bad_offset) == (False, began), place
        assert report.bad_record == data.count(b"\n", 0, place) + 1
        with pytest.raises(FleetError) as found:
            Ledger.open(tmp_path / ".fleet")
        assert found.value.exit_code == 5
        assert path.read_bytes()[:place] == data[:place]


def test_a_writer_that_is_killed_anywhere_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    code = """
        import sys
        from pathlib import Path
        from codewhale_fleet.core import commands as c
        from codewhale_fleet.ledger.store import Ledger
        ledger = Ledger.open(Path(sys.argv[1]))
        print("ready", flush=True)
        while True:
            with ledger.transaction("test") as transaction:
                for _ in range(20):
                    transaction.submit(c.ReportBeat(workers=("w" * 500,)))
            ledger.sync()
            print(ledger.seq, flush=True)
    """
    for _ in range(4):
        writer = python(code, str(tmp_path / ".fleet"))
        assert writer.stdout
        for _ in range(6):
            said = writer.stdout.readline()
        kill(writer)
        beat(ledger)
        ledger.sync()
        report = verify(tmp_path / ".fleet")
        assert report.ok
        assert report.records == ledger.seq > int(said)


def a_ledger_line(folder: Path, **changes: object) -> None:
    """Append a record with a good seal and a changed head."""
    path = folder / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines()
    found = {**json.loads(lines[-1]), "seq": len(lines) + 1, **changes}
    del found["c"]
    body = json.dumps(found, separators=(",", ":")).encode()[:-1]
    chain = crc32(body, int(lines[-1][-10:-2], 16))
    with path.open("ab") as file:
        file.write(body + b',"c":"%08x"}\n' % chain)


@pytest.mark.parametrize("changes", [{"k": "moon.landed"}, {"v": 2}])
def test_a_record_of_a_newer_version_is_refused_with_a_sentence(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    beat(a_ledger(tmp_path))
    a_ledger_line(tmp_path, **changes)
    (tmp_path / ".fleet" / "synced").unlink()
    before = (tmp_path / ".fleet" / "fleet.jsonl").read_bytes()
    with pytest.raises(FleetError, match="made by a newer version") as found:
        Ledger.open(tmp_path / ".fleet")
    assert found.value.exit_code == 5
    assert (tmp_path / ".fleet" / "fleet.jsonl").read_bytes() == before
    report = verify(tmp_path / ".fleet", detail=True)
    assert (report.ok, report.tail) == (False, "newer")


def test_a_ledger_of_a_newer_format_is_refused_whatever_its_lines_look_like(
    tmp_path: Path,
) -> None:
    (tmp_path / ".fleet").mkdir(mode=0o700)
    line = b'{"k":"fleet.initialized","seq":1,"d":{"fleet":"f","format":2},"hash":"blake3"}\n'
    (tmp_path / ".fleet" / "fleet.jsonl").write_bytes(line * 2)
    with pytest.raises(FleetError, match="made by a newer version of fleet: its format is 2"):
        Ledger.open(tmp_path / ".fleet")


def test_a_record_that_contradicts_the_others_is_told_and_is_no_traceback(tmp_path: Path) -> None:
    beat(a_ledger(tmp_path))
    a_ledger_line(tmp_path, k="run.paused", run="nowhere", d={"reason": "x"})
    (tmp_path / ".fleet" / "synced").unlink()
    with pytest.raises(Damaged, match="contradicts what stands before it"):
        Ledger.open(tmp_path / ".fleet")


def test_an_end_of_a_run_in_a_tail_that_does_not_count_hides_none_of_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    with ledger.transaction("test") as transaction:
        a_run(transaction, "open")
        an_attempt(transaction, "open", "t0", 90)
    ledger.sync()
    wanted = canonical(ledger)
    lines = (ledger.dir / "fleet.jsonl").read_bytes().splitlines(keepends=True)
    finish = next(line for line in lines if b'"run.finished"' in line)
    beyond = finish.replace(b'"seq":', b'"seq":9').replace(b'"r0"', b'"open"')
    tear(tmp_path, b"\0" * 100 + b"\n" + beyond)
    set_watermark(tmp_path, boot=b"another boot id.")
    monkeypatch.setattr(fold, "SKIM_BYTES", 0)
    assert canonical(Ledger.open(ledger.dir)) == wanted
    healed = Ledger.open(ledger.dir)
    beat(healed)
    assert set(healed.state.runs["open"].tasks) == {"t0", "t1", "t2"}
