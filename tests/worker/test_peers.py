"""Connections of the runtime: a number that is used again brings no events of its earlier owner."""

from __future__ import annotations

import os
from pathlib import Path
from select import epoll

from codewhale_fleet.worker.main import bind
from codewhale_fleet.worker.peers import Peers
from tests.worker.driver import PATIENCE


def test_a_closed_connection_is_silent_though_a_child_still_holds_a_copy(tmp_path: Path) -> None:
    import _socket

    with epoll() as poll:
        listener = bind(str(tmp_path))
        listener.setblocking(False)
        peers = Peers(listener, poll)
        caller = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        caller.connect(str(tmp_path / "runtime.sock"))
        peers.accept()
        (peer,) = peers.by_fd.values()
        copy = os.dup(peer.fd)  # as in a child between its fork and its exec
        caller.close()
        assert poll.poll(PATIENCE) != []
        peers.close(peer)
        assert poll.poll(0) == []
        os.close(copy)
        listener.close()
