"""The manager's end of the stream to a worker runtime: JSON lines in, JSON lines out.

Nothing here decides or waits: `feed` turns bytes into messages, `say` queues messages, `flush`
writes what the socket takes. Whether the other side is a unix socket, an SSH channel or a relay
is not known here.
"""

import socket
from typing import Any

from msgspec import DecodeError, Struct, json

from ..core.events import AgentFacts, Artifact, Evidence, Log, Step
from ..errors import Unreachable

READ_BYTES = 1 << 20
"""Bytes taken from the stream at once."""


class Message(Struct, gc=False):
    """Any message of a runtime: hello, pong, refused (`m`), or a journalled fact (`f`)."""

    m: str = ""
    f: str = ""
    n: int = 0
    attempt: str = ""
    slot: str = ""
    pid: int = 0
    keeper: int = 0
    since: float = 0.0
    seconds: float = 0.0
    cpu: float | None = None
    rss_kb: int | None = None
    exit: int | None = None
    signal: int | None = None
    unknown: bool = False
    unstarted: str = ""
    why: str = ""
    logs: dict[str, Log] = {}
    artifacts: list[Artifact] = []
    missing: list[str] = []
    artifact_errors: list[str] = []
    evidence: dict[str, Evidence] = {}
    stragglers: int = 0
    oom: bool = False
    step: int = 0
    steps: list[Step] = []
    agent: AgentFacts | None = None
    cap: str = ""
    warn: list[str] = []
    base: str = ""
    isolated: str = ""
    unsaved: str = ""
    notes: list[str] = []
    percent: float | None = None
    note: str = ""
    checkpoint: Evidence | None = None
    number: int = 1
    text: str = ""
    choices: list[str] = []
    secrets: dict[str, str] = {}
    """Keys, and how each came."""
    name: str = ""
    version: int | str = 0
    """A number in a fact about data; in a hello the runtime's own version."""
    sha256: str = ""
    size: int = 0
    tags: dict[str, str] = {}
    deleted: bool = False
    quiet: float = 0.0
    epoch: int = 0
    acknowledged: int = 0
    sentence: str = ""
    runtime: str = ""
    boot: str = ""
    journal: int = 0
    open: list[str] = []
    runs: list[str] = []
    run: str = ""
    values: dict[str, str] | None = None
    given: dict[str, Any] | None = None
    """A run's umask and values, whole."""
    state: str = ""
    root: str = ""
    host: str = ""
    platform: str = ""
    python: str = ""
    cores: int = 0
    memory_mb: int = 0
    gpus: int = 0
    """With the ones before: what a host is, told when its road is open."""
    hint: str = ""
    final: bool = False
    """Trying again cannot help."""
    unkept: bool = False
    """Files that starts need cannot be kept there."""


def misunderstood(why: str) -> Unreachable:
    """Two versions that do not understand each other: connecting again would not help."""
    return Unreachable(
        f"the worker runtime of this workspace and this fleet do not understand each other: {why}",
        "Is it of another version? It leaves a minute after its last task and its last manager.",
    )


class Link:
    """One connection. `closed` is set at its end; a new Link is made for the next one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.closed = False
        self.runtime = ""
        """Id of the runtime, after its hello."""
        self._decoder = json.Decoder(Message)
        self._encoder = json.Encoder()
        self._partial: list[bytes] = []
        """Pieces of a line that is not whole yet: they are joined once, when it is."""
        self._unsent = bytearray()

    def fileno(self) -> int:
        """For epoll."""
        return self.connection.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._unsent)

    def say(self, message: dict[str, Any]) -> None:
        """Queue one message."""
        self._encoder.encode_into(message, self._unsent, -1)
        self._unsent += b"\n"

    def flush(self) -> None:
        """Write what the stream takes now. Who is gone is heard of behind what it said last."""
        while self._unsent and not self.closed:
            try:
                sent = self.connection.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def receive(self) -> list[Message]:
        """Every whole message that has arrived; sets `closed` at the end of the stream."""
        messages: list[Message] = []
        while not self.closed:
            try:
                data = self.connection.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()
                break
            whole, newline, rest = data.rpartition(b"\n")
            if newline:
                try:
                    messages += self._decoder.decode_lines(b"".join((*self._partial, whole)))
                except DecodeError as error:
                    raise misunderstood(str(error)) from None
                self._partial.clear()
            if rest:
                self._partial.append(rest)
            if len(data) < READ_BYTES:
                break
        return messages

    def close(self) -> None:
        """End the connection; what was not sent is said again on the next one."""
        if not self.closed:
            self.closed = True
            self.connection.close()
