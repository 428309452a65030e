"""The managers' connections of the runtime: reading, sending, never waiting for one.

Promises: a peer of another user is not let in, nor one in a sandbox, but by the door for tasks; a
peer that does not read is closed when too much waits for it, and loses nothing, because it comes
back with its cursor. It knows bytes and messages, not what they ask.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import limits
from codewhale_fleet.worker.protocol import Conversation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from select import epoll
    from typing import Any

_EPOLLIN = 1
_EPOLLOUT = 4
_SOL_SOCKET = 1
_SO_PEERCRED = 17


class Peer:
    """One connection. `sent_n`: the last fact sent or waiting in `unsent`; -1 before hello."""

    __slots__ = ("conversation", "fd", "gone", "sent_n", "unsent")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.conversation = Conversation()
        self.sent_n = -1
        self.unsent = bytearray()
        self.gone = False


class Peers:
    """All connections, by descriptor, and the listening socket."""

    def __init__(
        self,
        listener: _socket.socket,
        poll: epoll,
        kind: type[Peer] = Peer,
        most: int = limits.CONNECTIONS,
        *,
        confined: bool = False,
    ) -> None:
        self.by_fd: dict[int, Peer] = {}
        self._kind = kind
        self._most = most
        self._confined = confined
        """Whether they may come from inside a sandbox."""
        self.make_room: Callable[[], None] | None = None
        """Called when all places are taken and one more comes; else that one is closed."""
        self._listener = listener
        self._poll = poll

    def accept(self) -> None:
        """Lets in whoever waits at the door."""
        while True:
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined]
            except OSError:  # nobody more (or no descriptor left: they wait in the backlog)
                return
            if len(self.by_fd) >= self._most and self.make_room is not None:
                self.make_room()
            if len(self.by_fd) >= self._most or not self._is_welcome(fd):
                os.close(fd)
                continue
            os.set_blocking(fd, False)
            self.by_fd[fd] = self._kind(fd)
            self._poll.register(fd, _EPOLLIN)

    def _is_welcome(self, fd: int) -> bool:
        """Is it a process of the same user (or root), from where it may come?"""
        known = _credentials(fd)
        if known is None:
            return True
        return known[1] in (os.geteuid(), 0) and (self._confined or not is_confined(fd))

    def read(self, peer: Peer) -> tuple[bytes, bool]:
        """What has arrived, and whether the peer is still there."""
        parts: list[bytes] = []
        alive = True
        for _ in range(limits.READS_A_WAKE):
            try:
                data = os.read(peer.fd, limits.READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                alive = False
                break
            parts.append(data)
            if len(data) < limits.READ_BYTES:
                break
        return b"".join(parts), alive

    def send(self, peer: Peer, data: bytes) -> None:
        """Sends now what can be sent; the rest goes when the peer reads."""
        if peer.gone or not data:
            return
        if peer.unsent:
            peer.unsent += data
        else:
            sent = self._write(peer, data)
            if sent == len(data):
                return
            peer.unsent += data[sent:]
            if not peer.gone:
                self._poll.modify(peer.fd, _EPOLLIN | _EPOLLOUT)
        if len(peer.unsent) > limits.UNSENT_BYTES:
            self.close(peer)

    def flush(self, peer: Peer) -> None:
        """The peer reads again."""
        if peer.unsent:
            del peer.unsent[: self._write(peer, bytes(peer.unsent))]
            if not peer.unsent and not peer.gone:
                self._poll.modify(peer.fd, _EPOLLIN)

    def _write(self, peer: Peer, data: bytes) -> int:
        try:
            return os.write(peer.fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # it went away
            self.close(peer)
            return 0

    def close(self, peer: Peer) -> None:
        """Ends a connection; attempts are not touched by it."""
        if not peer.gone:
            peer.gone = True
            del self.by_fd[peer.fd]
            # A child that is just being spawned may hold a copy until its exec: after a close
            # alone its events would be taken for those of the number's next owner.
            self._poll.unregister(peer.fd)
            os.close(peer.fd)


def _credentials(fd: int) -> tuple[int, int] | None:
    """(pid, user) of the other end; None where it is no unix socket."""
    import _socket
    import sys

    try:
        known = _socket.socket(fileno=fd)
        try:
            facts: Any = known.getsockopt(_SOL_SOCKET, _SO_PEERCRED, 12)
        finally:
            known.detach()
    except OSError:  # whoever made it has authenticated the peer
        return None
    return (int.from_bytes(facts[:4], sys.byteorder), int.from_bytes(facts[4:8], sys.byteorder))


def is_confined(fd: int) -> bool:
    """Is the other end in a sandbox below this process? Then it speaks for nobody."""
    known = _credentials(fd)
    if known is None or not known[0]:
        return False
    try:
        return all(
            os.readlink(f"/proc/{known[0]}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
            for kind in ("user", "pid")
        )
    except FileNotFoundError:  # gone before anybody could look
        return True
    except OSError:  # it is not ours to look at, so it is in no sandbox of ours
        return False
