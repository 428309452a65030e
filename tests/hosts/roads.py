"""The roads to a worker runtime, each with the same manager at this end of it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from codewhale_fleet.hosts import local
from codewhale_fleet.hosts.remote import Remote
from tests.hosts.sshd import Sshd, serving
from tests.real.wire import Wire
from tests.worker.driver import PATIENCE, RUN, Line, Manager, Message, is_alive

NAMES = ("local", "ssh", "openssh")


class OnRoad(Manager):
    """A manager whose runtime is at the end of some road.

    `root` is the workspace where the work runs, `state` the runtime's directory there, and `fleet`
    the fleet's directory here.
    """

    state: Path

    def connect(self) -> socket.socket:
        """A stream to the runtime."""
        raise NotImplementedError

    def drop(self) -> None:
        """The connection breaks off."""
        raise NotImplementedError

    def dial(self, epoch: int | None = None, cursors: Message | None = None) -> Line:
        line = Line(self.connect())
        self._lines.append(line)
        hello = {"m": "hello", "protocol": 1, "fleet": "f", "cursors": cursors or {}}
        line.say({**hello, "epoch": self.epoch if epoch is None else epoch})
        self.hello = line.hear(lambda m: m.get("m") in ("hello", "refused"))
        self.line = line
        return line

    def again(self) -> Line:
        """A new connection that goes on from what was heard."""
        line = self.dial(cursors={self.hello["runtime"]: self.cursor})
        self.environ(self.base)
        return line

    base = {"PATH": os.environ["PATH"]}  # noqa: RUF012 (never changed)

    @property
    def keeper(self) -> int:
        return int(self.hello.get("keeper") or (self.state / "runtime/lock").read_text())

    def processes(self, attempt: str) -> list[int]:
        """Pids that carry the attempt's name, seen from the machine where they run."""
        name = f"FLEET_ATTEMPT_ID={attempt}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if name in path.read_bytes().split(b"\0") and is_alive(int(path.parent.name)):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def settled(self) -> None:
        """Everything that was said so far has been performed."""
        self.line.say({"m": "ping"})
        self.line.hear(lambda m: m.get("m") == "pong")


class Local(OnRoad):
    def __init__(self, folder: Path) -> None:
        self.state = folder / "work/.fleet"
        (folder / "work").mkdir()
        super().__init__(folder / "work")

    def connect(self) -> socket.socket:
        return local.connect(self.fleet)

    def drop(self) -> None:
        self.line.close()


class Far(OnRoad):
    """`fleet` is another directory than `state`: nothing comes here but over the road."""

    def __init__(self, folder: Path, server: Sshd, **fields: object) -> None:
        self.server = server
        self.host = server.host(**fields)
        self.state = server.folder / "state"
        here = folder / "here"
        (here / ".fleet").mkdir(parents=True)
        self.remote = Remote(here / ".fleet")
        self._here = here / ".fleet"
        super().__init__(server.work)
        self.fleet = self._here

    def connect(self) -> socket.socket:
        wire = self.server.wire
        with wire.inside(wire.here) if wire else nullcontext():
            return self.remote.connect("w", self.host, str(self.state))

    def drop(self) -> None:
        self.server.drop()
        self.refusal()

    def refusal(self, patience: float = PATIENCE) -> Message:
        """The last line of a stream that ended."""
        found = self.line.hear(lambda m: m.get("m") == "refused", patience)
        self.line.hear_end()
        return found

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.remote.close()


@contextmanager
def road(
    name: str,
    folder: Path,
    *,
    path: str | None = None,
    options: str = "",
    wire: Wire | None = None,
    **fields: Any,
) -> Iterator[OnRoad]:
    """A manager on the road of that name; what it started is gone afterwards."""
    if name == "local":
        here = Local(folder)
        try:
            yield here
        finally:
            here.finish()
        return
    with serving(folder / "sshd", path=path, options=options, wire=wire) as server:
        if name == "openssh":
            fields["transport"] = "openssh"
        far = Far(folder, server, **fields)
        try:
            yield far
        finally:
            far.finish()


def wait_for(what: Any, patience: float = PATIENCE) -> Any:
    """What `what` answers once that is something."""
    until = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
    return found


__all__ = ["NAMES", "RUN", "Far", "Local", "OnRoad", "json", "road", "wait_for"]
