"""A network of a test's own: a namespace in which only loopback is up.

What runs in it reaches the scripted API and nothing else; who tries more is told "network is
unreachable" at once. The API itself stays in the test's process: only its listening socket is made
inside. Commands get a home of their own and a bare environment with telemetry and updates off.
Needs root, `unshare`, `nsenter` (util-linux) and `ip` (iproute2).
"""

import ctypes
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.agents.clis import NODE

_NEWNET = 0x40000000

QUIET = {
    # claude
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    # gemini
    "GEMINI_TELEMETRY_ENABLED": "false",
    # opencode
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    # all of them, where they ask
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
}
"""What keeps the agents from calling home."""


class Namespace:
    """Lasts until closed; what still runs in it then is not ended by it."""

    def __init__(self, home: Path) -> None:
        if os.geteuid() != 0:
            raise PermissionError("a network namespace of the test's own needs root")
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        script = "ip link set lo up && echo up && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            raise OSError("no network namespace; the reason stands above")
        self._path = f"/proc/{self._holder.pid}/ns/net"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._holder.communicate()

    def listen(self, port: int = 0) -> socket.socket:
        """A socket that listens on loopback inside; any thread of this process can serve it."""
        made: list[socket.socket | OSError] = []

        def enter_and_listen() -> None:
            try:
                with Path(self._path).open() as net:
                    if ctypes.CDLL(None, use_errno=True).setns(net.fileno(), _NEWNET) != 0:
                        number = ctypes.get_errno()
                        raise OSError(number, os.strerror(number))
                made.append(socket.create_server(("127.0.0.1", port)))
            except OSError as error:
                made.append(error)

        inside = threading.Thread(target=enter_and_listen)  # the thread's network, not the process'
        inside.start()
        inside.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def argv(self, command: Sequence[str | os.PathLike[str]]) -> list[str]:
        """The command, moved inside."""
        return ["nsenter", f"--net={self._path}", "--", *(os.fspath(word) for word in command)]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """All that a command gets to see of this machine's environment, and `more`."""
        return {
            "HOME": str(self.home),
            "PATH": f"{NODE}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            **QUIET,
            **(more or {}),
        }

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        input: str = "",
        timeout: float = 60,
    ) -> "subprocess.CompletedProcess[str]":
        """Run to its end; when the time is up its process group is killed, and TimeoutExpired says
        what was printed until then."""
        process = self.start(command, cwd=cwd, env=env)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise subprocess.TimeoutExpired(process.args, timeout, out, err) from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[str]":
        """Start in a process group of its own, for a test that ends it."""
        return subprocess.Popen(
            self.argv(command),
            cwd=cwd,
            env=self.environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
