"""Runs that lose their manager, or the one who asked for them: somebody goes on, or says so."""

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import events as e
from codewhale_fleet.core import greeting
from codewhale_fleet.core.greeting import values_gone
from codewhale_fleet.core.state import State
from codewhale_fleet.engine import controls, hearing, manager, sockets, waiting
from codewhale_fleet.engine.runs import asker_environment, create_run
from codewhale_fleet.engine.session import Nobody, run_to_end
from codewhale_fleet.engine.signals import Signals
from codewhale_fleet.engine.waiting import Heard, Waiter
from codewhale_fleet.ledger.store import Ledger

from .test_controls import begun, ends, kill_manager, manager_of, place, status, wait_for
from .test_kill import ask, fleet, records, until_ran

__all__ = ["place"]

UNTIL_GO = "echo up >> ran; until test -e go; do sleep 0.05; done"


def made(place: Path, name: str, command: str) -> str:
    """A spec of one task, by its file's name."""
    spec = {"name": name, "tasks": [{"id": "t", "command": command}]}
    (place / f"{name}.json").write_text(json.dumps(spec))
    return f"{name}.json"


def runs(place: Path) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in status(place)["runs"]}


@pytest.mark.slow
def test_who_only_waits_for_a_run_that_is_over_takes_nothing_over(place: Path) -> None:
    assert ask(place, "run", made(place, "over", "true"))[0] == 0
    os.mkfifo(place / "pipe")
    first = fleet(place, "run", made(place, "first", "echo up >> ran; cat pipe"))
    until_ran(place, 1)
    assert ask(place, "run", made(place, "other", UNTIL_GO), "--detach")[0] == 0
    watcher = sockets.connect(place / ".fleet/manager.sock")
    assert watcher
    with watcher:
        watch = {"m": "watch", "run": runs(place)["over"]["run"]}
        watcher.sendall(json.dumps(watch).encode() + b'\n{"m":"ping"}\n')
        assert b"pong" in watcher.recv(4096)
        (place / "pipe").write_text("go")
        out, err = first.communicate(timeout=30)
        assert first.returncode == 0, out + err
        (place / "go").touch()
        assert ask(place, "wait", runs(place)["other"]["run"], "--timeout", "30")[0] == 0


class Bystander(Nobody):
    """Records another run, as somebody who dies then, once the first one is at work."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.left = ""

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        if not self.left and any(isinstance(event, e.AttemptStarted) for _, event in records):
            with Ledger.open(self.place / ".fleet") as ledger:
                tasks = [b'{"id":"t","command":"true"}']
                made = create_run(ledger, tasks, name="left", max_workers=1, workspace=self.place)
                self.left = made


@pytest.mark.slow
def test_a_run_whose_asker_died_before_it_gave_its_values_is_paused_and_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "HEARTBEAT_RECORD_SECONDS", 0.1)
    monkeypatch.setattr(greeting, "ARRIVE_SECONDS", 0.0)
    until = "until grep -q 'run[.]paused' .fleet/fleet.jsonl; do sleep 0.05; done"
    tasks = [json.dumps({"id": "t", "command": until}).encode()]
    watching = Bystander(place)
    with Ledger.open(place / ".fleet", create=True) as ledger:
        run = create_run(ledger, tasks, name="first", max_workers=1, workspace=place)
        run_to_end(ledger, run, asker=asker_environment([]), observer=watching)
        assert ledger.state.runs[run].result == "completed"
        assert ledger.state.runs[watching.left].reason == values_gone(watching.left)
    assert ask(place, "resume", watching.left)[0] == 0


def recorded(ledger: Ledger, place: Path, **scripts: str) -> list[str]:
    """Runs of one task each, in this order; nobody has begun to manage them."""
    return [
        create_run(
            ledger,
            [b'{"id":"t","command":"%b"}' % script.encode()],
            name=name,
            max_workers=1,
            workspace=place,
        )
        for name, script in scripts.items()
    ]


class Handing(Nobody):
    """Brings the values of a run that was recorded before, once another one is at work."""

    def __init__(self, place: Path, late: str) -> None:
        self.place, self.late = place, late
        self.brings: subprocess.Popen[str] | None = None

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        if any(isinstance(event, e.AttemptStarted) for _, event in records):
            self.brings = self.brings or fleet(self.place, "resume", self.late)


@pytest.mark.slow
def test_a_run_whose_values_are_on_their_way_as_a_manager_begins_is_not_paused(place: Path) -> None:
    until = "until test -e ran; do sleep 0.05; done"
    with Ledger.open(place / ".fleet", create=True) as ledger:
        late, first = recorded(ledger, place, late="touch ran", first=until)
        handing = Handing(place, late)
        run_to_end(ledger, first, asker=asker_environment([]), observer=handing)
        assert ledger.state.runs[first].result == "completed"
    assert handing.brings
    out, err = handing.brings.communicate(timeout=30)
    assert handing.brings.returncode == 0, out + err
    assert not [one for one in records(place) if one["k"] == "run.paused"]


@pytest.mark.slow
def test_a_run_whose_values_do_not_come_is_paused_soon_after_a_manager_began(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (greeting, hearing):
        monkeypatch.setattr(one, "ARRIVE_SECONDS", 1.0)
    until = "until grep -q 'run[.]paused' .fleet/fleet.jsonl; do sleep 0.05; done"
    with Ledger.open(place / ".fleet", create=True) as ledger:
        left, first = recorded(ledger, place, left="true", first=until)
        run_to_end(ledger, first, asker=asker_environment([]), observer=Nobody())
        assert ledger.state.runs[first].seconds < manager.HEARTBEAT_RECORD_SECONDS / 2
        assert ledger.state.runs[left].reason == values_gone(left)


@pytest.mark.slow
def test_who_replaces_a_stalled_manager_sees_that_its_other_runs_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PING_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "PONG_SECONDS", 0.4)
    begun(place, "echo up >> ran; exec sleep 300")
    assert ask(place, "run", made(place, "other", UNTIL_GO), "--detach")[0] == 0
    until_ran(place, 2)
    pid = manager_of(place)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        with Ledger.open(place / ".fleet") as ledger:
            (run,) = (run.id for run in ledger.state.runs.values() if run.name == "demo")
            control = controls.stop(ledger, [run], reason="enough", by="cli:user")
            controls.see_through(ledger, control, Nobody())
            assert ledger.state.runs[run].status == "finished"
        assert runs(place)["other"]["status"] == "running"
        (place / "go").touch()
        assert ask(place, "wait", runs(place)["other"]["run"], "--timeout", "30")[0] == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(descriptor)


@pytest.mark.slow
def test_an_interrupt_that_was_killed_leaves_a_run_that_says_so_and_the_next_one_heals(
    place: Path,
) -> None:
    begun(
        place, "trap 'echo int >> ran' INT; echo up >> ran; until test -e go; do sleep 0.05; done"
    )
    kill_manager(place)
    asked = fleet(place, "interrupt", "t1")
    until_ran(place, 2)
    asked.kill()
    asked.communicate()
    (row,), needs = status(place)["runs"], status(place)["needs"]
    assert (row["status"], needs[0]["next"]) == ("left alone", f"fleet resume {row['run']}")
    (place / "go").touch()
    code, out, err = ask(place, "interrupt", "t1")
    assert code == 0, out + err
    assert ends(place)["t1@1"]["why"] == "interrupted"
    assert status(place)["runs"][0]["status"] == "finished"


def test_what_happens_before_a_manager_has_heard_who_waits_is_not_missed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PING_SECONDS", 1000.0)
    so: list[bool] = []
    ours, managers = socket.socketpair()

    def manage() -> None:
        said = b""
        while b"ping" not in said:
            said += managers.recv(4096)
        so.append(True)  # nobody was told: it had happened before
        managers.sendall(b'{"m":"pong"}\n')

    managing = threading.Thread(target=manage, daemon=True)
    with Ledger.open(place / ".fleet", create=True) as ledger, ours, managers, Signals() as signals:
        waiter = Waiter(ours, ledger, Nobody(), lambda state: bool(so), run="r")
        managing.start()
        assert waiter.follow(signals) is Heard.OVER
        managing.join()


def test_a_key_pressed_as_the_manager_dies_is_no_error(place: Path) -> None:
    ours, managers = socket.socketpair()
    managers.close()
    with Ledger.open(place / ".fleet", create=True) as ledger, ours, Signals() as signals:
        waiter = Waiter(ours, ledger, Nobody(), lambda state: False, run="r")
        waiter.tell("kill")
        assert waiter.follow(signals) is Heard.GONE


@pytest.mark.slow
def test_a_runtime_that_fails_at_its_start_is_told_and_not_tried_for_ever(place: Path) -> None:
    (place / ".fleet/runtime/journal.jsonl").mkdir(parents=True)
    for folder in (place / ".fleet", place / ".fleet/runtime"):
        folder.chmod(0o700)
    code, out, err = ask(place, "run", made(place, "first", "true"))
    assert code == 6, out + err
    assert "ends before it says anything" in err and "runtime.err" in err
    assert "cannot go on" in (place / ".fleet/runtime/runtime.err").read_text()
    (place / ".fleet/runtime/journal.jsonl").rmdir()
    code, out, err = ask(place, "resume", "@last")
    assert (code, "1 passed" in out) == (0, True), out + err
