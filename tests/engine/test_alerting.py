"""Messages to people across deaths: sent at least once, known again by their key, and by whom.

Real processes, killed by pid; a real receiver on loopback that keeps what comes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..alerts.receiver import Received, Receiver
from ..cli.driver import environment, look
from .test_kill import pids_of_runtime

CONFIG = """
[alerts]
enabled = true
routes = [{{ events = [{events}], adapter = "hook" }}, {{ events = ["stale"], adapter = "pager" }}]
[alerts.adapters.hook]
kind = "webhook"
url_env = "CODEWHALE_FLEET_WEBHOOK_URL"
secret_env = "CODEWHALE_FLEET_WEBHOOK_SECRET"
[alerts.adapters.pager]
kind = "pager_duty"
routing_key_env = "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY"
base_url = "{url}"
"""
FAILS = '"restart_exhausted"'


@contextmanager
def receiving(place: Path) -> Iterator[Receiver]:
    receiver = Receiver(place)
    try:
        yield receiver
    finally:
        if receiver.server.socket.fileno() >= 0:
            receiver.close()


class Fleet:
    """A directory with a fleet whose alerts go to a receiver."""

    def __init__(self, place: Path, receiver: Receiver, events: str = FAILS) -> None:
        self.place, self.receiver = place, receiver
        self.values = receiver.values
        text = CONFIG.format(events=events, url=receiver.url)
        (place / "fleet.toml").write_text(text)

    def spec(self, *commands: str, **more: Any) -> None:
        tasks = [
            {"id": f"t{number}", "command": command, **more}
            for number, command in enumerate(commands)
        ]
        (self.place / "s.json").write_text(json.dumps({"name": "night", "tasks": tasks}))

    def start(self, *words: str, bare: bool = False) -> "subprocess.Popen[str]":
        """A command in a process of its own; `bare`: without the values."""
        return subprocess.Popen(
            [sys.executable, "-m", "codewhale_fleet", *words],
            cwd=self.place,
            env=environment(**({} if bare else self.values)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: str, bare: bool = False) -> tuple[int, str, str]:
        process = self.start(*words, bare=bare)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err, err
        return process.returncode, out, err

    def records(self, *words: str) -> list[dict[str, Any]]:
        """Records of these words that are whole."""
        file = self.place / ".fleet/fleet.jsonl"
        data = file.read_bytes() if file.exists() else b""
        found = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return [one for one in found if not words or one["k"] in words]

    def until_recorded(self, word: str, count: int = 1) -> list[dict[str, Any]]:
        """Records of a word, once there are so many."""
        from watchfiles import watch

        ledger = self.place / ".fleet"
        until = time.monotonic() + 60
        while len(found := self.records(word)) < count:
            assert time.monotonic() < until, self.records()
            folder = ledger if ledger.exists() else self.place
            next(watch(folder, step=5, debounce=10, rust_timeout=200, yield_on_timeout=True))
        return found

    def end(self) -> None:
        """End the manager and the runtime that this left behind."""
        managers = [one["d"]["pid"] for one in self.records("manager.elected")]
        for pid in [*managers, *pids_of_runtime(self.place)]:
            if of_place(pid, self.place):
                os.kill(pid, signal.SIGKILL)


def of_place(pid: int, place: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text()
        return str(place) in words or Path(f"/proc/{pid}/cwd").readlink().is_relative_to(place)
    except OSError:
        return False


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with receiving(tmp_path) as receiver:
        made = Fleet(tmp_path, receiver)
        yield made
        made.end()


def keys(received: list[Received]) -> list[str]:
    return [one.key for one in received]


def status(fleet: Fleet) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(look(fleet.place, "status", "--json").stdout)
    return answer


def test_a_failure_is_told_while_the_run_goes_on_and_leaves_the_exit_code_alone(
    fleet: Fleet,
) -> None:
    fleet.spec("exit 3", "until test -e go; do sleep 0.05; done")
    run = fleet.start("run", "s.json")
    [told] = fleet.receiver.wait_for(1)
    (fleet.place / "go").touch()
    assert run.wait(60) == 1
    assert fleet.receiver.problems == []
    event = told.body["event"]
    assert (event["class"], event["status"], event["task_id"]) == (
        "restart_exhausted", "failed", "t0",
    )  # fmt: skip
    [sent] = fleet.records("alert.sent")
    assert sent["d"]["digest"].startswith("sha256:") and sent["d"]["adapter"] == "hook"
    assert event["key"].endswith(sent["d"]["key"])
    secret = fleet.receiver.secret.encode()
    assert secret not in (fleet.place / ".fleet/fleet.jsonl").read_bytes()
    assert status(fleet)["alerts"]["owed"] == 0


def killed_while_sending(fleet: Fleet) -> None:
    """A message hangs, its manager dies, and what still runs may end."""
    fleet.receiver.then("hang")
    fleet.spec("exit 3", "until test -e go; do sleep 0.05; done")
    run = fleet.start("run", "s.json")
    fleet.receiver.wait_for(1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert fleet.records("alert.sent") == []
    (fleet.place / "go").touch()


@pytest.mark.slow
def test_killed_between_sending_and_recording_the_same_message_comes_again(fleet: Fleet) -> None:
    killed_while_sending(fleet)
    assert fleet.ask("resume", "@last", bare=False)[0] == 1
    first, second = fleet.receiver.wait_for(2)
    assert first.key == second.key
    assert len(fleet.until_recorded("alert.sent")) == 1


@pytest.mark.slow
def test_killed_between_event_and_sending_the_next_manager_sends_with_values_it_was_never_given(
    fleet: Fleet,
) -> None:
    fleet.receiver.close()
    fleet.spec("exit 3", "until test -e go; do sleep 0.05; done")
    run = fleet.start("run", "s.json")
    fleet.until_recorded("attempt.ended")
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert fleet.records("alert.sent") == []
    fleet.receiver = Receiver(fleet.place, port=fleet.receiver.port)
    manager = fleet.start("manager", "--dir", str(fleet.place / ".fleet"), bare=True)
    [told] = fleet.receiver.wait_for(1)
    (fleet.place / "go").touch()
    manager.wait(60)
    fleet.receiver.close()
    assert told.problems == []
    assert len(fleet.records("alert.sent")) == 1


@pytest.mark.slow
def test_a_resume_from_a_shell_without_the_variables_takes_them_from_nobody(fleet: Fleet) -> None:
    killed_while_sending(fleet)
    assert fleet.ask("resume", "@last", bare=True)[0] == 1
    first, second = fleet.receiver.wait_for(2)
    assert first.key == second.key and fleet.receiver.problems == []
    assert len(fleet.until_recorded("alert.sent")) == 1
    assert status(fleet)["alerts"]["stuck"] == 0


@pytest.mark.slow
def test_a_run_that_is_over_leaves_what_is_owed_to_a_manager_that_stays_until_it_is_sent(
    fleet: Fleet,
) -> None:
    fleet.receiver.then(500, 429, retry_after="1")
    fleet.spec("exit 3")
    begun = time.monotonic()
    assert fleet.ask("run", "s.json")[0] == 1
    assert time.monotonic() - begun < 30
    fleet.receiver.wait_for(3)
    fleet.until_recorded("alert.sent")
    fleet.until_recorded("manager.left", 2)
    assert len(set(keys(fleet.receiver.received))) == 1
    delays = [one["d"] for one in fleet.records("alert.delayed")]
    assert [one["why"][:17] for one in delays] == ["answered HTTP 500", "answered HTTP 429"]
    assert 1.0 <= delays[1]["seconds"] <= 1.2
    assert status(fleet)["manager"]["state"] == "left"


@pytest.mark.slow
def test_a_receiver_that_hangs_holds_up_no_task_and_the_prompt_only_shortly(fleet: Fleet) -> None:
    fleet.receiver.then("hang")
    fleet.spec("exit 3", *(["true"] * 30))
    begun = time.monotonic()
    assert fleet.ask("run", "s.json")[0] == 1
    assert time.monotonic() - begun < 9
    fleet.receiver.wait_for(2)
    fleet.until_recorded("alert.sent")


@pytest.mark.slow
def test_when_the_values_are_gone_status_says_so_and_a_resume_that_has_them_sends(
    fleet: Fleet,
) -> None:
    fleet.receiver.then(500, 500)
    fleet.spec("exit 3")
    fleet.ask("run", "s.json")
    fleet.until_recorded("alert.delayed")
    fleet.end()
    manager = fleet.start("manager", "--dir", str(fleet.place / ".fleet"), bare=True)
    assert manager.wait(60) == 0
    [need] = [one for one in status(fleet)["needs"] if "alert" in one["why"]]
    assert need["why"].startswith("1 alert can't be sent: CODEWHALE_FLEET_WEBHOOK_URL")
    assert need["next"].startswith("fleet resume night-")
    before = len(fleet.receiver.received)
    code, _, err = fleet.ask(*need["next"].split()[1:])
    assert code == 1, err
    fleet.receiver.wait_for(before + 1)
    fleet.until_recorded("alert.sent")
    assert status(fleet)["alerts"]["stuck"] == 0


@pytest.mark.slow
def test_a_run_that_is_stopped_while_nobody_manages_it_is_told_of(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        fleet = Fleet(tmp_path, receiver, '"run_completed"')
        fleet.spec("touch begun; sleep 600", "true")
        run = fleet.start("run", "s.json", "--max-workers", "1")
        fleet.until_recorded("attempt.started")
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert fleet.ask("stop", "@last", bare=True)[0] == 0
        [told] = receiver.wait_for(1)
        assert told.body["event"]["reason"] == "cancelled: 0 of 2 passed, 2 cancelled"
        fleet.until_recorded("alert.sent")
        fleet.end()


@pytest.mark.slow
def test_an_incident_ends_when_what_hung_moves_again(fleet: Fleet) -> None:
    hang = (
        "until test -e move; do sleep 0.2; done; for n in 1 2 3 4 5 6; do echo x; sleep 0.2; done"
    )
    fleet.spec(hang, stall_seconds=1)
    run = fleet.start("run", "s.json")
    fleet.receiver.wait_for(1)
    (fleet.place / "move").touch()
    begin, end = fleet.receiver.wait_for(2)
    assert run.wait(60) == 0
    assert fleet.receiver.problems == []
    assert [one.body["event_action"] for one in (begin, end)] == ["trigger", "resolve"]
    assert begin.body["dedup_key"] == end.body["dedup_key"]
    recorded = [one["d"].get("action", "trigger") for one in fleet.until_recorded("alert.sent", 2)]
    assert recorded == ["trigger", "resolve"]


@pytest.mark.slow
def test_five_hundred_failures_are_two_messages_and_a_completed_run_is_one(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        fleet = Fleet(tmp_path, receiver, '"restart_exhausted", "run_completed"')
        fleet.spec(*(["false"] * 500))
        assert fleet.ask("run", "s.json")[0] == 1
        fleet.until_recorded("alert.sent", 3)
        events = [one.body["event"] for one in receiver.received]
        assert [(one["class"], one["count"]) for one in events] == [
            ("restart_exhausted", 1), ("restart_exhausted", 499), ("run_completed", 1),
        ]  # fmt: skip
        assert events[2]["reason"] == "failed: 0 of 500 passed, 500 failed"
        assert [one["d"]["count"] for one in fleet.records("alert.suppressed")] == [499]
        fleet.end()


def test_what_could_not_be_sent_from_here_is_refused_before_anything_is_recorded(
    tmp_path: Path,
) -> None:
    with receiving(tmp_path) as receiver:
        fleet = Fleet(tmp_path, receiver)
        fleet.spec("true")
        code, _, err = fleet.ask("run", "s.json", bare=True)
        assert code == 2 and "CODEWHALE_FLEET_WEBHOOK_URL is not set here" in err
        assert not (tmp_path / ".fleet").exists()
        text = (tmp_path / "fleet.toml").read_text()
        (tmp_path / "fleet.toml").write_text(
            text.replace("enabled = true", "enabled = true\ndry_run = true")
        )
        fleet.spec("exit 3")
        assert fleet.ask("run", "s.json", bare=True)[0] == 1
        assert [one["d"]["dry"] for one in fleet.records("alert.sent")] == [True]
        assert receiver.received == []
