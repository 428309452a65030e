"""Hosts that cannot be used, as whoever types a command meets them: a sentence, a hint, 6 or 2.

Each mistake is met by `fleet run`, `fleet exec` and `fleet worker test`, at the real command line.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.remote import end
from tests.hosts.sshd import make_key
from tests.real.typed import Row, Typed, ended, typed_in

pytestmark = pytest.mark.slow

A = {"id": "a", "command": "touch began"}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Typed]:
    with typed_in(tmp_path) as made:
        made.serve("there")
        yield made


def nobodys_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def mistakes(hosts: Typed) -> dict[str, tuple[Row, str, str]]:
    """What was written of the host, what is to be said, and what the hint says."""
    server = hosts.servers["there"]
    program = server.home / "program"
    program.write_text("#!/bin/sh\n")
    stranger, key = str(server.folder / "stranger"), "SHA256:" + "A" * 43
    return {
        "name": (
            {"host": "no-such-host.invalid"},
            "no machine is called no-such-host.invalid",
            "getent hosts no-such-host.invalid",
        ),
        "key": ({"identity": stranger}, f"the keys that were tried: {stranger}", "authorized_keys"),
        "fingerprint": (
            {"host_key_fingerprint": key},
            f"shows the host key {server.fingerprint}, not {key}",
            "--fingerprint",
        ),
        "directory": (
            {"working_directory": "/no/such/place"},
            "its working directory /no/such/place does not exist",
            "mkdir -p /no/such/place",
        ),
        "program": ({"fleet_binary": str(program)}, f"{program} cannot be run there", "ls -l"),
        "port": ({"port": nobodys_port()}, "refuses the connection", "Does sshd listen there"),
    }


@pytest.mark.parametrize("mistake", ["name", "key", "fingerprint", "directory", "program", "port"])
def test_a_host_that_cannot_be_used_is_a_fault_of_the_road(hosts: Typed, mistake: str) -> None:
    written, sentence, hint = mistakes(hosts)[mistake]
    hosts.spec([A], {"there": written})
    told = ended(hosts.running("run", "spec.json", patience=0.5), 6)
    assert sentence in told
    receipt = hosts.receipts()["a"]
    assert (receipt["result"], receipt["source"]) == ("fail", "transport")
    assert sentence in receipt["reason"]
    why = hosts.fleet("explain", "@last/a")
    assert why.returncode == 0
    assert sentence in why.stdout and hint in why.stdout, why.stdout
    assert not hosts.payloads("attempt.dispatched")

    hosts.inventory(**written)
    tested = hosts.fleet("worker", "test", "there")
    assert tested.returncode == 6
    assert sentence in tested.stdout and hint in tested.stdout
    done = hosts.fleet("exec", "--on", "there", "--", "touch began")
    assert done.returncode == 6 and sentence in done.stdout + done.stderr
    assert hosts.receipts()["there"]["source"] == "transport"
    assert not (hosts.servers["there"].work / "began").exists()


def test_a_key_that_is_not_here_keeps_nobody_from_the_other_hosts(hosts: Typed) -> None:
    hosts.inventory()
    with (hosts.place / "fleet.toml").open("a") as file:
        file.write('[[workers]]\nid = "lost"\nhost = { host = "h", identity = "/none/id" }\n')
    done = hosts.fleet("exec", "--on", "all", "--", "touch began")
    assert done.returncode == 1, done.stderr
    found = hosts.receipts()
    assert {name: one["result"] for name, one in found.items()} == {"there": "pass", "lost": "fail"}
    assert found["lost"]["source"] == "transport" and "/none/id" in found["lost"]["reason"]
    assert (hosts.servers["there"].work / "began").exists()


def test_a_relative_directory_is_refused_before_anything_is_recorded(hosts: Typed) -> None:
    hosts.spec([A], {"there": {"working_directory": "some/where"}})
    hosts.inventory(working_directory="some/where")
    for words in (
        ("run", "spec.json"),
        ("worker", "test", "there"),
        ("exec", "--on", "there", "--", "true"),
    ):
        done = hosts.fleet(*words)
        assert done.returncode == 2, done.stdout
        assert 'is "some/where", and must begin with / or ~/' in done.stderr
    assert not (hosts.place / ".fleet").exists()


def test_without_a_python_there_is_no_worker_and_who_installs_one_goes_on(tmp_path: Path) -> None:
    with typed_in(tmp_path) as hosts:
        (tmp_path / "bin").mkdir()
        hosts.serve("there", path=f"{tmp_path}/bin")
        hosts.spec([A])
        hosts.inventory()
        assert "python3" in ended(hosts.running("run", "spec.json"), 6)
        receipt = hosts.receipts()["a"]
        assert receipt["source"] == "transport" and "python3 is not there" in receipt["reason"]
        assert "Install python3 there, 3.9 or newer" in hosts.fleet("explain", "@last/a").stdout
        tested = hosts.fleet("worker", "test", "there")
        assert tested.returncode == 6 and "Install python3 there" in tested.stdout
        for name in ("python3", "touch", "sh"):
            found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
            assert found
            (tmp_path / "bin" / name).symlink_to(found)
        ended(hosts.running("resume", "@last", "--failed"), 0)
        assert (hosts.servers["there"].work / "began").exists()


def test_a_host_key_that_changed_between_two_runs_is_named_with_the_old_one(hosts: Typed) -> None:
    server = hosts.servers["there"]
    before = server.fingerprint
    hosts.spec([A])
    ended(hosts.running("run", "spec.json"), 0)
    for pid in hosts.managers():
        end(pid)
    server.stop()
    for name in ("host", "host.pub"):
        (server.folder / name).unlink()
    make_key(server.folder / "host")
    server.start()
    told = ended(hosts.running("run", "spec.json"), 6)
    for key in (before, server.fingerprint):
        assert key in told and key in hosts.receipts()["a"]["reason"]
    assert "ssh-keygen -f" in hosts.fleet("explain", "@last/a").stdout


def test_a_name_that_is_given_to_another_host_leads_there_at_once(
    hosts: Typed, tmp_path: Path
) -> None:
    """The manager of the first run is still connected to the host of that name."""
    other = hosts.serve("other")
    hosts.spec([A], {"there": {}})
    ended(hosts.running("run", "spec.json"), 0)
    (hosts.servers["there"].work / "began").unlink()
    moved = {"port": other.port, "working_directory": str(other.work)}
    known = {"identity": str(other.folder / "id"), "known_hosts": str(other.folder / "known")}
    hosts.spec([A], {"there": {**moved, **known}})
    ended(hosts.running("run", "spec.json"), 0)
    assert (other.work / "began").exists()
    assert not (hosts.servers["there"].work / "began").exists()
    wrong = "SHA256:" + "A" * 43
    hosts.spec([A], {"there": {**moved, **known, "host_key_fingerprint": wrong}})
    assert wrong in ended(hosts.running("run", "spec.json"), 6)
