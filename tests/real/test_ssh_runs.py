"""Whole runs on hosts to which something happens: `fleet run`, and what is told of it afterwards.

Whatever happens, no task is begun twice, nothing that ended is lost, and what a host did is never
told as what a task did.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.remote import end
from tests.hosts.pythons import path_with
from tests.hosts.sshd import make_key
from tests.real.typed import Row, Typed, ended, typed_in
from tests.real.wire import Wire, boots

pytestmark = pytest.mark.slow

HELD = "echo {0} >> ran; until test -e go; do sleep 0.05; done; echo over"
RETRIED = {"max_attempts": 3, "initial_backoff_seconds": 0, "retry_on": ["transport"]}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Typed]:
    with typed_in(tmp_path) as made:
        yield made


def many(count: int, held: int) -> list[Row]:
    """Tasks that each write their number; the first few wait for a file `go`."""
    return [
        {"id": f"t{n}", "command": HELD.format(n) if n < held else f"echo {n} >> ran; echo over"}
        for n in range(count)
    ]


def go(hosts: Typed) -> None:
    for server in hosts.servers.values():
        (server.work / "go").touch()


def all_ran_once(hosts: Typed, count: int) -> None:
    assert hosts.lines() == {str(n): 1 for n in range(count)}
    found = hosts.receipts()
    assert len(found) == count and {one["result"] for one in found.values()} == {"pass"}
    assert all(len(each) == 1 for each in hosts.ends().values())
    for n in (0, count - 1):
        assert hosts.fleet("logs", f"@last/t{n}").stdout == "over\n"


# ---- the server


def test_an_sshd_that_is_killed_and_started_again_costs_a_run_nothing(hosts: Typed) -> None:
    server = hosts.serve("there")
    hosts.spec(many(12, 3), {"there": {"slots": 3}})
    run = hosts.running("run", "spec.json")
    hosts.until("attempt.started", 3)
    server.stop()
    hosts.until("worker.unreachable")
    go(hosts)
    server.start()
    told = ended(run, 0)
    assert "there cannot be reached" in told and "it is tried again" in told
    all_ran_once(hosts, 12)


def test_with_another_host_key_what_waits_fails_and_what_runs_is_heard_of_behind_the_old_one(
    hosts: Typed,
) -> None:
    server = hosts.serve("there")
    before = server.fingerprint
    kept = {name: (server.folder / name).read_bytes() for name in ("host", "host.pub")}
    hosts.spec(many(2, 1))
    run = hosts.running("run", "spec.json")
    hosts.until("attempt.started")
    server.stop()
    hosts.until("worker.unreachable")
    for name in kept:
        (server.folder / name).unlink()
    make_key(server.folder / "host")
    changed = server.fingerprint
    server.start()
    told = hosts.until("worker.unreachable", 2)[1]["why"]
    assert "has changed" in told and before in told and changed in told
    why = hosts.fleet("explain", "@last/t1").stdout
    assert before in why and changed in why
    server.stop()
    for name, data in kept.items():
        (server.folder / name).write_bytes(data)
        (server.folder / name).chmod(0o600)
    server.start()
    go(hosts)
    ended(run, 1)
    found = hosts.receipts()
    assert (found["t0"]["result"], found["t1"]["source"]) == ("pass", "transport")
    ended(hosts.running("resume", "@last", "--failed"), 0)
    assert hosts.lines() == {"0": 1, "1": 1}


def test_a_slow_banner_only_takes_its_time(hosts: Typed) -> None:
    from tests.real.test_ssh_faults import _Cutter

    server = hosts.serve("there")
    with _Cutter(server.port) as slow:
        slow.wait = 2
        line = f"[127.0.0.1]:{slow.port} {(server.folder / 'host.pub').read_text()}"
        (server.folder / "known").write_text(line)
        hosts.spec(many(3, 0), {"there": {"port": slow.port}})
        ended(hosts.running("run", "spec.json"), 0)
        all_ran_once(hosts, 3)
        for pid in hosts.managers():
            end(pid)
        slow.wait = 30
        short = {"port": slow.port, "connect_timeout_seconds": 1}
        hosts.spec(many(1, 0), {"there": short})
        told = ended(hosts.running("run", "spec.json", patience=0.5), 6)
        assert "did not answer within 1 seconds" in told
        receipt = hosts.receipts()["t0"]
        assert (receipt["result"], receipt["source"]) == ("fail", "transport")
        assert "connect_timeout_seconds" in hosts.fleet("explain", "@last/t0").stdout
        slow.wait = 0
    assert server.process


# ---- the wire


def test_a_silent_partition_is_noticed_and_the_run_goes_on_after_it(tmp_path: Path) -> None:
    wire = Wire()
    try:
        with wire.inside(wire.here), typed_in(tmp_path) as hosts:
            hosts.serve("there", wire=wire)
            there = {"slots": 3, "keepalive_seconds": 1, "connect_timeout_seconds": 2}
            hosts.spec(many(9, 3), {"there": there})
            run = hosts.running("run", "spec.json")
            hosts.until("attempt.started", 3)
            wire.cut()
            go(hosts)
            (lost,) = hosts.until("worker.unreachable")
            assert lost["worker"] == "there" and lost["why"]
            assert len(hosts.payloads("attempt.ended")) < 9  # the cut comes when it comes
            wire.set()
            ended(run, 0)
            all_ran_once(hosts, 9)
            assert not hosts.payloads("attempt.lost")
    finally:
        wire.close()


def test_delay_and_loss_only_take_a_runs_time(tmp_path: Path) -> None:
    wire = Wire()
    try:
        with wire.inside(wire.here), typed_in(tmp_path) as hosts:
            server = hosts.serve("there", wire=wire)
            wire.set(delay=0.05, loss=0.03)
            hosts.spec(many(24, 0), {"there": {"slots": 3}})
            ended(hosts.running("run", "spec.json"), 0)
            all_ran_once(hosts, 24)
            hosts.inventory()
            data = "head -c 300000 /dev/zero | tr '\\0' x"
            done = hosts.fleet("exec", "--on", "there", "--", data)
            assert done.stdout == "x" * 300_000, done.stderr
            assert server.process and not hosts.payloads("attempt.lost")
    finally:
        wire.close()


# ---- the machine


def test_after_a_reboot_what_ran_there_is_lost_and_tried_again(
    hosts: Typed, tmp_path: Path
) -> None:
    server = hosts.serve("there")
    script = "echo {0} >> ran; test -e again && exit 0; exec sleep 300"
    tasks: list[Row] = [
        {"id": f"t{n}", "command": script.format(n), "retry_policy": RETRIED} for n in range(2)
    ]
    tasks.append({"id": "once", "command": script.format("once")})
    tasks.append({"id": "later", "command": "echo later >> ran"})
    hosts.spec(tasks, {"there": {"slots": 3}})
    run = hosts.running("run", "spec.json")
    pids = [one["pid"] for one in hosts.until("attempt.started", 3)]
    (server.work / "again").touch()
    server.stop()
    for pid in (*hosts.runtimes("there"), *pids):
        end(pid)
    boot = tmp_path / "boot_id"
    boot.write_text("00000000-0000-4000-8000-000000000000\n")
    server.before = boots(boot)
    server.start()
    ended(run, 1)
    assert hosts.lines() == {"0": 2, "1": 2, "once": 1, "later": 1}
    lost = hosts.payloads("attempt.lost")
    assert sorted(one["attempt"].partition("/")[2] for one in lost) == ["once@1", "t0@1", "t1@1"]
    assert all("was restarted" in one["why"] for one in lost)
    found = hosts.receipts()
    assert {id: one["result"] for id, one in found.items()} == {
        "t0": "pass", "t1": "pass", "once": "fail", "later": "pass",
    }  # fmt: skip
    assert found["once"]["source"] == "transport"
    assert "was restarted" in hosts.fleet("explain", "@last/once").stdout
    ended(hosts.running("resume", "@last", "--failed"), 0)  # its manager has not left yet
    assert hosts.lines()["once"] == 2


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_a_run_on_an_older_or_newer_python(hosts: Typed, tmp_path: Path, version: str) -> None:
    hosts.serve("there", path=path_with(tmp_path, version))
    (hosts.place / "file").write_text("one\n")
    place = {"isolation": "copy", "include": ["file"]}
    script = "echo two >> file; mkdir out; echo made > out/report.md; echo said; echo oops >&2"
    tasks: list[Row] = [
        {"id": f"t{n}", "command": f"echo {n} >> $HOME/ran; {script}", "workspace": place}
        | {"artifacts": {"report": "out/*.md"}, "expected_artifacts": ["report"]}
        for n in range(4)
    ]
    hosts.spec(tasks, {"there": {"slots": 2}})
    hosts.inventory()
    tested = hosts.fleet("worker", "test", "there")
    assert tested.returncode == 0 and f"Python {version}." in tested.stdout
    ended(hosts.running("run", "spec.json"), 0)
    ran = (hosts.servers["there"].home / "ran").read_text().split()
    assert sorted(ran) == ["0", "1", "2", "3"]
    for n in (0, 3):
        logs = hosts.fleet("logs", f"@last/t{n}")
        assert (logs.stdout, logs.stderr) == ("said\n", "oops\n")
    assert hosts.fleet("artifacts", "@last", "--copy-to", "got").returncode == 0
    reports = list((hosts.place / "got").rglob("report.md"))
    assert [one.read_text() for one in reports] == ["made\n"] * 4
    applied = hosts.fleet("apply", "@last/t0")
    assert applied.returncode == 0, applied.stderr
    assert (hosts.place / "file").read_text() == "one\ntwo\n"
