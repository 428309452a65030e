"""Compaction: what is dropped, what stays, and that nobody can tell else."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.errors import Refused
from codewhale_fleet.ledger.compact import Compaction
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify

from .builders import (
    FAIL,
    PASS,
    a_run,
    an_attempt,
    beat,
    canonical,
    python,
    random_history,
)

LATER = "2999-01-01"
"""An instant before which every run has finished."""


def facts(ledger: Ledger) -> Any:
    """The state, without what compaction drops or what the file's offsets decide."""
    plain = canonical(ledger)
    for run in plain["runs"].values():
        for name in ("opened_at", "closed_at", "compacted"):
            del run[name]
        if run["status"] == "finished":
            for name in ("flights", "load", "claims", "behind", "open", "forgiven", "forgiven_seq"):
                del run[name]
            del run["questions"], run["data"]
            run["alerts"] = run["alerts"] and run["alerts"].shed()
            for task in run["tasks"].values():
                del task["rest"], task["priority"], task["has_claims"], task["not_before"]
    for name in ("seq", "ts", "latest"):
        del plain[name]
    plain["beats"] = {
        worker: ts
        for worker, ts in plain["beats"].items()
        if worker.rpartition("-local-")[0] in plain["open_runs"]
    }
    return plain


_JUDGING = e.AttemptEnded | e.AttemptLost | e.ReceiptRecorded


def judgements(ledger: Ledger) -> Any:
    """Every receipt of every finished run, with its attempt and the record that holds it."""
    found = []
    for run in ledger.state.runs.values():
        if run.status == "finished":
            for head, event in ledger.records(run.id, run.opened_at):
                late = isinstance(event, e.AttemptEnded) and event.late
                if isinstance(event, _JUDGING) and not late:
                    found.append((head.seq, head.ts, event.attempt, event.receipt))
    return sorted(found, key=lambda one: one[0])


def compact(ledger: Ledger, before: str = LATER, **options: bool) -> list[Any]:
    return Compaction(ledger, before, **options).run()


@pytest.mark.parametrize("seed", range(60))
def test_the_state_is_the_same_but_for_the_detail(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    ledger = Ledger.open(tmp_path / ".fleet", create=True)
    watchers = [Ledger.open(ledger.dir)]
    for _ in range(dice.randrange(1, 5)):
        random_history(ledger, dice, dice.randrange(5, 60))
        ledger.sync()
        assert ledger.rotate_if_due(1)
        watchers.append(Ledger.open(ledger.dir))
    random_history(ledger, dice, dice.randrange(30))
    ledger.sync()
    before, told = facts(ledger), judgements(ledger)
    behind = Ledger.open(ledger.dir)
    done = compact(ledger)
    report = verify(ledger.dir, detail=True)
    assert report.ok, report
    for one in (ledger, *watchers, behind, Ledger.open(ledger.dir)):
        one.refresh()
        assert facts(one) == before
        assert judgements(one) == told
    ledger.snapshot()
    assert facts(Ledger.open(ledger.dir)) == before
    assert report.compacted == len(done)
    assert compact(ledger) == []


# Killed anywhere ------------------------------------------------------------------------------

STEPS = ("read", "written", "recorded", "renamed", "synced")
COMPACTOR = """
    import os, signal, sys
    from pathlib import Path
    from codewhale_fleet.ledger.compact import Compaction
    from codewhale_fleet.ledger.store import Ledger
    left = [int(sys.argv[2])]
    def die(step):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    Compaction.at_step = staticmethod(die)
    Compaction(Ledger.open(Path(sys.argv[1])), "2999-01-01").run()
"""


def wide(tmp_path: Path) -> Ledger:
    """Three sealed segments: a run that is over in each, one over all of them, one that is open."""
    ledger = Ledger.open(tmp_path / ".fleet", create=True)
    with ledger.transaction("test") as transaction:
        a_run(transaction, "wide", 6)
        a_run(transaction, "open", 4)
    for number in range(3):
        with ledger.transaction("test") as transaction:
            a_run(transaction, f"r{number}", 2)
            for task in range(2):
                fact = 10 * number + 2 * task + 1
                an_attempt(transaction, f"r{number}", f"t{task}", fact, FAIL if task else PASS)
                an_attempt(transaction, "wide", f"t{2 * number + task}", fact + 1)
            an_attempt(transaction, "open", f"t{number}", 10 * number + 8)
            transaction.submit(c.FinishRun(run=f"r{number}", seconds=1.0))
            if number == 2:
                transaction.submit(c.FinishRun(run="wide", seconds=2.0))
        assert ledger.rotate_if_due(1)
    return ledger


def test_each_step_is_done_for_each_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    ledger = wide(tmp_path)
    monkeypatch.setattr(Compaction, "at_step", staticmethod(seen.append))
    assert [done.segment for done in compact(ledger)] == [3, 2, 1]
    assert seen == list(STEPS) * 3


KILLS = [
    pytest.param(count, marks=() if count % len(STEPS) == 2 else pytest.mark.slow)
    for count in range(1, 3 * len(STEPS) + 1)
]
"""Every step of each of three segments; one of each for the quick tests."""


@pytest.mark.parametrize("count", KILLS)
def test_whoever_compacts_may_be_killed_at_any_step(tmp_path: Path, count: int) -> None:
    ledger = wide(tmp_path)
    reader = Ledger.open(ledger.dir)
    before, told = facts(ledger), judgements(ledger)
    assert python(COMPACTOR, str(ledger.dir), str(count)).wait(30) == -9
    report = verify(ledger.dir, detail=True)
    assert report.ok, report
    renamed = (count - 1) // len(STEPS) + ((count - 1) % len(STEPS) >= STEPS.index("renamed"))
    assert report.compacted == renamed
    for one in (ledger, reader, Ledger.open(ledger.dir)):
        one.refresh()
        assert facts(one) == before
        assert judgements(one) == told
    assert len(compact(ledger)) == 3 - renamed
    assert sorted(path.name for path in (ledger.dir / "segments").iterdir()) == [
        f"{number:06d}.jsonl" for number in (1, 2, 3)
    ]
    assert verify(ledger.dir, detail=True).ok
    assert facts(Ledger.open(ledger.dir)) == before
    beat(ledger)
    ledger.sync()
    assert ledger.rotate_if_due(1)
    assert facts(Ledger.open(ledger.dir)) == facts(ledger)


# What is dropped, and what it says ------------------------------------------------------------


def words(ledger: Ledger, number: int) -> list[str]:
    text = (ledger.dir / "segments" / f"{number:06d}.jsonl").read_text()
    return [json.loads(line)["k"] for line in text.splitlines()]


def test_only_the_detail_of_old_finished_runs_goes(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    sealed = (ledger.dir / "segments" / "000001.jsonl").read_bytes()
    done = compact(ledger)
    kept = (ledger.dir / "segments" / "000001.jsonl").read_bytes()
    assert [(one.before, one.after) for one in done if one.segment == 1] == [
        (len(sealed), len(kept))
    ]
    bodies = {line[:-16] for line in sealed.splitlines()}
    header, *lines = kept.splitlines()
    new = [line for line in lines if line[:-16] not in bodies]
    assert [json.loads(line)["k"] for line in new] == ["run.summarized"]
    told = json.loads(header)["d"]
    assert told["original"] == hashlib.sha256(sealed).hexdigest()
    assert told["chain"] == json.loads(sealed.splitlines()[-1])["c"]
    dropped = [line for line in sealed.splitlines() if line[:-16] not in {x[:-16] for x in lines}]
    assert sum(told["dropped"].values()) == len(dropped)
    assert {json.loads(line)["run"] for line in dropped} == {"r0", "wide"}
    records = list(ledger.records())
    mine = [event for head, event in records if isinstance(event, e.LedgerCompacted)]
    assert [event.segment for event in mine] == [3, 2, 1]
    assert mine[-1].sha256 == hashlib.sha256(kept).hexdigest()
    assert [head.seq for head, _ in records] == sorted(head.seq for head, _ in records)


def test_a_run_that_is_younger_keeps_everything(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    old = ledger.state.runs["r0"].finished_ts
    assert compact(ledger, old) == []
    between = ledger.state.runs["r1"].finished_ts
    assert compact(ledger, between, whole=True) == [], "another finished run stands there"
    done = compact(ledger, between)
    assert [(one.segment, one.runs) for one in done] == [(1, 1)]
    full = ledger.hydrate("wide")
    assert full.tasks["t0"].raw == b'{"id":"t0","command":"true"}'
    again = compact(ledger)
    assert [one.segment for one in again] == [3, 2, 1]
    assert verify(ledger.dir, detail=True).ok
    assert Ledger.open(ledger.dir).hydrate("r0").tasks["t1"].reason == "exit 1"


def test_a_compacted_run_can_not_go_on_even_for_who_has_the_old_file(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    other = Ledger.open(ledger.dir)
    assert other.hydrate("r0").tasks["t1"].raw.endswith(b'"true"}')
    compact(ledger)
    for command in (
        c.ResumeRun(run="r0", failed=True),
        c.Restart(run="r0", tasks=("t1",), reason="again"),
    ):
        for one in (ledger, other, Ledger.open(ledger.dir)):
            with (
                pytest.raises(Refused, match=r"can't go on: its detail was dropped") as refused,
                one.transaction("test") as transaction,
            ):
                transaction.submit(command)
            assert "fleet receipts r0" in refused.value.hint


def test_a_run_that_somebody_brings_back_meanwhile_keeps_its_detail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = wide(tmp_path)
    other = Ledger.open(ledger.dir)

    def meanwhile(step: str) -> None:
        if step == "written" and other.state.runs["r2"].status == "finished":
            with other.transaction("test") as transaction:
                transaction.submit(c.ResumeRun(run="r2", failed=True))
            other.sync()

    monkeypatch.setattr(Compaction, "at_step", staticmethod(meanwhile))
    assert [(one.segment, one.runs) for one in compact(ledger)] == [(3, 1), (2, 2), (1, 2)]
    with other.transaction("test") as transaction:
        an_attempt(transaction, "r2", "t1", 99)
    fresh = Ledger.open(ledger.dir)
    other.sync()
    fresh.refresh()
    assert fresh.state.runs["r2"].tasks["t1"].attempt == 2
    assert facts(fresh) == facts(other)


def test_an_edited_compacted_file_is_found(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    compact(ledger)
    path = ledger.dir / "segments" / "000002.jsonl"
    good = path.read_bytes()
    for place in range(0, len(good), 37):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert not verify(ledger.dir).ok, place
    path.write_bytes(good)
    assert verify(ledger.dir).ok
    header, _, rest = good.partition(b"\n")
    assert rest
    forged = header[:-12].replace(b'"run.', b'"Run.')
    path.write_bytes(good.replace(header[:-12], forged) if forged != header[:-12] else good[:-1])
    assert not verify(ledger.dir).ok


def test_a_long_run_is_summed_up_in_lines_that_fit(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / ".fleet", create=True)
    with ledger.transaction("test") as transaction:
        a_run(transaction, "long", 3000)
        for number in range(3000):
            receipt = e.Receipt(result="fail", source="task", reason="x" * 9000)
            judged = receipt if number < 9 else FAIL
            an_attempt(transaction, "long", f"t{number}", number + 1, judged)
        transaction.submit(c.FinishRun(run="long", seconds=1.0))
    ledger.sync()
    assert ledger.rotate_if_due(1)
    compact(ledger)
    lines = (ledger.dir / "segments" / "000001.jsonl").read_bytes().splitlines()
    assert words(ledger, 1).count("run.summarized") >= 3
    assert max(map(len, lines)) < 256 * 1024
    full = Ledger.open(ledger.dir).hydrate("long")
    assert [task.id for task in full.order] == [f"t{number}" for number in range(3000)]
    assert len(judgements(ledger)) == 3000
