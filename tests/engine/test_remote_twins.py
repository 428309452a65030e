"""One worker id that means another host in each of two runs: neither waits for the other.

What both may have there together is counted by the id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codewhale_fleet.engine.handover import detach
from codewhale_fleet.ledger.store import Ledger

from .remote import Hosts, end, hosts_in
from .test_kill import ask

pytestmark = pytest.mark.slow

HELD = "echo $FLEET_RUN_ID >> ran; until test -e go; do sleep 0.05; done"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_in(tmp_path) as made:
        made.serve("old")
        made.serve("new")
        yield made


def begun(hosts: Hosts, server: str, *commands: str, slots: int = 2) -> str:
    """A run on a worker that is called `web`, wherever that leads now."""
    tasks = [{"id": f"t{n}", "command": command} for n, command in enumerate(commands)]
    host = hosts.servers[server].host()
    return hosts.begin(tasks, {"web": hosts.worker("web", slots=slots, host=host)})


def ran(hosts: Hosts, server: str) -> list[str]:
    place = hosts.servers[server].work / "ran"
    return place.read_text().split() if place.exists() else []


def go(hosts: Hosts, server: str) -> None:
    (hosts.servers[server].work / "go").touch()


def test_two_runs_that_mean_different_hosts_by_one_id_both_go_on(hosts: Hosts) -> None:
    first = begun(hosts, "old", HELD)
    hosts.until("attempt.started")
    second = begun(hosts, "new", "echo $FLEET_RUN_ID >> ran")
    hosts.wait(second)
    assert (ran(hosts, "old"), ran(hosts, "new")) == ([first], [second])
    go(hosts, "old")
    hosts.wait(first)
    assert ran(hosts, "old") == [first]


def test_the_slots_of_the_id_are_shared_by_both_hosts(hosts: Hosts) -> None:
    first = begun(hosts, "old", HELD, slots=1)
    hosts.until("attempt.started")
    second = begun(hosts, "new", "echo $FLEET_RUN_ID >> ran", slots=1)
    hosts.until("run.started", 2)
    waits = ask(hosts.place, "explain", f"{second}/t0")[1]
    assert f"web is busy: {first}/t0@1 runs there" in waits
    go(hosts, "old")
    hosts.wait(first)
    hosts.wait(second)
    assert ran(hosts, "new") == [second]


def test_a_new_manager_asks_each_host_of_its_own_runs_only(hosts: Hosts) -> None:
    first = begun(hosts, "old", HELD)
    second = begun(hosts, "new", HELD)
    hosts.until("attempt.started", 2)
    end(hosts.manager())
    with Ledger.open(hosts.place / ".fleet") as ledger:
        detach(ledger, second, asker=hosts.asker())
    hosts.until("manager.elected", 2)
    for server in ("old", "new"):
        go(hosts, server)
    hosts.wait(first)
    hosts.wait(second)
    assert (ran(hosts, "old"), ran(hosts, "new")) == ([first], [second])
    assert not hosts.payloads("attempt.lost")


def test_one_login_that_is_reached_otherwise_by_another_run_serves_both(hosts: Hosts) -> None:
    server = hosts.servers["old"]
    first = begun(hosts, "old", HELD)
    hosts.until("attempt.started")
    other = hosts.worker("web", slots=2, host=server.host(keepalive_seconds=7.0))
    second = hosts.begin([{"id": "t0", "command": "echo $FLEET_RUN_ID >> ran"}], {"web": other})
    hosts.wait(second)
    go(hosts, "old")
    hosts.wait(first)
    assert sorted(ran(hosts, "old")) == sorted([first, second])
    assert not hosts.payloads("attempt.lost")
