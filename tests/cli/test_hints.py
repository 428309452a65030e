"""Who calls in a loop what one call does is told, once, at the third call."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import json

from codewhale_fleet.cli import hints
from codewhale_fleet.cli.hints import seen

from .driver import REPOSITORY, environment, fleet, spec, tasks
from .scene import Scene

UPTIME = "fleet exec --on {,} -- uptime"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that hints see; a list, so that a test can move it."""
    now = [1_790_000_000.0]

    def tick() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(hints.time, "time", tick)
    return now


def test_the_third_target_of_a_shape_brings_the_one_call(tmp_path: Path) -> None:
    where = str(tmp_path)
    assert seen(where, UPTIME, "web01") is None
    assert seen(where, UPTIME, "web02") is None
    hint = seen(where, UPTIME, "web03")
    assert hint and hint.endswith(
        "one call does them all: fleet exec --on web01,web02,web03 -- uptime"
    )
    assert seen(where, UPTIME, "web04") is None


def test_the_same_target_again_is_no_loop_over_targets(tmp_path: Path) -> None:
    assert [seen(str(tmp_path), UPTIME, "web01") for _ in range(5)] == [None] * 5


def test_calls_of_other_shapes_are_counted_apart(tmp_path: Path) -> None:
    shapes = [f"fleet exec --on {{,}} -- {one}" for one in ("uptime", "df", "w")]
    assert [seen(str(tmp_path), shape, f"web{at}") for at, shape in enumerate(shapes)] == [None] * 3


def test_a_shape_is_told_once_a_minute_and_again_after_it(
    tmp_path: Path, clock: list[float]
) -> None:
    told = []
    for at in range(40):
        clock[0] += 4
        if seen(str(tmp_path), UPTIME, f"web{at:02}"):
            told.append(at)
    assert told == [2, 17, 32]


def test_calls_that_are_a_minute_apart_are_no_loop(tmp_path: Path, clock: list[float]) -> None:
    for at in range(6):
        clock[0] += 31
        assert seen(str(tmp_path), UPTIME, f"web{at}") is None


def test_names_are_quoted_as_a_shell_needs_it(tmp_path: Path) -> None:
    for target in ("it's", "web[02]"):
        seen(str(tmp_path), "fleet wait { }", target)
    hint = seen(str(tmp_path), "fleet wait { }", "tab\there")
    assert hint
    words = hint.partition("all: ")[2]
    printed = subprocess.check_output(["sh", "-c", words.replace("fleet wait", r"printf '%s\n'")])
    assert printed.decode() == "it's\nweb[02]\ntab\there\n"


def test_the_memory_of_calls_stays_small_and_still_tells_once(
    tmp_path: Path, clock: list[float]
) -> None:
    told = []
    for at in range(800):
        if seen(str(tmp_path), UPTIME, f"{at:04}" + "x" * 150):
            told.append(at)
        assert (tmp_path / hints.FILE).stat().st_size <= hints.MAX_BYTES + 500
    assert told == [2]


def test_what_cannot_be_remembered_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / hints.FILE).write_bytes(b"\0\xff\tgarbage\n\n\t\t\t\n1.2.3\tx\ty\n")
    assert [bool(seen(str(tmp_path), UPTIME, one)) for one in "abc"] == [False, False, True]
    assert seen(str(tmp_path / "nowhere"), UPTIME, "a") is None
    assert seen(str(tmp_path), UPTIME, "a" * 10_000) is None


def test_one_of_many_callers_is_told_and_nobody_waits(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "sys.stdin.read()\n"
        "from codewhale_fleet.cli.hints import seen\n"
        "told = 0\n"
        "for at in range(125):\n"
        "    told += bool(seen(sys.argv[1], 'fleet exec --on {,} -- w', f'{os.getpid()}-{at}'))\n"
        "print(told)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    callers = [subprocess.Popen(argv, env=environment(), **pipes) for _ in range(4)]
    for one in callers:
        assert one.stdin
        one.stdin.close()
    assert sum(int(one.stdout.read()) for one in callers if one.stdout) == 1
    assert [one.wait() for one in callers] == [0] * 4


def test_remembering_a_call_takes_less_than_a_millisecond(tmp_path: Path) -> None:
    for at in range(500):
        seen(str(tmp_path), UPTIME, f"worker-with-a-name-{at}")
    took = []
    for at in range(50):
        began = time.process_time()
        seen(str(tmp_path), UPTIME, f"another-{at}")
        took.append(time.process_time() - began)
    assert sorted(took)[len(took) // 2] < 0.001


def test_logs_of_one_task_after_the_other_bring_the_logs_of_the_run(scene: Scene) -> None:
    names = ["a", "b", "c"]
    run = scene.run(*names)
    for name in names:
        attempt = scene.place(name)
        scene.ended(attempt, logs=scene.log(attempt, f"{name}\n"))
    for command in ("logs", "inspect", "receipts"):
        told = [scene.fleet(command, f"{run}/{name}") for name in names]
        assert [one.err for one in told[:2]] == ["", ""]
        assert told[2].err.startswith("hint: 3 calls")
        assert told[2].err.endswith(f"all: fleet {command} {run}\n")
        assert "hint" not in told[2].out
    assert scene.fleet("receipts", f"{run}/a").err == ""


def test_one_id_after_the_other_brings_all_of_them_in_one_call(scene: Scene) -> None:
    names = ["a", "b", "c"]
    run = scene.run(*names)
    for name in names:
        scene.place(name)
        scene.ended(f"{run}/{name}@1")
    scene.finish()
    told = [scene.fleet("wait", f"{run}/{name}") for name in names]
    assert ["hint" in one.err for one in told] == [False, False, True], told
    assert told[2].err.endswith(f"all: fleet wait {run}/a {run}/b {run}/c\n")


def test_in_json_a_hint_is_part_of_the_answer(scene: Scene) -> None:
    run = scene.run("a", "b", "c")
    told = [scene.fleet("inspect", f"{run}/{name}", "--json") for name in "abc"]
    assert [one.json.get("hint", "")[-14:] for one in told] == ["", "", f"inspect {run}"[-14:]]
    assert told[2].err == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["--each", "spec"])
def test_runs_of_one_task_bring_the_run_of_them_all(tmp_path: Path, way: str) -> None:
    said = []
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
        if way == "--each":
            line = ["--each", "-", "--", "wc", "-c", "{}"]
            said.append(fleet(tmp_path, "run", *line, given=name.encode()).stderr)
        else:
            text = tasks(f"wc -c {name}")
            said.append(fleet(tmp_path, "run", spec(tmp_path, text)).stderr)
    assert "hint:" not in said[0] + said[1]
    hint = said[2].splitlines()[-1]
    call = hint.partition("all: ")[2]
    assert call == "printf '%s\\n' one two three | fleet run --each - -- wc -c {}"
    shell = call.replace("fleet", f"{sys.executable} -m codewhale_fleet")
    done = subprocess.run(
        ["sh", "-c", shell], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert "3 passed" in done.stdout, done.stderr


@pytest.mark.slow
def test_runs_of_one_task_that_is_more_than_a_command_belong_into_one_spec(tmp_path: Path) -> None:
    answers = []
    for name in ("one", "two", "three"):
        text = tasks(f"echo {name}; true") + "timeout_seconds = 60\n"
        answers.append(fleet(tmp_path, "run", spec(tmp_path, text), "--json"))
    hints_of = [json.decode(one.stdout).get("hint", "") for one in answers]
    assert hints_of[:2] == ["", ""]
    assert "put each as [[tasks]] into one file" in hints_of[2]
    assert "hint" not in answers[2].stderr


def test_hints_import_nothing_that_a_call_does_not_have(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import codewhale_fleet.cli.hints\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    out = subprocess.check_output([sys.executable, "-c", code], env=env, text=True)
    new = {name for name in out.split() if not name.startswith("codewhale_fleet")}
    assert new <= {"zlib", "os", "time"}, new
