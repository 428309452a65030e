"""A runtime leaves when it is idle and everything is acknowledged; peers that err are closed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from pathlib import Path

import pytest

from codewhale_fleet.hosts import local
from tests.worker.driver import RUN, Gone, Line, Manager


def gone(pid: int) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 10)[0])
    finally:
        os.close(fd)


def test_asked_to_leave_it_waits_for_what_runs_and_removes_its_journal(manager: Manager) -> None:
    manager.fifo("go")
    attempt = manager.start("a", ["sh", "-c", "read line < go"])
    manager.line.say({"m": "leave"}, {"m": "ping"})
    manager.line.hear(lambda m: m.get("m") == "pong")
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    runtime, keeper = manager.pid, manager.keeper
    manager.line.say({"m": "ack", "n": end["n"]})
    manager.line.hear_end()

    assert gone(runtime) and gone(keeper)
    left = sorted(path.name for path in (manager.fleet / "runtime").iterdir())
    assert left == ["door", "lock", "runtime.err"]
    first = manager.hello["runtime"]
    manager.dial()
    assert manager.hello["runtime"] != first and manager.hello["journal"] == 0


def test_an_idle_runtime_leaves_by_itself(tmp_path: Path) -> None:
    fleet = tmp_path / ".fleet"
    line = Line(local.connect(fleet, idle_seconds=0.2))
    line.say({"m": "hello", "protocol": 1, "fleet": "f", "epoch": 1, "cursors": {}})
    hello = line.hear(lambda m: m["m"] == "hello")
    line.close()
    assert gone(hello["pid"])
    assert not (fleet / "runtime/journal.jsonl").exists()


HELLO = {"m": "hello", "protocol": 1, "fleet": "f", "cursors": {}}


def test_a_runtime_leaves_after_its_last_caller_was_fenced(tmp_path: Path) -> None:
    fleet = tmp_path / ".fleet"
    line = Line(local.connect(fleet, idle_seconds=0.2))
    line.say({**HELLO, "epoch": 5})
    hello = line.hear(lambda m: m["m"] == "hello")
    late = Line(local.connect(fleet, start=False))
    line.close()
    assert not select.select([os.pidfd_open(hello["pid"])], [], [], 0.5)[0]  # it rests, and stays
    late.say({**HELLO, "epoch": 4})
    late.hear(lambda m: m.get("why") == "epoch")
    assert gone(hello["pid"])


def test_somebody_who_died_in_the_door_does_not_keep_a_runtime(tmp_path: Path) -> None:
    fleet = tmp_path / ".fleet"
    line = Line(local.connect(fleet, idle_seconds=0.2))
    line.say({**HELLO, "epoch": 1})
    hello = line.hear(lambda m: m["m"] == "hello")
    with (fleet / "runtime/door").open("r+") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        line.close()
        before = descriptors(hello["pid"])
        assert not select.select([os.pidfd_open(hello["pid"])], [], [], 0.8)[0]
        assert descriptors(hello["pid"]) <= before
    assert gone(hello["pid"])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_runtime_whose_fleet_was_removed_leaves(tmp_path: Path) -> None:
    fleet = tmp_path / ".fleet"
    line = Line(local.connect(fleet, idle_seconds=0.3))
    line.say({"m": "hello", "protocol": 1, "fleet": "f", "epoch": 1, "cursors": {}})
    hello = line.hear(lambda m: m["m"] == "hello")
    fleet.rename(tmp_path / "elsewhere")
    line.close()
    assert gone(hello["pid"])


def test_what_is_not_acknowledged_keeps_it(manager: Manager) -> None:
    end = manager.run("a", ["true"])
    manager.line.say({"m": "leave"}, {"m": "ping"})
    manager.line.hear(lambda m: m.get("m") == "pong")
    manager.line.say({"m": "ping"})  # it has had the time to leave, and has not
    manager.line.hear(lambda m: m.get("m") == "pong")
    manager.line.say({"m": "ack", "n": end["n"]})
    manager.line.hear_end()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (b"nonsense\n", "not JSON"),
        (b"[1]\n", "not an object"),
        (b'{"m":"ping"}\n', "must be hello"),
        (b'{"m":"hello","protocol":9,"epoch":1,"cursors":{}}\n', "speaks protocol 1, not 9"),
        (b'{"m":"hello","protocol":1,"epoch":"1","cursors":{}}\n', "'epoch' must be of type int"),
        (b'{"m":"sing"}\n', "'sing'"),
        (b"\xff\n", "not JSON"),
    ],
)
def test_a_peer_that_speaks_wrongly_is_told_and_closed(
    manager: Manager, said: bytes, sentence: str
) -> None:
    road = local.connect(manager.fleet)
    road.sendall(said)
    line = Line(road)
    refused = line.hear(lambda m: m.get("m") == "refused")
    assert refused["why"] == "protocol" and sentence in refused["sentence"]
    line.hear_end()
    line.close()
    assert manager.run("a", ["true"])["exit"] == 0


def test_an_attempt_with_an_impossible_name_is_refused(manager: Manager) -> None:
    for name in ("plain", "run/task", f"{RUN}/a\nb@1", f'{RUN}/a"b@1', f"{RUN}/t@x"):
        plan = manager.plan(f"{RUN}/x@1", ["true"])
        word = {"m": "start", "attempt": name, "slot": "s-1", "slots": 1, "plan": plan}
        manager.line.say(word)
        assert manager.line.hear(lambda m: m.get("m") == "refused")["why"] == "attempt"


def test_a_plan_that_lacks_fields_ends_as_unstarted(manager: Manager) -> None:
    word = {"m": "start", "attempt": f"{RUN}/a@1", "slot": "s-1", "slots": 1}
    manager.line.say({**word, "plan": {"argv": ["true"]}})
    assert "cannot be followed" in manager.end_of(f"{RUN}/a@1")["unstarted"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": "soon"},
        {"log_limit": "much"},
        {"log_ceiling": [1]},
        {"grace": "long"},
        {"env": {"A": 1}},
        {"env": ["A"]},
        {"files": [{"path": 3}]},
        {"writable": [7]},
        {"out": 5},
    ],
)
def test_a_plan_with_fields_of_a_wrong_type_ends_as_unstarted(
    manager: Manager, wrong: dict[str, object]
) -> None:
    assert "cannot be" in manager.run("a", ["true"], **wrong)["unstarted"]
    assert manager.run("b", ["true"])["exit"] == 0


@pytest.mark.parametrize(
    "wrong", [{"artifacts": ["x"]}, {"artifacts": {"k": [3]}}, {"evidence": ["x"]}, {"expected": 3}]
)
def test_a_wrong_plan_of_what_to_collect_costs_only_the_collection(
    manager: Manager, wrong: dict[str, object]
) -> None:
    end = manager.run("a", ["true"], **wrong)
    assert end["exit"] == 0 and end["artifact_errors"]
    assert manager.run("b", ["true"])["exit"] == 0


def test_a_peer_that_does_not_read_is_closed_and_loses_nothing(manager: Manager) -> None:
    deaf = Line(local.connect(manager.fleet))
    deaf.say({"m": "hello", "protocol": 1, "fleet": "f", "epoch": 1, "cursors": {}})
    plan = manager.plan(f"{RUN}/x@1", ["true"])
    word = {"m": "start", "attempt": "no name " * 500, "slot": "s-1", "slots": 1, "plan": plan}
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(2000):  # each is refused by its name
            deaf.say(*(word for _ in range(50)))
    with contextlib.suppress(Gone):
        deaf.hear(lambda m: False)
    deaf.close()
    assert manager.run("a", ["true"])["exit"] == 0
