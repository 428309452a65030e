import os
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codewhale_fleet.core import events as e
from codewhale_fleet.errors import Damaged
from codewhale_fleet.ledger import fold
from codewhale_fleet.ledger.cache import identity
from codewhale_fleet.ledger.follow import follow
from codewhale_fleet.ledger.rotate import Rotation
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify

from .builders import a_ledger, a_run, an_attempt, beat, canonical, python, random_history, tear
from .test_heal import set_watermark

STEPS = (
    "made", "linked", "named", "written", "synced", "announced", "renamed", "unlocked", "settled",
)  # fmt: skip
"""What a rotation does, one after the other."""

EACH_STEP = [
    pytest.param(step, marks=() if step in ("written", "renamed", "settled") else pytest.mark.slow)
    for step in STEPS
]
"""Before the swap, at it and at the end in the quick tests; every step in the full run."""


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".fleet" / "segments").glob("*"))


def one_file(folder: Path, into: Path) -> Path:
    """The same records as they would stand in a fleet that never rotated: new seals, one file."""
    data = b"".join(
        (folder / ".fleet" / name).read_bytes()
        for name in [*(f"segments/{name}" for name in segments(folder)), "fleet.jsonl"]
    )
    (into / ".fleet").mkdir(parents=True, mode=0o700)
    (into / ".fleet" / "fleet.jsonl").write_bytes(data)
    return into / ".fleet"


def test_a_sealed_file_goes_on_in_the_next_and_addresses_stay_good(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, runs=2)
    reader = Ledger.open(ledger.dir)
    before = canonical(reader)
    size, seq = (ledger.dir / "fleet.jsonl").stat().st_size, ledger.seq
    assert not ledger.rotate_if_due(), "64 MiB are far away"
    assert ledger.rotate_if_due(1)
    assert segments(tmp_path) == ["000001.jsonl"]
    assert (ledger.dir / "segments" / "000001.jsonl").stat().st_size == size
    assert ledger.position[0] == 2
    head, sealed = next(ledger.records(start=(2, 0)))
    assert (head.seq, head.by) == (seq + 1, "ledger")
    assert isinstance(sealed, e.LedgerSealed)
    assert (sealed.segment, sealed.bytes, sealed.first, sealed.last) == (1, size, 1, seq)
    assert reader.refresh() == 1
    with reader.transaction("test") as transaction:
        a_run(transaction, "late")
        an_attempt(transaction, "late", "t0", 99)
    reader.sync()
    ledger.refresh()
    assert ledger.state.runs["late"].opened_at[0] == 2
    after = canonical(ledger)
    assert {name: after["runs"][name] for name in before["runs"]} == before["runs"]
    of_run = list(ledger.records("r1", ledger.state.runs["r1"].opened_at))
    assert {head.run for head, _ in of_run} == {"r1"}
    assert [head.seq for head, _ in ledger.records()] == list(range(1, ledger.seq + 1))
    report = verify(ledger.dir, detail=True)
    assert (report.ok, report.segments, report.records) == (True, 2, ledger.seq)
    assert report.records == report.synced
    assert ledger.identity() == identity(ledger.dir)


def test_a_run_that_spans_segments_is_read_again_from_all_of_them(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    with ledger.transaction("test") as transaction:
        a_run(transaction, "wide", 3)
    for number in range(3):
        with ledger.transaction("test") as transaction:
            an_attempt(transaction, "wide", f"t{number}", 50 + number)
        assert ledger.rotate_if_due(1)
    assert segments(tmp_path) == ["000001.jsonl", "000002.jsonl", "000003.jsonl"]
    open_run = Ledger.open(ledger.dir)
    assert [task.result for task in open_run.state.runs["wide"].order] == ["pass"] * 3
    from codewhale_fleet.core import commands as c

    with ledger.transaction("test") as transaction:
        transaction.submit(c.FinishRun(run="wide", seconds=1.0))
    ledger.sync()
    other = Ledger.open(ledger.dir)
    assert not other.state.runs["wide"].tasks
    assert [task.result for task in other.hydrate("wide").order] == ["pass"] * 3
    assert canonical(other) == canonical(ledger)
    with other.transaction("test") as transaction:
        transaction.submit(c.Restart(run="wide", tasks=("t1",), reason="again"))
    other.sync()
    assert ledger.refresh() > 0
    assert canonical(Ledger.open(ledger.dir)) == canonical(ledger) == canonical(other)


@given(seed=st.integers(0, 2**32), pieces=st.lists(st.integers(1, 15), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_rotated_files_fold_to_what_one_file_folds_to(
    tmp_path_factory: pytest.TempPathFactory, seed: int, pieces: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    dice = random.Random(seed)
    ledger = Ledger.open(folder / ".fleet", create=True)
    reader = Ledger.open(folder / ".fleet")
    for steps in pieces:
        random_history(ledger, dice, steps)
        ledger.sync()
        if dice.randrange(2):
            reader.refresh()
        if dice.randrange(3) == 0:
            assert ledger.snapshot()
        assert ledger.rotate_if_due(1)
    random_history(ledger, dice, 5)
    ledger.sync()
    reader.refresh()
    short = Ledger.open(folder / ".fleet")
    shutil.rmtree(folder / ".fleet" / "cache", ignore_errors=True)
    before, fold.SKIM_BYTES = fold.SKIM_BYTES, dice.choice((0, 1 << 30))
    try:
        whole = Ledger.open(folder / ".fleet")
    finally:
        fold.SKIM_BYTES = before
    single = Ledger.open(one_file(folder, folder / "single"))
    wanted = canonical(ledger)
    assert canonical(reader) == canonical(short) == canonical(whole) == wanted
    for run in wanted["runs"].values():
        del run["opened_at"], run["closed_at"]
    found = canonical(single)
    for run in found["runs"].values():
        del run["opened_at"], run["closed_at"]
    assert found == wanted
    assert verify(folder / ".fleet", detail=True).segments == len(pieces) + 1
    assert verify(folder / ".fleet").ok


def test_four_writers_append_while_another_one_rotates(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    began = ledger.seq
    code = """
        import sys
        from pathlib import Path
        from codewhale_fleet.core import commands as c
        from codewhale_fleet.ledger.store import Ledger
        ledger = Ledger.open(Path(sys.argv[1]))
        sys.stdin.readline()
        for number in range(100):
            with ledger.transaction("test:" + sys.argv[2]) as transaction:
                transaction.submit(c.ReportBeat(workers=(sys.argv[2], str(number))))
            seq = ledger.seq
            ledger.sync()
            assert ledger._mark.synced >= seq
            print(seq, flush=True)
    """
    writers = [python(code, str(tmp_path / ".fleet"), str(number)) for number in range(4)]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    rotations = 0
    while any(writer.poll() is None for writer in writers):
        rotations += ledger.rotate_if_due(2000)
    told = sorted(int(line) for writer in writers for line in writer.communicate()[0].split())
    assert [writer.returncode for writer in writers] == [0] * 4
    assert rotations > 3
    assert len(told) == len(set(told)) == 400
    report = verify(tmp_path / ".fleet", detail=True)
    assert report.ok, report
    assert report.records == report.synced == began + 400 + rotations
    assert report.segments == rotations + 1
    ledger.refresh()
    seen: dict[str, int] = {}
    for head, event in ledger.records(containing=b'"worker.heartbeat"'):
        assert isinstance(event, e.WorkerHeartbeat)
        assert int(event.workers[1]) == seen.get(event.workers[0], -1) + 1
        assert head.seq in told
        seen[event.workers[0]] = int(event.workers[1])
    assert set(seen.values()) == {99}


ROTATOR = """
    import os, signal, sys
    from pathlib import Path
    from codewhale_fleet.ledger.rotate import Rotation
    from codewhale_fleet.ledger.store import Ledger
    def die(step):
        if step == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
    Rotation.at_step = staticmethod(die)
    Ledger.open(Path(sys.argv[1])).rotate_if_due(1)
"""


@pytest.mark.parametrize("step", EACH_STEP)
def test_whoever_rotates_may_be_killed_at_any_step(tmp_path: Path, step: str) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    swapped = STEPS.index(step) >= STEPS.index("renamed")
    assert python(ROTATOR, str(ledger.dir), step).wait(30) == -9
    assert Ledger.open(ledger.dir).state.fleet == ledger.state.fleet
    assert verify(ledger.dir).ok
    began = ledger.seq
    beat(ledger)
    ledger.sync()
    assert ledger.seq == began + 1 + swapped
    assert ledger._mark
    assert ledger._mark.synced == ledger.seq
    assert ledger._mark.named == ledger.position[0] == 1 + swapped, "no name is left to be synced"
    assert reader.refresh() == 1 + swapped
    shutil.copytree(ledger.dir, tmp_path / "copy" / ".fleet")
    copy = Ledger.open(tmp_path / "copy" / ".fleet")
    assert verify(copy.dir).ok
    assert canonical(copy) == canonical(ledger) == canonical(reader)
    for one in (ledger, copy):
        assert one.rotate_if_due(1)
        beat(one)
        one.sync()
        report = verify(one.dir, detail=True)
        assert report.ok, report
        assert report.segments == 2 + swapped
    assert reader.refresh() == 2
    assert reader.seq == ledger.seq


def test_a_writer_that_was_about_to_sync_when_the_rotator_died_vouches_for_nobody_else(
    tmp_path: Path,
) -> None:
    ledger, other = a_ledger(tmp_path), Ledger.open(tmp_path / ".fleet")
    beat(ledger)
    assert python(ROTATOR, str(ledger.dir), "renamed").wait(30) == -9
    beat(other)
    assert ledger._mark
    assert ledger._mark.synced == ledger.seq - 1
    ledger.sync()
    assert ledger._mark.synced == ledger.seq == other.seq - 2
    other.sync()
    assert ledger._mark.synced == other.seq


def test_a_rotation_is_put_off_while_others_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, other = a_ledger(tmp_path), Ledger.open(tmp_path / ".fleet")

    def meanwhile(step: str) -> None:
        if step == "synced":
            beat(other)

    monkeypatch.setattr(Rotation, "at_step", staticmethod(meanwhile))
    assert not ledger.rotate_if_due(1)
    monkeypatch.undo()
    assert segments(tmp_path) == ["000001.jsonl"]
    assert verify(ledger.dir).ok
    assert ledger.rotate_if_due(1)
    assert verify(ledger.dir).ok
    assert ledger.seq == other.seq + 1


def test_no_writer_waits_for_a_sync_of_the_rotator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    lock = ledger._writers()[0]
    held: list[str] = []

    def sync(descriptor: int) -> None:
        if not _is_free(ledger.dir / "fleet.lock"):
            held.append("fsync")

    def _is_free(path: Path) -> bool:
        import fcntl

        own = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(own)
        return True

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "fdatasync", sync)
    assert ledger.rotate_if_due(1)
    assert held == []
    lock.acquire()
    os.fsync(0)
    lock.release()
    assert held == ["fsync"], "the test sees a held lock"


def test_a_follower_goes_on_across_rotations(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    began = reader.seq

    def write() -> None:
        own = Ledger.open(ledger.dir)
        for _ in range(6):
            beat(own)
            own.sync()
            assert own.rotate_if_due(1)

    thread = threading.Thread(target=write)
    seen: list[int] = []
    thread.start()
    for records in follow(reader, until=time.monotonic() + 20):
        seen += [head.seq for head, _ in records]
        if len(seen) == 12:
            break
    thread.join()
    assert seen == list(range(began + 1, began + 13))


def test_a_follower_is_told_of_what_a_dead_writer_left_in_a_new_segment(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    assert python(ROTATOR, str(ledger.dir), "renamed").wait(30) == -9
    beat(ledger)
    first = next(iter(follow(reader, until=time.monotonic() + 5)))
    assert [head.seq for head, _ in first] == [ledger.seq - 1, ledger.seq]


def test_a_writer_seals_a_file_that_has_grown_far_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    monkeypatch.setattr(Ledger, "segment_bytes", ledger.position[1])
    beat(ledger, 5)
    ledger.sync()
    assert ledger.position[0] == 1
    while ledger.position[0] == 1:
        beat(ledger)
        ledger.sync()
    assert (ledger.dir / "segments" / "000001.jsonl").stat().st_size > 2 * Ledger.segment_bytes


def test_a_torn_tail_is_set_aside_before_a_file_is_sealed(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    tear(tmp_path)
    assert ledger.rotate_if_due(1)
    assert len(ledger.repaired) == 1
    assert verify(ledger.dir, detail=True).ok


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    assert ledger.rotate_if_due(1)
    beat(ledger, 3)
    first = ledger.seq - 3
    assert ledger.rotate_if_due(1)
    (ledger.dir / "segments" / "000002.jsonl").rename(tmp_path / "kept")
    with pytest.raises(Damaged, match=r"segments/000002.jsonl is missing"):
        Ledger.open(ledger.dir)
    with pytest.raises(Damaged, match=r"segments/000002.jsonl is missing") as found:
        list(ledger.records())
    assert found.value.hint.endswith("fleet ledger repair")
    assert (verify(ledger.dir).bad_segment, verify(ledger.dir).bad_record) == (2, first)


def test_every_name_and_file_is_synced_before_what_rests_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger)
    done: list[str] = []

    def told(name: str) -> None:
        call = getattr(os, name)

        def step(*args: Any, **named: Any) -> Any:
            what = args[0]
            if isinstance(what, int):
                what = Path(f"/proc/self/fd/{what}").readlink().name
            assert ledger._mark
            done.append(f"{name} {what} {ledger._mark.synced}")
            return call(*args, **named)

        monkeypatch.setattr(os, name, step)

    for name in ("fsync", "fdatasync", "link", "rename"):
        told(name)
    seq = ledger.seq
    assert ledger.rotate_if_due(1)
    assert done == [
        f"link fleet.jsonl {seq - 1}",
        f"fsync segments {seq - 1}",
        f"fsync .fleet {seq - 1}",
        f"fsync fleet.jsonl {seq - 1}",
        f"fsync fleet.next {seq - 1}",
        f"fsync fleet.jsonl {seq - 1}",
        f"rename fleet.next {seq - 1}",
        f"fsync .fleet {seq - 1}",
    ]
    assert ledger._mark
    assert ledger._mark.synced == seq + 1
    done.clear()
    beat(ledger)
    ledger.sync()
    assert done == [f"fdatasync fleet.jsonl {seq + 1}"]


@pytest.mark.parametrize("step", EACH_STEP)
def test_a_power_loss_that_undoes_the_rename_loses_nothing_acknowledged(
    tmp_path: Path, step: str
) -> None:
    ledger = a_ledger(tmp_path)
    seq, folder = ledger.seq, ledger.dir
    ledger.close()
    assert python(ROTATOR, str(folder), step).wait(30) == -9
    durable = STEPS.index(step) >= STEPS.index("settled")
    if not durable and "000001.jsonl" in segments(tmp_path):
        (folder / "fleet.jsonl").unlink()
        (folder / "fleet.jsonl").hardlink_to(folder / "segments" / "000001.jsonl")
    (folder / "fleet.next").write_bytes(b"\0" * 50)
    set_watermark(tmp_path, boot=b"another boot id.")
    after = Ledger.open(folder)
    assert after.seq == seq + durable
    beat(after)
    after.sync()
    assert verify(folder).ok
    assert after.rotate_if_due(1)
    report = verify(folder, detail=True)
    assert report.ok, report
    assert report.segments == 2 + durable


def test_the_files_that_a_state_covers_can_be_named(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    assert ledger.rotate_if_due(1)
    beat(ledger)
    ledger.sync()
    sealed, active = ledger.dir / "segments" / "000001.jsonl", ledger.dir / "fleet.jsonl"
    ends = [(path, path.stat().st_size) for path in (sealed, active)]
    assert list(ledger.files()) == ends
    reader.refresh()
    assert list(reader.files()) == ends
    data = b"".join(path.read_bytes()[:end] for path, end in reader.files())
    assert data.count(b"\n") == reader.seq
