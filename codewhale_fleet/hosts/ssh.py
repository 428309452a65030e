"""The ssh road: what is said of a host becomes a channel to a relay there.

asyncssh carries it: one connection a host for any number of channels (`openssh.py` is the system's
own client, for what only that can do). Promises: nothing is ever asked of a terminal; a host key
that was not expected is refused with both names; no variable stands in a command line; a machine
on the way is held to the same. What goes wrong is `Unreachable` with a sentence (`refusals.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import asyncssh

from ..core.spec_hosts import SshHost
from ..errors import Unreachable
from . import refusals
from .keys import in_agent, sorted_keys
from .refusals import Key, title

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_COUNT = 3
"""A connection that answers none of so many is taken for dropped."""

GLOBAL_KNOWN = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
OWN_KNOWN = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_ACKNOWLEDGED_SECONDS = 0.002
"""After so long, and then twice as long each time, what has arrived is acknowledged at once."""
_NOBODY = b"#\n"
"""Known hosts where there are none; of an empty text asyncssh takes ~/.ssh/known_hosts instead."""
_DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")


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

    async def ended(self) -> str:
        """Why it ended, in words; empty where there is nothing to say."""

    async def refusal(self, heard: str, program: str) -> Unreachable:
        """Why it ended before a relay spoke; `heard` is what came instead. `program`: what ran."""

    def close(self) -> None:
        """End it."""


class _Asked(NamedTuple):
    """What a connection is made with, after ssh's config was read."""

    options: asyncssh.SSHClientConnectionOptions
    more: dict[str, Any]
    keys: list[str]
    """Files of private keys that there are."""
    known: list[str]
    """Files of known host keys that there are."""
    jump: str
    seconds: float


class _Watch(asyncssh.SSHClient):
    """Trusts the one host key whose fingerprint was written down; remembers what was shown."""

    def __init__(self, fingerprint: str) -> None:
        self._expected = fingerprint.removeprefix("SHA256:").rstrip("=")
        self.met = Key("", "")
        self.alias = ""
        """The name by which known_hosts calls it, where ssh's config gives it one."""

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        where = self.alias or (host if port == 22 else f"[{host}]:{port}")
        public = " ".join(key.export_public_key().decode().split()[:2])
        self.met = Key(key.get_fingerprint("sha256"), f"{where} {public}")
        return self.met.fingerprint.removeprefix("SHA256:").rstrip("=") == self._expected


async def connect(host: SshHost, passed: tuple[str, ...] = ()) -> asyncssh.SSHClientConnection:
    """A connection that is authenticated; Unreachable with the reason where there is none.

    `passed`: the machines whose connections wait for this one.
    """
    name = title(host)
    if len(passed) > 8 or name in passed:
        raise refusals.in_circle(passed[0], [*reversed(passed), name])
    watch = _Watch(host.host_key_fingerprint or "")
    asked = await asyncio.to_thread(_asked, host)
    watch.alias = asked.options.host_key_alias or ""
    way = await _way(host, asked, passed)
    try:
        connection = await asyncssh.connect(
            host.host,
            options=asked.options,
            tunnel=way,
            client_factory=lambda: watch,
            **asked.more,
        )
    except (asyncssh.Error, OSError, ValueError) as error:
        if way is not None:
            way.close()
        raise await _why(host, asked, watch, error) from None
    except BaseException:
        if way is not None:
            way.close()
        raise
    if way is not None:
        connection.set_tunnel(way)
    return connection


async def _way(
    host: SshHost, asked: _Asked, passed: tuple[str, ...]
) -> asyncssh.SSHClientConnection | None:
    """The connection to the last machine on the way there."""
    if not asked.jump:
        return None
    before, _, last = asked.jump.rpartition(",")
    user, _, address = last.strip().rpartition("@")
    machine, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        machine, port = address, ""
    jump = SshHost(
        host=machine.removeprefix("[").removesuffix("]"),
        user=user or None,
        port=int(port) if port else None,
        proxy_jump=before or None,
        connect_timeout_seconds=host.connect_timeout_seconds,
        keepalive_seconds=host.keepalive_seconds,
    )
    name = title(host)
    try:
        return await connect(jump, (*passed, name))
    except Unreachable as error:
        raise refusals.on_the_way(error, name, title(jump)) from None


def _asked(host: SshHost) -> _Asked:
    """Reads ssh's config, and looks for the files that a connection needs."""
    given: dict[str, Any] = {"host": host.host}
    if host.user:
        given["username"] = host.user
    if host.port:
        given["port"] = host.port
    try:
        options = asyncssh.SSHClientConnectionOptions(
            **given, config=(), client_keys=None, known_hosts=([], [], [])
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise refusals.unreached(title(host), f"~/.ssh/config: {reason}", final=True) from None
    config = options.config
    known = _known(host, config)
    keys = _keys(host, config)
    seconds = host.connect_timeout_seconds or float(
        str(config.get("ConnectTimeout") or CONNECT_SECONDS)
    )
    interval = host.keepalive_seconds or config.get("ServerAliveInterval") or KEEPALIVE_SECONDS
    more: dict[str, Any] = {
        **given,
        "connect_timeout": seconds,
        "login_timeout": seconds,
        "keepalive_interval": interval,
        "keepalive_count_max": KEEPALIVE_COUNT,
        "preferred_auth": "publickey,hostbased,gssapi-with-mic",
        "client_keys": keys,
        "ignore_encrypted": True,
        "known_hosts": ([], [], []) if host.host_key_fingerprint else known or _NOBODY,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "request_pty": False,
    }
    del more["host"]
    if host.identity and (own := _public(keys[0])):
        more["agent_identities"] = [own]
    jump = host.proxy_jump or str(config.get("ProxyJump") or "")
    return _Asked(options, more, keys, known, "" if jump.lower() == "none" else jump, seconds)


def _known(host: SshHost, config: Any) -> list[str]:
    if host.known_hosts:
        path = str(Path(host.known_hosts).expanduser())
        if not os.access(path, os.R_OK):
            raise refusals.no_file("the file of known hosts", path)
        return [path]
    named = config.get("UserKnownHostsFile")
    own = OWN_KNOWN if named is None else named
    system = config.get("GlobalKnownHostsFile") or GLOBAL_KNOWN
    found = [str(Path(path).expanduser()) for path in (*own, *system)]
    return [path for path in found if os.access(path, os.R_OK)]


def _keys(host: SshHost, config: Any) -> list[str]:
    if host.identity:
        path = Path(host.identity).expanduser()
        if not (path.is_file() and os.access(path, os.R_OK)):
            raise refusals.no_file("the identity", str(path))
        if path.suffix == ".pub":
            raise Unreachable(
                f"the identity {path} is a public key",
                f"The private one is needed: {path.with_suffix('')}",
                final=True,
            )
        return [str(path)]
    named = config.get("IdentityFile") or [f"~/.ssh/{name}" for name in _DEFAULT_KEYS]
    found = [str(Path(path).expanduser()) for path in named]
    return [path for path in found if os.access(path, os.R_OK)]


def _public(path: str) -> bytes:
    """The public half of a private key's file, so that an agent tries no other key; or nothing."""
    for one in (f"{path}.pub", path):
        try:
            return asyncssh.read_public_key(one).public_data
        except (OSError, ValueError):
            continue
    return b""


# Why there is no connection -------------------------------------------------------------------


async def _why(host: SshHost, asked: _Asked, watch: _Watch, error: Exception) -> Unreachable:
    name = title(host)
    reason = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)
    broke_off = isinstance(
        error, asyncssh.KeyExchangeFailed | asyncssh.ConnectionLost | ConnectionResetError
    )
    if broke_off and _written_down(asked):
        watch.met = await _shown(host, asked)  # has it only keys of another kind than is known?
        if watch.met.fingerprint not in ("", *_written_down(asked)):
            error = asyncssh.HostKeyNotVerifiable(reason)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _of_key(host, asked, watch.met, reason)
    if isinstance(error, asyncssh.PermissionDenied):
        if (taken := await _taken(host, asked)) and not refusals.WAYS_IN.intersection(taken):
            return refusals.only_asks(name, taken)
        tried, locked = await asyncio.to_thread(sorted_keys, asked.keys)
        tried += await in_agent()
        return refusals.not_let_in(host, str(asked.options.username), tried, locked)
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return refusals.unreached(name, "its name cannot be looked up now: no name server")
        return refusals.no_such_name(name, str(asked.options.host))
    if isinstance(error, TimeoutError):
        return refusals.silent(name, asked.seconds)
    if isinstance(error, ConnectionRefusedError):
        return refusals.nobody_listens(name)
    if isinstance(error, asyncssh.ChannelOpenError) and asked.jump:
        return refusals.not_passed_on(name, asked.jump, reason)
    if isinstance(error, asyncssh.KeyImportError):
        return refusals.unreached(name, f"a key cannot be read: {reason}", final=True)
    return refusals.unreached(name, reason, final=isinstance(error, ValueError))


def _of_key(host: SshHost, asked: _Asked, met: Key, reason: str) -> Unreachable:
    name = title(host)
    if host.host_key_fingerprint:
        return refusals.key_is_another(name, met, host.host_key_fingerprint)
    if "revoked" in reason:
        return refusals.key_revoked(name, met)
    if not met.fingerprint:
        return refusals.unreached(name, reason, final=True)
    if before := _written_down(asked):
        return refusals.key_changed(name, met, before, asked.known)
    return refusals.KeyUnknown(name, met)


def _written_down(asked: _Asked) -> list[str]:
    """Fingerprints of the host's keys in the files of known hosts."""
    options = asked.options
    alias = options.host_key_alias or options.host
    port = None if options.port == 22 or options.host_key_alias else options.port
    found = asyncssh.match_known_hosts(asked.known or b"", str(alias), "", port)
    return [key.get_fingerprint("sha256") for key in found[0]]


async def _shown(host: SshHost, asked: _Asked) -> Key:
    """The host key that is shown to whoever knows none."""
    watch = _Watch("")
    more = {**asked.more, "known_hosts": ([], [], [])}
    try:
        way = await _way(host, asked, ())
        await asyncssh.connect(
            host.host, options=asked.options, tunnel=way, client_factory=lambda: watch, **more
        )
    except (asyncssh.Error, OSError, ValueError, Unreachable):
        pass
    return watch.met


async def _taken(host: SshHost, asked: _Asked) -> list[str]:
    """By what means the host lets somebody in; empty where it does not say."""
    way = None
    try:
        way = await _way(host, asked, ())
        asking = asyncssh.get_server_auth_methods(host.host, options=asked.options, tunnel=way)
        return [*await asyncio.wait_for(asking, asked.seconds)]
    except (asyncssh.Error, OSError, ValueError, Unreachable):
        return []
    finally:
        if way is not None:
            way.close()


# Channels -------------------------------------------------------------------------------------


class Shared:
    """A channel of an asyncssh connection."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], name: str) -> None:
        self._process = process
        self._name = name
        self.read = process.stdout.read
        self.write = process.stdin.write
        self.write_eof = process.stdin.write_eof
        self.drain = process.stdin.drain

    async def ended(self) -> str:
        said = b""
        try:
            said = await asyncio.wait_for(self._process.stderr.read(4096), 2)
            await asyncio.wait_for(self._process.wait_closed(), 2)
        except (asyncssh.Error, OSError, TimeoutError):
            pass
        return words_of(said)

    async def refusal(self, heard: str, program: str) -> Unreachable:
        said = await self.ended()
        return refusals.not_started(self._name, self._process.returncode, said or heard, program)

    def close(self) -> None:
        self._process.close()


def words_of(said: bytes) -> str:
    """What somebody wrote, on one short line."""
    return " ".join(said.decode(errors="replace").split())[:300]


async def shared(connection: asyncssh.SSHClientConnection, command: str, name: str) -> Shared:
    """A channel in which the command runs.

    A server that has just let somebody in says some small things one after the other, each held
    back until the one before is acknowledged, which a kernel does only after 40 ms unless it is
    told otherwise anew.
    """
    opening = asyncio.ensure_future(connection.create_process(command, encoding=None))
    made = connection.get_extra_info("socket")  # none where another connection carries this one
    pause = _ACKNOWLEDGED_SECONDS
    try:
        while made is not None and pause < 1.0:
            with contextlib.suppress(OSError):
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if (await asyncio.wait({opening}, timeout=pause))[0]:
                break
            pause *= 2
        return Shared(await opening, name)
    finally:
        opening.cancel()
