"""A manager's end of the roads to other hosts: streams that a connector process carries.

Promises: `connect` answers at once with a socket that behaves like a local runtime's; where the
host cannot be reached the stream says so in a `refused` line with why=transport, and ends. The
connector is started with the first host, or before it by who knows that there will be one, and
leaves with whoever started it.
"""

from __future__ import annotations

import array
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

from msgspec import json

import codewhale_fleet

from ..errors import Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.spec_hosts import SshHost

_MODULE = (
    "import sys;sys.path[:]=sys.argv.pop(1).splitlines();"
    "from codewhale_fleet.hosts.begin import main;main()"
)


_LEAVE_SECONDS = 3.0
"""How long a connector may take to leave: longer than what was said last takes."""


class Remote:
    """One connector, started when it is first needed."""

    def __init__(self, fleet_dir: Path) -> None:
        self._fleet_dir = fleet_dir
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def connect(
        self, worker: str, host: SshHost, state: str, *, trial: bool = False
    ) -> socket.socket:
        """A non-blocking stream to the runtime of `worker`, whose directory there is `state`."""
        if self._control is None or self._is_gone():
            self.start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        order = json.encode({"worker": worker, "host": host, "state": state, "trial": trial})
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        try:
            self._control.sendmsg([order], rights)
        except OSError as error:
            ours.close()
            raise Unreachable(f"the ssh connector has died: {error.strerror}") from None
        finally:
            theirs.close()
        ours.setblocking(False)
        return ours

    def _is_gone(self) -> bool:
        """Whether nobody holds the other end; it may be another process' child."""
        assert self._control is not None
        look = select.poll()
        look.register(self._control.fileno(), 0)
        return bool(look.poll(0))

    def start(self) -> None:
        """Start it anew; it loads while nobody waits for it."""
        self.close()
        packages = str(Path(codewhale_fleet.__file__).resolve().parent.parent)
        paths = "\n".join([packages, *filter(None, sys.path)])  # it looks for nothing by itself
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _MODULE, paths, str(self._fleet_dir)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it has a file for that once there is work for it
                env={**os.environ, "FLEET_RUNTIME": "1"},
                start_new_session=True,
            )

    def drop(self) -> None:
        """End one that was started early and never asked for anything."""
        if self._process is not None:
            self._process.kill()
        self.close()

    def close(self) -> None:
        """The connector leaves; what runs on the hosts goes on."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_LEAVE_SECONDS)
            except subprocess.TimeoutExpired:  # somebody's name server does not answer
                self._process.kill()
                self._process.wait()
            self._process = None
