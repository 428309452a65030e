"""Controls against real runs: with a live manager, without one, and with one that has stalled.

What is waited for tells by itself: a task that is up writes a line, or opens a pipe.
"""

import json
import os
import select
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.engine import controls, handover, waiting
from codewhale_fleet.engine.session import Nobody, run_to_end
from codewhale_fleet.ledger.store import Ledger

from .test_kill import ask, fleet, pids_of_runtime, records, until_ran

pytestmark = pytest.mark.slow

DAEMON = (
    "(setsid sh -c 'trap \"\" INT TERM HUP; echo $$ > daemon; while :; do sleep 30; done' &) ;"
    "until test -s daemon; do :; done; echo up >> ran; exec sleep 300"
)
"""A daemon in a session of its own, twice forked, that no INT or TERM ends."""

SLEEPS = "echo up >> ran; exec sleep 300"


def begun(place: Path, *commands: str, workers: int = 2, up: int | None = None) -> None:
    """A detached run of tasks t1, t2, …; returns when as many are up as there are workers."""
    tasks = [{"id": f"t{number}", "command": text} for number, text in enumerate(commands, 1)]
    (place / "t.json").write_text(json.dumps({"name": "demo", "tasks": tasks}))
    code, out, err = ask(place, "run", "t.json", "-j", str(workers), "--detach")
    assert code == 0, out + err
    until_ran(place, min(workers, len(tasks)) if up is None else up)


def status(place: Path) -> dict[str, Any]:
    return json.loads(ask(place, "status", "--json")[1])  # type: ignore[no-any-return]


def manager_of(place: Path) -> int:
    return int(status(place)["manager"]["pid"])


def kill_manager(place: Path) -> None:
    """End it, and return when its socket is closed: a detached one is no child of ours."""
    pid = manager_of(place)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(descriptor)


def wait_for(descriptor: int, seconds: float = 40.0) -> None:
    """Until the process of a pidfd has ended."""
    assert select.select([descriptor], [], [], seconds)[0]
    os.close(descriptor)


def done(place: Path, *words: str) -> dict[str, Any]:
    code, out, err = ask(place, *words, "--json")
    assert code == 0, out + err
    return json.loads(out)  # type: ignore[no-any-return]


def ends(place: Path) -> dict[str, dict[str, Any]]:
    found = (record["d"] for record in records(place) if record["k"] == "attempt.ended")
    return {end["attempt"].partition("/")[2]: end for end in found}  # type: ignore[index]


def dispatched(place: Path) -> list[str]:
    found = (record["d"] for record in records(place) if record["k"] == "attempt.dispatched")
    return [end["attempt"].partition("/")[2] for end in found]  # type: ignore[index]


def watches(pid: int) -> bool:
    """Whether a process waits for news of files."""
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "inotify" in str(one.readlink()):
                return True
        except FileNotFoundError:
            continue
    return False


def processes_below(place: Path) -> list[int]:
    """Every process whose working directory is there: what tasks started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == place and (entry / "environ").read_bytes().find(
                    b"FLEET_ATTEMPT_ID="
                ) >= 0:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def place(tmp_path: Path) -> Any:
    """A directory whose runs are stopped at the end, whatever the test has left."""
    yield tmp_path
    begun = (tmp_path / ".fleet" / "fleet.jsonl").exists()
    if begun and any(run["status"] != "finished" for run in status(tmp_path)["runs"]):
        ask(tmp_path, "stop", "--all")


@pytest.mark.parametrize("managed", [True, False])
def test_what_an_attempt_started_dies_with_it_daemons_too(place: Path, managed: bool) -> None:
    begun(place, DAEMON)
    daemon = os.pidfd_open(int((place / "daemon").read_text()))
    assert processes_below(place)
    if not managed:
        kill_manager(place)
    answer = done(place, "interrupt", "t1")
    assert processes_below(place) == []
    wait_for(daemon, 0.0)
    assert answer["attempts"][0]["stragglers"] >= 1
    assert ends(place)["t1@1"]["stragglers"] >= 1
    assert ends(place)["t1@1"]["why"] == "interrupted"


def test_without_a_manager_an_interrupt_places_nothing_else(place: Path) -> None:
    begun(place, SLEEPS, SLEEPS, workers=1)
    kill_manager(place)
    done(place, "interrupt", "@last")
    assert (dispatched(place), list(ends(place))) == (["t1@1"], ["t1@1"])
    assert status(place)["runs"][0]["status"] == "left alone"
    assert status(place)["manager"]["state"] == "left"


def test_with_a_manager_the_freed_slot_is_used(place: Path) -> None:
    begun(place, SLEEPS, SLEEPS, workers=1)
    worker = status(place)["runs"][0]["run"] + "-local-1"
    assert done(place, "interrupt", worker)["attempts"][0]["attempt"].endswith("/t1@1")
    until_ran(place, 2)
    assert dispatched(place) == ["t1@1", "t2@1"]


@pytest.mark.parametrize("managed", [True, False])
def test_stop_returns_when_the_run_is_finished(place: Path, managed: bool) -> None:
    begun(place, SLEEPS, SLEEPS, SLEEPS)
    if not managed:
        kill_manager(place)
    answer = done(place, "stop", "@last")
    assert (answer["runs"][0]["status"], answer["runs"][0]["counts"]) == (
        "finished",
        {"cancelled": 3},
    )
    assert processes_below(place) == []
    assert ask(place, "stop", "@last")[0] == 4


@pytest.mark.parametrize("managed", [True, False])
def test_restart_of_a_running_task_ends_its_attempt_and_makes_another(
    place: Path, managed: bool
) -> None:
    begun(place, SLEEPS)
    if not managed:
        kill_manager(place)
    answer = done(place, "restart", "t1@1")
    assert answer["attempts"][0]["status"] == "ended"
    until_ran(place, 2)
    assert dispatched(place) == ["t1@1", "t1@2"]
    assert status(place)["manager"]["state"] == "alive"


def test_restart_without_the_environment_pauses_and_resume_goes_on(place: Path) -> None:
    begun(place, "echo up >> ran; test -e go || exec sleep 300")
    kill_manager(place)
    for pid in pids_of_runtime(place):
        os.kill(pid, signal.SIGKILL)
    code, out, err = ask(place, "restart", "t1")
    assert code == 3, out + err
    assert "environment is gone" in out
    (place / "go").touch()
    code, out, err = ask(place, "resume", "@last")
    assert (code, "1 passed" in out) == (0, True), out + err


def test_restart_of_a_task_reopens_its_finished_run(place: Path) -> None:
    begun(place, "echo up >> ran", "exit 3", up=1)
    assert ask(place, "wait", "@last")[0] == 1
    done(place, "restart", "t1")
    assert ask(place, "wait", "t1")[0] == 0
    assert ask(place, "wait", "@last")[0] == 1
    assert dispatched(place).count("t1@2") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_ctrl_c_and_a_closed_terminal_leave_an_interrupt_going(
    place: Path, number: signal.Signals, code: int
) -> None:
    begun(place, "trap 'echo int >> ran' INT; echo up >> ran; while :; do sleep 0.05; done")
    kill_manager(place)
    asked = fleet(place, "interrupt", "t1")
    until_ran(place, 2)
    asked.send_signal(number)
    out, err = asked.communicate(timeout=30)
    assert asked.returncode == code, out + err
    assert ("is still ending" in out) == (number == signal.SIGINT)
    assert ask(place, "wait", "t1", "--timeout", "40")[0] == 1
    assert ends(place)["t1@1"]["signal"] == 15  # TERM, after the grace


@pytest.mark.slow
def test_who_waits_for_a_control_leaves_the_other_runs_to_their_manager(place: Path) -> None:
    begun(place, "trap 'echo int >> ran' INT; echo up >> ran; while :; do sleep 0.05; done")
    detached = os.pidfd_open(manager_of(place))
    asked = fleet(place, "interrupt", "t1")
    until_ran(place, 2)
    (place / "second.json").write_text(json.dumps({"tasks": [{"id": "b", "command": "true"}]}))
    assert ask(place, "run", "second.json")[0] == 0
    out, err = asked.communicate(timeout=40)
    assert asked.returncode == 0, out + err
    wait_for(detached)
    assert all(run["status"] == "finished" for run in status(place)["runs"])


def test_a_stalled_manager_is_shown_and_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PING_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "PONG_SECONDS", 0.4)
    begun(place, SLEEPS)
    pid = manager_of(place)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = status(place)
        while answer["manager"]["state"] == "alive":  # it wrote within the last second
            assert not select.select([descriptor], [], [], 0.2)[0]  # it lets few in
            answer = status(place)
        assert answer["manager"]["state"] == "silent"
        assert answer["needs"][0]["next"] == f"kill -CONT {pid}"
        assert f"(process {pid}) does not answer" in ask(place, "status")[1]
        with Ledger.open(place / ".fleet") as ledger:
            run = next(iter(ledger.state.open_runs))
            control = controls.stop(ledger, [run], reason="enough", by="cli:user")
            assert not controls.see_through(ledger, control, Nobody()).interrupted
            assert ledger.state.runs[run].status == "finished"
            assert ledger.state.epoch == 2
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(descriptor)  # overtaken, it can append nothing, and goes
    assert [record["k"] for record in records(place)].count("run.finished") == 1


def test_who_waits_for_a_run_takes_it_over_from_a_stalled_manager(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PING_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "PONG_SECONDS", 0.4)
    begun(place, "echo up >> ran; until test -e go; do sleep 0.05; done", "true", workers=1)
    pid = manager_of(place)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        (place / "go").touch()
        with Ledger.open(place / ".fleet") as ledger:
            run = next(iter(ledger.state.open_runs))
            run_to_end(ledger, run, asker=None, observer=Nobody())
            assert ledger.state.runs[run].result == "completed"
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(descriptor)
    assert (dispatched(place), len(ends(place))) == (["t1@1", "t2@1"], 2)


def test_a_fleet_removed_under_its_manager_ends_it_and_whoever_waits(tmp_path: Path) -> None:
    begun(tmp_path, "echo $$ > task; echo up >> ran; exec sleep 300")
    task = os.pidfd_open(int((tmp_path / "task").read_text()))
    manager = os.pidfd_open(manager_of(tmp_path))
    runtime = [os.pidfd_open(pid) for pid in pids_of_runtime(tmp_path)]
    waits = fleet(tmp_path, "wait", "@last")
    while not watches(waits.pid):
        pass
    joins = fleet(tmp_path, "resume", "@last")
    assert joins.stderr
    while "waiting on it" not in joins.stderr.readline():
        pass
    shutil.rmtree(tmp_path / ".fleet")
    signal.pidfd_send_signal(task, signal.SIGKILL)
    for process in (waits, joins):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err) == (5, False), out + err
        assert "was removed while it was in use" in err
    wait_for(manager, 60)
    for descriptor in runtime:
        os.close(descriptor)


def test_a_fleet_elsewhere_is_managed_from_there(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "work", tmp_path / "ledgers"
    place.mkdir()
    (place / ".fleet").write_text(f"dir: {elsewhere}\n")
    begun(place, 'echo up >> ran; echo "$FLEET_DIR" > named; exec sleep 300')
    named = (place / "named").read_text().strip()
    code, out, err = ask(tmp_path, "status", "--json", "--dir", named)
    assert (code, json.loads(out)["manager"]["state"]) == (0, "alive"), err
    code, out, err = ask(place, "stop", "@last")
    assert (code, "is stopped: 1 cancelled" in out) == (0, True), out + err


def test_a_poke_that_nobody_hears_says_so(tmp_path: Path) -> None:
    (tmp_path / ".fleet").mkdir()
    assert not handover.poke(tmp_path / ".fleet", "demo")
