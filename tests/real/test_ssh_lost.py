"""Hosts that are gone while something runs there: what is waited for, how long, and what is told.

A run of `fleet exec` waits for a minute, others for as long as it takes; nothing is begun twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codewhale_fleet.views import workers
from tests.real.typed import Typed, ended, typed_in

pytestmark = pytest.mark.slow

HELD = "echo $FLEET_TASK_ID >> ran; until test -e go; do sleep 0.05; done; echo over"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Typed]:
    with typed_in(tmp_path) as made:
        yield made


def test_a_host_that_vanishes_under_exec_costs_its_own_receipt_after_a_while(hosts: Typed) -> None:
    for name in ("web01", "web02", "web03"):
        hosts.serve(name)
    hosts.inventory()
    for name in ("web01", "web02"):
        (hosts.servers[name].work / "go").touch()
    call = hosts.running("exec", "--on", "all", "--", HELD, lose=2.0)
    hosts.until("attempt.started")
    hosts.servers["web03"].stop()
    told = ended(call, 1)
    assert "2 of 3 hosts passed" in told and "2 hosts: web[01-02]\n  over\n" in told
    assert (
        "1 host unreachable: web03\n  web03  transport: cannot be reached; it may still run there\n"
    ) in told
    (lost,) = hosts.payloads("attempt.lost")
    assert lost["attempt"].endswith("/web03@1") and lost["receipt"]["source"] == "transport"
    assert "cannot be reached" in hosts.fleet("explain", "@last/web03").stdout
    hosts.servers["web03"].start()
    again = ended(hosts.running("exec", "--on", "@failed:@last", "--", "echo again"), 0)
    assert "again\n" in again
    late = [one for one in hosts.payloads("attempt.ended") if one.get("late")]
    assert [one["attempt"] for one in late] == [lost["attempt"]]
    assert late[0]["why"] == "interrupted"
    assert hosts.lines() == {"web01": 1, "web02": 1, "web03": 1}


def test_what_may_still_run_on_a_lost_host_is_not_tried_again_on_another(hosts: Typed) -> None:
    for name in ("one", "two"):
        hosts.serve(name)
    policy = {"max_attempts": 3, "initial_backoff_seconds": 0, "retry_on": ["transport"]}
    tasks = [{"id": name, "command": HELD, "retry_policy": policy} for name in ("a", "b")]
    hosts.spec(tasks)
    hosts.inventory()
    run = hosts.running("run", "spec.json", lose=2.0)
    placed = hosts.until("attempt.started", 2)
    hosts.servers["one"].stop()
    hosts.until("worker.unreachable")
    assert hosts.fleet("worker", "retire", "one").returncode == 0
    (lost,) = hosts.until("attempt.lost")
    assert "retry_after" not in lost and lost["attempt"] in [one["attempt"] for one in placed]
    (hosts.servers["two"].work / "go").touch()
    assert "1 passed" in ended(run, 1)
    assert hosts.lines() == {"a": 1, "b": 1}
    name = lost["attempt"].rpartition("@")[0]
    assert "nothing runs twice" in hosts.fleet("explain", name).stdout
    for server in hosts.servers.values():  # nothing outlives the test
        (server.work / "go").touch()


def test_what_holds_the_slots_is_told_while_exec_waits_for_them(hosts: Typed) -> None:
    hosts.serve("web01")
    hosts.inventory()
    hosts.spec([{"id": "t", "command": HELD}])
    held = hosts.fleet("run", "spec.json", "--detach", "-q").stdout.strip()
    hosts.until("attempt.started")
    calls = [
        hosts.running("exec", "--on", "web01", *quiet, "--", "echo over")
        for quiet in ((), ("-q",), ("--json",))
    ]
    loud = calls[0].stderr
    assert loud is not None
    assert loud.readline() == (
        f"waiting for a slot on web01, held by {held}; "
        f"fleet status {held} shows it, fleet stop {held} ends it\n"
    )
    (hosts.servers["web01"].work / "go").touch()
    for call in calls:
        out, err = call.communicate(timeout=60)
        assert (call.returncode, err if call is not calls[0] else "") == (0, ""), err
        assert "over" in out


def test_a_run_says_that_it_waits_for_a_host_that_is_away_and_so_does_status(
    hosts: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.serve("web01")
    hosts.spec([{"id": "t", "command": HELD}])
    run = hosts.running("run", "spec.json")
    hosts.until("attempt.started")
    waits = hosts.running("resume", "@last")
    hosts.servers["web01"].stop()
    told = "web01 cannot be reached; 1 attempt runs there"
    for one in (run, waits):
        assert one.stderr is not None
        while f"{told}, and the run waits for that: fleet worker test web01" not in (
            line := one.stderr.readline()
        ):
            assert line, "it ended"
    monkeypatch.setattr(workers, "AWAY_SECONDS", 1.0)
    (need,) = hosts.answer("status")["needs"]
    assert (need["why"], need["next"]) == (told, "fleet worker test web01")
    shown = hosts.fleet("status").stdout
    assert f"1 needs you: fleet worker test web01   {told} (for " in shown
    (hosts.servers["web01"].work / "go").touch()
    hosts.servers["web01"].start()
    assert "1 passed" in ended(run, 0) and "1 passed" in ended(waits, 0)
    assert hosts.answer("status")["needs"] == []
    assert hosts.lines() == {"t": 1}
