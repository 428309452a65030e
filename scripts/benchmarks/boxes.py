"""What a sandbox costs an attempt: a confined `true` by the fleet, against bubblewrap alone.

Promises that both start the same program with the very same words for bubblewrap, a few one after
the other, in turns, each when the one before has nothing left to do; that the fleet's time is that
of a warm runtime with one slot, from the starts it is told to the fact of the last end, journalled;
and that bubblewrap alone is started by the same call. `BY_HAND` is the shortest line with the same
namespaces, read-only root and private directories. Knows no aims.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from peers import HOME, Unable

sys.path.insert(0, str(HOME))

from codewhale_fleet.hosts import local
from codewhale_fleet.worker import sandbox, syscalls

RUN = "bench-boxes"
IN_A_ROW = 5
"""Attempts that wait for the one slot, as a manager leases short tasks ahead."""
BOX = {"level": "sandbox", "network": "none", "workspace": "read", "home": "hidden"}
BY_HAND = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net",
           "--new-session", "--die-with-parent", "--disable-userns", "--cap-drop", "ALL",
           "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
           "--tmpfs", "/run")  # fmt: skip
_REST_SECONDS = 0.005
"""Until what the one before has left behind, as a namespace, is gone."""


class Runtime:
    """A warm runtime of a directory, and one connection to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        (root / "home").mkdir()
        self._road = local.connect(root / ".fleet")
        self._rest = b""
        self._number = 0
        hello = {"m": "hello", "protocol": 1, "fleet": "bench", "cursors": {}, "epoch": 1}
        values = {"base": environment(root), "allowed": {}}
        self._say(hello, {"m": "environment", "run": RUN, "umask": 18, "values": values})
        self._hear("hello", "m")

    def _say(self, *messages: dict[str, object]) -> None:
        self._road.setblocking(True)
        self._road.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in messages))

    def _hear(self, word: str, key: str) -> dict[str, object]:
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                found: dict[str, object] = json.loads(line)
                if found.get(key) == word:
                    return found
                continue
            data = self._road.recv(1 << 16)
            if not data:
                raise Unable("the runtime went away")
            self._rest += data

    def perform(self, more: dict[str, object]) -> None:
        """So many `true`, one after the other, from the word to the fact of the last end."""
        self._say(*(self._start(more) for _ in range(IN_A_ROW)))
        for _ in range(IN_A_ROW):
            end = self._hear("ended", "f")
            if end.get("exit") != 0:
                raise Unable(f"a confined true ended so: {end}")
        self._say({"m": "ack", "n": end["n"]})

    def _start(self, more: dict[str, object]) -> dict[str, object]:
        self._number += 1
        where, log = str(self.root), f"logs/{RUN}/t{self._number}"
        plan = {"argv": ["/bin/true"], "cwd": where, "root": where, "env": {}, **more}
        plan.update(out=f"{log}.out", err=f"{log}.err")
        attempt = f"{RUN}/t{self._number}@1"
        word = {"m": "start", "attempt": attempt, "slot": f"{RUN}-local-1", "slots": 1}
        return {**word, "plan": plan}

    def leave(self) -> None:
        self._say({"m": "leave"})
        while self._road.recv(1 << 16):
            pass
        self._road.close()


def environment(root: Path) -> dict[str, str]:
    """What the runtime's attempts get, too."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(root / "home")}


def words(root: Path) -> list[str]:
    """The line that a confined attempt is started with, with a directory of its own in it."""
    fleet = root / ".fleet"
    own, door = fleet / "attempts/bench-alone/t1", fleet / "runtime/tasks.sock"
    (own / "scratch").mkdir(parents=True)
    shown = [(str(door), str(door))]
    around = {"sandbox": BOX, "root": str(root), "fleet": str(fleet), "own": str(own)}
    made = sandbox.command({**around, "shown": shown}, str(root), environment(root))
    return [*made, "/bin/true"]


def alone(argv: list[str]) -> None:
    """The same by bubblewrap itself."""
    status = (os.POSIX_SPAWN_OPEN, sandbox.STATUS_FD, os.devnull, os.O_WRONLY, 0)
    actions = [status, *syscalls.actions(network=False)]
    for _ in range(IN_A_ROW):
        pid = os.posix_spawn(
            "/usr/bin/bwrap", argv, dict(os.environ), file_actions=actions, setsid=True
        )
        if os.waitpid(pid, 0)[1]:
            raise Unable("bubblewrap fails here; fleet doctor tells why")


def rounds(at: Path, count: int) -> dict[str, list[float]]:
    """Seconds of each, in turns: bubblewrap alone, confined, a plain attempt, and by hand."""
    if subprocess.run(["bwrap", "--version"], check=False, capture_output=True).returncode:
        raise Unable("bubblewrap is not installed: apt-get install bubblewrap")
    runtime = Runtime(at / "boxes")
    same = words(runtime.root)
    by_hand = ["bwrap", *BY_HAND, "--tmpfs", str(runtime.root / "home"), "/bin/true"]
    ways: dict[str, Callable[[], None]] = {
        "bubblewrap alone": lambda: alone(same),
        "a confined attempt": lambda: runtime.perform({"sandbox": BOX}),
        "an attempt without a sandbox": lambda: runtime.perform({}),
        "bubblewrap by hand, with less to show": lambda: alone(by_hand),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(count + 3):
        for name, way in ways.items():
            time.sleep(_REST_SECONDS)
            began = time.perf_counter()
            way()
            if turn >= 3:
                found[name].append((time.perf_counter() - began) / IN_A_ROW)
    runtime.leave()
    return found
