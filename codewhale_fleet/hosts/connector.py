"""A process of its own that speaks ssh: byte streams of managers here, channels to relays there.

    python -m codewhale_fleet.hosts.connector FLEET_DIR <control>    (control: descriptor 0)

The manager hands it a host's description and one end of a socket pair; from then on it reads and
writes that stream as if a runtime were behind it. What a line only names is carried with it: files
of the manager's before it, and the relay's files into the fleet's directory before the fact. It
promises that a host can write nothing but logs of the attempts it was given and evidence under its
true digest. It leaves when the manager does. It decides nothing and tries nothing twice.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
from msgspec import Struct, convert, json

from ..core.spec_hosts import SshHost
from ..errors import Unreachable
from ..worker import frames
from ..worker.bundle import digests
from ..worker.git import Refusal
from ..worker.protocol import Broken
from ..worker.relay import evidence_path, log_path
from . import openssh, ssh
from .arrivals import Arrivals, tail_of
from .bundle import bundle, command
from .refusals import KeyUnknown, title

READ = 1 << 18
_FIRST_SECONDS = 20.0
"""How long a host's relay may take to say that it is ready."""
_GREETING_BYTES = 1 << 20
"""A line so long is no greeting of a login shell."""
_GATHERING_SECONDS = 0.005
"""Between two reads of what a host says: a manager syncs its ledger for each piece it hears."""
_LAST_SECONDS = 2.0
"""How long a relay may take to pass on what was said last."""
_THERE_SECONDS = 3600.0
"""How long a host is believed to have a file before it is asked again."""


class Unkept(Unreachable):
    """A host cannot keep the files that starts need."""


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """One stream that the manager wants: `state` is the runtime's directory there."""

    worker: str
    host: SshHost
    state: str
    trial: bool = False


class Connector:
    """All connections of one manager."""

    def __init__(self, fleet_dir: Path) -> None:
        self.fleet_dir = fleet_dir
        self._connections: dict[bytes, asyncio.Task[asyncssh.SSHClientConnection]] = {}
        self._roads: set[asyncio.Task[None]] = set()

    async def serve(self, control: socket.socket) -> None:
        """Takes orders until the manager is gone."""
        control.setblocking(False)
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_reader(control.fileno(), arrived.set)
        while True:
            await arrived.wait()
            arrived.clear()
            try:
                data, ancillary, _, _ = control.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            except BlockingIOError:
                continue
            if not data:
                break
            descriptors = array.array("i")
            for _, kind, payload in ancillary:
                if kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(payload[:4])
            stream = socket.socket(fileno=descriptors[0])
            order = convert(json.decode(data), Order)
            task = loop.create_task(self._road(order, stream))
            self._roads.add(task)
            task.add_done_callback(self._roads.discard)
            arrived.set()
        if self._roads:  # what was said last is on its way
            await asyncio.wait([*self._roads], timeout=_LAST_SECONDS)
        for task in [*self._roads]:
            task.cancel()
        await asyncio.gather(*self._roads, return_exceptions=True)
        for made in self._connections.values():
            made.cancel()
            if made.done() and not made.cancelled() and made.exception() is None:
                made.result().abort()

    async def connection(self, host: SshHost) -> asyncssh.SSHClientConnection:
        """The one connection to a host, made when it is first asked for, or anew."""
        key = json.encode(host)
        task = self._connections.get(key)
        if task is None or _over(task):
            task = self._connections[key] = asyncio.create_task(ssh.connect(host))
        return await asyncio.shield(task)

    async def _road(self, order: Order, stream: socket.socket) -> None:
        stream.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=stream)
        road = Road(self, order, reader, writer)
        name = title(order.host)
        try:
            await road.run()
        except Unreachable as error:
            road.refuse(error)
        except (asyncssh.Error, ConnectionError) as error:
            reason = getattr(error, "reason", "") or str(error) or "the connection was dropped"
            road.refuse(Unreachable(f"the connection to {name} was lost: {reason}"))
        except Refusal as error:
            road.refuse(Unreachable(f"files for {name} cannot be carried: {error}"))
        except (Broken, OSError, ValueError) as error:
            road.refuse(Unreachable(f"what {name} sent cannot be taken: {error}"))
        finally:
            with contextlib.suppress(OSError):
                writer.close()


def _over(task: asyncio.Task[asyncssh.SSHClientConnection]) -> bool:
    """Whether a connection is gone, or was never made."""
    if not task.done():
        return False
    return task.cancelled() or task.exception() is not None or task.result().is_closed()


class Road:
    """One manager's stream and the channel behind it."""

    def __init__(
        self,
        connector: Connector,
        order: Order,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._connector = connector
        self._order = order
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._arrivals = Arrivals(connector.fleet_dir)
        self._there: dict[str, float] = {}
        """Digests of files that the host is known to have, and until when that is believed."""
        self._heard = ""
        """What a login shell said before the relay spoke."""
        self._bundle: tuple[str, list[str]] = ("", [])
        """The list of files that was read last, and the contents that it names."""

    def refuse(self, error: Unreachable) -> None:
        """Tell the manager why the stream ends."""
        line = {"m": "refused", "why": "transport", "sentence": error.sentence, "hint": error.hint}
        more: dict[str, Any] = {}
        if isinstance(error, KeyUnknown):
            more["key"] = error.key.fingerprint
        more |= {"final": error.final, "unkept": isinstance(error, Unkept)}
        self._writer.write(json.encode({**line, **more}) + b"\n")

    async def run(self) -> None:
        """From the channel's opening to the end of either side."""
        channel = await self._open()
        host = self._order.host  # the system's ssh connects only now
        seconds = _FIRST_SECONDS + (host.connect_timeout_seconds or 0.0)
        try:
            ready = await asyncio.wait_for(self._ready(channel), seconds)
        except TimeoutError:
            channel.close()
            said = f"; it said: {self._heard}" if self._heard else ""
            raise Unreachable(
                f"{title(self._order.host)} did not start a relay within {seconds:g} seconds{said}",
                "Does its login shell run commands at all, and without a question?",
            ) from None
        self._base: dict[str, str] = ready.get("base") or {}
        known = {name: value for name, value in ready.items() if name != "base"}
        self._writer.write(json.encode({"m": "road", **known}) + b"\n")
        down = asyncio.create_task(self._down(channel))
        up = asyncio.create_task(self._up(channel))
        try:
            await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
            if not down.done():
                if not up.exception():  # the manager left: its last words count
                    channel.write_eof()
                await asyncio.wait({down}, timeout=_LAST_SECONDS)
        finally:
            for task in (down, up):
                task.cancel()
            await asyncio.gather(down, up, return_exceptions=True)
            channel.close()
            self._arrivals.close()
        own = None if up.cancelled() else up.exception()
        told = None if down.cancelled() else down.exception()
        if (own or up.cancelled()) and (error := told or own):  # the host knows better why
            raise error

    async def _open(self) -> ssh.Channel:
        host = self._order.host
        root, trial = host.working_directory or "~", self._order.trial
        line = command(self._order.state, root, trial=trial, program=host.fleet_binary or "")
        if host.transport == "openssh":
            return await openssh.openssh(host, line)
        return await ssh.shared(await self._connector.connection(host), line, title(host))

    async def _ready(self, channel: ssh.Channel) -> dict[str, Any]:
        """The relay's first words, and the bundle where it asks for it."""
        held = b""
        name = title(self._order.host)
        while True:
            data = await channel.read(READ)
            if not data:
                program = self._order.host.fleet_binary or "python3"
                raise await channel.refusal(self._heard, program)
            held += data
            while b"\n" in held:
                line, _, held = held.partition(b"\n")
                if not line.startswith(frames.MARK):  # a shell that greets everybody
                    self._heard = ssh.words_of(self._heard.encode() + b" " + line)
                    continue
                frame = frames.frame_of(line)
                if frame.word == "need":
                    channel.write(b"%012d" % len(bundle()) + bundle())
                    await channel.drain()
                elif frame.word in ("unreached", "broken"):
                    told = frame.fields
                    raise Unreachable(
                        f"{name}: {told.get('sentence')}",
                        str(told.get("hint") or ""),
                        final=told.get("final") is True,
                    )
                elif frame.word == "ready":
                    self._frames = frames.Reader()
                    self._held = held
                    return frame.fields
            if len(held) > _GREETING_BYTES:
                raise Unreachable(f"{name} says too much before a relay speaks")

    # ---- from the host to the manager

    async def _down(self, channel: ssh.Channel) -> None:
        data = self._held or await channel.read(READ)
        clock, next_read = asyncio.get_running_loop().time, 0.0
        while data:
            for frame, piece in self._frames.receive(data):
                if frame is None:
                    self._writer.write(piece)
                elif frame.word == "file":
                    self._arrivals.file(frame, piece)
                elif frame.word == "tail":
                    if (answer := self._arrivals.tail(frame, piece)) is not None:
                        (channel if answer.startswith(frames.MARK) else self._writer).write(answer)
                elif frame.word in ("broken", "unreached"):
                    said = f"{title(self._order.host)}: {frame.fields.get('sentence')}"
                    raise Unkept(said) if frame.fields.get("unkept") else Unreachable(said)
                else:
                    await self._answers.put({"word": frame.word, **frame.fields})
            await self._writer.drain()
            if (early := next_read - clock()) > 0:
                await asyncio.sleep(early)
            next_read = clock() + _GATHERING_SECONDS
            data = await channel.read(READ)
        raise ConnectionError(await channel.ended() or "the channel was closed")

    # ---- from the manager to the host

    async def _up(self, channel: ssh.Channel) -> None:
        lines = frames.Lines()
        while data := await self._reader.read(READ):
            whole = lines.receive(data)
            if b'"m":"tail"' in whole:
                whole = self._tails(channel, whole)
            if b'"carry":' in whole:
                await self._carry(channel, dict.fromkeys(self._carried(whole)))
            if b'"environment"' in whole:
                for line in whole.splitlines(keepends=True):
                    channel.write(self._prepared(line))
            else:
                channel.write(whole)
            await channel.drain()

    def _tails(self, channel: ssh.Channel, lines: bytes) -> bytes:
        """Ask for what was written; the lines that are for the runtime."""
        rest = []
        for line in lines.splitlines(keepends=True):
            if b'"m":"tail"' not in line or (message := json.decode(line))["m"] != "tail":
                rest.append(line)
                continue
            paths = [log_path(path) for path in message["paths"]]
            for path in paths:
                here = self._connector.fleet_dir / path
                offset = here.stat().st_size if here.exists() else 0
                told = {"attempt": message["attempt"], "path": path, "last": path == paths[-1]}
                channel.write(tail_of({**told, "offset": offset}))
        return b"".join(rest)

    def _prepared(self, line: bytes) -> bytes:
        """The line as the host needs it: values of allowed variables, and of its own login."""
        if b'"environment"' in line and (message := json.decode(line))["m"] == "environment":
            allowed = message["values"].get("allowed") or {}
            names = self._order.host.env_allowlist
            values = {name: allowed[name] for name in names if name in allowed}
            secrets = message["values"].get("secrets") or {}
            message["values"] = {"base": self._base, "allowed": values, "secrets": secrets}
            return json.encode(message) + b"\n"
        return line

    def _carried(self, lines: bytes) -> Iterator[str]:
        """Digests of the files that these lines need there, and of what their bundles list."""
        for line in lines.splitlines():
            if b'"carry":' not in line:
                continue
            message = json.decode(line)
            plan = message.get("plan", message)
            yield from plan.get("carry", ())
            if listed := plan.get("isolate", {}).get("bundle"):
                if self._bundle[0] != listed:
                    self._bundle = listed, self._listed(listed)
                yield from self._bundle[1]

    def _listed(self, manifest: str) -> list[str]:
        try:
            data = (self._connector.fleet_dir / evidence_path(manifest)).read_bytes()
        except FileNotFoundError:  # whoever needs it there will say so
            return []
        return digests(data)

    async def _carry(self, channel: ssh.Channel, digests: Iterable[str]) -> None:
        """Files that are not there yet; one question for all that is said at once."""
        now = time.monotonic()
        wanted = [one for one in digests if self._there.get(one, 0.0) < now]
        if not wanted:
            return
        channel.write(frames.line_of("have", {"sha256": wanted}))
        await channel.drain()
        had = set((await self._answers.get())["sha256"])
        for one in wanted:
            if one in had or await self._put(channel, one):
                self._there[one] = now + _THERE_SECONDS

    async def _put(self, channel: ssh.Channel, digest: str) -> bool:
        """Sends a file; False where it is gone here, which whoever needs it there will say."""
        path = self._connector.fleet_dir / evidence_path(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            parts = [(0, os.fstat(fd).st_size)]
            channel.write(frames.line_of("put", {"sha256": digest, "parts": parts}))
            for piece in frames.pieces(fd, parts):
                channel.write(piece)
                await channel.drain()
        finally:
            os.close(fd)
        return True


def main() -> None:
    """Serves the manager at the other end of descriptor 0."""
    control = socket.socket(fileno=os.dup(0))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(control))


async def _serve(control: socket.socket) -> None:
    await Connector(Path(sys.argv[1])).serve(control)
    os._exit(0)  # at once: a thread may still wait for a name server


if __name__ == "__main__":
    main()
