"""Servers that let nobody in as fleet comes, and machines on the way that let nobody through."""

from __future__ import annotations

from pathlib import Path

import pytest

from codewhale_fleet.hosts.remote import Remote
from tests.hosts.sshd import Sshd, serving
from tests.hosts.test_ssh import refusal
from tests.hosts.test_ssh_refusals import both, home, remote, server, works

__all__ = ["home", "remote", "server"]

pytestmark = pytest.mark.slow


@both
def test_a_server_that_takes_no_keys_is_told_apart_from_one_that_lacks_mine(
    remote: Remote, tmp_path: Path, transport: str
) -> None:
    options = "PubkeyAuthentication no\nPasswordAuthentication yes\n"
    with serving(tmp_path / "door", options=options) as door:
        found = refusal(remote, door, door.host(transport=transport))
    assert "takes no keys, only password" in found["sentence"] and found["final"]
    assert "PubkeyAuthentication yes" in found["hint"]


@both
def test_a_file_of_known_hosts_that_is_not_there_is_not_replaced_by_another(
    server: Sshd, remote: Remote, home: Path, transport: str
) -> None:
    (home / ".ssh/known_hosts").write_text((server.folder / "known").read_text())
    (home / ".ssh/config").write_text(f"UserKnownHostsFile {home}/.ssh/none-here\n")
    found = refusal(remote, server, server.host(known_hosts=None, transport=transport))
    assert "is not known" in found["sentence"] and found["key"] == server.fingerprint


@both
def test_a_machine_on_the_way_that_passes_nothing_on_is_named(
    server: Sshd, remote: Remote, home: Path, tmp_path: Path, transport: str
) -> None:
    with serving(tmp_path / "way", options="AllowTcpForwarding no\n") as way:
        known = home / ".ssh/known_hosts"
        known.write_text((way.folder / "known").read_text())
        (home / ".ssh/config").write_text(
            f"Host way\n HostName 127.0.0.1\n Port {way.port}\n IdentityFile {way.folder}/id\n"
            f" UserKnownHostsFile {known}\n"
        )
        host = server.host(proxy_jump="way", transport=transport)
        found = refusal(remote, server, host)
    assert "way passes no connection on to 127.0.0.1" in found["sentence"]
    assert "AllowTcpForwarding" in found["hint"]


@both
def test_two_machines_on_the_way_are_gone_through(
    server: Sshd, remote: Remote, home: Path, tmp_path: Path, transport: str
) -> None:
    with serving(tmp_path / "one") as one, serving(tmp_path / "two") as two:
        lines = [f"UserKnownHostsFile {home}/.ssh/known_hosts"]
        (home / ".ssh/known_hosts").write_text(
            "".join((each.folder / "known").read_text() for each in (one, two, server))
        )
        for each, name in ((one, "one"), (two, "two")):
            lines += [f"Host {name}", f" HostName 127.0.0.1\n Port {each.port}"]
            lines += [f" IdentityFile {each.folder}/id"]
        (home / ".ssh/config").write_text("\n".join(lines) + "\n")
        works(remote, server, server.host(proxy_jump="one,two", transport=transport))
        assert "127.0.0.1" in (two.folder / "log").read_text()
