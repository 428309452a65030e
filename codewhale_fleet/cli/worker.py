"""`fleet worker test`: whether work could run on another machine, and what keeps it from there.

Promises that nothing is asked of a terminal, that nothing of it stays behind there but the copied
runtime, and a sentence for every host that cannot be used. Records nothing.
"""

import os
import select
import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import DecodeError, Struct, json

from ..core.spec_hosts import SshHost
from ..errors import FleetError, Unreachable
from ..hosts.remote import Remote
from .common import Context, print_json
from .faces import Page
from .words import duration

STATE = "~/.local/state/codewhale-fleet/test-{pid}-{number}"
"""Where the runtime that answers a test lives there; it is gone with it."""

SECONDS = 45.0
"""For all hosts together: name, connection, login, copy, start."""


class Tried(Struct, kw_only=True, omit_defaults=True):
    """What came of one host."""

    host: str
    ok: bool = False
    seconds: float = 0.0
    """From the first packet to the runtime's first word."""
    round_trip: float = 0.0
    python: str = ""
    platform: str = ""
    cores: int = 0
    directory: str = ""
    error: str = ""
    hint: str = ""
    final: bool = False
    """Trying again cannot help until somebody changes something."""
    key: str = ""
    """Fingerprint of a host key that nobody has said anything of yet."""


def worker_test(
    *,
    hosts: list[str],
    identity: str | None = None,
    known_hosts: str | None = None,
    fingerprint: str | None = None,
    working_directory: str | None = None,
    openssh: bool = False,
    ctx: Context,
) -> int:
    """Try each host once, all at the same time."""
    wanted = [
        parsed(
            text,
            identity=identity,
            known_hosts=known_hosts,
            fingerprint=fingerprint,
            directory=working_directory,
            openssh=openssh,
        )
        for text in hosts
    ]
    with TemporaryDirectory(prefix="fleet-") as folder:
        found = _Trial(Path(folder), hosts, wanted).all()
    code = 0 if all(one.ok for one in found) else Unreachable.exit_code
    if ctx.json:
        print_json({"hosts": found, "exit_code": code})
    else:
        _page(found).show(ctx)
    return code


def parsed(
    text: str,
    *,
    identity: str | None = None,
    known_hosts: str | None = None,
    fingerprint: str | None = None,
    directory: str | None = None,
    openssh: bool = False,
) -> SshHost:
    """[USER@]HOST[:PORT] and the options that hold for it; FleetError where it is none."""
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
    if identity is not None and not Path(identity).expanduser().is_file():
        raise FleetError(f"the identity {identity} is no file.", "It is the private key's file.")
    return SshHost(
        host=name,
        user=user or None,
        port=port,
        identity=identity,
        known_hosts=known_hosts,
        host_key_fingerprint=fingerprint,
        working_directory=directory,
        transport="openssh" if openssh else None,
    )


class _Trial:
    """All hosts of one call."""

    def __init__(self, folder: Path, names: list[str], hosts: list[SshHost]) -> None:
        self.remote = Remote(folder)
        self.found = [Tried(host=name) for name in names]
        self.roads: dict[int, tuple[socket.socket, Tried, bytearray]] = {}
        self.began = time.monotonic()
        self.pinged: dict[int, float] = {}
        self.poll = select.poll()
        for number, (host, tried) in enumerate(zip(hosts, self.found, strict=True)):
            state = STATE.format(pid=os.getpid(), number=number)
            road = self.remote.connect(f"test-{number}", host, state, trial=True)
            hello = {"m": "hello", "protocol": 1, "fleet": "", "epoch": 1, "cursors": {}}
            road.send(json.encode(hello) + b"\n")
            self.roads[road.fileno()] = road, tried, bytearray()
            self.poll.register(road.fileno(), select.POLLIN)

    def all(self) -> list[Tried]:
        """What came of each, in the order asked."""
        try:
            until = self.began + SECONDS
            while self.roads and (left := until - time.monotonic()) > 0:
                for descriptor, _ in self.poll.poll(left * 1000):
                    self._hear(descriptor)
            for _, tried, _ in self.roads.values():
                tried.error = f"there was no answer within {duration(SECONDS)}"
        finally:
            self.remote.close()
            for road, _, _ in self.roads.values():
                road.close()
        return self.found

    def _hear(self, descriptor: int) -> None:
        road, tried, held = self.roads[descriptor]
        try:
            data = road.recv(1 << 16)
        except OSError:
            data = b""
        held += data
        while b"\n" in held:
            line, _, rest = bytes(held).partition(b"\n")
            held[:] = rest
            self._take(road, tried, line)
        if not data:
            if not (tried.ok or tried.error):
                tried.error = "the connection ended before there was an answer"
            self.poll.unregister(descriptor)
            del self.roads[descriptor]
            road.close()

    def _take(self, road: socket.socket, tried: Tried, line: bytes) -> None:
        try:
            message = json.decode(line)
        except DecodeError:
            return
        if message.get("m") == "road":
            tried.python, tried.directory = message["python"], message["root"]
        elif message.get("m") == "hello":
            tried.seconds = round(time.monotonic() - self.began, 3)
            tried.platform, tried.cores = message.get("platform", ""), message.get("cores", 0)
            self.pinged[road.fileno()] = time.monotonic()
            road.send(b'{"m":"ping"}\n')
        elif message.get("m") == "pong":
            tried.round_trip = round(time.monotonic() - self.pinged[road.fileno()], 4)
            tried.ok = True
            road.send(b'{"m":"leave"}\n')
            road.shutdown(socket.SHUT_WR)
        elif message.get("m") == "refused":
            tried.error, tried.hint = message.get("sentence", ""), message.get("hint", "")
            tried.final, tried.key = message.get("final", False), message.get("key", "")


def _page(found: list[Tried]) -> Page:
    page = Page()
    page.rows(
        [
            [
                one.host,
                ("ok", "green") if one.ok else ("failed", "red"),
                f"{one.platform}, Python {one.python}, {one.cores} cores, "
                f"{one.round_trip * 1000:.0f} ms away, ready after {one.seconds:.1f} s"
                if one.ok
                else one.error.rstrip(".") + "." + (f" {one.hint}" if one.hint else ""),
            ]
            for one in found
        ],
        indent=0,
        prose=2,
    )
    return page
