"""The ssh road: what is said of a host becomes a channel to a relay there.

Two clients carry it: asyncssh, one connection a host for any number of channels, and the system's
`ssh` for what only that can do. Promises: nothing is ever asked of a terminal; a host key that was
not expected is refused with both names; no variable stands in a command line. What goes wrong
is `Unreachable` with a sentence that names the host.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path
from typing import Any, Protocol

import asyncssh

from ..core.spec_hosts import SshHost
from ..errors import Unreachable

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_COUNT = 3
"""A connection that answers none of so many is taken for dropped."""


class Channel(Protocol):
    """A relay's stdin and stdout."""

    async def read(self, count: int) -> bytes:
        """What has arrived, at most `count` bytes; empty at the end."""

    def write(self, data: bytes) -> None:
        """Queue some bytes."""

    async def drain(self) -> None:
        """Wait until not too much is queued."""

    def write_eof(self) -> None:
        """Nothing more follows."""

    async def ended(self, program: str) -> str:
        """Why it ended, in words; empty where there is nothing to say. `program`: what it ran."""

    def close(self) -> None:
        """End it."""


def title(host: SshHost) -> str:
    """The host as a person would write it."""
    user = f"{host.user}@" if host.user else ""
    port = f":{host.port}" if host.port and host.port != 22 else ""
    return f"{user}{host.host}{port}"


def _by_hand(host: SshHost) -> str:
    """What a person would type to see the same."""
    words = ["ssh", "-o", "BatchMode=yes"]
    words += ["-p", str(host.port)] if host.port else []
    words += ["-i", host.identity] if host.identity else []
    return shlex.join([*words, f"{host.user}@{host.host}" if host.user else host.host, "true"])


class _Expects(asyncssh.SSHClient):
    """Trusts the one host key whose fingerprint was written down."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint.removeprefix("SHA256:").rstrip("=")
        self.met = ""

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        self.met = key.get_fingerprint("sha256")
        return self.met.removeprefix("SHA256:").rstrip("=") == self._fingerprint


async def connect(host: SshHost) -> asyncssh.SSHClientConnection:
    """A connection that is authenticated; Unreachable with the reason where there is none."""
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": CONNECT_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_COUNT,
        "preferred_auth": "publickey,hostbased,gssapi-with-mic",
        "ignore_encrypted": True,
    }
    if host.user:
        options["username"] = host.user
    if host.port:
        options["port"] = host.port
    if host.identity:
        options["client_keys"] = [str(Path(host.identity).expanduser())]
    if host.known_hosts:
        options["known_hosts"] = str(Path(host.known_hosts).expanduser())
    expects = None
    if host.host_key_fingerprint:
        expects = _Expects(host.host_key_fingerprint)
        options["client_factory"] = lambda: expects
        options["known_hosts"] = ([], [], [])
    name = title(host)
    try:
        return await asyncssh.connect(host.host, **options)
    except asyncssh.HostKeyNotVerifiable as error:
        if expects is not None:
            raise Unreachable(
                f"{name} shows the host key {expects.met or 'of another kind'}, "
                f"not {host.host_key_fingerprint}",
                "Is it still that machine? Then write its key into host_key_fingerprint.",
            ) from None
        raise Unreachable(
            f"the host key of {name} is not known: {error.reason}",
            f"see it, compare it, keep it: ssh-keyscan -p {host.port or 22} {host.host}",
        ) from None
    except asyncssh.PermissionDenied as error:
        raise Unreachable(
            f"{name} lets nobody in with the keys that were tried: {error.reason}",
            "try it by hand: " + _by_hand(host),
        ) from None
    except TimeoutError:
        raise Unreachable(f"{name} did not answer within {CONNECT_SECONDS:g} seconds") from None
    except ConnectionRefusedError:
        raise Unreachable(f"{name} refuses the connection", "does sshd listen there?") from None
    except (asyncssh.Error, OSError, ValueError) as error:
        reason = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
        raise Unreachable(f"{name} cannot be reached: {reason}") from None


class Shared:
    """A channel of an asyncssh connection."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self.read = process.stdout.read
        self.write = process.stdin.write
        self.write_eof = process.stdin.write_eof
        self.drain = process.stdin.drain

    async def ended(self, program: str) -> str:
        said = b""
        try:
            said = await asyncio.wait_for(self._process.stderr.read(4096), 2)
            await asyncio.wait_for(self._process.wait_closed(), 2)
        except (asyncssh.Error, OSError, TimeoutError):
            pass
        return words_of(said, self._process.returncode, program)

    def close(self) -> None:
        self._process.close()


class OpenSsh:
    """The stdin and stdout of the system's ssh."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._errors = process.stderr
        self.read = process.stdout.read
        self.write = process.stdin.write
        self.write_eof = process.stdin.write_eof
        self.drain = process.stdin.drain

    async def ended(self, program: str) -> str:
        try:
            said = await asyncio.wait_for(self._errors.read(4096), 2)
            await asyncio.wait_for(self._process.wait(), 2)
        except TimeoutError:
            said = b""
        return words_of(said, self._process.returncode, program)

    def close(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()


def words_of(said: bytes, status: int | None, program: str) -> str:
    """What a channel that ended at once means, in words."""
    text = " ".join(said.decode(errors="replace").split())[:300]
    wrong = {126: "cannot be run there", 127: "is not there"}.get(status or 0)
    if wrong:
        return f"{program} {wrong} ({text})" if text else f"{program} {wrong}"
    return text


async def shared(connection: asyncssh.SSHClientConnection, command: str) -> Shared:
    """A channel in which the command runs."""
    return Shared(await connection.create_process(command, encoding=None))


async def openssh(host: SshHost, command: str) -> OpenSsh:
    """The system's ssh, in which the command runs."""
    argv = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS:.0f}"]
    argv += ["-o", f"ServerAliveInterval={KEEPALIVE_SECONDS:.0f}"]
    argv += ["-o", f"ServerAliveCountMax={KEEPALIVE_COUNT}", "-o", "ClearAllForwardings=yes"]
    if host.port:
        argv += ["-p", str(host.port)]
    if host.identity:
        argv += ["-i", str(Path(host.identity).expanduser()), "-o", "IdentitiesOnly=yes"]
    if host.known_hosts:
        argv += ["-o", f"UserKnownHostsFile={Path(host.known_hosts).expanduser()}"]
    if host.user:
        argv += ["-l", host.user]
    process = await asyncio.create_subprocess_exec(
        *argv,
        "--",
        host.host,
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("FLEET_")},
        start_new_session=True,
    )
    return OpenSsh(process)
