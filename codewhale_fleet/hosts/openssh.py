"""The system's `ssh` as a road: for GSSAPI, FIDO keys, Match exec and whatever else only it can do.

One process a channel. Promises what `ssh.py` promises: BatchMode always, host keys are checked
strictly whatever its config says, a fingerprint that was written down decides alone. What it says
on stderr is read, and told as `refusals.py` tells it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from pathlib import Path

from ..core.spec_hosts import SshHost
from ..errors import Unreachable
from . import refusals
from .keys import in_agent, sorted_keys
from .refusals import Key, title
from .ssh import (
    CONNECT_SECONDS,
    KEEPALIVE_COUNT,
    KEEPALIVE_SECONDS,
    words_of,
)

_ALWAYS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ClearAllForwardings=yes",
    "ControlMaster=no",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "LogLevel=ERROR",
)
_TELL = 'echo "fleet saw $1 $2 $3 $4" >&2'
"""Typed by ssh for each host key it is shown: fingerprint, host, kind, key."""
_SAW = re.compile(r"fleet saw (SHA256:\S+) (\S+ \S+ \S+)")
_SSH_FAILED = 255
"""The exit code of ssh where it was ssh that failed, and no command of the host's."""


class OpenSsh:
    """The stdin and stdout of the system's ssh."""

    def __init__(self, process: asyncio.subprocess.Process, host: SshHost) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._host = host
        self._errors = process.stderr
        self.read = process.stdout.read
        self.write = process.stdin.write
        self.write_eof = process.stdin.write_eof
        self.drain = process.stdin.drain

    async def ended(self) -> str:
        return words_of(await self._said())

    async def refusal(self, heard: str, program: str) -> Unreachable:
        said = (await self._said()).decode(errors="replace")
        if self._process.returncode == _SSH_FAILED:
            return await _why(self._host, said)
        status = self._process.returncode
        return refusals.not_started(title(self._host), status, said.strip() or heard, program)

    async def _said(self) -> bytes:
        try:
            said = await asyncio.wait_for(self._errors.read(8192), 2)
            await asyncio.wait_for(self._process.wait(), 2)
        except TimeoutError:
            said = b""
        return said

    def close(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()


async def openssh(host: SshHost, command: str) -> OpenSsh:
    """The system's ssh, in which the command runs."""
    return OpenSsh(await _started(argv(host), host, command), host)


async def _started(words: list[str], host: SshHost, command: str) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *words,
            "--",
            host.host,
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if not key.startswith("FLEET_")},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Unreachable(
            f'there is no ssh on PATH, and {title(host)} has transport = "openssh"',
            "Install openssh-client, or take transport out: asyncssh needs no program",
            final=True,
        ) from None


def argv(host: SshHost, *, look: bool = False) -> list[str]:
    """How ssh is called; with `look` it only tells which host key it is shown."""
    seconds = host.connect_timeout_seconds or CONNECT_SECONDS
    options = [*_ALWAYS, f"ConnectTimeout={max(round(seconds), 1)}"]
    options.append(
        f"ServerAliveInterval={max(round(host.keepalive_seconds or KEEPALIVE_SECONDS), 1)}"
    )
    options.append(f"ServerAliveCountMax={KEEPALIVE_COUNT}")
    wanted = host.host_key_fingerprint
    if look or wanted:
        options += ["UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"]
        test = "" if look else f'; [ "$1" != {wanted} ] || echo "$2 $3 $4"'
        script = shlex.quote(f"{_TELL}{test}")
        options.append(f"KnownHostsCommand=/bin/sh -c {script} sh %f %H %t %K")
    elif host.known_hosts:
        options.append(
            f"UserKnownHostsFile={_readable('the file of known hosts', host.known_hosts)}"
        )
        options.append("GlobalKnownHostsFile=/dev/null")
    words = ["ssh", "-T", "-a", "-x"]
    if host.identity:
        words += ["-i", _readable("the identity", host.identity)]
        options.append("IdentitiesOnly=yes")
    words += [word for option in options for word in ("-o", option)]
    words += ["-p", str(host.port)] if host.port else []
    words += ["-l", host.user] if host.user else []
    words += ["-J", host.proxy_jump] if host.proxy_jump else []
    return words


def _readable(what: str, path: str) -> str:
    found = Path(path).expanduser()
    if not (found.is_file() and os.access(found, os.R_OK)):
        raise refusals.no_file(what, str(found))
    return str(found)


# Why there is no connection -------------------------------------------------------------------


async def _why(host: SshHost, said: str) -> Unreachable:
    """What ssh said, as a refusal."""
    name = title(host)
    last = [line for line in said.splitlines() if line.strip() and not _SAW.search(line)][-1:]
    reason = last[0].strip().removeprefix("ssh: ") if last else "ssh says nothing"
    seconds = host.connect_timeout_seconds or CONNECT_SECONDS
    if "Host key verification failed" in said or "host key type found" in said:
        return await _of_key(host, said)
    if found := re.search(r"Could not resolve hostname (\S+): (.+)", said):
        if "Temporary failure" in found[2]:
            return refusals.unreached(name, "its name cannot be looked up now: no name server")
        return refusals.no_such_name(name, found[1].rstrip(":"))
    if found := re.search(r"^(\S+): Permission denied \((.*)\)", said, re.MULTILINE):
        taken = found[2].split(",")
        if not refusals.WAYS_IN.intersection(taken):
            return refusals.only_asks(name, taken)
        return await _not_let_in(host, found[1])
    if found := re.search(r"open failed: (.+)\s+stdio forwarding failed", said):
        return refusals.not_passed_on(name, host.proxy_jump or "its jump host", found[1].strip())
    if "Connection refused" in said:
        return refusals.nobody_listens(name)
    if "timed out" in said:
        return refusals.silent(name, seconds)
    final = "onfiguration option" in said or "KnownHostsCommand" in reason
    return refusals.unreached(name, reason, final=final)


async def _of_key(host: SshHost, said: str) -> Unreachable:
    name = title(host)
    shown = _SAW.search(said)
    if host.host_key_fingerprint:
        key = Key(shown[1], shown[2]) if shown else Key("", "")
        return refusals.key_is_another(name, key, host.host_key_fingerprint)
    if "REVOKED" in said:
        return refusals.key_revoked(name, Key(_fingerprint(said), ""))
    key = await _shown(host)
    if "IDENTIFICATION HAS CHANGED" in said:
        key = Key(key.fingerprint or _fingerprint(said), key.line)
        before = re.search(r"Offending (.+) key in (\S+?):(\d+)", said)
        known = [f"another {before[1]} key in line {before[3]}"] if before else []
        return refusals.key_changed(name, key, known, [before[2]] if before else [])
    return refusals.KeyUnknown(name, key)


def _fingerprint(said: str) -> str:
    found = re.search(r"SHA256:[A-Za-z0-9+/]{43}", said)
    return found[0] if found else ""


async def _shown(host: SshHost) -> Key:
    """The host key that is shown to whoever knows none."""
    process = await _started(argv(host, look=True), host, "true")
    try:
        _, said = await asyncio.wait_for(process.communicate(b""), CONNECT_SECONDS)
    except TimeoutError:
        process.terminate()
        return Key("", "")
    found = _SAW.search(said.decode(errors="replace"))
    return Key(found[1], found[2]) if found else Key("", "")


async def _not_let_in(host: SshHost, who: str) -> Unreachable:
    """`who`: the login and machine that ssh names."""
    user = who.rpartition("@")[0]
    keys = await _files(host)
    tried, locked = await asyncio.to_thread(sorted_keys, keys)
    return refusals.not_let_in(host, user, tried + await in_agent(), locked)


async def _files(host: SshHost) -> list[str]:
    """The files of private keys that ssh's config names, if they exist."""
    if host.identity:
        return [str(Path(host.identity).expanduser())]
    words = ["ssh", "-G", *(["-p", str(host.port)] if host.port else []), "--", host.host]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    lines = [line.split(" ", 1) for line in said.decode(errors="replace").splitlines()]
    named = [one[1] for one in lines if one[0] == "identityfile" and len(one) == 2]
    paths = [str(Path(path).expanduser()) for path in named]
    return [path for path in paths if os.access(path, os.R_OK)]
