import json
import random
import signal
import threading
from pathlib import Path
from zlib import crc32

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.decide import Known
from codewhale_fleet.errors import FleetError, Refused
from codewhale_fleet.ledger import fold
from codewhale_fleet.ledger.store import Fenced, Ledger
from codewhale_fleet.ledger.verify import verify

from .builders import (
    a_ledger,
    a_run,
    an_attempt,
    beat,
    canonical,
    python,
    random_history,
    tear,
)


def elect(ledger: Ledger, epoch: int) -> None:
    elected = e.ManagerElected(
        epoch=epoch, pid=1, host="h", boot="b", version="0", device=1, inode=1
    )
    with ledger.transaction("manager") as transaction:
        transaction.submit(c.Elect(elected=elected))


def lines_of(folder: Path) -> list[bytes]:
    return (folder / ".fleet" / "fleet.jsonl").read_bytes().splitlines(keepends=True)


def test_a_new_ledger_is_closed_to_others_and_has_an_id(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / ".fleet", create=True)
    assert ledger.state.fleet.startswith("fl-")
    assert len(ledger.state.fleet) == 13
    assert (tmp_path / ".fleet").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".fleet" / ".gitignore").read_text() == "*\n"
    for name in ("fleet.jsonl", "fleet.lock", "fleet.sync", "synced"):
        assert (tmp_path / ".fleet" / name).stat().st_mode & 0o777 == 0o600
    again = Ledger.open(tmp_path / ".fleet", create=True)
    assert again.state.fleet == ledger.state.fleet
    assert again.seq == 1


def test_no_fleet_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="there is no fleet in") as found:
        Ledger.open(tmp_path / ".fleet")
    assert (found.value.exit_code, found.value.hint) == (2, "To begin one here: fleet init")


def test_a_line_is_json_whose_last_field_is_the_rolling_crc(tmp_path: Path) -> None:
    a_ledger(tmp_path)
    chain = 0
    for number, line in enumerate(lines_of(tmp_path), 1):
        body = line[: line.rindex(b',"c":')]
        chain = crc32(body, chain)
        record = json.loads(line)
        assert record["seq"] == number
        assert record["c"] == f"{chain:08x}"
        assert next(iter(record)) == "k"
        assert list(record)[-1] == "c"
        assert line.endswith(b'"}\n')


def test_what_was_recorded_is_what_another_process_folds(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, runs=2)
    other = Ledger.open(tmp_path / ".fleet")
    assert other.seq == ledger.seq
    assert canonical(other) == canonical(ledger)
    with ledger.transaction("cli:user", epoch=None) as transaction:
        a_run(transaction, "late")
    ledger.sync()
    assert other.refresh() == 4
    assert other.state.open_runs["late"].slots == 2
    assert canonical(other) == canonical(ledger)


def test_asking_for_what_is_so_records_nothing(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    before = len(lines_of(tmp_path))
    with ledger.transaction("cli:user") as transaction:
        assert isinstance(transaction.submit(c.StartRun(run="r0", count=3)), Known)
    assert len(lines_of(tmp_path)) == before


def test_a_refusal_that_is_caught_leaves_the_rest_standing(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    with ledger.transaction("cli:user") as transaction:
        a_run(transaction, "two")
        with pytest.raises(Refused):
            transaction.submit(c.PauseRun(run="nowhere", reason="x"))
        transaction.submit(c.PauseRun(run="two", reason="x"))
    ledger.sync()
    assert Ledger.open(tmp_path / ".fleet").seq == ledger.seq
    assert ledger.state.runs["two"].status == "paused"


def test_an_exception_in_a_transaction_leaves_file_and_state_as_they_were(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    state, before, size = ledger.state, canonical(ledger), len(lines_of(tmp_path))
    with pytest.raises(RuntimeError), ledger.transaction("cli:user") as transaction:
        a_run(transaction, "never")
        raise RuntimeError
    assert "never" not in ledger.state.runs
    assert ledger.state is state
    assert canonical(ledger) == before
    assert len(lines_of(tmp_path)) == size
    beat(ledger)
    assert verify(tmp_path / ".fleet").ok


def test_a_manager_whose_epoch_is_over_is_fenced(tmp_path: Path) -> None:
    old = a_ledger(tmp_path)
    elect(old, 1)
    with old.transaction("manager", epoch=1) as transaction:
        transaction.submit(c.ReportBeat(workers=("w",)))
    elect(Ledger.open(tmp_path / ".fleet"), 2)
    size = len(lines_of(tmp_path))
    with pytest.raises(Fenced) as found, old.transaction("manager", epoch=1):
        raise AssertionError("never entered")
    assert found.value.exit_code == 4
    assert len(lines_of(tmp_path)) == size
    beat(old)  # the lock is free again


def test_a_line_that_is_too_long_is_refused_and_nothing_is_recorded(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    before = canonical(ledger)
    big = pytest.raises(FleetError, match="longer than the ledger's lines")
    with big, ledger.transaction("cli:user") as transaction:
        a_run(transaction, "big", spec="x" * 300_000)
    assert canonical(ledger) == before
    assert verify(tmp_path / ".fleet").ok


def test_listeners_hear_each_record_once_and_in_order(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    other = Ledger.open(tmp_path / ".fleet")
    heard: list[int] = []
    ledger.listener = lambda head, event: heard.append(head.seq)
    began = ledger.seq
    beat(ledger, 2)
    beat(other, 2)
    beat(ledger, 1)
    other.sync()
    assert heard == list(range(began + 1, began + 6))


def test_eight_processes_append_without_a_gap(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    began = ledger.seq
    code = """
        import sys
        from pathlib import Path
        from codewhale_fleet.core import commands as c
        from codewhale_fleet.ledger.store import Ledger
        ledger = Ledger.open(Path(sys.argv[1]))
        sys.stdin.readline()
        for number in range(25):
            with ledger.transaction("test:" + sys.argv[2]) as transaction:
                transaction.submit(c.ReportBeat(workers=(sys.argv[2], str(number))))
            ledger.sync()
            assert ledger._mark.synced >= ledger.seq
    """
    writers = [python(code, str(tmp_path / ".fleet"), str(number)) for number in range(8)]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0] * 8
    report = verify(tmp_path / ".fleet", detail=True)
    assert report.ok, report
    assert report.records == report.synced == began + 200
    assert ledger.refresh() == 200
    seen: dict[str, int] = {}
    for _, event in ledger.records(containing=b'"worker.heartbeat"'):
        assert isinstance(event, e.WorkerHeartbeat)
        assert int(event.workers[1]) == seen.get(event.workers[0], -1) + 1
        seen[event.workers[0]] = int(event.workers[1])
    assert set(seen.values()) == {24}


def test_a_reader_shows_only_what_is_durable(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(tmp_path / ".fleet")
    beat(ledger)
    assert reader.refresh() == 0
    ledger.sync()
    assert reader.refresh() == 1


def test_a_reader_takes_a_torn_line_for_not_yet_there_and_touches_nothing(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    tear(tmp_path)
    before = (tmp_path / ".fleet" / "fleet.jsonl").read_bytes()
    assert Ledger.open(tmp_path / ".fleet").seq == ledger.seq
    assert (tmp_path / ".fleet" / "fleet.jsonl").read_bytes() == before


def test_a_record_that_was_never_synced_becomes_durable_through_a_follower(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger)
    other = Ledger.open(tmp_path / ".fleet")
    assert other.seq == ledger.seq - 1
    other.settle()
    assert other.refresh() == 1


def test_sync_also_covers_what_others_wrote_and_never_synced(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger)
    other = Ledger.open(tmp_path / ".fleet")
    with other.transaction("cli:user") as transaction:
        assert transaction.state.seq == ledger.seq
    other.sync()
    assert verify(tmp_path / ".fleet").synced == ledger.seq


def test_signals_wait_until_the_transaction_is_over(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with ledger.transaction("cli:user") as transaction:
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            transaction.submit(c.ReportBeat(workers=("w",)))
            assert got == []
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_rows_of_a_finished_run_are_read_again_when_asked_for(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, runs=3)
    other = Ledger.open(tmp_path / ".fleet")
    assert not other.state.runs["r1"].tasks
    assert other.state.runs["r1"].counts == {"completed": 3}
    run = other.hydrate("r1")
    assert [task.result for task in run.order] == ["pass"] * 3
    assert canonical(other) == canonical(ledger)


def test_a_finished_run_can_be_restarted_by_a_process_that_has_no_rows(tmp_path: Path) -> None:
    a_ledger(tmp_path)
    other = Ledger.open(tmp_path / ".fleet")
    third = Ledger.open(tmp_path / ".fleet")
    with other.transaction("cli:user") as transaction:
        transaction.submit(c.Restart(run="r0", tasks=("t1",), reason="again"))
        an_attempt(transaction, "r0", "t1", 99)
    other.sync()
    third.refresh()
    assert third.state.runs["r0"].tasks["t1"].attempt == 2
    assert canonical(third) == canonical(other)


def test_records_are_found_by_run_and_by_their_bytes(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, runs=3)
    assert len(list(ledger.records())) == ledger.seq
    of_run = list(ledger.records("r1"))
    assert {head.run for head, _ in of_run} == {"r1"}
    assert len(of_run) == (ledger.seq - 1) // 3
    of_task = [event.word for _, event in ledger.records("r1", containing=b"r1/t2@")]
    assert of_task == ["attempt.dispatched", "attempt.ended"]
    run = ledger.state.runs["r1"]
    inside = list(ledger.records(start=run.opened_at, stop=run.closed_at))
    assert [head.seq for head, _ in inside] == [head.seq for head, _ in of_run]


def test_a_fold_that_skips_finished_runs_knows_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ledger = Ledger.open(folder / ".fleet", create=True)
        random_history(ledger, random.Random(seed), 60)
        ledger.sync()
        monkeypatch.setattr(fold, "SKIM_BYTES", 1 << 30)
        whole = Ledger.open(folder / ".fleet")
        monkeypatch.setattr(fold, "SKIM_BYTES", 0)
        skimmed = Ledger.open(folder / ".fleet")
        assert skimmed.state.cursors == ledger.state.cursors
        assert canonical(skimmed) == canonical(whole) == canonical(ledger), seed


def test_no_spec_can_forge_a_cursor_or_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    nasty = (
        b'{"id":"x","args":{"run":"r0","by":"me","src":["rt",99999],"k":"run.finished","c":"0"}}'
    )
    with ledger.transaction("cli:user") as transaction:
        created = e.RunCreated(name="n", digest="d", max_workers=2, workspace="/w")
        transaction.submit(c.CreateRun(run="n", created=created))
        transaction.submit(c.AddTasks(run="n", tasks=(nasty,)))
    with ledger.transaction("cli:user") as transaction:
        a_run(transaction, "done", 1)
        an_attempt(transaction, "done", "t0", 50)
        transaction.submit(c.FinishRun(run="done", seconds=1.0))
    ledger.sync()
    monkeypatch.setattr(fold, "SKIM_BYTES", 0)
    other = Ledger.open(tmp_path / ".fleet")
    assert other.state.cursors == {"rt": 50}
    assert bytes(other.state.runs["n"].tasks["x"].raw) == nasty
    assert canonical(other) == canonical(ledger)


def test_asker_and_idempotency_key_stand_in_the_line(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    with ledger.transaction('cli:"quoted"') as transaction:
        transaction.submit(c.ReportBeat(workers=("w",)), key="ask-1")
    record = json.loads(lines_of(tmp_path)[-1])
    assert (record["id"], record["by"]) == ("ask-1", 'cli:"quoted"')


def test_a_fleet_that_begins_while_it_is_opened_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".fleet"
    folder.mkdir(mode=0o700)
    (folder / "fleet.jsonl").touch(mode=0o600)
    fold = Ledger._fold
    begun: list[Ledger] = []

    def folded(ledger: Ledger, limit: int | None, *, fresh: bool = False) -> int:
        found = fold(ledger, limit, fresh=fresh)
        if not begun:
            begun.append(ledger)
            begun.append(Ledger.open(folder, create=True))
        return found

    monkeypatch.setattr(Ledger, "_fold", folded)
    slow = Ledger.open(folder, create=True)
    slow.refresh()
    assert slow.state.fleet == begun[1].state.fleet
