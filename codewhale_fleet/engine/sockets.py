"""Unix sockets in the fleet directory, whatever the length of its path.

An address may have 107 bytes; a directory may be deeper. Both ends therefore name the socket
through a descriptor of its directory. Binding goes by a temporary name and a rename, so that a
name always leads to somebody who listens, or to nobody.
"""

import os
import secrets
import socket
from pathlib import Path

BACKLOG = 1024
"""Callers that may wait to be accepted; five hundred at once is a promise."""


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, in the place of whatever stood there."""
    with _Directory(path.parent) as near:
        temporary = f".{secrets.token_hex(4)}.sock"
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        server.bind(f"{near.prefix}/{temporary}")
        (path.parent / temporary).chmod(0o600)
        server.listen(BACKLOG)
        (path.parent / temporary).rename(path)
    server.setblocking(False)
    return server


def connect(path: Path) -> socket.socket | None:
    """A connection to whoever listens at `path`, or None when nobody does."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _Directory(path.parent) as near:
            client.connect(f"{near.prefix}/{path.name}")
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        return None
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
