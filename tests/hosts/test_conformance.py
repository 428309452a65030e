"""What a road must be able to do: the seven operations, and that nothing is lost or done twice.

The same bodies for each road; where the work runs is looked at there, by pid and by file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from codewhale_fleet.engine import bundling
from tests.hosts.roads import NAMES, RUN, OnRoad, road, wait_for
from tests.worker.driver import Message, is_alive

pytestmark = pytest.mark.slow


@pytest.fixture(params=NAMES)
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnRoad]:
    with road(request.param, tmp_path, env_allowlist=["WANTED"]) as made:
        yield made


def interrupt(far: OnRoad, attempt: str, why: str = "interrupted", kill: bool = False) -> None:
    far.line.say({"m": "interrupt", "attempt": attempt, "why": why, "kill": kill})


# ---- start


def test_start_runs_a_program_and_tells_its_end(far: OnRoad) -> None:
    end = far.run("a", ["sh", "-c", "echo said; echo wrong >&2; pwd; exit 3"])
    assert end["exit"] == 3 and end["seconds"] >= 0 and end["cpu"] >= 0
    assert far.out(end) == f"said\n{far.root}\n"
    assert far.out(end, "err") == "wrong\n"
    for stream in ("out", "err"):
        log = end["logs"][stream]
        data = (far.fleet / log["path"]).read_bytes()
        assert (log["size"], log["dropped"]) == (len(data), 0)
        assert log["sha256"] == sha256(data).hexdigest()


def test_a_second_start_of_an_attempt_does_nothing_whoever_says_it(far: OnRoad) -> None:
    script = ["sh", "-c", "echo once >> times; echo up > ready; read line < go"]
    for name in ("ready", "go"):
        far.fifo(name)
    attempt = far.start("a", script)
    far.says("ready")
    assert far.start("a", script) == attempt
    far.again()
    assert attempt in far.hello["open"]
    far.start("a", script)
    far.settled()
    (far.root / "go").write_text("go\n")
    assert far.end_of(attempt)["exit"] == 0
    far.start("a", script)
    far.run("b", ["true"])
    assert (far.root / "times").read_text() == "once\n"
    ends = [m for m in far.line.heard if m.get("f") == "ended" and m["attempt"] == attempt]
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-program"], "is not found on PATH"),
        (["/no/such/program"], "does not exist"),
        (["./plain"], "is not executable"),
        ([""], "its command is empty"),
    ],
)
def test_what_cannot_start_says_why(far: OnRoad, argv: list[str], words: str) -> None:
    (far.root / "plain").write_text("")
    assert words in far.run("a", argv)["unstarted"]


def test_a_run_without_values_is_refused_by_name(far: OnRoad) -> None:
    plan = far.plan("x/a@1", ["true"])
    far.line.say({"m": "start", "attempt": "x/a@1", "slot": "x-w-1", "slots": 1, "plan": plan})
    refused = far.line.hear(lambda m: m.get("m") == "refused")
    assert (refused["attempt"], refused["why"]) == ("x/a@1", "values")


# ---- status


def test_status_is_what_is_open_and_what_has_started(far: OnRoad) -> None:
    for name in ("go", "up"):
        far.fifo(name)
    running = far.start("runs", ["sh", "-c", "echo up > up; read line < go"], slots=1)
    waiting = far.start("waits", ["true"], slots=1)
    far.says("up")
    started = far.line.hear(lambda m: m.get("f") == "started")
    assert started["attempt"] == running and started["pid"] in far.processes(running)
    far.again()
    assert far.hello["open"] == [running, waiting]
    assert far.hello["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert far.hello["cores"] >= 1 and RUN in far.hello["runs"]
    (far.root / "go").write_text("go\n")
    assert far.end_of(running)["exit"] == far.end_of(waiting)["exit"] == 0
    far.again()
    assert far.hello["open"] == []


def test_an_attempt_that_nobody_knows_is_no_status_and_no_end(far: OnRoad) -> None:
    interrupt(far, f"{RUN}/never@1")
    assert far.end_of(f"{RUN}/never@1")["why"] == "withdrawn"
    far.start("never", ["touch", "started"])
    far.run("b", ["true"])
    assert not (far.root / "started").exists()


# ---- logs


def test_a_long_log_comes_with_its_hole_and_its_digest(far: OnRoad) -> None:
    code = "import sys\nfor n in range(40): sys.stdout.write(chr(97 + n % 26) * (1 << 16))"
    end = far.run_python("a", code, log_limit=1 << 18)
    log = end["logs"]["out"]
    path = far.fleet / log["path"]
    assert log["size"] == 40 << 16 and path.stat().st_size == log["size"]
    assert 0 < log["dropped"] < log["size"]
    data = path.read_bytes()
    assert data.startswith(b"a" * (1 << 16)) and data.endswith(b"n" * (1 << 16))
    assert path.stat().st_blocks * 512 < 1 << 20


def test_what_an_attempt_leaves_is_here_when_its_end_is_told(far: OnRoad) -> None:
    end = far.run(
        "a",
        ["sh", "-c", "mkdir out; echo found > out/report.md; echo '{}' > v.json"],
        artifacts={"report": ["out/*.md"]},
        expected=["report", "log"],
        evidence=[{"path": "v.json", "cap": 100}, {"path": "../x"}, {"path": "none"}],
        keep=True,
    )
    (report,) = end["artifacts"]
    assert (report["kind"], report["path"], report["mime"]) == (
        "report",
        "out/report.md",
        "text/markdown",
    )
    kept = far.fleet / "evidence"
    assert (kept / report["sha256"]).read_text() == "found\n"
    assert (kept / end["evidence"]["v.json"]["sha256"]).read_text() == "{}\n"
    assert "outside" in end["evidence"]["../x"]["error"]
    assert "missing" in end["evidence"]["none"]["error"]
    assert end["missing"] == ["log"]


# ---- interrupt and stop


@pytest.mark.parametrize("why", ["interrupted", "stopped"])
def test_it_reaches_the_whole_process_group_and_what_left_it(far: OnRoad, why: str) -> None:
    far.fifo("ready")
    script = "sleep 1000 & setsid sleep 1000 & echo $$ > ready; wait"
    attempt = far.start("a", ["sh", "-c", script], grace=0.5)
    leader = int(far.says("ready"))
    wait_for(lambda: len(far.processes(attempt)) == 3)
    pids = far.processes(attempt)
    assert leader in pids
    interrupt(far, attempt, why)
    assert far.end_of(attempt)["why"] == why
    assert not any(map(is_alive, pids)) and not far.processes(attempt)


def test_who_does_not_listen_is_killed_and_at_once_where_that_is_asked(far: OnRoad) -> None:
    for name, kill in (("a", False), ("b", True)):
        far.fifo(f"ready-{name}")
        script = f"trap '' INT TERM; echo up > ready-{name}; while :; do sleep 1000; done"
        attempt = far.start(name, ["sh", "-c", script], grace=1000 if kill else 0.2)
        far.says(f"ready-{name}")
        interrupt(far, attempt)
        if kill:
            interrupt(far, attempt, kill=True)
        assert far.end_of(attempt)["signal"] == 9
        assert not far.processes(attempt)


def test_what_waits_is_withdrawn(far: OnRoad) -> None:
    for name in ("go", "up"):
        far.fifo(name)
    running = far.start("runs", ["sh", "-c", "echo up > up; read line < go"], slots=1)
    waiting = far.start("waits", ["touch", "started"], slots=1)
    far.says("up")
    interrupt(far, waiting, "stopped")
    end = far.end_of(waiting)
    assert end["why"] == "withdrawn" and "withdrawn" in end["unstarted"]
    (far.root / "go").write_text("go\n")
    far.end_of(running)
    assert not (far.root / "started").exists()


def test_time_that_is_up_ends_it_there(far: OnRoad) -> None:
    end = far.run("a", ["sleep", "1000"], timeout=0.3, grace=0.2)
    assert end["why"] == "timeout" and not far.processes(end["attempt"])


# ---- restart


def test_restart_is_another_attempt_after_the_end_of_the_first(far: OnRoad) -> None:
    far.fifo("ready")
    first = far.start("a", ["sh", "-c", "echo one >> times; echo up > ready; sleep 1000"])
    far.says("ready")
    interrupt(far, first, "stopped", kill=True)
    far.end_of(first)
    end = far.run("a@2", ["sh", "-c", "echo two >> times; cat times"])
    assert end["attempt"] == f"{RUN}/a@2" and far.out(end) == "one\ntwo\n"


# ---- cleanup


def test_stragglers_are_swept_at_every_end(far: OnRoad) -> None:
    end = far.run("a", ["sh", "-c", "setsid sh -c 'setsid sleep 1000 & sleep 1000' & echo $!"])
    assert end["exit"] == 0 and end["stragglers"] >= 1
    assert not far.processes(end["attempt"]) and not is_alive(int(far.out(end)))


def test_an_attempts_own_directory_goes_when_that_is_said(far: OnRoad) -> None:
    (far.root / "file").write_text("one\n")
    own = {"kind": "copy", "from": str(far.root), "directory": f"worktrees/{RUN}/a.1", "cwd": "."}
    script = ["sh", "-c", "pwd; echo two > file"]
    end = far.run("a", script, isolate={**own, "include": []})
    (patch,) = end["artifacts"]
    assert (patch["kind"], end["isolated"]) == ("patch", own["directory"])
    assert "+two" in (far.fleet / "evidence" / patch["sha256"]).read_text()
    place = far.state / own["directory"]
    assert far.out(end).strip() == str(place.resolve())
    assert (far.root / "file").read_text() == "one\n" and (place / "file").read_text() == "two\n"
    far.line.say({"m": "drop", "attempt": end["attempt"], "directory": own["directory"]})
    wait_for(lambda: not (far.state / "worktrees").exists())


# ---- files that travel


def bundled(far: OnRoad, name: str, wanted: list[str], kind: str = "bundle") -> Message:
    """The part of a plan that has an attempt run in a bundle of `here`, the workspace here."""
    made = {
        "isolate": {
            "kind": kind,
            "from": str(far.root),
            "directory": f"worktrees/{RUN}/{name}.1",
            "cwd": ".",
            "bundle": wanted,
        }
    }
    bundling.fill(made, str(far.fleet.parent), far.fleet)
    return made


def test_an_attempt_gets_its_bundle_and_its_writes_come_back_as_artifacts(far: OnRoad) -> None:
    here = far.fleet.parent
    (here / "src").mkdir()
    (here / "src/tool").write_text("#!/bin/sh\necho from the tool\n")
    (here / "src/tool").chmod(0o755)
    (here / "other").write_text("not included")
    (here / "big").write_bytes(data := os.urandom(5 << 20))
    script = "src/tool; ls; sha256sum < big; mkdir out; echo made > out/x.txt; pwd"
    argv = ["sh", "-c", script]
    made = bundled(far, "a", ["src", "big"])
    end = far.run("a", argv, artifacts={"made": ["out/*"]}, **made)
    said = far.out(end).splitlines()
    assert said[:3] == ["from the tool", "big", "src"]
    assert said[3].split()[0] == sha256(data).hexdigest()
    (artifact,) = end["artifacts"]
    assert (far.fleet / "evidence" / artifact["sha256"]).read_text() == "made\n"
    assert "isolated" not in end
    place = Path(said[4])
    assert place.parent.parent.parent == far.state.resolve()
    wait_for(lambda: not place.exists() and not list(place.parent.parent.glob("*/*")))
    assert not (far.root / "out").exists()


def test_what_is_changed_in_a_bundle_can_come_back_as_a_patch(far: OnRoad) -> None:
    here = far.fleet.parent
    (here / "file").write_text("one\n")
    made = bundled(far, "a", ["file"], "copy")
    end = far.run("a", ["sh", "-c", "echo two > file; echo new > added"], **made)
    (patch,) = end["artifacts"]
    done = subprocess.run(
        ["git", "apply", str(far.fleet / "evidence" / patch["sha256"])], cwd=here, check=False
    )
    assert done.returncode == 0
    assert (here / "file").read_text() == "two\n" and (here / "added").read_text() == "new\n"


def test_a_bundle_that_cannot_be_laid_out_is_no_fault_of_the_task(far: OnRoad) -> None:
    (far.fleet.parent / "file").write_text("x")
    made = bundled(far, "a", ["file"])
    digest = sha256(b"x").hexdigest()
    (far.fleet / "evidence" / digest).unlink()
    end = far.run("a", ["true"], **made)
    assert "file of its bundle has not come here" in end["unstarted"]
    end = far.run("b", ["true"], **bundled(far, "b", ["none"]))
    assert "its files cannot be bundled: none matches no file" in end["unstarted"]


def test_the_same_content_goes_once_to_a_host(far: OnRoad) -> None:
    (far.fleet.parent / "file").write_text("same\n")
    for name in ("a", "b", "c"):
        end = far.run(name, ["cat", "file"], **bundled(far, name, ["file"]))
        assert far.out(end) == "same\n"
        if name == "b":
            far.drop()
            far.again()
    if far.state != far.fleet:
        kept = far.state / "inputs" / sha256(b"same\n").hexdigest()
        came = kept.stat().st_ino
        far.again()
        far.run("d", ["cat", "file"], **bundled(far, "d", ["file"]))
        assert kept.stat().st_ino == came


def test_a_runtime_killed_while_a_bundle_is_in_use_keeps_and_clears_it(far: OnRoad) -> None:
    (far.fleet.parent / "file").write_text("x\n")
    for name in ("go", "up"):
        far.fifo(name)
    script = f"pwd > {far.root}/up; read l < {far.root}/go; echo late > made"
    made = bundled(far, "a", ["file"])
    attempt = far.start("a", ["sh", "-c", script], artifacts={"made": ["made"]}, **made)
    place = Path(far.says("up").strip())
    far.settled()
    far.kill(far.pid)
    far.line.hear_end()
    far.again()
    assert (place / "file").exists()
    (far.root / "go").write_text("go\n")
    (artifact,) = far.end_of(attempt)["artifacts"]
    assert (far.fleet / "evidence" / artifact["sha256"]).read_text() == "late\n"
    wait_for(lambda: not place.exists())


def test_a_runtime_that_is_asked_to_leave_leaves_nothing_behind(far: OnRoad) -> None:
    far.run("a", ["true"])
    pids = [far.keeper, far.pid]
    far.line.say({"m": "ack", "n": far.cursor}, {"m": "leave"})
    far.line.hear_end()
    for pid in pids:
        wait_for(lambda pid=pid: not is_alive(pid))
    left = {path.name for path in (far.state / "runtime").iterdir()}
    assert not left & {"runtime.sock", "journal.jsonl", "exits.jsonl"}
    far.dial()  # and the next one begins anew
    assert far.hello["pid"] not in pids
    far.environ(far.base)
    assert far.run("b", ["true"])["exit"] == 0


# ---- nothing lost, nothing twice


def test_after_a_drop_everything_is_told_from_the_cursor_on(far: OnRoad) -> None:
    first = far.run("a", ["echo", "one"])
    for name in ("go", "up"):
        far.fifo(name)
    attempt = far.start("b", ["sh", "-c", "echo up > up; read line < go; echo two"])
    far.says("up")
    far.settled()
    heard = far.cursor
    far.drop()
    (far.root / "go").write_text("go\n")
    wait_for(lambda: not far.processes(attempt))
    line = far.again()
    end = far.end_of(attempt)
    assert far.out(end) == "two\n"
    told = [m["n"] for m in line.heard if "n" in m]
    assert told == sorted(set(told)) and min(told) > heard >= first["n"]
    far.dial(cursors={})  # who knows nothing is told everything that was not acknowledged
    assert far.end_of(first["attempt"])["n"] == first["n"]


def test_a_hundred_ends_come_once_each_over_connections_that_break(far: OnRoad) -> None:
    count = 100
    script = "echo {0} >> done; sleep 0.05; echo {0}"
    for number in range(count):
        far.start(f"t{number}", ["sh", "-c", script.format(number)], slots=4)
    ends: list[Message] = []
    while len(ends) < count:
        ends.append(far.line.hear(lambda m: m.get("f") == "ended"))
        if len(ends) in (10, 40, 70):
            far.drop()  # what came meanwhile and was not looked at is told again
            far.dial(cursors={far.hello["runtime"]: ends[-1]["n"]})
    assert len({end["n"] for end in ends}) == len({end["attempt"] for end in ends}) == count
    done = (far.root / "done").read_text().split()
    assert sorted(map(int, done)) == list(range(count))
    for number in range(count):
        assert (far.fleet / f"logs/{RUN}/t{number}.1.out").read_text() == f"{number}\n"


def test_a_lower_epoch_is_refused_and_closed(far: OnRoad) -> None:
    old = far.line
    far.epoch = 7
    far.dial()
    fenced = old.hear(lambda m: m.get("m") == "refused")
    assert (fenced["why"], fenced["epoch"]) == ("epoch", 7)
    old.hear_end()
    far.dial(epoch=6)
    assert (far.hello["m"], far.hello["why"]) == ("refused", "epoch")
    far.line.hear_end()
    far.dial()
    assert far.hello["m"] == "hello" and far.hello["epoch"] == 7


def test_a_killed_runtime_is_followed_by_one_that_knows(far: OnRoad) -> None:
    for name in ("go", "up"):
        far.fifo(name)
    attempt = far.start("a", ["sh", "-c", "echo once >> times; echo up > up; read x < go; exit 5"])
    far.says("up")
    far.settled()
    far.kill(far.pid)
    far.line.hear_end()
    far.again()
    assert far.hello["open"] == [attempt]
    (far.root / "go").write_text("go\n")
    assert far.end_of(attempt)["exit"] == 5
    assert (far.root / "times").read_text() == "once\n"


# ---- the environment


def test_values_stand_in_no_command_line_while_they_are_used(far: OnRoad) -> None:
    value = f"planted-{os.urandom(8).hex()}"
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for process in Path("/proc").iterdir():
                try:
                    if value.encode() in (process / "cmdline").read_bytes():
                        seen.append(str(process))
                except OSError:
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        far.drop()
        far.again()
        far.environ(far.base, {"WANTED": value, "OTHER": "x" + value})
        code = "import os; print(os.environ['WANTED'], len(os.environ.get('OTHER', '')))"
        ends = [
            far.run(f"t{n}", [sys.executable, "-c", code], allow=["WANTED", "OTHER"], slots=2)
            for n in range(10)
        ]
    finally:
        stop.set()
        watching.join()
    assert all(far.out(end).split()[0] == value for end in ends)
    assert not seen


def test_an_environment_is_of_its_run_and_no_variable_of_the_road_is_in_it(far: OnRoad) -> None:
    end = far.run("a", ["env"], env={"ONE": "1"}, allow=["WANTED"])
    found = dict(line.partition("=")[::2] for line in far.out(end).splitlines())
    assert found["ONE"] == "1" and "WANTED" not in found
    strange = {name for name in found if name.startswith(("SSH_", "FLEET_RUNTIME"))}
    assert not strange
