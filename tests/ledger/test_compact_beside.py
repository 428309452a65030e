"""Compaction beside others: who appends, who reads, who asks in SQL."""

import time
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.ledger.compact import Compaction
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify

from .builders import a_ledger, python
from .test_compact import compact, judgements, wide

pytestmark = pytest.mark.slow

WRITER = """
    import sys
    from pathlib import Path
    from codewhale_fleet.core import commands as c
    from codewhale_fleet.ledger.store import Ledger
    ledger = Ledger.open(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        with ledger.transaction("writer") as transaction:
            transaction.submit(c.ReportBeat(workers=(sys.argv[3],)))
        ledger.sync()
    print("done", flush=True)
"""


READER = """
    import select, sys
    from pathlib import Path
    from codewhale_fleet.ledger.store import Ledger
    held = Ledger.open(Path(sys.argv[1]))
    print("ready", flush=True)
    turns = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        held.refresh()
        fresh = Ledger.open(Path(sys.argv[1]))
        for one in (held, fresh):
            for name in ("r0", "r150", "r299"):
                full = one.hydrate(name)
                assert [task.result for task in full.order] == ["pass"] * 5, name
                ends = one.records(name, full.opened_at, containing=b'"attempt.ended"')
                assert len(list(ends)) == 5, name
            one.state.runs["r0"].tasks = {}
        fresh.close()
        turns += 1
    print(turns, flush=True)
"""


def test_it_holds_up_nobody_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path, runs=300, tasks=5)
    assert ledger.rotate_if_due(1)
    writers = [python(WRITER, str(ledger.dir), "150", f"w{number}") for number in range(4)]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    readers = [python(READER, str(ledger.dir)) for _ in range(2)]
    for process in readers:
        assert process.stdout and process.stdout.readline() == "ready\n"
    reader = Ledger.open(ledger.dir)
    told = judgements(reader)
    held: list[float] = []
    lock = ledger._writers()[0]
    acquire, release = lock.acquire, lock.release
    began = [0.0]

    def timed_acquire() -> None:
        acquire()
        began[0] = time.thread_time()

    def timed_release() -> None:
        held.append(time.thread_time() - began[0])
        release()

    monkeypatch.setattr(lock, "acquire", timed_acquire)
    monkeypatch.setattr(lock, "release", timed_release)
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    done = compact(ledger)
    assert [one.runs for one in done] == [300]
    reader.refresh()
    assert judgements(reader) == told
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "done\n"
        assert writer.wait(30) == 0
    for process in readers:
        turns, _ = process.communicate("enough\n", timeout=60)
        assert process.returncode == 0
        assert int(turns) > 0
    ledger.refresh()
    beats = [event for _, event in ledger.records(start=(2, 0), containing=b"worker.heartbeat")]
    assert len(beats) == 600
    assert verify(ledger.dir, detail=True).ok
    assert held
    assert max(held) < 0.05, "seconds of the append lock"


def test_the_tables_say_the_same_of_a_compacted_ledger(tmp_path: Path) -> None:
    from codewhale_fleet.ledger.analytics import query

    ledger = wide(tmp_path)
    asked = (
        "SELECT run, status, tasks FROM runs ORDER BY run",
        "SELECT run, task FROM tasks ORDER BY run, task",
        "SELECT attempt, run, task, number, worker, ended, seconds, exit, result, source, reason, "
        "retry_after FROM attempts ORDER BY attempt",
        "SELECT * FROM receipts ORDER BY seq",
        "SELECT * FROM artifacts",
    )
    before = [query(ledger, sql) for sql in asked]
    assert [len(rows) for _, rows in before] == [5, 16, 15, 15, 0]
    monkey = pytest.MonkeyPatch()
    halfway: list[Any] = []

    def look(step: str) -> None:
        if step == "synced":
            halfway.append([query(Ledger.open(ledger.dir), sql) for sql in asked])

    with monkey.context() as patch:
        patch.setattr(Compaction, "at_step", staticmethod(look))
        compact(ledger)
    assert halfway == [before] * 3
    _, rows = query(ledger, "SELECT count(*) FROM records WHERE word = 'ledger.compacted'")
    assert rows == [(3,)]
