"""A connector that loads before it is needed: one for all who ask, and gone without work."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from codewhale_fleet.engine.early import Early
from codewhale_fleet.engine.sockets import listen
from codewhale_fleet.hosts import remote
from tests.hosts.roads import wait_for

from .test_kill import ask

pytestmark = pytest.mark.slow

PATHS = [str(Path(remote.__file__).parents[2]), *(p for p in sys.path if "site-packages" not in p)]


def those_about(place: Path) -> list[int]:
    """Processes that were told this directory."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdecimal() and str(place).encode() in (each / "cmdline").read_bytes():
                found.append(int(each.name))
        except OSError:
            continue
    return found


def test_of_many_who_ask_at_once_one_begins_a_connector(tmp_path: Path) -> None:
    asked = [Early(tmp_path, tmp_path / ".fleet") for _ in range(20)]
    assert len(those_about(tmp_path)) == 1
    made = [found for one in asked if (found := one.taken()) is not None]
    assert len(made) == 1
    later = Early(tmp_path, tmp_path / ".fleet")
    assert len(those_about(tmp_path)) == 2
    later.drop()
    made[0].drop()
    assert not those_about(tmp_path) and not list(tmp_path.iterdir())


def test_where_a_manager_listens_none_is_begun(tmp_path: Path) -> None:
    with listen(tmp_path / "manager.sock"):
        early = Early(tmp_path, tmp_path)
        assert not those_about(tmp_path) and early.taken() is None
    assert Early(tmp_path / "gone", tmp_path).taken() is None


def test_a_spec_that_is_refused_leaves_no_connector_and_no_file(tmp_path: Path) -> None:
    host = {"kind": "ssh", "host": "127.0.0.1", "port": 1, "working_directory": "/tmp"}
    spec = {"workers": [{"id": "w", "host": host}], "tasks": [{"id": "a", "comand": "true"}]}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    code, _, said = ask(tmp_path, "run", "spec.json")
    assert code == 2 and "comand" in said
    wait_for(lambda: not those_about(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["spec.json"]


def begun(place: Path, word: bytes) -> int:
    """The exit code of a connector that finds no asyncssh, and is told this."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-I", "-S", "-c", remote._MODULE, "\n".join(PATHS), str(place)]
    with theirs:
        process = subprocess.Popen(words, stdin=theirs.fileno())
    with ours:
        if word:
            ours.send(word)
    return process.wait(20)


def test_why_a_connector_cannot_be_loaded_stands_in_its_file_once_there_is_work(
    tmp_path: Path,
) -> None:
    assert begun(tmp_path, b"") == 0 and not list(tmp_path.iterdir())
    assert begun(tmp_path, b"{}") == 1
    assert "No module named" in (tmp_path / "connector.err").read_text()
