"""The ssh road against a real sshd: what comes over it, what breaks, and what is refused."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core.spec_hosts import SshHost
from codewhale_fleet.hosts.remote import Remote
from tests.hosts.sshd import Sshd, serving

pytestmark = pytest.mark.slow

HELLO = {"m": "hello", "protocol": 1, "fleet": "f", "epoch": 1, "cursors": {}}


class Talk:
    """One stream to a host, as a manager has it."""

    def __init__(self, remote: Remote, server: Sshd, host: SshHost | None = None) -> None:
        state = str(server.folder / "state")
        self.road = remote.connect("w", host or server.host(), state)
        self.road.settimeout(30)
        self.lines = self.road.makefile("rb")
        self.heard = 0

    def say(self, **message: Any) -> None:
        with suppress(BrokenPipeError):  # why nobody listens any more is still to be read
            self.road.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        line = self.lines.readline()
        assert line, "the stream ended"
        found: dict[str, Any] = json.loads(line)
        self.heard = max(self.heard, found.get("n", 0))
        return found

    def greet(self) -> dict[str, Any]:
        self.say(**HELLO)
        return self.next(m="hello")

    def next(self, **wanted: Any) -> dict[str, Any]:
        while True:
            found = self.hear()
            if all(found.get(key) == value for key, value in wanted.items()):
                return found

    def leave(self) -> None:
        self.say(m="ack", n=self.heard)
        self.say(m="leave")
        while self.lines.readline():
            pass
        self.road.close()


def plan(server: Sshd, script: str, name: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "argv": ["/bin/sh", "-c", script],
        "cwd": str(server.work),
        "root": str(server.work),
        "env": {},
        "out": f"logs/r/{name}.1.out",
        "err": f"logs/r/{name}.1.err",
        "log_limit": 8 << 20,
        "log_ceiling": 1 << 30,
        "grace": 1,
        **more,
    }


def start(talk: Talk, given: dict[str, Any], name: str = "a") -> None:
    talk.say(m="start", attempt=f"r/{name}@1", slot="w-1", slots=4, plan=given)


def environment(talk: Talk, **allowed: str) -> None:
    values = {"base": {"PATH": "not-this-one"}, "allowed": allowed}
    talk.say(m="environment", run="r", umask=0o22, values=values)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with serving(tmp_path / "sshd") as made:
        yield made


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    (tmp_path / ".fleet").mkdir()
    made = Remote(tmp_path / ".fleet")
    yield made
    made.close()


@pytest.mark.parametrize("transport", ["asyncssh", "openssh"])
def test_work_runs_over_there_and_its_logs_are_here_before_its_end_is_told(
    server: Sshd, remote: Remote, tmp_path: Path, transport: str
) -> None:
    host = server.host(transport=transport, env_allowlist=["WANTED"])
    talk = Talk(remote, server, host)
    road = talk.hear()
    assert road["m"] == "road"
    assert road["state"] == str(server.folder / "state")
    assert road["root"] == str(server.work)
    assert tuple(map(int, road["python"].split("."))) >= (3, 9)
    assert (road["cores"], road["platform"]) == (len(os.sched_getaffinity(0)), "linux")
    assert road["memory_mb"] > 0 and road["boot"] and road["host"]
    talk.greet()
    environment(talk, WANTED="given", OTHER="not given")
    script = 'echo "$WANTED/$OTHER"; pwd; case $PATH in not*) echo our PATH;; esac'
    start(talk, plan(server, script, allow=["WANTED", "OTHER"]))
    ended = talk.next(f="ended")
    assert ended["exit"] == 0
    kept = tmp_path / ".fleet/logs/r/a.1.out"
    assert kept.read_text() == f"given/\n{server.work}\n"
    assert ended["logs"]["out"]["sha256"] == sha256(kept.read_bytes()).hexdigest()
    talk.leave()


def test_evidence_comes_under_its_digest_and_is_gone_there_once_acknowledged(
    server: Sshd, remote: Remote, tmp_path: Path
) -> None:
    talk = Talk(remote, server)
    talk.greet()
    environment(talk)
    wanted = [{"path": "out.json", "cap": 4096}]
    (tmp_path / "x").mkdir()
    start(talk, plan(server, "echo '{}' > out.json; echo said", evidence=wanted))
    ended = talk.next(f="ended")
    digest = ended["evidence"]["out.json"]["sha256"]
    assert (tmp_path / ".fleet/evidence" / digest).read_text() == "{}\n"
    there = server.folder / "state/evidence" / digest
    assert there.exists()
    talk.say(m="ack", n=ended["n"])
    talk.say(m="ping")
    talk.next(m="pong")
    assert not there.exists()
    assert not (server.folder / "state/logs/r/a.1.out").exists()
    talk.leave()


def test_a_file_that_a_plan_carries_is_there_before_the_attempt_starts(
    server: Sshd, remote: Remote, tmp_path: Path
) -> None:
    data = os.urandom(3 << 20)
    digest = sha256(data).hexdigest()
    (tmp_path / ".fleet/evidence").mkdir(parents=True)
    (tmp_path / ".fleet/evidence" / digest).write_bytes(data)
    talk = Talk(remote, server)
    talk.greet()
    environment(talk)
    script = f"sha256sum < {server.folder}/state/inputs/{digest}"
    start(talk, plan(server, script, carry=[digest]))
    talk.next(f="ended")
    assert digest in (tmp_path / ".fleet/logs/r/a.1.out").read_text()
    talk.leave()


def test_a_dropped_connection_loses_nothing_and_runs_nothing_twice(
    server: Sshd, remote: Remote, tmp_path: Path
) -> None:
    talk = Talk(remote, server)
    talk.greet()
    environment(talk)
    os.mkfifo(server.work / "gate")
    start(talk, plan(server, "echo once >> times; read x < gate; echo over"))
    talk.next(f="started")
    server.drop()
    while talk.lines.readline():
        pass
    with (server.work / "gate").open("w") as gate:  # it goes on without us
        gate.write("go\n")
    again = Talk(remote, server)
    again.greet()
    environment(again)
    start(again, plan(server, "echo once >> times; read x < gate; echo over"))
    ended = again.next(f="ended")
    assert ended["exit"] == 0
    assert (server.work / "times").read_text() == "once\n"
    assert (tmp_path / ".fleet/logs/r/a.1.out").read_text() == "over\n"
    again.leave()


def test_an_interrupt_reaches_the_whole_process_group_there(server: Sshd, remote: Remote) -> None:
    talk = Talk(remote, server)
    talk.greet()
    environment(talk)
    start(talk, plan(server, "sleep 1000 & echo $! > child; sleep 1000"))
    talk.next(f="started")
    child = int((server.work / "child").read_text())
    seen = os.pidfd_open(child)
    talk.say(m="interrupt", attempt="r/a@1", why="interrupted")
    assert talk.next(f="ended")["why"] == "interrupted"
    assert select.select([seen], [], [], 20)[0]
    os.close(seen)
    talk.leave()


def test_a_thousand_short_attempts_share_one_connection(server: Sshd, remote: Remote) -> None:
    talk = Talk(remote, server)
    talk.greet()
    environment(talk)
    for number in range(1000):
        given = plan(server, "", f"t{number}", argv=["/bin/true"])
        start(talk, given, f"t{number}")
    ended = {talk.next(f="ended")["attempt"] for _ in range(1000)}
    assert len(ended) == 1000
    assert len(server.sessions()) == 1
    talk.leave()


def refusal(remote: Remote, server: Sshd, host: SshHost) -> dict[str, Any]:
    talk = Talk(remote, server, host)
    talk.say(**HELLO)
    found = talk.hear()
    assert found["m"] == "refused" and found["why"] == "transport", found
    with suppress(ConnectionResetError):  # it did not wait for our hello
        assert not talk.lines.readline()
    talk.road.close()
    return found


def test_a_host_key_that_was_not_expected_is_refused_with_both_names(
    server: Sshd, remote: Remote
) -> None:
    other = "SHA256:" + "A" * 43
    found = refusal(remote, server, server.host(host_key_fingerprint=other))
    assert server.fingerprint in found["sentence"]
    assert other in found["sentence"]
    assert "host_key_fingerprint" in found["hint"]
    talk = Talk(remote, server, server.host(host_key_fingerprint=server.fingerprint))
    talk.greet()
    talk.leave()


def test_an_unknown_host_key_is_refused(server: Sshd, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    found = refusal(remote, server, server.host(known_hosts=str(tmp_path / "empty")))
    assert "host key of 127.0.0.1" in found["sentence"]
    assert "ssh-keygen -lf" in found["hint"]


def test_a_key_that_nobody_knows_is_told_with_what_to_type(server: Sshd, remote: Remote) -> None:
    stranger = str(server.folder / "stranger")
    found = refusal(remote, server, server.host(identity=stranger))
    assert "lets nobody in" in found["sentence"]
    assert f"-i {stranger}" in found["hint"]


def test_a_port_where_nobody_listens_and_a_name_that_is_none_are_told(
    server: Sshd, remote: Remote
) -> None:
    server.stop()
    assert "refuses the connection" in refusal(remote, server, server.host())["sentence"]
    found = refusal(remote, server, server.host(host="no-such-host.invalid"))
    assert "no-such-host.invalid" in found["sentence"]


def test_a_working_directory_that_is_not_there_is_told(server: Sshd, remote: Remote) -> None:
    found = refusal(remote, server, server.host(working_directory="/no/such/place"))
    assert "/no/such/place does not exist" in found["sentence"]


@pytest.mark.parametrize("transport", ["asyncssh", "openssh"])
def test_a_host_without_python_is_told(tmp_path: Path, remote: Remote, transport: str) -> None:
    (tmp_path / "bin").mkdir()
    with serving(tmp_path / "bare", path=str(tmp_path / "bin")) as bare:
        found = refusal(remote, bare, bare.host(transport=transport))
    assert "python3" in found["sentence"]


@pytest.mark.parametrize("transport", ["asyncssh", "openssh"])
def test_a_connection_that_says_nothing_more_is_given_up(
    server: Sshd, remote: Remote, transport: str
) -> None:
    talk = Talk(remote, server, server.host(transport=transport, keepalive_seconds=1))
    talk.greet()
    for pid in server.sessions():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    while talk.lines.readline():
        pass
    assert time.monotonic() - began < 20
    talk.road.close()
    for pid in server.sessions():
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_says_nothing_is_given_up_after_a_while(server: Sshd, remote: Remote) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        found = refusal(remote, server, server.host(port=silent.getsockname()[1]))
        assert "did not answer" in found["sentence"]
        assert time.monotonic() - began < 25


def test_a_fleet_that_is_there_can_be_taken_instead_of_the_copied_runtime(
    server: Sshd, remote: Remote
) -> None:
    program = server.home / "fleet"
    program.symlink_to(Path(sys.executable).parent / "fleet")
    for name in (str(program), "~/fleet"):
        talk = Talk(remote, server, server.host(fleet_binary=name))
        talk.greet()
        environment(talk)
        start(talk, plan(server, "echo there"))
        assert talk.next(f="ended")["exit"] == 0
        talk.leave()
    assert not (server.home / ".cache/codewhale-fleet").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("no-such", "is not there"), ("plain", "cannot be run there"), ("other", "other program")],
)
def test_a_fleet_binary_that_is_none_is_told(
    server: Sshd, remote: Remote, name: str, words: str
) -> None:
    (server.home / "plain").write_text("")
    other = server.home / "other"
    other.write_text("#!/bin/sh\necho other program >&2\nexit 2\n")
    other.chmod(0o755)
    found = refusal(remote, server, server.host(fleet_binary=str(server.home / name)))
    assert "no worker runtime can be started on 127.0.0.1" in found["sentence"]
    assert words in found["sentence"]


def test_a_host_that_cannot_keep_a_file_says_so(
    server: Sshd, remote: Remote, tmp_path: Path
) -> None:
    data = b"data"
    digest = sha256(data).hexdigest()
    (tmp_path / ".fleet/evidence").mkdir()
    (tmp_path / ".fleet/evidence" / digest).write_bytes(data)
    (server.folder / "state").mkdir()
    (server.folder / "state/inputs").write_text("no directory")
    talk = Talk(remote, server)
    talk.greet()
    environment(talk)
    start(talk, plan(server, "true", carry=[digest]))
    found = talk.next(m="refused")
    assert found["why"] == "transport"
    assert f"files cannot be kept in its {server.folder}/state" in found["sentence"]
    (server.folder / "state/inputs").unlink()
    again = Talk(remote, server)
    again.greet()
    again.leave()
