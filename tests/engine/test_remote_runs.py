"""Runs on workers that are reached by ssh, with real servers: where tasks go, what comes back."""

from __future__ import annotations

import os
import select
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watchfiles import watch

from codewhale_fleet.core.parts import SecretName
from codewhale_fleet.engine.session import Nobody, run_to_end
from codewhale_fleet.ledger.store import Ledger

from .remote import Hosts, hosts_in
from .test_kill import ask, fleet
from .test_wakes import slept

pytestmark = pytest.mark.slow

FLEET = f"{Path(sys.executable).parent}/fleet"
"""For tasks: what would be installed on their machines."""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_in(tmp_path) as made:
        yield made


def test_a_run_over_two_workers_runs_each_task_once_and_brings_its_logs(hosts: Hosts) -> None:
    for worker in ("one", "two"):
        hosts.serve(worker)
    tasks = [{"id": f"t{n}", "command": f"echo t{n} >> ran; pwd; sleep 0.2"} for n in range(40)]
    workers = {worker: hosts.worker(worker, slots=2) for worker in hosts.servers}
    run = hosts.create(tasks, workers)
    with Ledger.open(hosts.place / ".fleet") as ledger:
        run_to_end(ledger, run, asker=hosts.asker(), observer=Nobody())
        assert ledger.state.runs[run].result == "completed"
    ran = [line for one in hosts.servers.values() for line in (one.work / "ran").open()]
    assert Counter(ran) == Counter(f"t{n}\n" for n in range(40))
    ends = hosts.ends()
    assert len(ends) == 40 and all(len(found) == 1 for found in ends.values())
    for worker, server in hosts.servers.items():
        mine = [one[0] for one in ends.values() if f"-{worker}-" in one[0]["worker"]]
        assert mine
        for found in mine:
            log = hosts.place / ".fleet" / found["logs"]["out"]["path"]
            assert log.read_text() == f"{server.work}\n"


def test_a_task_that_is_too_large_for_the_host_it_meets_fails_and_says_what_there_is(
    hosts: Hosts,
) -> None:
    hosts.serve("there")
    large = {"id": "large", "command": "true", "requires": {"cores": 4096}}
    run = hosts.create([large, {"id": "t", "command": "true"}], {"there": hosts.worker("there")})
    with Ledger.open(hosts.place / ".fleet") as ledger:
        run_to_end(ledger, run, asker=hosts.asker(), observer=Nobody())
        tasks = ledger.state.runs[run].tasks
        assert (tasks["t"].status, tasks["large"].source) == ("completed", "transport")
        assert tasks["large"].reason.startswith("no worker matches: there: it has ")


def begun(hosts: Hosts, task: dict[str, Any], **more: Any) -> str:
    hosts.serve("there")
    return hosts.begin([{"id": "t", **task}], {"there": hosts.worker("there", **more)})


def test_logs_are_shown_and_followed_while_the_task_runs_far_away(hosts: Hosts) -> None:
    run = begun(hosts, {"command": "echo first; echo oops >&2; read x < gate; echo last"})
    os.mkfifo(hosts.servers["there"].work / "gate")
    hosts.until("attempt.started")
    code, out, err = ask(hosts.place, "logs", f"{run}/t")
    assert (code, out, err) == (0, "first\n", "oops\n")
    follower = fleet(hosts.place, "logs", f"{run}/t", "--follow")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "first\n"
    with (hosts.servers["there"].work / "gate").open("w") as gate:
        gate.write("go\n")
    out, err = follower.communicate(timeout=60)
    assert out == "last\n" and err == "oops\n"
    hosts.wait(run)
    code, out, err = ask(hosts.place, "logs", f"{run}/t")
    assert (code, out) == (0, "first\nlast\n")


def test_a_long_log_comes_whole_while_its_task_runs(hosts: Hosts) -> None:
    run = begun(hosts, {"command": "seq 300000; echo up >&2; sleep 300"})
    hosts.until("attempt.started")
    lines = ""
    while lines.count("\n") < 300_000:
        code, lines, err = ask(hosts.place, "logs", f"{run}/t")
        assert code == 0, err
    assert lines == "".join(f"{n}\n" for n in range(1, 300_001))
    assert ask(hosts.place, "stop", run)[0] == 0
    hosts.until("run.finished")


def test_a_question_is_asked_there_and_answered_here(hosts: Hosts) -> None:
    run = begun(hosts, {"command": f"{FLEET} ask 'Which one?' --choices a,b"})
    hosts.until("question.asked")
    code, out, err = ask(hosts.place, "answer", f"{run}/t", "b")
    assert code == 0, out + err
    hosts.wait(run)
    assert ask(hosts.place, "logs", f"{run}/t")[1].strip() == "b"


def test_values_that_a_task_puts_on_one_machine_are_had_on_another(hosts: Hosts) -> None:
    for worker in ("one", "two"):
        hosts.serve(worker)
    workers = {worker: hosts.worker(worker) for worker in hosts.servers}
    waits = f"until {FLEET} data get key 2>/dev/null; do sleep 0.1; done; {FLEET} data get key"
    puts = f"{FLEET} data put key worth; {FLEET} data get key"
    tasks = [
        {"id": "puts", "command": puts, "requires": {"target": "one"}},
        {"id": "gets", "command": waits, "requires": {"target": "two"}},
    ]
    run = hosts.begin(tasks, workers)
    hosts.wait(run)
    assert "worth" in ask(hosts.place, "logs", f"{run}/puts")[1]
    assert "worth" in ask(hosts.place, "logs", f"{run}/gets")[1]
    assert "worth" in ask(hosts.place, "data", "get", "key", "--run", run)[1]


def test_whoever_puts_one_name_at_the_same_time_is_told_the_number_that_the_ledger_has(
    hosts: Hosts,
) -> None:
    for worker in ("one", "two"):
        hosts.serve(worker)
    workers = {worker: hosts.worker(worker) for worker in hosts.servers}
    meets = "touch here; until test -e go; do sleep 0.01; done"
    each = f"for n in 1 2 3 4 5; do {FLEET} data put key $FLEET_TASK_ID.$n; done; {FLEET} data list"
    tasks = [
        {"id": worker, "command": f"{meets}; {each}", "requires": {"target": worker}}
        for worker in workers
    ]
    run = hosts.begin(tasks, workers)
    hosts.until("attempt.started", 2)
    for server in hosts.servers.values():
        (server.work / "go").touch()
    hosts.wait(run)
    from hashlib import sha256

    kept = {one["sha256"]: one["version"] for one in hosts.payloads("data.put")}
    assert sorted(kept.values()) == list(range(1, 11))
    for worker in workers:
        said = ask(hosts.place, "logs", f"{run}/{worker}")[1].split("\n")
        values = [f"{worker}.{n}".encode() for n in range(1, 6)]
        numbers = [kept[sha256(value).hexdigest()] for value in values]
        assert said[:5] == [f"key version {number}" for number in numbers]


def test_a_task_there_gets_the_allowed_variables_and_its_secrets_and_nothing_else(
    hosts: Hosts,
) -> None:
    server = hosts.serve("there")
    host = server.host(env_allowlist=["WANTED"])
    hosts.environ = {**os.environ, "WANTED": "given", "OTHER": "not given"}
    script = 'echo "$WANTED/$OTHER/$KEY" > got; echo "said $KEY"'
    place = {"environment": {"allowlist": ["WANTED", "OTHER"]}}
    task = {"id": "t", "command": script, "secrets": ["KEY"], "workspace": place}
    workers = {"there": hosts.worker("there", host=host, trust_level="remote_verified")}
    asker = hosts.asker("WANTED", "OTHER", secrets={"KEY": "a-value-of-length"})
    run = hosts.begin([task], workers, asker=asker, secrets=[SecretName(key="KEY")])
    hosts.wait(run)
    assert (server.work / "got").read_text() == "given//a-value-of-length\n"
    log = ask(hosts.place, "logs", f"{run}/t")[1]
    assert "said" in log and "a-value" not in log


def test_a_checkpoint_of_one_machine_is_there_for_the_next_attempt_on_another(
    hosts: Hosts,
) -> None:
    for worker in ("one", "two"):
        hosts.serve(worker)
    script = (
        'test -n "$FLEET_CHECKPOINT" && exec cat "$FLEET_CHECKPOINT"; '
        f"{FLEET} checkpoint 'half way'; exit 1"
    )
    retried = {"max_attempts": 2, "initial_backoff_seconds": 0}
    workers = {worker: hosts.worker(worker) for worker in hosts.servers}
    run = hosts.begin([{"id": "t", "command": script, "retry_policy": retried}], workers)
    hosts.wait(run)
    assert "half way" in ask(hosts.place, "logs", f"{run}/t")[1]


def test_artifacts_and_evidence_come_here(hosts: Hosts) -> None:
    script = "mkdir out; echo '{\"ok\": true}' > out/report.json"
    task = {
        "command": script,
        "artifacts": {"report": "out/*.json"},
        "expected_artifacts": ["report"],
        "scorer": {"kind": "json_path", "path": "out/report.json", "expression": ".ok"},
    }
    run = begun(hosts, task)
    hosts.wait(run)
    (found,) = hosts.ends()["t"][0]["artifacts"]
    kept = hosts.place / ".fleet/evidence" / found["sha256"]
    assert kept.read_text() == '{"ok": true}\n'


def test_a_worker_says_what_it_is_and_beats(hosts: Hosts) -> None:
    run = begun(hosts, {"command": "true"}, slots=3)
    hosts.wait(run)
    (enrolled,) = [one for one in hosts.payloads("worker.enrolled") if one.get("worker")]
    assert enrolled["worker"] == "there" and enrolled["slots"] == 3
    assert enrolled["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_manager_sleeps_while_a_task_far_away_says_nothing(hosts: Hosts) -> None:
    run = begun(hosts, {"command": "exec sleep 300"})
    hosts.until("attempt.started")
    select.select([], [], [], 1.0)
    assert slept(hosts.place, hosts.manager()) == 0
    assert ask(hosts.place, "stop", run)[0] == 0
    hosts.until("run.finished")


def test_a_worker_that_is_not_trusted_with_secrets_gets_none(hosts: Hosts) -> None:
    hosts.serve("there")
    asker = hosts.asker(secrets={"KEY": "a-value-of-length"})
    workers = {"there": hosts.worker("there", trust_level="local")}
    task = {"id": "t", "command": "echo got $KEY", "secrets": ["KEY"]}
    run = hosts.begin([task], workers, asker=asker, secrets=[SecretName(key="KEY")])
    hosts.wait(run, code=1)
    (lost,) = hosts.payloads("attempt.lost")
    assert lost["receipt"]["source"] == "policy" and "not trusted" in lost["why"]


def test_an_attempt_that_takes_gpus_is_told_which(hosts: Hosts) -> None:
    hosts.serve("there")
    task = {"command": "echo $CUDA_VISIBLE_DEVICES", "requires": {"gpus": 1}}
    workers = {"there": hosts.worker("there", slots=2, gpus=2)}
    run = hosts.begin([{"id": one, **task} for one in "ab"], workers)
    hosts.wait(run)
    said = {ask(hosts.place, "logs", f"{run}/{one}")[1].strip() for one in "ab"}
    assert said <= {"0", "1"} and said


def test_nothing_is_left_to_be_told_when_a_manager_has_left(hosts: Hosts) -> None:
    run = begun(hosts, {"command": "echo said"})
    hosts.wait(run)
    hosts.until("manager.left")
    (state,) = (hosts.servers["there"].home / ".local/state/codewhale-fleet").iterdir()
    looks = watch(hosts.folder, step=5, debounce=10, rust_timeout=100, yield_on_timeout=True)
    for tries, _ in enumerate(looks):  # its connector leaves behind it
        if not list((state / "logs").rglob("*.out")):
            return
        assert tries < 100
