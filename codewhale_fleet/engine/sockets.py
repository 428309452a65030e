"""Unix sockets in the fleet directory, whatever the length of its path.

An address may have 107 bytes; a directory may be deeper. Both ends therefore name the socket
through a descriptor of its directory. Binding goes by a temporary name and a rename, so that a
name always leads to somebody who listens, or to nobody.
"""

import os
import random
import socket
import time
from pathlib import Path

from ..errors import Unreachable

BACKLOG = 1024
"""Callers that may wait to be accepted; five hundred at once is a promise."""

ACCEPT_SECONDS = 5.0
"""How long a caller waits for a place among them."""

AGAIN_SECONDS = 0.02
"""Longest time between two tries for it; it is cut short by chance."""


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, in the place of whatever stood there."""
    with _Directory(path.parent) as near:
        temporary = f".{os.urandom(4).hex()}.sock"
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        server.bind(f"{near.prefix}/{temporary}")
        (path.parent / temporary).chmod(0o600)
        server.listen(BACKLOG)
        (path.parent / temporary).rename(path)
    server.setblocking(False)
    return server


def connect(path: Path) -> socket.socket | None:
    """A connection to whoever listens at `path`, or None when nobody does.

    Raises Unreachable where too many wait there already: a stopped process accepts nobody.
    """
    until = time.monotonic() + ACCEPT_SECONDS
    while True:
        try:
            return _connected(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except BlockingIOError:
            if time.monotonic() >= until:
                raise Unreachable(
                    f"nobody is let in at {path}; is its process stopped?",
                    "Which process it is: fleet status",
                ) from None
            time.sleep(random.random() * AGAIN_SECONDS)


def is_heard(path: Path) -> bool:
    """Whether somebody listens at `path`, be it that nobody is let in."""
    try:
        _connected(path).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        pass
    return True


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    client.setblocking(False)  # a full backlog would keep us for ever
    try:
        with _Directory(path.parent) as near:
            client.connect(f"{near.prefix}/{path.name}")
    except BaseException:
        client.close()
        raise
    client.setblocking(True)
    return client


class _Directory:
    """A directory held open, under a short name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = ""
        self.descriptor = -1

    def __enter__(self) -> "_Directory":
        self.descriptor = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.prefix = f"/proc/self/fd/{self.descriptor}"
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
