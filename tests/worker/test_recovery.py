"""Runtimes and keepers are killed at any instant: nothing starts twice, no exit code is lost."""

from __future__ import annotations

import json
import random
import resource
import time
from pathlib import Path

import pytest

from codewhale_fleet.worker import limits
from tests.worker.driver import RUN, Gone, Manager, Message, is_alive


def test_an_attempt_outlives_its_runtime_and_its_exit_code_is_known(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up1")
    manager.fifo("up2")
    attempt = manager.start("a", ["sh", "-c", "echo x >> ran; echo > up1; read line < go; exit 7"])
    other = manager.start("b", ["sh", "-c", "echo y >> ran; echo > up2; read line < go; exit 8"])
    manager.until_up("up1", "up2")
    runtime = manager.hello["runtime"]
    manager.kill_runtime()

    assert manager.hello["runtime"] == runtime
    assert sorted(manager.hello["open"]) == [attempt, other] and manager.hello["runs"] == [RUN]
    for name in ("a", "b"):
        manager.start(name, ["sh", "-c", "echo again >> ran"])
    (manager.root / "go").write_text("go\ngo\n")
    assert manager.end_of(attempt)["exit"] == 7
    assert manager.end_of(other)["exit"] == 8
    assert sorted((manager.root / "ran").read_text().split()) == ["x", "y"]


def test_an_exit_while_no_runtime_lives_is_noted_by_the_keeper(manager: Manager) -> None:
    manager.fifo("ready")
    # The task kills the runtime (its parent) and is gone before another one can look.
    script = "kill -9 $PPID; exit 5"
    attempt = manager.start("a", ["sh", "-c", script])
    manager.line.hear_end()
    manager.dial(cursors={manager.hello["runtime"]: 0})
    assert manager.end_of(attempt)["exit"] == 5


def test_values_of_runs_outlive_the_runtime(manager: Manager) -> None:
    manager.environ({"PATH": "/usr/bin:/bin", "KEPT": "yes"})
    manager.run("a", ["true"])
    manager.kill_runtime()
    assert manager.hello["runs"] == [RUN]
    assert "KEPT=yes" in manager.out(manager.run("b", ["env"]))


@pytest.mark.slow
def test_an_end_that_the_keeper_could_not_note_is_told_as_unknown(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up")
    attempt = manager.start("a", ["sh", "-c", "echo > up; read line < go; exit 7"])
    manager.until_up("up")
    manager.kill_runtime()
    resource.prlimit(manager.keeper, resource.RLIMIT_FSIZE, (0, 0))  # as on a full disk
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["unknown"] is True and "exit" not in end and "signal" not in end


def test_values_of_idle_runs_go_when_there_are_too_many(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up")
    attempt = manager.start("a", ["sh", "-c", "echo > up; read line < go"])
    manager.until_up("up")
    values = {"base": {}, "allowed": {}}
    for number in range(limits.RUNS + 10):
        word = {"m": "environment", "run": f"other-{number}", "umask": 0o022, "values": values}
        manager.line.say(word)
    manager.line.say({"m": "ping"})
    manager.line.hear(lambda m: m.get("m") == "pong")
    manager.dial()
    known = manager.hello["runs"]
    assert known[:2] == [RUN, "other-11"] and len(known) == limits.RUNS
    manager.kill_runtime()
    assert sorted(manager.hello["runs"]) == sorted(known)
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 0


def test_stragglers_of_an_adopted_attempt_are_swept(manager: Manager) -> None:
    manager.fifo("ready")
    manager.fifo("go")
    script = "setsid sleep 1000 & echo $! > ready; read line < go"
    attempt = manager.start("a", ["sh", "-c", script])
    daemon = int(manager.says("ready"))
    manager.kill_runtime()
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["exit"] == 0 and end["stragglers"] == 1 and not is_alive(daemon)


def test_a_timeout_holds_across_a_kill_and_so_does_a_reason(manager: Manager) -> None:
    manager.fifo("up")
    late = manager.start("late", ["sleep", "1000"], timeout=0.6)
    asked = manager.start("asked", ["sh", "-c", "trap '' INT; echo > up; sleep 1000"], grace=0.5)
    manager.until_up("up")
    manager.line.say({"m": "interrupt", "attempt": asked, "why": "stopped"}, {"m": "ping"})
    manager.line.hear(lambda m: m.get("m") == "pong")
    manager.kill_runtime()
    assert manager.end_of(late)["why"] == "timeout"
    end = manager.end_of(asked)
    assert end["why"] == "stopped" and end["signal"] == 15


def test_without_a_keeper_the_runtime_goes_on_alone(manager: Manager) -> None:
    manager.fifo("go")
    attempt = manager.start("a", ["sh", "-c", "read line < go; exit 6"])
    manager.kill(manager.keeper)
    assert manager.run("b", ["sh", "-c", "exit 4"])["exit"] == 4
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 6


def test_with_both_dead_the_status_is_unknown_and_nothing_starts_again(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up1")
    manager.fifo("up2")
    attempt = manager.start("a", ["sh", "-c", "echo x >> ran; echo > up1; read line < go; exit 7"])
    gone = manager.start("b", ["sh", "-c", "echo $$ > pid; echo > up2; read line < go"])
    manager.until_up("up1", "up2")
    first = manager.pid
    manager.kill(manager.keeper)
    manager.kill(first)
    manager.kill(int((manager.root / "pid").read_text()))
    manager.dial(cursors={manager.hello["runtime"]: manager.cursor})

    assert manager.pid != first and manager.hello["runs"] == []
    end = manager.end_of(gone)
    assert end["unknown"] is True and "exit" not in end
    manager.environ({"PATH": "/usr/bin:/bin"})
    manager.start("a", ["sh", "-c", "echo again >> ran"])
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["unknown"] is True
    assert (manager.root / "ran").read_text() == "x\n"


def test_a_cursor_gets_what_it_has_not_seen_and_nothing_twice(manager: Manager) -> None:
    for name in ("a", "b", "c"):
        manager.run(name, ["true"])
    runtime = manager.hello["runtime"]
    assert manager.hello["journal"] == 0
    line = manager.dial(cursors={runtime: 1})
    assert manager.hello["journal"] == 3
    line.say({"m": "ping"})
    line.hear(lambda m: m.get("m") == "pong")
    assert [m["n"] for m in line.heard if "n" in m] == [2, 3]

    line = manager.dial(cursors={})  # what was acknowledged is still told while it is there
    line.say({"m": "ping"})
    line.hear(lambda m: m.get("m") == "pong")
    assert [m["n"] for m in line.heard if "n" in m] == [1, 2, 3]


def test_facts_are_told_byte_for_byte_as_they_stand_in_the_journal(manager: Manager) -> None:
    end = manager.run("a", ["sh", "-c", "echo hello"])
    journal = (manager.fleet / "runtime/journal.jsonl").read_text().splitlines()
    assert end in [json.loads(line) for line in journal if line.startswith('{"n":')]


def test_a_lower_epoch_is_closed_also_after_a_kill(manager: Manager) -> None:
    old = manager.line
    manager.dial(epoch=7)
    old.hear(lambda m: m.get("why") == "epoch")
    old.hear_end()
    manager.kill(manager.pid)
    with pytest.raises(Gone):
        manager.dial(epoch=6)
    manager.epoch = 7
    manager.dial()
    assert manager.hello["epoch"] == 7


def test_a_spawn_that_never_happened_is_told_as_unstarted(manager: Manager) -> None:
    manager.run("a", ["true"])
    attempt = f"{RUN}/b@1"
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    plan = {"root": str(manager.root), "out": "logs/b.out", "err": "logs/b.err"}
    intent = {"f": "intent", "a": attempt, "s": f"{RUN}-local-1", "t": now, "p": plan}
    with (manager.fleet / "runtime/journal.jsonl").open("a") as journal:
        journal.write(json.dumps(intent, separators=(",", ":")) + "\n")
    manager.kill_runtime()
    assert "killed just before" in manager.end_of(attempt)["unstarted"]
    manager.start("b", ["touch", "started"])
    manager.run("c", ["true"])
    assert not (manager.root / "started").exists()


GONE = (1 << 22) + 7
"""No process has this number: the kernel's highest is below it."""


def without(path: Path, beginning: str, torn: str = "") -> None:
    """Takes the lines out that begin so, as if the runtime had been killed before them."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith(beginning)]
    path.write_text("\n".join(lines) + "\n" + torn)


def test_a_spawn_without_its_pid_line_is_found_by_its_environment(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up")
    attempt = manager.start("a", ["sh", "-c", "echo > up; read line < go; exit 7"])
    manager.until_up("up")
    without(manager.fleet / "runtime/journal.jsonl", '{"f":"pid"', torn='{"f":"pid","a":"de')
    manager.kill_runtime()
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 7


def test_a_spawn_without_its_pid_line_that_ended_is_found_in_the_notes(manager: Manager) -> None:
    manager.run("other", ["true"])
    script = 'grep -v \'"f":"pid"\' J > K; cat K > J; kill -9 $PPID; exit 5'
    journal = str(manager.fleet / "runtime/journal.jsonl")
    attempt = manager.start("a", ["sh", "-c", script.replace("J", journal)])
    manager.line.hear_end()
    manager.dial()
    assert manager.end_of(attempt)["exit"] == 5


def test_a_killed_straggler_is_not_taken_for_an_attempt_without_its_pid_line(
    manager: Manager,
) -> None:
    """Both led a session and began in the same hundredth of a second, and both are noted."""
    manager.run("other", ["true"])
    journal = manager.fleet / "runtime/journal.jsonl"
    notes = manager.fleet / "runtime/exits.jsonl"
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    attempt = f"{RUN}/spawned@1"
    plan = {"root": str(manager.root), "out": "logs/s.out", "err": "logs/s.err"}
    intent = {"f": "intent", "a": attempt, "s": f"{RUN}-local-1", "t": since, "p": plan}
    swept = {"f": "swept", "pid": GONE, "t": since}
    straggler = {"pid": GONE, "signal": 9, "session": GONE, "start": since, "t": since + 0.001}
    leader = {"pid": GONE + 1, "exit": 5, "session": GONE + 1, "start": since, "t": since + 0.001}
    for path, lines in ((journal, (intent, swept)), (notes, (straggler, leader))):
        with path.open("a") as file:
            file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    manager.kill_runtime()
    assert manager.end_of(attempt)["exit"] == 5


def test_a_straggler_is_journalled_before_it_is_killed(manager: Manager) -> None:
    manager.fifo("left")
    manager.run("a", ["sh", "-c", "setsid sh -c 'echo $$ > left; exec sleep 600' & read p < left"])
    journal = (manager.fleet / "runtime/journal.jsonl").read_text()
    assert journal.count('{"f":"swept"') == 1


def test_another_boot_sets_the_journal_aside(manager: Manager) -> None:
    manager.run("a", ["true"])
    before = manager.hello["runtime"]
    path = manager.fleet / "runtime/journal.jsonl"
    path.write_text(path.read_text().replace(manager.hello["boot"], "another"))
    manager.kill_runtime()
    assert manager.hello["runtime"] != before and manager.hello["open"] == []
    assert path.with_name("journal.jsonl.old").exists()


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_killed_again_and_again_nothing_starts_twice_and_every_code_is_known(
    manager: Manager, seed: int
) -> None:
    chance = random.Random(seed)
    names = [f"t{number}" for number in range(120)]
    ended: dict[str, Message] = {}
    kills = 0
    while len(ended) < len(names):
        for name in names:
            if name not in ended:
                code = int(name[1:]) % 7
                script = f"echo {name} >> ran; exit {code}"
                manager.start(name, ["sh", "-c", script], slots=4)
        budget = chance.randrange(1, 25)
        try:
            while len(ended) < len(names):
                fact = manager.line.hear(lambda m: m.get("f") == "ended")
                name = fact["attempt"].rpartition("/")[2].partition("@")[0]
                assert name not in ended
                ended[name] = fact
                budget -= 1
                if budget == 0 and kills < 12:
                    time.sleep(chance.random() * 0.004)  # any instant will do
                    raise Gone
        except Gone:
            kills += 1
            manager.kill_runtime(cursor=max((int(f["n"]) for f in ended.values()), default=0))

    ran = (manager.root / "ran").read_text().split()
    assert len(ran) == len(set(ran)), "started twice"
    assert kills >= 5
    for name, fact in ended.items():
        if "unstarted" in fact:
            assert name not in ran and "killed just before" in str(fact["unstarted"])
        else:
            assert fact.get("exit") == int(name[1:]) % 7, json.dumps(fact)
