"""The end of what runs on a host, by Ctrl-C, `fleet interrupt` and `fleet stop`, by either ssh.

What a task began there ends with it, in its process group or not; nothing else does.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hosts.sshd import Sshd
from tests.real.typed import Typed, ended, typed_in

pytestmark = pytest.mark.slow

both = pytest.mark.parametrize("transport", ["asyncssh", "openssh"])

FAMILY = (
    "sleep 1001 & setsid sleep 1002 & setsid sh -c 'trap \"\" TERM INT HUP; sleep 1003; sleep 1003'"
    " & echo up >> ran; sleep 1004"
)
"""A child, one in a session of its own, and one that is deaf there; and the task itself."""

DEAF = "trap '' INT TERM HUP; echo up >> ran; sleep 1005; sleep 1006"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Typed]:
    with typed_in(tmp_path) as made:
        made.serve("there")
        yield made


def begun(hosts: Typed, transport: str, *commands: str, **fields: object) -> subprocess.Popen[str]:
    """`fleet run`, once each of its tasks runs there."""
    tasks = [{"id": f"t{n}", "command": one} for n, one in enumerate(commands)]
    known = None if transport == "asyncssh" else transport
    hosts.spec(tasks, {"there": {"transport": known, "slots": 9, **fields}})
    run = hosts.running("run", "spec.json")
    hosts.until("attempt.started", len(commands))
    return run


def of_tasks(run: str) -> dict[int, str]:
    """What tasks of a run have as processes, whoever's children they are: pid -> words."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                if f"\0FLEET_RUN_ID={run}\0".encode() in b"\0" + (place / "environ").read_bytes():
                    words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(place.name)] = words
    return found


def name_of(hosts: Typed) -> str:
    return str(hosts.answer("status")["runs"][0]["run"])


@both
def test_a_ctrl_c_ends_all_that_a_task_began_there(hosts: Typed, transport: str) -> None:
    run = begun(hosts, transport, FAMILY)
    name = name_of(hosts)
    assert of_tasks(name)
    run.send_signal(signal.SIGINT)
    ended(run, 130)
    assert not of_tasks(name)
    assert hosts.receipts()["t0"]["reason"] == "stopped by Ctrl-C"


@both
def test_a_second_ctrl_c_kills_what_does_not_listen(hosts: Typed, transport: str) -> None:
    run = begun(hosts, transport, DEAF)
    name = name_of(hosts)
    run.send_signal(signal.SIGINT)
    hosts.until("run.stopped")
    assert of_tasks(name)
    run.send_signal(signal.SIGINT)
    ended(run, 130)
    assert not of_tasks(name)


@both
def test_an_interrupt_ends_one_task_and_a_stop_the_rest(hosts: Typed, transport: str) -> None:
    run = begun(hosts, transport, FAMILY, FAMILY)
    name = name_of(hosts)
    done = hosts.fleet("interrupt", "@last/t0")
    assert done.returncode == 0 and "interrupted" in done.stdout, done.stderr
    assert len([one for one in of_tasks(name).values() if "sleep 1004" in one]) == 2, (
        "its shell, and it"
    )
    assert hosts.fleet("stop", "@last").returncode == 0
    ended(run, 1)
    assert not of_tasks(name)


def test_an_ssh_client_that_is_killed_takes_nothing_with_it(hosts: Typed) -> None:
    run = begun(hosts, "openssh", "echo up >> ran; until test -e go; do sleep 0.05; done")
    for pid in clients(hosts.servers["there"]):
        os.kill(pid, signal.SIGKILL)
    (hosts.servers["there"].work / "go").touch()
    ended(run, 0)
    assert hosts.lines() == {"up": 1}


@both
def test_who_has_fallen_silent_is_not_waited_for_after_a_second_ctrl_c(
    hosts: Typed, transport: str
) -> None:
    soon = {"keepalive_seconds": 1.0, "connect_timeout_seconds": 1.0}
    run = begun(hosts, transport, DEAF, **soon)
    name, there = name_of(hosts), hosts.servers["there"]
    assert there.process
    silent = [there.process.pid, *with_children(there.sessions())]
    for pid in silent:
        os.kill(pid, signal.SIGSTOP)
    try:
        run.send_signal(signal.SIGINT)
        hosts.until("run.stopped")
        run.send_signal(signal.SIGINT)
        told = ended(run, 130)
    finally:
        for pid, sent in [(one, signal.SIGCONT) for one in silent] + [
            (one, signal.SIGKILL) for one in of_tasks(name)
        ]:
            with suppress(ProcessLookupError):
                os.kill(pid, sent)
    assert "may still run there" in told + hosts.fleet("explain", "@last/t0").stdout


def clients(server: Sshd) -> list[int]:
    """The system's ssh clients that lead to a server."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                words = (place / "cmdline").read_bytes().split(b"\0")
                if words[0] == b"ssh" and str(server.port).encode() in words:
                    found.append(int(place.name))
    assert found
    return found


def with_children(pids: list[int]) -> list[int]:
    """Processes of a server, with those that they split off for each login."""
    found = list(pids)
    for pid in pids:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += [one for one in map(int, below) if is_sshd(one)]
    return found


def is_sshd(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
