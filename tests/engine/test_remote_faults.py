"""What is killed, cut or away while a run is on workers far away: nothing lost, nothing twice.

Each task writes a line of its own there; a task that ran twice shows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import events as e
from codewhale_fleet.core import outbox
from codewhale_fleet.core.spec_hosts import SshHost
from codewhale_fleet.core.state import State
from codewhale_fleet.engine import manager, remotes
from codewhale_fleet.engine.session import Nobody, run_to_end
from codewhale_fleet.ledger.store import Ledger

from ..core.playbook import PAGER
from ..real.wire import boots
from .remote import Hosts, end, hosts_in
from .test_kill import ask, fleet

pytestmark = pytest.mark.slow

TASKS = 120
HOLD = "echo t{0} >> ran; until test -e go; do sleep 0.05; done"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_in(tmp_path) as made:
        yield made


def begun(hosts: Hosts) -> str:
    """A run over two workers of which some tasks have ended, and four on each wait for `go`."""
    for worker in ("one", "two"):
        hosts.serve(worker)
    tasks: list[dict[str, Any]] = [
        {"id": f"t{n}", "command": f"echo t{n} >> ran"} for n in range(TASKS)
    ]
    for n in range(30, 38):
        held = {"command": HOLD.format(n), "requires": {"target": ("one", "two")[n % 2]}}
        tasks[n].update(held)
    run = hosts.begin(tasks, {one: hosts.worker(one, slots=4) for one in hosts.servers})
    hosts.until("attempt.started", 8)
    return run


def goes_on(hosts: Hosts, run: str) -> None:
    """The rest of it: each task ran once, and everything of it was heard."""
    for server in hosts.servers.values():
        (server.work / "go").touch()
    hosts.wait(run)
    ran = [line for one in hosts.servers.values() for line in (one.work / "ran").open()]
    assert Counter(ran) == Counter(f"t{n}\n" for n in range(TASKS))
    ends = hosts.ends()
    assert len(ends) == TASKS and all(len(found) == 1 for found in ends.values())
    assert {found[0].get("exit") for found in ends.values()} == {0}
    assert not hosts.payloads("attempt.lost")


def test_a_killed_manager_is_followed_by_one_that_connects_again(hosts: Hosts) -> None:
    run = begun(hosts)
    end(hosts.manager())
    code, out, err = ask(hosts.place, "resume", run, "--detach")
    assert code == 0, out + err
    goes_on(hosts, run)
    assert len(hosts.payloads("manager.elected")) == 2


def test_a_killed_connector_is_followed_by_another(hosts: Hosts) -> None:
    run = begun(hosts)
    end(hosts.connector())
    goes_on(hosts, run)


def test_a_broken_connection_is_made_again(hosts: Hosts) -> None:
    run = begun(hosts)
    for server in hosts.servers.values():
        server.drop()
    goes_on(hosts, run)
    assert not hosts.payloads("worker.unreachable")


def test_a_server_that_is_away_for_a_while_is_waited_for(hosts: Hosts) -> None:
    run = begun(hosts)
    hosts.servers["one"].stop()
    hosts.until("worker.unreachable")
    hosts.servers["one"].start()
    goes_on(hosts, run)
    assert len(hosts.payloads("worker.unreachable")) == 1


@pytest.mark.parametrize("which", [1, 0])
def test_a_runtime_that_is_killed_there_loses_nothing(hosts: Hosts, which: int) -> None:
    run = begun(hosts)
    for worker in hosts.servers:
        os.kill(hosts.runtimes(worker)[which], signal.SIGKILL)
    goes_on(hosts, run)


def test_after_a_restart_of_a_machine_its_attempts_are_lost_and_made_again(
    hosts: Hosts, tmp_path: Path
) -> None:
    there = hosts.serve("there")
    script = (
        "echo $$ >> pids; echo changed > $FLEET_TASK_ID; test -e again && exit 0; exec sleep 300"
    )
    place = {"isolation": "copy"}
    retried = {"max_attempts": 2, "initial_backoff_seconds": 0}
    tasks = [
        {"id": "plain", "command": script, "retry_policy": retried},
        {"id": "own", "command": script, "workspace": place},
    ]
    run = hosts.begin(tasks, {"there": hosts.worker("there", slots=2)})
    hosts.until("attempt.started", 2)
    (there.work / "again").touch()
    there.stop()
    pids = [int(one["pid"]) for one in hosts.payloads("attempt.started")]
    for pid in (*hosts.runtimes("there"), *pids):
        end(pid)
    boot = tmp_path / "boot_id"
    boot.write_text("00000000-0000-4000-8000-000000000000\n")
    there.before = boots(boot)
    there.start()
    hosts.wait(run, code=1)
    (lost,) = hosts.payloads("attempt.lost")
    assert lost["attempt"] == f"{run}/plain@1" and "restarted" in lost["why"]
    (plain,) = hosts.ends()["plain"]
    assert plain["attempt"] == f"{run}/plain@2" and plain["exit"] == 0
    (own,) = hosts.ends()["own"]
    assert own["why"] == "restarted"
    (patch,) = own["artifacts"]
    assert "+changed" in (hosts.place / ".fleet/evidence" / patch["sha256"]).read_text()


def test_tasks_whose_only_worker_is_away_are_told_so_and_the_others_run(hosts: Hosts) -> None:
    there = hosts.serve("there")
    away = SshHost(host="127.0.0.1", port=1, user="nobody")
    workers = {"there": hosts.worker("there"), "away": hosts.worker("away", host=away)}
    tasks = [
        {"id": one, "command": "echo ran >> ran", "requires": {"target": one}} for one in workers
    ]
    run = hosts.begin(tasks, workers, patience=0.0)
    hosts.wait(run, code=1)
    (unplaced,) = hosts.payloads("task.unplaced")
    assert unplaced["tasks"] == ["away"]
    assert unplaced["receipt"]["source"] == "transport"
    assert "127.0.0.1" in unplaced["receipt"]["reason"]
    assert (there.work / "ran").read_text() == "ran\n"
    assert len(hosts.payloads("worker.unreachable")) == 1


def test_a_run_none_of_whose_workers_can_be_reached_ends_with_6(hosts: Hosts) -> None:
    away = SshHost(host="127.0.0.1", port=1, user="nobody")
    tasks = [{"id": f"t{n}", "command": "true"} for n in range(3)]
    workers = {"away": hosts.worker("away", host=away)}
    run = hosts.begin(tasks, workers, patience=0.2)
    hosts.wait(run, code=6)
    assert not hosts.payloads("attempt.dispatched")


def test_an_interrupt_and_a_stop_reach_what_runs_there(hosts: Hosts) -> None:
    there = hosts.serve("there")
    sleeps = "sleep 1000 & echo $! >> children; echo up >> ran; sleep 1000"
    tasks = [{"id": f"t{n}", "command": sleeps} for n in range(3)]
    run = hosts.begin(tasks, {"there": hosts.worker("there", slots=3)})
    hosts.until("attempt.started", 3)
    children = [os.pidfd_open(int(pid)) for pid in (there.work / "children").read_text().split()]
    code, out, err = ask(hosts.place, "interrupt", f"{run}/t0")
    assert code == 0, out + err
    (ended,) = hosts.until("attempt.ended")
    assert ended["why"] == "interrupted" and ended["attempt"] == f"{run}/t0@1"
    code, out, err = ask(hosts.place, "stop", run)
    assert code == 0, out + err
    assert len(hosts.until("attempt.ended", 3)) == 3
    hosts.until("run.finished")
    for child in children:
        signalled(child)


def signalled(child: int) -> None:
    import select

    assert select.select([child], [], [], 20)[0]
    os.close(child)


def test_what_is_to_end_where_nobody_can_be_reached_is_lost_at_the_second_ctrl_c(
    hosts: Hosts,
) -> None:
    there = hosts.serve("there")
    workers = {"there": hosts.worker("there")}
    spec = [{"id": "t", "command": "echo up >> ran; exec sleep 300"}]
    run = hosts.begin(spec, workers)
    hosts.until("attempt.started")
    there.stop()
    hosts.until("worker.unreachable")
    waits = fleet(hosts.place, "resume", run)
    assert waits.stderr is not None
    while "another manager" not in (line := waits.stderr.readline()):
        assert line, "it ended"
    waits.send_signal(signal.SIGINT)
    hosts.until("run.stopped")
    waits.send_signal(signal.SIGINT)
    (lost,) = hosts.until("attempt.lost")
    assert lost["receipt"]["source"] == "transport" and "may still run there" in lost["why"]
    waits.communicate(timeout=30)


def test_what_the_ledger_has_given_up_is_ended_when_the_host_is_there_again(hosts: Hosts) -> None:
    there = hosts.serve("there")
    workers = {"there": hosts.worker("there")}
    first = hosts.begin([{"id": "t", "command": "echo $$ > pid; exec sleep 300"}], workers)
    hosts.until("attempt.started")
    child = os.pidfd_open(int((there.work / "pid").read_text()))
    there.stop()
    hosts.until("worker.unreachable")
    waits = fleet(hosts.place, "stop", first)
    hosts.until("run.stopped")
    poke_kill(hosts.place, first)
    hosts.until("attempt.lost")
    waits.communicate(timeout=60)
    there.start()
    second = hosts.begin([{"id": "t", "command": "true"}], workers)
    hosts.wait(second)
    signalled(child)


class Stopping(Nobody):
    """Takes the server away once the task runs, and asks for the run's end once that is known."""

    def __init__(self, hosts: Hosts, run: str) -> None:
        self.hosts, self.run = hosts, run
        self.asks: subprocess.Popen[str] | None = None

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        if any(isinstance(event, e.AttemptStarted) for _, event in records):
            self.hosts.servers["there"].stop()
        if any(isinstance(event, e.WorkerUnreachable) for _, event in records):
            self.asks = fleet(self.hosts.place, "stop", self.run)


def test_the_end_of_what_nobody_can_reach_is_waited_for_a_while(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotes, "LOSE_SECONDS", 1.5)
    hosts.serve("there")
    tasks = [{"id": "t", "command": "exec sleep 300"}]
    run = hosts.create(tasks, {"there": hosts.worker("there")})
    seen = Stopping(hosts, run)
    with Ledger.open(hosts.place / ".fleet") as ledger:
        run_to_end(ledger, run, asker=hosts.asker(), observer=seen)
        assert ledger.state.runs[run].result == "failed"
    assert seen.asks
    seen.asks.communicate(timeout=30)
    (lost,) = hosts.payloads("attempt.lost")
    assert lost["receipt"]["source"] == "transport" and "may still run there" in lost["why"]


class Awaking(Nobody):
    """Takes the server away once the task runs, and brings it back once that is told people."""

    def __init__(self, hosts: Hosts) -> None:
        self.there = hosts.servers["there"]
        self.told: list[str] = []
        """Classes of what people are owed once it is."""

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        for head, event in records:
            if isinstance(event, e.AttemptStarted):
                self.there.stop()
            elif isinstance(event, e.WorkerStale):
                alerts = state.runs[head.run].alerts
                self.told = [topic.cls for topic in alerts.topics.values()] if alerts else []
                self.there.start()
            elif isinstance(event, e.WorkerRecovered):
                (self.there.work / "go").touch()


def test_people_are_told_of_what_runs_where_nobody_can_be_reached_for_long(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "HEARTBEAT_RECORD_SECONDS", 0.3)
    monkeypatch.setattr(outbox, "SILENT_SECONDS", 2.0)
    hosts.serve("there")
    tasks = [{"id": "t", "command": "until test -e go; do sleep 0.05; done"}]
    alerts = json.dumps({**PAGER, "dry_run": True}).encode()
    run = hosts.create(tasks, {"there": hosts.worker("there")}, alerts=alerts)
    with Ledger.open(hosts.place / ".fleet") as ledger:
        seen = Awaking(hosts)
        run_to_end(ledger, run, asker=hosts.asker(), observer=seen)
        assert ledger.state.runs[run].result == "completed"
    (stale,) = hosts.payloads("worker.stale")
    assert stale["attempt"] == f"{run}/t@1" and stale["quiet"] >= 2.0
    assert len(hosts.payloads("worker.recovered")) == 1
    assert seen.told == ["stale"]


def poke_kill(place: Path, run: str) -> None:
    from codewhale_fleet.engine.sockets import connect

    caller = connect(place / ".fleet/manager.sock")
    assert caller is not None
    with caller:
        caller.sendall(json.dumps({"m": "kill", "run": run}).encode() + b"\n")
