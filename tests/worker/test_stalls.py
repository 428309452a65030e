"""Attempts that do nothing are noticed, and so is that they move again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codewhale_fleet.worker.journal import Journal
from codewhale_fleet.worker.stalls import Stall
from tests.worker.driver import Manager, Message

pytestmark = pytest.mark.slow


def looks(stall: Stall, *seen: tuple[float, int, float]) -> list[str]:
    return [stall.look(now, output, cpu) for now, output, cpu in seen]


def test_silence_is_told_once_and_so_is_its_end() -> None:
    stall = Stall(4.0, False, 0.0)
    assert stall.every == 0.5
    assert looks(stall, *((n * 0.5, 0, 0.0) for n in range(1, 8))) == [""] * 7
    assert looks(stall, (4.0, 0, 0.0), (4.5, 0, 0.0)) == ["stale", ""]
    assert looks(stall, (5.0, 9, 0.0), (5.5, 9, 0.0)) == ["recovered", ""]
    assert stall.quiet == 0.5


def test_processor_time_counts_as_work_and_a_mere_wake_up_does_not() -> None:
    busy, waiting = Stall(80.0, False, 0.0), Stall(80.0, False, 0.0)
    for n in range(1, 20):
        assert busy.look(n * 10.0, 0, n * 0.06) == ""
        told = waiting.look(n * 10.0, 0, n * 0.01)
        assert told == ("stale" if n == 8 else "")


def test_time_that_nobody_looked_at_is_no_silence() -> None:
    stall = Stall(80.0, False, 0.0)
    assert looks(stall, (10.0, 0, 0.0), (10_000.0, 0, 0.0)) == ["", ""]
    assert stall.quiet == 30.0


def test_what_an_adopted_attempt_did_before_is_not_taken_for_a_move() -> None:
    stall = Stall(80.0, False, 0.0)
    stall.adopt(True)
    assert looks(stall, (10.0, 500, 7.0), (20.0, 500, 7.0)) == ["", ""]
    assert looks(stall, (30.0, 501, 7.0)) == ["recovered"]


def told(manager: Manager, attempt: str) -> list[str]:
    """The facts about an attempt, each once, as a manager with the cursor 0 would read them."""
    found: dict[int, Message] = {
        m["n"]: m for line in manager._lines for m in line.heard if m.get("attempt") == attempt
    }
    return [found[n]["f"] for n in sorted(found)]


def test_a_silent_attempt_is_stale_and_recovers_when_it_writes(manager: Manager) -> None:
    manager.fifo("go")
    script = "read line < go; echo moves; read line < go"
    attempt = manager.start("a", ["sh", "-c", script], stall=0.5)
    fact = manager.line.hear(lambda m: m.get("f") == "stale")
    assert fact["attempt"] == attempt and 0.5 <= fact["quiet"] < 3
    (manager.root / "go").write_text("go\n")
    assert manager.line.hear(lambda m: m.get("f") == "recovered")["attempt"] == attempt
    manager.line.hear(lambda m: m.get("f") == "stale")
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 0
    assert told(manager, attempt) == ["started", "stale", "recovered", "stale", "ended"]


def test_who_computes_or_lets_a_daemon_compute_is_not_stale(manager: Manager) -> None:
    spin = "end=$(($(date +%s%N) + 2000000000)); while [ $(date +%s%N) -lt $end ]; do :; done"
    one = manager.start("one", ["sh", "-c", spin], stall=1.0)
    daemon = f"setsid sh -c '{spin}' & sleep 1.8"
    two = manager.start("two", ["sh", "-c", daemon], stall=1.0)
    manager.end_of(one)
    manager.end_of(two)
    assert told(manager, one) == ["started", "ended"]
    assert told(manager, two) == ["started", "ended"]


def test_where_a_policy_can_heal_it_a_stale_attempt_is_ended(manager: Manager) -> None:
    attempt = manager.start("a", ["sleep", "1000"], stall=0.5, stall_ends=True)
    end = manager.end_of(attempt)
    assert end["why"] == "stall" and end["signal"] == 2
    assert told(manager, attempt) == ["started", "stale", "ended"]


@pytest.mark.slow
def test_that_it_is_stale_outlives_the_runtime_and_is_not_told_again(manager: Manager) -> None:
    manager.fifo("go")
    attempt = manager.start("a", ["sh", "-c", "read l < go; echo x; read l < go"], stall=0.5)
    manager.line.hear(lambda m: m.get("f") == "stale")
    manager.kill_runtime()
    witness = manager.start("witness", ["sleep", "1000"], stall=0.5)
    manager.line.hear(lambda m: m.get("f") == "stale" and m["attempt"] == witness)
    assert told(manager, attempt) == ["started", "stale"]
    (manager.root / "go").write_text("go\n")
    manager.line.hear(lambda m: m.get("f") == "recovered")
    assert told(manager, attempt) == ["started", "stale", "recovered"]


def test_compaction_keeps_that_it_is_stale(tmp_path: Path) -> None:
    attempt, directory = "r/a@1", tmp_path
    journal = Journal(str(directory), "boot", "v")
    intent = {"f": "intent", "a": attempt, "s": "s", "t": 1.0, "p": {}}
    journal.put(intent)
    journal.fact("started", {"attempt": attempt, "slot": "s"})
    journal.fact("stale", {"attempt": attempt, "slot": "s", "quiet": 1.0})
    journal.flush()
    journal.acknowledge(2)
    for _ in range(2):
        journal.compact({attempt})
        words = [json.loads(line)["f"] for line in (directory / "journal.jsonl").open()]
        assert words == ["runtime", "intent", "told", "stuck"]
        assert Journal(str(directory), "boot", "v").open[attempt].stale
    journal.fact("recovered", {"attempt": attempt, "slot": "s", "quiet": 1.0})
    journal.flush()
    journal.acknowledge(3)
    journal.compact({attempt})
    again = Journal(str(directory), "boot", "v").open[attempt]
    assert again.started and not again.stale
