"""What a new user of the ssh road does wrong: each mistake is told for what it is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core.spec_hosts import SshHost
from codewhale_fleet.hosts.remote import Remote
from tests.hosts.sshd import Sshd, make_key, serving
from tests.hosts.test_ssh import Talk, refusal

pytestmark = pytest.mark.slow

both = pytest.mark.parametrize("transport", ["asyncssh", "openssh"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME of the caller's own. The system's ssh looks up its home elsewhere, so it is told."""
    made = tmp_path / "here"
    (made / ".ssh").mkdir(parents=True)
    (made / ".ssh/config").write_text("")
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin/ssh"
    shim.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {made}/.ssh/config "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return made


@pytest.fixture
def remote(tmp_path: Path, home: Path) -> Iterator[Remote]:
    (tmp_path / ".fleet").mkdir()
    made = Remote(tmp_path / ".fleet")
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    with serving(tmp_path / "sshd") as made:
        yield made


def works(remote: Remote, server: Sshd, host: SshHost) -> dict[str, Any]:
    talk = Talk(remote, server, host)
    road = talk.hear()
    assert road["m"] == "road", road
    talk.greet()
    talk.leave()
    return road


@both
def test_a_name_that_is_none(server: Sshd, remote: Remote, transport: str) -> None:
    found = refusal(remote, server, server.host(host="no-such-host.invalid", transport=transport))
    if not found["final"]:  # a machine without a name server cannot tell
        assert "looked up now" in found["sentence"]
        return
    assert "no machine is called no-such-host.invalid" in found["sentence"]
    assert "getent hosts no-such-host.invalid" in found["hint"]


@both
def test_a_port_where_nobody_listens(server: Sshd, remote: Remote, transport: str) -> None:
    server.stop()
    found = refusal(remote, server, server.host(transport=transport))
    assert f"127.0.0.1:{server.port} refuses the connection" in found["sentence"]
    assert found["hint"] and not found["final"]


@both
def test_a_server_that_says_nothing(server: Sshd, remote: Remote, transport: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        host = server.host(port=port, transport=transport, connect_timeout_seconds=1)
        found = refusal(remote, server, host)
        assert time.monotonic() - began < 8
    assert "did not answer within 1 seconds" in found["sentence"]
    assert "connect_timeout_seconds" in found["hint"] and not found["final"]


@both
def test_a_slow_banner_only_takes_its_time(
    server: Sshd, remote: Remote, tmp_path: Path, transport: str
) -> None:
    (tmp_path / "known").write_text("127.0.0.1 " + (server.folder / "host.pub").read_text())
    with a_slow_door(server.port) as port:
        line = f"[127.0.0.1]:{port} " + (server.folder / "host.pub").read_text()
        (tmp_path / "known").write_text(line)
        known = str(tmp_path / "known")
        works(remote, server, server.host(port=port, known_hosts=known, transport=transport))


@contextmanager
def a_slow_door(port: int) -> Iterator[int]:
    """Passes one connection on, after words of its own and a while."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def serve() -> None:
            caller, _ = door.accept()
            with caller, socket.create_connection(("127.0.0.1", port)) as server:
                caller.sendall(b"This is a machine of ours.\r\nPatience.\r\n")
                time.sleep(2)
                back = threading.Thread(target=carry, args=(server, caller), daemon=True)
                back.start()
                carry(caller, server)
                back.join(10)

        worker = threading.Thread(target=serve, daemon=True)
        worker.start()
        yield int(door.getsockname()[1])
        worker.join(10)


def carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@both
def test_a_key_that_the_host_does_not_know_is_named(
    server: Sshd, remote: Remote, transport: str
) -> None:
    stranger = str(server.folder / "stranger")
    found = refusal(remote, server, server.host(identity=stranger, transport=transport))
    assert f"lets nobody in as root with the keys that were tried: {stranger}" in found["sentence"]
    assert "authorized_keys" in found["hint"] and f"-i {stranger}" in found["hint"]
    assert found["final"]


@both
def test_somebody_without_any_key_is_asked_for_nothing(
    server: Sshd, remote: Remote, home: Path, transport: str
) -> None:
    began = time.monotonic()
    if transport == "openssh":  # whose default keys are those of the system's home
        (home / ".ssh/config").write_text("IdentityFile ~/.ssh/none-here\n")
    found = refusal(remote, server, server.host(identity=None, transport=transport))
    assert "there was none to try" in found["sentence"] and found["final"]
    assert time.monotonic() - began < 10


@both
def test_a_key_with_a_passphrase_needs_an_agent(
    server: Sshd, remote: Remote, tmp_path: Path, transport: str
) -> None:
    key = tmp_path / "locked"
    shutil.copy(server.folder / "id", key)
    key.chmod(0o600)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    host = server.host(identity=str(key), transport=transport)
    found = refusal(remote, server, host)
    assert f"{key} has a passphrase, and no agent holds it" in found["sentence"]
    assert f"ssh-add {key}" in found["hint"] and found["final"]


@both
def test_an_agent_is_asked_for_its_keys(
    server: Sshd,
    remote: Remote,
    tmp_path: Path,
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sock = tmp_path / "agent"
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not sock.exists():
            assert agent.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        subprocess.run(
            ["ssh-add", "-q", str(server.folder / "stranger")], check=True, capture_output=True
        )
        host = server.host(identity=None, transport=transport)
        found = refusal(remote, server, host)
        assert "1 of the agent" in found["sentence"]
        subprocess.run(
            ["ssh-add", "-q", str(server.folder / "id")], check=True, capture_output=True
        )
        works(remote, server, host)
    finally:
        agent.terminate()
        agent.wait()


@both
def test_a_host_key_that_nobody_has_seen(
    server: Sshd, remote: Remote, tmp_path: Path, transport: str
) -> None:
    known = tmp_path / "known"
    known.write_text("")
    host = server.host(known_hosts=str(known), transport=transport)
    found = refusal(remote, server, host)
    assert f"is not known: it shows {server.fingerprint}" in found["sentence"]
    assert found["key"] == server.fingerprint and found["final"]
    assert f"--fingerprint {server.fingerprint}" in found["hint"]
    line = found["hint"].partition("echo '")[2].partition("'")[0]
    known.write_text(line + "\n")  # as the hint says
    works(remote, server, host)
    known.unlink()
    fine = server.host(
        known_hosts=None, host_key_fingerprint=server.fingerprint, transport=transport
    )
    works(remote, server, fine)


@both
def test_a_host_key_that_has_changed(
    server: Sshd, remote: Remote, tmp_path: Path, transport: str
) -> None:
    known = tmp_path / "known"
    other = (server.folder / "stranger.pub").read_text()
    known.write_text(f"[127.0.0.1]:{server.port} {other}")
    found = refusal(remote, server, server.host(known_hosts=str(known), transport=transport))
    assert "has changed" in found["sentence"] and server.fingerprint in found["sentence"]
    assert str(known) in found["sentence"]
    assert f"ssh-keygen -f {known} -R '[127.0.0.1]:{server.port}'" in found["hint"]
    assert found["final"] and "key" not in found


@both
def test_a_host_key_of_another_kind_than_is_known(
    server: Sshd, remote: Remote, tmp_path: Path, transport: str
) -> None:
    make_key(tmp_path / "rsa", "ecdsa")
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{server.port} {(tmp_path / 'rsa.pub').read_text()}")
    found = refusal(remote, server, server.host(known_hosts=str(known), transport=transport))
    assert server.fingerprint in found["sentence"] and found["final"]


@both
def test_another_host_key_than_was_written_down(
    server: Sshd, remote: Remote, transport: str
) -> None:
    other = "SHA256:" + "A" * 43
    found = refusal(remote, server, server.host(host_key_fingerprint=other, transport=transport))
    assert server.fingerprint in found["sentence"] and other in found["sentence"]
    assert "host_key_fingerprint" in found["hint"] and found["final"]


@both
def test_a_file_that_is_named_and_is_not_there(
    server: Sshd, remote: Remote, transport: str
) -> None:
    for field, what in (("identity", "the identity"), ("known_hosts", "the file of known hosts")):
        host = server.host(transport=transport, **{field: "/no/such/file"})
        found = refusal(remote, server, host)
        assert f"{what} /no/such/file cannot be read" in found["sentence"]
        assert found["final"]


def test_a_public_key_is_no_identity(server: Sshd, remote: Remote) -> None:
    found = refusal(remote, server, server.host(identity=str(server.folder / "id.pub")))
    assert "is a public key" in found["sentence"] and found["final"]


# ssh's config ---------------------------------------------------------------------------------


def by_config(server: Sshd, home: Path, more: str = "") -> None:
    (home / ".ssh/config").write_text(
        f"Host web01\n  HostName 127.0.0.1\n  Port {server.port}\n  User root\n"
        f"  IdentityFile {server.folder}/id\n  UserKnownHostsFile {server.folder}/known\n{more}"
    )


@both
def test_what_stands_in_the_config_of_ssh_holds(
    server: Sshd, remote: Remote, home: Path, transport: str
) -> None:
    by_config(server, home, "  RequestTTY force\n  RemoteCommand echo no\n  ForwardAgent yes\n")
    host = SshHost(host="web01", working_directory=str(server.work), transport=transport)  # type: ignore[arg-type]
    assert works(remote, server, host)["root"] == str(server.work)


@both
def test_a_machine_on_the_way_is_gone_through(
    server: Sshd, remote: Remote, home: Path, tmp_path: Path, transport: str
) -> None:
    with serving(tmp_path / "jump") as jump:
        (jump.folder / "config").write_text("")
        by_config(
            server,
            home,
            f"  ProxyJump bastion\nHost bastion\n  HostName 127.0.0.1\n  Port {jump.port}\n"
            f"  IdentityFile {jump.folder}/id\n  UserKnownHostsFile {jump.folder}/known\n",
        )
        host = SshHost(host="web01", working_directory=str(server.work), transport=transport)  # type: ignore[arg-type]
        works(remote, server, host)
        assert (jump.folder / "log").read_text().count("Accepted publickey") == 1
        jump.stop()
        again = refusal(remote, server, SshHost(host="web01", user="root", transport=transport))  # type: ignore[arg-type]
        assert "refuse" in again["sentence"]
        if transport == "asyncssh":
            assert "root@web01 is reached through bastion" in again["sentence"]


def test_a_way_may_be_named_and_leads_in_no_circle(
    server: Sshd, remote: Remote, home: Path
) -> None:
    by_config(server, home, "Host *\n  ProxyJump other\n")
    found = refusal(remote, server, SshHost(host="web01"))
    assert "leads in a circle" in found["sentence"] and "ProxyJump none" in found["hint"]
    by_config(server, home, "Host *\n  ProxyJump none\n")
    inside = server.host(proxy_jump="web01")
    works(remote, server, inside)


def test_a_config_that_cannot_be_read_is_told(server: Sshd, remote: Remote, home: Path) -> None:
    (home / ".ssh/config").write_text("Port twelve\n")
    found = refusal(remote, server, server.host(port=None))
    assert "~/.ssh/config" in found["sentence"] and found["final"]


# What is there --------------------------------------------------------------------------------


@both
def test_a_login_that_greets_everybody_does_no_harm(
    tmp_path: Path, remote: Remote, transport: str
) -> None:
    (tmp_path / "banner").write_text("Authorized use only.\n")
    with serving(tmp_path / "loud", options=f"Banner {tmp_path}/banner\n") as loud:
        script = 'echo "Welcome!"; echo "It is noon." >&2; printf "No newline"\n'
        (loud.home / ".bashrc").write_text(script)
        (loud.home / ".cshrc").write_text(script)
        works(remote, loud, loud.host(transport=transport))


@both
def test_a_login_that_runs_no_commands_is_told_with_its_words(
    tmp_path: Path, remote: Remote, transport: str
) -> None:
    options = "ForceCommand echo This account is not available.; exit 1\n"
    with serving(tmp_path / "closed", options=options) as closed:
        found = refusal(remote, closed, closed.host(transport=transport))
    assert "This account is not available." in found["sentence"]


@both
@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_host_without_a_python(
    tmp_path: Path, remote: Remote, transport: str, mode: int | None
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    if mode:
        (there / "python3").write_text("#!/bin/sh\n")
        (there / "python3").chmod(mode)
    with serving(tmp_path / "bare", path=str(there)) as bare:
        found = refusal(remote, bare, bare.host(transport=transport))
    assert "python3" in found["sentence"] and found["final"] and found["hint"]


def test_a_python_that_is_too_old_is_told(tmp_path: Path, remote: Remote) -> None:
    there = tmp_path / "there"
    there.mkdir()
    old = there / "python3"
    python = shutil.which("python3")
    old.write_text(
        f'#!/bin/sh\nexec {python} -c "import sys; sys.version_info = (3, 6, 9); $4" '
        '"$5" "$6" "$7"\n'
    )
    old.chmod(0o755)
    with serving(tmp_path / "bare", path=f"{there}:/usr/bin:/bin") as bare:
        found = refusal(remote, bare, bare.host())
    assert "its python3 is 3.6, not 3.9 or newer" in found["sentence"]
    assert found["final"] and "Install" in found["hint"]


def test_a_directory_that_is_not_there(server: Sshd, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, why in (
        ("/no/such/place", "does not exist"),
        ("some/where", "is no absolute path"),
        (str(tmp_path / "file"), "is no directory"),
    ):
        found = refusal(remote, server, server.host(working_directory=path))
        assert f"{path} {why}" in found["sentence"], found
        assert found["final"] and "mkdir" in found["hint"]
