"""Sockets whose owner accepts nobody any more: whoever asks gets a sentence, and soon."""

import select
import socket
from pathlib import Path

import pytest

from codewhale_fleet.cli.common import manager_answers
from codewhale_fleet.engine import handover, sockets
from codewhale_fleet.engine.callers import LIMIT_BYTES, Callers
from codewhale_fleet.errors import Unreachable


def crowded(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[socket.socket, socket.socket]:
    """A manager's socket that takes nobody more: its owner, and the one who waits there."""
    monkeypatch.setattr(sockets, "BACKLOG", 0)
    monkeypatch.setattr(sockets, "ACCEPT_SECONDS", 0.05)
    server = sockets.listen(place / "manager.sock")
    first = sockets.connect(place / "manager.sock")
    assert first
    return server, first


def test_a_full_backlog_keeps_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, first = crowded(tmp_path, monkeypatch)
    with server, first:
        with pytest.raises(Unreachable, match="is its process stopped"):
            sockets.connect(tmp_path / "manager.sock")
        with pytest.raises(Unreachable):
            handover.poke(tmp_path)
        assert not handover.answers(tmp_path)
        handover.tell(tmp_path)  # nobody waits for it to be heard
        assert sockets.is_heard(tmp_path / "manager.sock")
        assert manager_answers(str(tmp_path))


def test_a_place_in_the_backlog_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, first = crowded(tmp_path, monkeypatch)
    looks = []

    def accept_at_the_second_look() -> float:
        looks.append(1)
        if len(looks) == 2:
            server.accept()[0].close()
        return 0.0

    monkeypatch.setattr(sockets.random, "random", accept_at_the_second_look)
    with server, first:
        second = sockets.connect(tmp_path / "manager.sock")
        assert second
        second.close()
    assert sockets.connect(tmp_path / "manager.sock") is None
    assert not sockets.is_heard(tmp_path / "manager.sock")


def test_who_watches_a_run_is_known_until_the_connection_ends(tmp_path: Path) -> None:
    with select.epoll() as poll:
        server = sockets.listen(tmp_path / "manager.sock")
        callers = Callers(server, poll, epoch=1)
        heard: list[tuple[str, str]] = []
        kept: list[socket.socket] = []
        for said in (b'{"m":"watch","run":"r"}\n{"m":"poke","run":"r"}\n', b"x" * LIMIT_BYTES):
            caller = sockets.connect(tmp_path / "manager.sock")
            assert caller
            caller.sendall(said)
            list(callers.serve(server.fileno()))
            for descriptor in [fd for fd, _ in poll.poll(0) if callers.owns(fd)]:
                heard += callers.serve(descriptor)
            assert callers.watched == {"r"}
            kept.append(caller)
        kept[-1].sendall(b'x\n{"m":"watch","run":"other"}\n')
        for descriptor in [fd for fd, _ in poll.poll(0) if callers.owns(fd)]:
            heard += callers.serve(descriptor)
        assert (heard, callers.watched) == ([("poke", "r")], {"r"})
        callers.close()
        for caller in kept:
            caller.close()
        assert callers.watched == set()
