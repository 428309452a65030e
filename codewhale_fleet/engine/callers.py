"""Who talks to the manager: watchers that wait for a run, askers that recorded something.

Messages are JSON lines: `{"m":"ping"}` is answered with a pong; `{"m":"watch","run":ID}` and
`{"m":"listen"}` get a line with the newest durable `seq` after every commit, watchers only where it
is about their run, and who watches a run would take over while it is open; `{"m":"poke","run":ID}`
says that the ledger has news (and, with a run, that it is to be managed), `{"m":"kill","run":ID}`
that what the run has in flight is not waited for; `{"m":"data","run":ID,"entry":{…}}` puts or
deletes a value of a run; `{"m":"tail","attempt":ID}` is answered with `tailed` once what the
attempt has written elsewhere is here. Nothing is decided here.
"""

import select
import socket
from collections.abc import Iterator, Set
from typing import Any

from msgspec import DecodeError, json

LIMIT_BYTES = 64 * 1024
"""Longest message of a caller; a longer one ends its connection."""


class Callers:
    """The listening socket and everybody who is connected to it."""

    def __init__(self, server: socket.socket, poll: select.epoll, *, epoch: int) -> None:
        self.server = server
        self.poll = poll
        self.epoch = epoch
        self._callers: dict[int, socket.socket] = {}
        self._partial: dict[int, bytes] = {}
        self._watchers: dict[int, str] = {}
        self._listeners: set[int] = set()
        self._foreign: set[int] = set()
        self._tailing: dict[str, set[int]] = {}
        """Attempt -> who waits for what it has written."""
        poll.register(server.fileno(), select.EPOLLIN)

    @property
    def watched(self) -> set[str]:
        """The runs that somebody waits for here, who would take over."""
        return set(self._watchers.values())

    def ignore(self, descriptor: int) -> None:
        """This descriptor is in the same epoll but is no caller."""
        self._foreign.add(descriptor)

    def forget_others(self) -> None:
        """What is in the same epoll and no caller is somebody else's now."""
        for descriptor in self._foreign:
            self.poll.unregister(descriptor)
        self._foreign.clear()

    def owns(self, descriptor: int) -> bool:
        """Whether it is the server or one of its connections."""
        return descriptor not in self._foreign and (
            descriptor == self.server.fileno() or descriptor in self._callers
        )

    def serve(self, descriptor: int) -> Iterator[tuple[str, str]]:
        """Take what arrived; yields ("poke" or "kill", run or ""), or ("data", the message)."""
        if descriptor == self.server.fileno():
            self._accept()
            return
        caller = self._callers[descriptor]
        try:
            data = caller.recv(LIMIT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        whole, newline, rest = (self._partial.get(descriptor, b"") + data).rpartition(b"\n")
        self._partial[descriptor] = rest
        if newline:
            for line in whole.split(b"\n"):
                yield from self._answer(descriptor, line)
        if not data or len(rest) > LIMIT_BYTES:
            self._drop(descriptor)

    def announce(self, seq: int, runs: Set[str]) -> None:
        """Tell how far the ledger is durable: listeners, and who watches a run that it is about."""
        line = b'{"seq":%d}\n' % seq
        concerned = [one for one, run in self._watchers.items() if run in runs]
        for descriptor in (*concerned, *self._listeners):
            self._say(descriptor, line)

    def tailed(self, attempt: str) -> None:
        """What an attempt has written by now is here, or cannot be had."""
        for descriptor in self._tailing.pop(attempt, ()):
            self._say(descriptor, b'{"m":"tailed"}\n')

    def close(self) -> None:
        """Hang up; watchers see the end of the stream and one of them takes over."""
        for descriptor in tuple(self._callers):
            self._drop(descriptor)
        self.server.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self.server.accept()
            except OSError:
                return
            from ..worker.peers import is_confined

            if is_confined(caller.fileno()):  # a task of another fleet, as far as it can be
                caller.close()
                continue
            caller.setblocking(False)
            self._callers[caller.fileno()] = caller
            self.poll.register(caller.fileno(), select.EPOLLIN)

    def _answer(self, descriptor: int, line: bytes) -> Iterator[tuple[str, str]]:
        if descriptor not in self._callers:  # a line before this one ended the connection
            return
        try:
            message: Any = json.decode(line)
        except DecodeError:
            self._drop(descriptor)
            return
        kind = message.get("m") if isinstance(message, dict) else None
        if kind == "ping":
            self._say(descriptor, b'{"m":"pong","epoch":%d}\n' % self.epoch)
        elif kind == "watch":
            self._watchers[descriptor] = str(message.get("run") or "")
        elif kind == "listen":
            self._listeners.add(descriptor)
        elif kind == "data":
            yield kind, line.decode()
        elif kind == "tail":
            self._tailing.setdefault(str(message.get("attempt")), set()).add(descriptor)
            yield kind, str(message.get("attempt"))
        elif kind in ("poke", "kill"):
            yield kind, str(message.get("run") or "")

    def _say(self, descriptor: int, line: bytes) -> None:
        try:
            self._callers[descriptor].send(line)
        except BlockingIOError:
            return
        except (OSError, KeyError):
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        caller = self._callers.pop(descriptor, None)
        self._partial.pop(descriptor, None)
        self._watchers.pop(descriptor, None)
        self._listeners.discard(descriptor)
        if caller is not None:
            self.poll.unregister(descriptor)
            caller.close()
