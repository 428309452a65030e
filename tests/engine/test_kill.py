"""What a kill may do to a run of 200 tasks: nothing but cost time.

Real processes, killed by pid; each task writes a line of its own, so a task that ran twice shows.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ..cli.driver import LOOKS, look

TASKS = 200
WHEN = [pytest.param(1, marks=pytest.mark.slow), 60, pytest.param(150, marks=pytest.mark.slow)]
"""After how many lines of its tasks somebody is killed."""


def fleet(place: Path, *words: str, **options: object) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "codewhale_fleet", *words]
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        argv, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ask(place: Path, *words: str) -> tuple[int, str, str]:
    if words[0] in LOOKS:
        seen = look(place, *words)
        return seen.returncode, seen.stdout, seen.stderr
    process = fleet(place, *words)
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def spec(place: Path, at: int) -> None:
    """A run whose tasks each write a line; four of them, from the one at `at` on, wait for `go`."""
    write, hold = "echo t{0} >> ran", "echo t{0} >> ran; until test -e go; do sleep 0.05; done"
    written = [
        {"id": f"t{n}", "command": (hold if at <= n < at + 4 else write).format(n)}
        for n in range(TASKS)
    ]
    (place / "tasks.json").write_text(json.dumps({"name": "kill", "tasks": written}))


def go(place: Path) -> None:
    """Let go of what `spec` holds."""
    (place / "go").touch()


def until_ran(place: Path, lines: int) -> None:
    """Return when the tasks have written so many lines, which they may have done already."""
    from watchfiles import watch

    ran = place / "ran"
    for _ in watch(place, step=5, debounce=10, rust_timeout=100, yield_on_timeout=True):
        if ran.exists() and ran.read_text().count("\n") >= lines:
            return


def pids_of_runtime(place: Path) -> list[int]:
    """The runtime's two processes: its keeper first. A child about to start looks like it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--dir" in words and str(place / ".fleet").encode() in words:
            found.append(int(entry.name))
    parents = {pid: parent(pid) for pid in found if Path(f"/proc/{pid}").exists()}
    keepers = [pid for pid in parents if parents[pid] not in parents]
    return keepers + [pid for pid in parents if parents[pid] in keepers]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def records(place: Path) -> list[dict[str, object]]:
    """Every whole line: one may be coming in just now."""
    lines = (place / ".fleet/fleet.jsonl").read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def assert_each_ran_once(place: Path) -> None:
    ran = Counter((place / "ran").read_text().split())
    assert len(ran) == TASKS
    assert set(ran.values()) == {1}
    ended = [record["d"] for record in records(place) if record["k"] == "attempt.ended"]
    # Killed between its intent and the spawn, an attempt never was; another one follows it.
    ended = [end for end in ended if end.get("why") != "unspawned"]  # type: ignore[attr-defined]
    assert len(ended) == TASKS
    assert all(end.get("exit") == 0 for end in ended)  # type: ignore[attr-defined]
    assert ask(place, "ledger", "verify")[0] == 0


@pytest.mark.parametrize("at", WHEN)
def test_the_manager_is_killed_and_resume_completes_the_run(tmp_path: Path, at: int) -> None:
    spec(tmp_path, at)
    run = fleet(tmp_path, "run", "tasks.json", "--max-workers", "4")
    until_ran(tmp_path, at)
    run.kill()
    run.communicate()
    go(tmp_path)
    code, out, err = ask(tmp_path, "resume", "@last")
    assert code == 0, out + err
    assert_each_ran_once(tmp_path)


@pytest.mark.parametrize("at", WHEN)
def test_the_runtime_is_killed_and_every_exit_code_is_known(tmp_path: Path, at: int) -> None:
    spec(tmp_path, at)
    run = fleet(tmp_path, "run", "tasks.json", "--max-workers", "4")
    until_ran(tmp_path, at)
    os.kill(pids_of_runtime(tmp_path)[1], signal.SIGKILL)
    go(tmp_path)
    out, err = run.communicate(timeout=90)
    assert run.returncode == 0, out + err
    assert_each_ran_once(tmp_path)


def test_manager_and_runtime_are_killed_together(tmp_path: Path) -> None:
    spec(tmp_path, 50)
    run = fleet(tmp_path, "run", "tasks.json", "--max-workers", "4")
    until_ran(tmp_path, 50)
    os.kill(pids_of_runtime(tmp_path)[1], signal.SIGKILL)
    run.kill()
    run.communicate()
    go(tmp_path)
    code, out, err = ask(tmp_path, "resume", "@last")
    assert code == 0, out + err
    assert_each_ran_once(tmp_path)


@pytest.mark.slow
def test_a_second_run_waits_on_the_first_manager_and_takes_over_when_it_dies(
    tmp_path: Path,
) -> None:
    spec(tmp_path, 5)
    first = fleet(tmp_path, "run", "tasks.json", "--max-workers", "4")
    until_ran(tmp_path, 5)
    (tmp_path / "second.json").write_text(
        json.dumps({"tasks": [{"id": "b", "command": "cat pipe; echo b >> second"}]})
    )
    os.mkfifo(tmp_path / "pipe")
    second = fleet(tmp_path, "run", "second.json")
    with (tmp_path / "pipe").open("w"):  # its task runs, under the first manager
        first.kill()
        first.communicate()
    go(tmp_path)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, out + err
    assert (tmp_path / "second").read_text() == "b\n"
    assert max(r["d"]["epoch"] for r in records(tmp_path) if r["k"] == "manager.elected") >= 2  # type: ignore[index]
    assert ask(tmp_path, "wait", first_run(tmp_path))[0] == 0
    assert_each_ran_once_of(tmp_path, first_run(tmp_path))


def first_run(place: Path) -> str:
    return next(str(r["run"]) for r in records(place) if r["k"] == "run.created")


def assert_each_ran_once_of(place: Path, run: str) -> None:
    ran = Counter((place / "ran").read_text().split())
    assert len(ran) == TASKS
    assert set(ran.values()) == {1}
    finished = [r for r in records(place) if r["k"] == "run.finished" and r["run"] == run]
    assert len(finished) == 1


def lines_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stderr
    while word not in process.stderr.readline():
        assert select.select([process.stderr], [], [], 30)[0]


def test_ctrl_c_stops_in_order_and_the_run_is_resumable(tmp_path: Path) -> None:
    tasks = [{"id": f"s{n}", "command": f"echo s{n} >> ran; exec sleep 60"} for n in range(4)]
    (tmp_path / "t.json").write_text(json.dumps({"tasks": tasks}))
    run = fleet(tmp_path, "run", "t.json", "--max-workers", "2")
    until_ran(tmp_path, 2)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130, out + err
    status = json.loads(ask(tmp_path, "status", "--json")[1])
    assert status["counts"]["cancelled"] == 4
    again = fleet(tmp_path, "resume", "@last")
    until_ran(tmp_path, 4)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=30)


def test_a_second_ctrl_c_kills_what_ignores_the_first(tmp_path: Path) -> None:
    stubborn = "trap '' INT TERM; echo up >> ran; while :; do sleep 0.1; done"
    (tmp_path / "t.json").write_text(json.dumps({"tasks": [{"id": "s", "command": stubborn}]}))
    run = fleet(tmp_path, "run", "t.json")
    until_ran(tmp_path, 1)
    run.send_signal(signal.SIGINT)
    lines_until(run, "Ctrl-C")
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=8)
    assert run.returncode == 130, out + err
    ended = next(r["d"] for r in records(tmp_path) if r["k"] == "attempt.ended")
    assert ended["signal"] == 9  # type: ignore[index]


@pytest.mark.slow
def test_detach_answers_at_once_and_wait_ends_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(
        json.dumps({"tasks": [{"id": "s", "command": "cat pipe; exit 3"}]})
    )
    os.mkfifo(tmp_path / "pipe")
    code, out, err = ask(tmp_path, "run", "t.json", "--detach")
    assert code == 0, out + err
    waiting = fleet(tmp_path, "wait", "@last")
    (tmp_path / "pipe").write_text("go")
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 1, out + err


@pytest.mark.slow
def test_modules_that_lie_in_a_workspace_are_nobodys_own(tmp_path: Path) -> None:
    for name in ("asyncio", "json", "logging", "random", "socket", "ssl", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the workspace')\n")
    (tmp_path / "t.json").write_text(json.dumps({"tasks": [{"id": "a", "command": "true"}]}))
    installed = Path(sys.executable).with_name("fleet")
    for words in (["run", "t.json", "--detach"], ["wait", "@last"]):
        done = subprocess.run([installed, *words], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done


@pytest.mark.slow
def test_a_closed_terminal_detaches_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(
        json.dumps({"tasks": [{"id": "s", "command": "echo up >> ran; cat pipe"}]})
    )
    os.mkfifo(tmp_path / "pipe")
    run = fleet(tmp_path, "run", "t.json")
    until_ran(tmp_path, 1)
    run.send_signal(signal.SIGHUP)
    run.communicate(timeout=30)
    (tmp_path / "pipe").write_text("go")
    assert ask(tmp_path, "wait", "@last", "--timeout", "30")[0] == 0
