"""Where a runtime lives and what it was given; both stay right when somebody renames a directory.

Promises: `Place.fleet_dir` names the fleet's directory through a descriptor, so it is that
directory whatever it is called by now; `Home.now` says what has become of a path below the
workspace that was written before a rename. A copy is another directory and is not followed.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Home:
    """The workspace, `was` its path when the runtime began."""

    __slots__ = ("_fd", "_inode", "was")

    def __init__(self, root: str) -> None:
        self.was = os.path.abspath(root)
        self._fd = os.open(self.was, _DIRECTORY)
        self._inode = os.fstat(self._fd)

    def now(self, path: str) -> str:
        """Today's name of `path`, which may lie below a workspace that was renamed."""
        if path != self.was and not path.startswith(self.was + "/"):
            return path
        try:
            if os.path.samestat(os.stat(self.was), self._inode):
                return path
        except OSError:
            pass
        return os.readlink(f"/proc/self/fd/{self._fd}") + path[len(self.was) :]

    def plan(self, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan with today's names of its directories."""
        found = plan
        for key in ("root", "cwd"):
            path = plan.get(key)
            if type(path) is str and (today := self.now(path)) != path:
                found = {**found, key: today}
        return found


class Place:
    """One runtime's surroundings. `asks`: the door for tasks; `keeper_since`: boot clock."""

    __slots__ = (
        "asks",
        "directory",
        "fleet_dir",
        "home",
        "idle",
        "keeper",
        "keeper_since",
        "listener",
        "lock_fd",
    )

    def __init__(
        self,
        home: Home,
        fleet_dir: str,
        listener: _socket.socket,
        asks: _socket.socket,
        lock_fd: int,
        idle: float,
    ) -> None:
        self.home = home
        self.fleet_dir = f"/proc/self/fd/{os.open(fleet_dir, _DIRECTORY)}"
        self.directory = self.fleet_dir + "/runtime"
        self.listener = listener
        self.asks = asks
        self.lock_fd = lock_fd
        self.idle = idle
        self.keeper = os.getpid()
        self.keeper_since = time.clock_gettime(time.CLOCK_BOOTTIME)
