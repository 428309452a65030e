"""`fleet worker test`: other machines, tried for real on a private sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codewhale_fleet.cli.worker import parsed
from codewhale_fleet.errors import FleetError
from tests.hosts.sshd import serving


def fleet(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codewhale_fleet", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )


@pytest.mark.slow
def test_each_host_is_told_with_what_it_is_or_why_it_cannot_be_used(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd") as server:
        good = f"127.0.0.1:{server.port}"
        keys = ["-i", str(server.folder / "id"), "--known-hosts", str(server.folder / "known")]
        done = fleet(tmp_path, "worker", "test", *keys, good, "127.0.0.1:1")
        assert done.returncode == 6, done.stderr
        first, second = done.stdout.splitlines()
        assert first.startswith(good) and "  ok" in first and "Python 3." in first
        assert "127.0.0.1:1 refuses the connection." in second
        done = fleet(tmp_path, "worker", "test", *keys, "--json", good)
        assert done.returncode == 0, done.stderr
        (told,) = json.loads(done.stdout)["hosts"]
        assert told["ok"] and told["directory"] == str(server.home) and told["round_trip"] > 0
        left = list((server.home / ".local/state/codewhale-fleet").iterdir())
        assert left == [], "a test leaves a directory behind"
    assert not (tmp_path / ".fleet").exists()


def test_a_host_may_be_written_with_user_and_port() -> None:
    host = parsed("deploy@[::1]:2222")
    assert (host.user, host.host, host.port) == ("deploy", "::1", 2222)
    assert parsed("fe80::1").host == "fe80::1"
    assert parsed("build.example").port is None


@pytest.mark.parametrize("text", ["", "@", "user@", "-oProxyCommand=x", "a b", "host:0", "host:x"])
def test_what_names_no_host_is_refused(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parsed(text)
    assert text in caught.value.sentence
