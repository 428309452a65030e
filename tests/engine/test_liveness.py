"""From a host's facts to what a person reads: unknown ends, hung attempts, a host without means."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .test_kill import ask, pids_of_runtime, records
from .test_takeover import end

pytestmark = pytest.mark.slow

LIBFAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def spec(place: Path, *tasks: dict[str, Any]) -> None:
    (place / "t.json").write_text(json.dumps({"name": "r", "tasks": tasks}))


def answer(place: Path, *words: str) -> Any:
    _, out, err = ask(place, *words, "--json")
    assert out, err
    return json.loads(out)


def payloads(place: Path, word: str) -> list[dict[str, Any]]:
    return [r["d"] for r in records(place) if r["k"] == word]  # type: ignore[misc]


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    """A finished run whose task `a` ended with nobody there to see its exit status."""
    os.mkfifo(tmp_path / "go")
    os.mkfifo(tmp_path / "up")
    spec(
        tmp_path,
        {"id": "a", "command": "echo seen; echo $$ > up; read line < go"},
        {
            "id": "judged",
            "command": "echo yes > out.txt; echo $$ > up; read line < go",
            "scorer": {"kind": "file_exists", "path": "out.txt"},
        },
    )
    assert ask(tmp_path, "run", "t.json", "--detach", "--max-workers", "2")[0] == 0
    with (tmp_path / "up").open() as up:
        text = up.read()
    while len(text.split()) < 2:
        with (tmp_path / "up").open() as up:
            text += up.read()
    tasks = [int(word) for word in text.split()]
    manager = int(payloads(tmp_path, "manager.elected")[-1]["pid"])
    for pid in (manager, *pids_of_runtime(tmp_path)):
        end(pid)
    descriptors = [os.pidfd_open(pid) for pid in tasks]
    (tmp_path / "go").write_text("go\ngo\n")
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
    code, out, err = ask(tmp_path, "resume", "@last")
    assert code == 1, out + err
    return tmp_path


def test_an_exit_that_nobody_saw_is_unknown_on_every_face(unknown: Path) -> None:
    run = str(records(unknown)[1]["run"])
    ended = {end["attempt"]: end for end in payloads(unknown, "attempt.ended")}
    a, judged = ended[f"{run}/a@1"], ended[f"{run}/judged@1"]
    assert a["unknown"] is True and "exit" not in a and "signal" not in a
    assert a["receipt"] == {
        "result": "fail", "source": "transport", "scorer": "exit_code",
        "reason": "exit status was never seen",
    }  # fmt: skip
    assert judged["unknown"] is True and judged["receipt"]["result"] == "pass"

    status = answer(unknown, "status")
    assert status["failures"]["transport"] == 1 and status["failures"]["task"] == 0
    assert status["counts"]["completed"] == 1
    for receipt in answer(unknown, "receipts", "@last")["receipts"]:
        assert receipt["exit"] == "unknown"
    for name in ("a@1", "judged@1"):
        attempt = answer(unknown, "inspect", name)
        assert attempt["exit"] == "unknown" and attempt["ended"] == "exit unknown"
        assert attempt["rss_kb"] is None
    assert answer(unknown, "inspect", "a")["attempts"][0]["exit"] == "unknown"
    told = [line["sentence"] for line in answer(unknown, "explain", "a")["lines"]]
    assert any("failed (transport): exit status was never seen (exit unknown)" in s for s in told)
    assert any("passed (exit unknown)" in line["sentence"]
               for line in answer(unknown, "explain", "judged")["lines"])  # fmt: skip

    shown = ask(unknown, "inspect", "a@1")[1]
    assert "exit unknown" in shown and re.search(r"peak memory +unknown", shown)
    assert "exit 0" not in shown and "exit 1" not in shown
    assert "exit status was never seen" in ask(unknown, "receipts")[1]
    assert ask(unknown, "logs", "a")[1].splitlines()[-1].endswith("seen")
    for words in (("status",), ("receipts",), ("explain", "a"), ("inspect", "a"), ("logs", "a")):
        shown = "".join(ask(unknown, *words)[1:])
        assert "exit 0" not in shown and "exit 1" not in shown, words


@pytest.mark.slow
def test_a_hung_attempt_is_shown_and_one_with_a_policy_is_healed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0}
    spec(
        tmp_path,
        {"id": "hangs", "command": "read line < go", "stall_seconds": 0.5},
        {
            "id": "heals",
            "command": "[ -e once ] && exit 0; touch once; exec sleep 1000",
            "stall_seconds": 0.5,
            "retry_policy": policy,
        },
        {"id": "never", "command": "sleep 1000", "stall_seconds": 0.5, "retry_policy": policy},
    )
    assert ask(tmp_path, "run", "t.json", "--detach", "--max-workers", "3")[0] == 0
    while [one for one in answer(tmp_path, "status")["runs"] if one["done"] < 2]:
        from watchfiles import watch

        next(watch(tmp_path / ".fleet", rust_timeout=1000, yield_on_timeout=True))
    status = answer(tmp_path, "status")
    assert status["counts"]["stale"] == 1 and status["counts"]["completed"] == 1
    run = status["runs"][0]["run"]
    assert [(need["id"], need["next"]) for need in status["needs"]] == [
        (f"{run}/hangs", f"fleet inspect {run}/hangs@1"),
        (f"{run}/never", f"fleet explain {run}/never"),
    ]
    assert "is stale: no output, no processor time" in ask(tmp_path, "status")[1]
    inspected = answer(tmp_path, "inspect", "hangs")
    assert inspected["last_error"] == f"stale since {inspected['stale_since']}"
    assert answer(tmp_path, "inspect", f"{run}-local-1")["status"] == "unhealthy"
    stale = next(r["seq"] for r in records(tmp_path) if r["k"] == "worker.stale")
    told = answer(tmp_path, "explain", "hangs")
    assert told["stale_since"] and told["lines"][-1]["seq"] == stale
    never = answer(tmp_path, "explain", "never")
    assert never["restart_exhausted"] is True
    assert never["headline"] == f"{run}/never has timed out (task); its attempts are used up."
    assert answer(tmp_path, "inspect", "never")["restart_exhausted"] is True
    (tmp_path / "go").write_text("go\n")
    assert ask(tmp_path, "wait", "@last", "--timeout", "30")[0] == 1
    receipts = {one["task_id"]: one for one in answer(tmp_path, "receipts")["receipts"]}
    assert receipts["heals"]["result"] == "pass" and receipts["heals"]["attempt"] == 2
    assert receipts["never"]["result"] == "timeout" and receipts["never"]["restart_exhausted"]
    assert "hung: no output" in receipts["never"]["score"]["notes"]


@pytest.fixture
def lonely() -> Iterator[Path]:
    """A cgroup in which no process can make another one."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    (point,) = (
        Path(fields.split()[4])
        for fields, _, rest in (line.partition(" - ") for line in mounts)
        if rest.startswith("cgroup ") and "pids" in rest.split()[-1].split(",")
    )
    made = point / f"fleet-test-{os.getpid()}"
    made.mkdir()
    (made / "pids.max").write_text("1")
    yield made
    made.rmdir()


def test_a_start_that_the_host_had_no_means_for_is_no_fault_of_the_task(
    tmp_path: Path, lonely: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0, "retry_on": ["transport"]}
    spec(
        tmp_path,
        {"id": "first", "command": "echo up > up; read line < go"},
        {"id": "second", "command": "true", "retry_policy": policy},
    )
    os.mkfifo(tmp_path / "up")
    assert ask(tmp_path, "run", "t.json", "--detach", "--max-workers", "1")[0] == 0
    (tmp_path / "up").read_text()
    manager = payloads(tmp_path, "manager.elected")[-1]["pid"]
    keeper, runtime = (pid for pid in pids_of_runtime(tmp_path) if pid != manager)
    (lonely / "cgroup.procs").write_text(str(runtime))
    (tmp_path / "go").write_text("go\n")
    assert ask(tmp_path, "wait", "@last", "--timeout", "30")[0] == 1
    ends = [one for one in payloads(tmp_path, "attempt.ended") if "second" in one["attempt"]]
    assert len(ends) == 2
    for one in ends:
        assert one["unstarted"].startswith("spawn: ")
        assert one["receipt"]["source"] == "transport"
        assert one["receipt"]["reason"].endswith("Resource temporarily unavailable")
    told = ask(tmp_path, "explain", "second")[1]
    assert "failed (transport)" in told and "spawn: " not in told
    for pid in (runtime, keeper):
        end(pid)


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_wall_clock_that_jumps_under_a_manager_freezes_nothing(tmp_path: Path, jump: int) -> None:
    policy = {"max_attempts": 2, "initial_backoff_seconds": 1, "jitter": 0}
    script = "[ -e once ] && exit 0; touch once; exit 1"
    spec(tmp_path, {"id": "a", "command": script, "retry_policy": policy})
    offset = tmp_path / "offset"
    offset.write_text("+0")
    began = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "codewhale_fleet", "run", "t.json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={
            **os.environ, "LD_PRELOAD": LIBFAKETIME, "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )  # fmt: skip
    assert run.stderr
    while "retry" not in run.stderr.readline():
        pass
    offset.write_text(f"{jump:+d}")
    out, err = run.communicate(timeout=30)
    took = time.monotonic() - began
    assert run.returncode == 0, out + err
    assert 1 <= took < 15
    stamps = [str(record["ts"]) for record in records(tmp_path)]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_wall_clock_that_jumped_between_two_managers_freezes_nothing(
    tmp_path: Path, jump: int
) -> None:
    policy = {"max_attempts": 2, "initial_backoff_seconds": 1, "jitter": 0}
    script = "[ -e once ] && exit 0; touch once; exit 1"
    spec(tmp_path, {"id": "a", "command": script, "retry_policy": policy})

    def fleet(offset: int, *words: str) -> subprocess.Popen[str]:
        fake = {"LD_PRELOAD": LIBFAKETIME, "FAKETIME": f"{offset:+d}"}
        return subprocess.Popen(
            [sys.executable, "-m", "codewhale_fleet", *words],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **fake, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        )  # fmt: skip

    first = fleet(0, "run", "t.json")
    assert first.stderr
    while "retry" not in first.stderr.readline():
        pass
    first.kill()
    first.communicate()
    began = time.monotonic()
    out, err = (second := fleet(jump, "resume", "@last")).communicate(timeout=40)
    assert second.returncode == 0, out + err
    assert time.monotonic() - began < 15
    assert len(payloads(tmp_path, "attempt.ended")) == 2


BEATS_FAST = """
import sys
import codewhale_fleet.engine.manager as manager
manager.HEARTBEAT_RECORD_SECONDS = 0.2
from codewhale_fleet.cli import main
sys.exit(main(["run", "t.json"]))
"""


def test_a_runtime_that_is_stopped_has_no_heartbeat_until_it_goes_on(tmp_path: Path) -> None:
    from watchfiles import watch

    def beats() -> int:
        return len(payloads(tmp_path, "worker.heartbeat"))

    def until(wanted: int) -> None:
        for _ in watch(tmp_path / ".fleet", rust_timeout=20_000, yield_on_timeout=True):
            if beats() >= wanted:
                return

    os.mkfifo(tmp_path / "go")
    os.mkfifo(tmp_path / "up")
    spec(tmp_path, {"id": "a", "command": "echo up > up; read line < go"})
    run = subprocess.Popen([sys.executable, "-c", BEATS_FAST], cwd=tmp_path)
    (tmp_path / "up").read_text()
    _, runtime = (pid for pid in pids_of_runtime(tmp_path) if pid != run.pid)
    until(2)
    os.kill(runtime, signal.SIGSTOP)
    try:
        next(watch(tmp_path / ".fleet", rust_timeout=300, yield_on_timeout=True))
        stopped = beats()
        for _ in watch(tmp_path / ".fleet", rust_timeout=1000, yield_on_timeout=True):
            break
        assert beats() <= stopped + 1
    finally:
        os.kill(runtime, signal.SIGCONT)
    until(stopped + 3)
    (tmp_path / "go").write_text("go\n")
    assert run.wait(timeout=30) == 0
