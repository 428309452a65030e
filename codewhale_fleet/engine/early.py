"""A connector that loads while a request is still read: who waits for other hosts waits less.

Promises: at most one is begun at a time for a fleet's directory, and none where a manager listens,
however many ask at once; nothing is written; one that turns out not to be needed is ended.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from ..hosts.remote import Remote
from .sockets import is_heard


class Early:
    """A connector that nobody has asked for anything yet."""

    def __init__(self, root: Path, fleet_dir: Path) -> None:
        self._remote: Remote | None = None
        self._place = -1
        try:
            self._place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            flock(self._place, LOCK_EX | LOCK_NB)
            if not is_heard(fleet_dir / "manager.sock"):
                self._remote = Remote(fleet_dir)
                self._remote.start()
        except OSError:  # somebody has begun one, or nothing can be locked or started here
            self._remote = None

    def taken(self) -> Remote | None:
        """It, for a manager that was elected: from now on it is the manager's."""
        remote, self._remote = self._remote, None
        self.drop()
        return remote

    def drop(self) -> None:
        """Ends it where nobody took it; others may begin one."""
        if self._remote is not None:
            self._remote.drop()
            self._remote = None
        if self._place >= 0:
            os.close(self._place)
            self._place = -1
