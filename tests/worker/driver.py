"""A manager for tests: speaks the runtime's protocol over the local road, waits for facts.

Every wait ends by an event (a line, an end of file) or fails after `PATIENCE` seconds; every
process that a test starts is ended by its own pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codewhale_fleet.hosts import local

PATIENCE = 20.0
RUN = f"demo-{os.getpid():06d}"
"""Of this test process alone: on a host, the id of an attempt names it."""
Message = dict[str, Any]


class Gone(Exception):
    """The runtime closed the connection."""


class Line:
    """One connection of a manager."""

    def __init__(self, road: socket.socket) -> None:
        self._road = road
        self._rest = b""
        self.heard: list[Message] = []
        self._read = 0

    def say(self, *messages: Message) -> None:
        self._road.setblocking(True)
        self._road.sendall(b"".join(json.dumps(m).encode() + b"\n" for m in messages))

    def hear(self, wanted: Callable[[Message], object], patience: float = PATIENCE) -> Message:
        """The next message, from where the last `hear` stopped, that is `wanted`."""
        until = time.monotonic() + patience
        while True:
            while self._read < len(self.heard):
                message = self.heard[self._read]
                self._read += 1
                if wanted(message):
                    return message
            self._receive(until)

    def find(self, wanted: Callable[[Message], object], patience: float = PATIENCE) -> Message:
        """Like `hear`, from the beginning and without moving on."""
        until = time.monotonic() + patience
        seen = 0
        while True:
            for message in self.heard[seen:]:
                if wanted(message):
                    return message
            seen = len(self.heard)
            self._receive(until)

    def _receive(self, until: float) -> None:
        ready, _, _ = select.select([self._road], [], [], max(until - time.monotonic(), 0))
        if not ready:
            raise AssertionError(f"nothing more was heard; so far: {self.heard[-20:]}")
        try:
            data = self._road.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Gone
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.heard += [json.loads(line) for line in lines]

    def fileno(self) -> int:
        return self._road.fileno()

    def hear_end(self) -> None:
        """Waits until the runtime closes."""
        with contextlib.suppress(Gone):
            self.hear(lambda _: False)

    def close(self) -> None:
        self._road.close()


class Manager:
    """A fleet directory, its runtime, and a manager's connection to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fleet = root / ".fleet"
        self.epoch = 1
        self._lines: list[Line] = []
        self.line = self.dial()
        self.environ({"PATH": os.environ["PATH"], "HOME": str(root)})

    def dial(self, epoch: int | None = None, cursors: Message | None = None) -> Line:
        """Connects and greets; the answer is `line.heard[0]`."""
        line = Line(local.connect(self.fleet))
        self._lines.append(line)
        hello = {"m": "hello", "protocol": 1, "fleet": "f", "cursors": cursors or {}}
        line.say({**hello, "epoch": self.epoch if epoch is None else epoch})
        self.hello = line.hear(lambda m: m["m"] == "hello" if "m" in m else False)
        self.line = line
        return line

    def environ(self, base: dict[str, str], allowed: dict[str, str] | None = None) -> None:
        values = {"base": base, "allowed": allowed or {}}
        self.line.say({"m": "environment", "run": RUN, "umask": 0o022, "values": values})

    def plan(self, attempt: str, argv: list[str], **more: Any) -> Message:
        stem = attempt.partition("/")[2].replace("@", ".")
        plan = {
            "argv": argv,
            "cwd": str(self.root),
            "root": str(self.root),
            "env": {},
            "allow": [],
            "files": [],
            "out": f"logs/{RUN}/{stem}.out",
            "err": f"logs/{RUN}/{stem}.err",
            "log_limit": 1 << 20,
            "log_ceiling": None,
            "timeout": None,
            "budget": None,
            "grace": 5.0,
            "required_files": [],
            "writable": [],
            "artifacts": {},
            "expected": [],
            "evidence": [],
        }
        return {**plan, **more}

    def start(
        self, task: str, argv: list[str], *, slot: int = 1, slots: int = 4, **more: Any
    ) -> str:
        attempt = f"{RUN}/{task}" + ("" if "@" in task else "@1")
        plan = self.plan(attempt, argv, **more)
        word = {"m": "start", "attempt": attempt, "slot": f"{RUN}-local-{slot}", "slots": slots}
        self.line.say({**word, "plan": plan})
        return attempt

    def start_python(self, task: str, code: str, **more: Any) -> str:
        return self.start(task, [sys.executable, "-I", "-S", "-c", code], **more)

    def end_of(self, attempt: str) -> Message:
        return self.line.find(lambda m: m.get("f") == "ended" and m["attempt"] == attempt)

    def run(self, task: str, argv: list[str], **more: Any) -> Message:
        return self.end_of(self.start(task, argv, **more))

    def run_python(self, task: str, code: str, **more: Any) -> Message:
        return self.end_of(self.start_python(task, code, **more))

    def out(self, end: Message, stream: str = "out") -> str:
        return (self.fleet / end["logs"][stream]["path"]).read_text()

    def says(self, name: str) -> str:
        """Waits for a line that a task writes into the fifo ROOT/name (see `fifo`)."""
        fd = self._fifos[name]
        ready, _, _ = select.select([fd], [], [], PATIENCE)
        assert ready, f"nothing was written into {name}"
        return os.read(fd, 4096).decode()

    def until_up(self, *names: str) -> None:
        """Waits until a task has written into each of these fifos, and its spawn is journalled."""
        for name in names:
            self.says(name)
        self.line.say({"m": "ping"})
        self.line.hear(lambda m: m.get("m") == "pong")

    _fifos: dict[str, int] = {}  # noqa: RUF012 (replaced per manager in fifo)

    def fifo(self, name: str) -> Path:
        """A fifo that a task can write a line into, for `says`."""
        path = self.root / name
        os.mkfifo(path)
        self._fifos = {**self._fifos, name: os.open(path, os.O_RDWR | os.O_NONBLOCK)}
        return path

    @property
    def keeper(self) -> int:
        return int((self.fleet / "runtime/lock").read_text())

    @property
    def pid(self) -> int:
        return int(self.hello["pid"])

    def kill(self, pid: int) -> None:
        """SIGKILL, and waits until the process is gone."""
        fd = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            ready, _, _ = select.select([fd], [], [], PATIENCE)
            assert ready
        finally:
            os.close(fd)

    def kill_runtime(self, cursor: int | None = None) -> None:
        """SIGKILL to the runtime, then a new connection; its keeper starts it again."""
        cursors = {self.hello["runtime"]: self.cursor if cursor is None else cursor}
        self.kill(self.pid)
        self.dial(cursors=cursors)

    @property
    def cursor(self) -> int:
        return max((m["n"] for line in self._lines for m in line.heard if "n" in m), default=0)

    def finish(self) -> None:
        """Ends what runs and lets the runtime leave; kills it if it does not."""
        pids = [self.keeper, self.pid]
        try:
            self.epoch += 100
            self.dial()
            for attempt in self.hello["open"]:
                self.line.say(
                    {"m": "interrupt", "attempt": attempt, "why": "stopped", "kill": True}
                )
                self.end_of(attempt)
            pids = [self.keeper, self.pid]
            self.line.say({"m": "ack", "n": self.cursor}, {"m": "leave"})
            self.line.hear_end()
        finally:
            for line in self._lines:
                line.close()
            for fd in self._fifos.values():
                os.close(fd)
            for pid in pids:
                _end_of_process(pid)


def _end_of_process(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([fd], [], [], 5)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    os.close(fd)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
