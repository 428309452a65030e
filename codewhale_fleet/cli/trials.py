"""Other machines, each tried once, all at the same time: what they are, or why they cannot be used.

A trial is a connection, a copy of the runtime, its start, and one question and answer. Promises
that nothing is asked of a terminal, that nothing stays behind there but the copied runtime, and an
outcome for every host within a bounded time. Records nothing.
"""

import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import DecodeError, Struct, json

from ..core.spec_hosts import SshHost
from ..errors import FleetError
from ..hosts.refusals import title
from ..hosts.remote import Remote
from .words import duration

STATE = "~/.local/state/codewhale-fleet/test-{pid}-{number}"
"""Where the runtime that answers a trial lives there; it is gone with it."""

SECONDS = 45.0
"""For one host: name, connection, login, copy, start. One that may take longer to connect gets that
on top."""

AT_ONCE = 64
"""Hosts that are tried at the same time: more would only wait for each other."""


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a host is, as it says itself."""

    host: str = ""
    boot: str = ""
    platform: str = ""
    python: str = ""
    cores: int = 0
    memory_mb: int = 0
    gpus: int = 0


class Tried(Struct, kw_only=True, omit_defaults=True):
    """What came of one host."""

    host: str
    """As it was asked for."""
    address: str = ""
    """[USER@]HOST[:PORT]"""
    worker: str = ""
    """The worker that it is, where it is one."""
    ok: bool = False
    seconds: float = 0.0
    """From the first packet to the runtime's first word."""
    round_trip: float = 0.0
    facts: Facts = Facts()
    directory: str = ""
    """Where work would run there."""
    error: str = ""
    hint: str = ""
    final: bool = False
    """Trying again cannot help until somebody changes something."""
    key: str = ""
    """Fingerprint of a host key that nobody has said anything of yet."""


def tried(hosts: Sequence[tuple[str, SshHost]]) -> list[Tried]:
    """What came of each, in the order asked."""
    with TemporaryDirectory(prefix="fleet-") as folder:
        remote = Remote(Path(folder))
        try:
            return _Trial(remote, hosts).all()
        finally:
            remote.close()


class _Road:
    """A host that is being tried."""

    def __init__(self, road: socket.socket, one: Tried, seconds: float) -> None:
        self.road = road
        self.one = one
        self.held = b""
        self.began = time.monotonic()
        self.until = self.began + seconds
        self.pinged = 0.0


class _Trial:
    """All hosts of one call."""

    def __init__(self, remote: Remote, hosts: Sequence[tuple[str, SshHost]]) -> None:
        self.remote = remote
        self.found = [Tried(host=name, address=title(host)) for name, host in hosts]
        self.waiting = deque(zip((host for _, host in hosts), self.found, strict=True))
        self.roads: dict[int, _Road] = {}
        self.poll = select.poll()

    def all(self) -> list[Tried]:
        """Waits for every outcome."""
        try:
            while self._begin() or self.roads:
                left = min(one.until for one in self.roads.values()) - time.monotonic()
                for descriptor, _ in self.poll.poll(max(left, 0) * 1000):
                    self._hear(self.roads[descriptor])
                self._give_up(time.monotonic())
        finally:
            for road in self.roads.values():
                road.road.close()
        return self.found

    def _begin(self) -> bool:
        """As many as may be tried at once are."""
        while self.waiting and len(self.roads) < AT_ONCE:
            host, one = self.waiting.popleft()
            number = len(self.found) - len(self.waiting)
            state = STATE.format(pid=os.getpid(), number=number)
            road = self.remote.connect(f"test-{number}", host, state, trial=True)
            hello = {"m": "hello", "protocol": 1, "fleet": "", "epoch": 1, "cursors": {}}
            road.send(json.encode(hello) + b"\n")
            seconds = SECONDS + (host.connect_timeout_seconds or 0.0)
            self.roads[road.fileno()] = _Road(road, one, seconds)
            self.poll.register(road.fileno(), select.POLLIN)
        return bool(self.waiting)

    def _end(self, road: _Road) -> None:
        descriptor = road.road.fileno()
        self.poll.unregister(descriptor)
        del self.roads[descriptor]
        road.road.close()

    def _give_up(self, now: float) -> None:
        for road in [one for one in self.roads.values() if one.until <= now]:
            if not (road.one.ok or road.one.error):
                said = duration(road.until - road.began)
                road.one.error = f"{road.one.host} gave no answer within {said}"
            self._end(road)

    def _hear(self, road: _Road) -> None:
        try:
            data = road.road.recv(1 << 16)
        except OSError:
            data = b""
        *lines, road.held = (road.held + data).split(b"\n")
        for line in lines:
            self._take(road, line)
        if not data:
            if not (road.one.ok or road.one.error):
                road.one.error = f"the connection to {road.one.host} ended without an answer"
            self._end(road)

    def _take(self, road: _Road, line: bytes) -> None:
        one = road.one
        try:
            message = json.decode(line)
        except DecodeError:
            return
        word = message.get("m")
        if word == "road":
            one.directory = message["root"]
            known = Facts.__struct_fields__
            one.facts = Facts(**{key: value for key, value in message.items() if key in known})
        elif word == "hello":
            road.pinged = time.monotonic()
            one.seconds = round(road.pinged - road.began, 3)
            road.road.send(b'{"m":"ping"}\n')
        elif word == "pong":
            one.round_trip = round(time.monotonic() - road.pinged, 4)
            one.ok = True
            road.road.send(b'{"m":"leave"}\n')
            road.road.shutdown(socket.SHUT_WR)
        elif word == "refused":
            one.error, one.hint = message.get("sentence", ""), message.get("hint", "")
            one.final, one.key = message.get("final", False), message.get("key", "")


# What a person types --------------------------------------------------------------------------


class Typed(Struct, frozen=True, kw_only=True):
    """The options of a command that say how hosts are reached."""

    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    fingerprint: str | None = None
    working_directory: str | None = None
    jump: str | None = None
    connect_timeout: float | None = None
    openssh: bool = False

    @property
    def given(self) -> dict[str, object]:
        """Those that were given, as fields of a host."""
        fields = {
            "port": self.port,
            "identity": self.identity,
            "known_hosts": self.known_hosts,
            "host_key_fingerprint": self.fingerprint,
            "working_directory": self.working_directory,
            "proxy_jump": self.jump,
            "connect_timeout_seconds": self.connect_timeout,
            "transport": "openssh" if self.openssh else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def checked(typed: Typed) -> Typed:
    """The options; FleetError where one of them can be nothing."""
    import re

    mark = typed.fingerprint
    if mark is not None and not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", mark):
        raise FleetError(
            f'--fingerprint: "{mark}" is none.',
            "SHA256: and 43 characters, as ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub says.",
        )
    if typed.identity is not None and not Path(typed.identity).expanduser().is_file():
        raise FleetError(
            f"the identity {typed.identity} is no file.", "It is the private key's file."
        )
    if typed.known_hosts is not None and not Path(typed.known_hosts).expanduser().is_file():
        raise FleetError(
            f"--known-hosts: {typed.known_hosts} is no file.",
            "~/.ssh/known_hosts is the usual one.",
        )
    folder = typed.working_directory
    if folder is not None and not (folder.startswith("/") or folder.split("/")[0] == "~"):
        raise FleetError(
            f'--working-directory: "{folder}" is relative, and it is a directory over there.',
            "Write it from / on, or from ~/ on.",
        )
    return typed


def parsed(text: str, typed: Typed) -> SshHost:
    """[USER@]HOST[:PORT] with the options; FleetError where it is none."""
    user, _, rest = text.rpartition("@")
    name, port = rest, None
    if rest.startswith("["):
        name, _, after = rest[1:].partition("]")
        rest_port = after.removeprefix(":")
    elif rest.count(":") == 1:
        name, _, rest_port = rest.partition(":")
    else:
        rest_port = ""
    if rest_port:
        if not rest_port.isdecimal() or not 0 < int(rest_port) < 65536:
            raise FleetError(f'"{text}": {rest_port} is no port.', "1 to 65535 are.")
        port = int(rest_port)
    if not name or name.startswith("-") or any(sign.isspace() for sign in text):
        raise FleetError(f'"{text}" names no host.', "Write it as [USER@]HOST[:PORT].")
    given = typed.given | ({"port": port} if port is not None else {})
    return SshHost(host=name, user=user or None, **given)  # type: ignore[arg-type]
