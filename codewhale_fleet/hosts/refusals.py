"""Why a host cannot be used: a sentence that names it, what to type, and whether to try again.

Both ssh clients tell what went wrong through these, so that the same mistake is told alike. A
refusal is `final` where only a person can change its reason. Nothing here opens anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from ..core.spec_hosts import SshHost
from ..errors import Unreachable

WAYS_IN = frozenset(("publickey", "hostbased", "gssapi-with-mic", "gssapi-keyex", "none"))
"""Means of letting somebody in that ask nobody anything."""


class Key(NamedTuple):
    """A host key that was shown."""

    fingerprint: str
    """SHA256:…"""
    line: str
    """What known_hosts would say; empty where that is not known."""


class KeyUnknown(Unreachable):
    """Nobody has said yet whether this is the host's key."""

    def __init__(self, name: str, key: Key) -> None:
        text = f"the host key of {name} is not known"
        keep = f"echo {shlex.quote(key.line)} >> ~/.ssh/known_hosts" if key.line else ""
        super().__init__(
            f"{text}: it shows {key.fingerprint}" if key.fingerprint else text,
            "Compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says there; "
            f"is it that, say so: --fingerprint {key.fingerprint}, the field "
            f"host_key_fingerprint, or {keep}"
            if keep
            else "Compare it with the host's own, then connect once by hand: ssh " + name,
            final=True,
        )
        self.key = key


def title(host: SshHost) -> str:
    """The host as a person would write it."""
    user = f"{host.user}@" if host.user else ""
    port = f":{host.port}" if host.port and host.port != 22 else ""
    return f"{user}{host.host}{port}"


def by_hand(host: SshHost) -> str:
    """What a person would type to see the same."""
    words = ["ssh", "-o", "BatchMode=yes"]
    words += ["-p", str(host.port)] if host.port else []
    words += ["-i", host.identity] if host.identity else []
    words += ["-J", host.proxy_jump] if host.proxy_jump else []
    return shlex.join([*words, f"{host.user}@{host.host}" if host.user else host.host, "true"])


def no_such_name(name: str, host: str) -> Unreachable:
    """Its name leads nowhere."""
    return Unreachable(
        f"no machine is called {host}" + ("" if name.endswith(host) else f" ({name})"),
        f"Is it spelled so in DNS, /etc/hosts or ~/.ssh/config? getent hosts {host}",
        final=True,
    )


def nobody_listens(name: str) -> Unreachable:
    """Its port is closed."""
    return Unreachable(
        f"{name} refuses the connection", "Does sshd listen there, and at that port?"
    )


def silent(name: str, seconds: float) -> Unreachable:
    """Nothing came in time."""
    return Unreachable(
        f"{name} did not answer within {seconds:g} seconds",
        "Is it up, and does a firewall let you through? A slow one needs connect_timeout_seconds",
    )


def unreached(name: str, reason: str, *, final: bool = False) -> Unreachable:
    """Whatever else keeps a connection from being made."""
    return Unreachable(f"{name} cannot be reached: {reason}", final=final)


def key_changed(name: str, key: Key, known: Sequence[str], files: Sequence[str]) -> Unreachable:
    """Another host key is written down for it."""
    shown = key.fingerprint or "another one"
    before = " or ".join(known) or "another one"
    where = files[0] if files else "~/.ssh/known_hosts"
    host = key.line.partition(" ")[0] or name.rpartition("@")[2]
    return Unreachable(
        f"the host key of {name} has changed: it shows {shown}, {where} says {before}",
        "Somebody may be in between. If it was set up anew, forget the old key, then look at the "
        f"new one: ssh-keygen -f {where} -R {shlex.quote(host)}",
        final=True,
    )


def key_revoked(name: str, key: Key) -> Unreachable:
    """known_hosts says never to trust its key."""
    return Unreachable(
        f"the host key of {name} is revoked: {key.fingerprint}",
        "A line @revoked of known_hosts says so",
        final=True,
    )


def key_is_another(name: str, key: Key, wanted: str) -> Unreachable:
    """It does not show the key whose fingerprint was written down."""
    return Unreachable(
        f"{name} shows the host key {key.fingerprint or 'of another kind'}, not {wanted}",
        "Is it still that machine? Then write its key into host_key_fingerprint (--fingerprint).",
        final=True,
    )


def not_let_in(
    host: SshHost, user: str, tried: Sequence[str], locked: Sequence[str] = ()
) -> Unreachable:
    """No key opens it. `locked`: files that need a passphrase."""
    name = title(host)
    who = f" as {user}" if user and not host.user else ""
    if tried:
        told = f"{name} lets nobody in{who} with the keys that were tried: {', '.join(tried)}"
    else:
        told = f"{name} lets nobody in{who} without a key, and there was none to try"
    if locked:
        told += f"; {', '.join(locked)} has a passphrase, and no agent holds it"
        hint = f"Put it into an agent: ssh-add {shlex.quote(locked[0])}"
    else:
        hint = (
            f"A public key of yours has to stand in ~/.ssh/authorized_keys there: {by_hand(host)}"
        )
    return Unreachable(told, hint, final=True)


def only_asks(name: str, methods: Sequence[str]) -> Unreachable:
    """It takes no key at all, so nobody is let in who cannot answer questions."""
    return Unreachable(
        f"{name} takes no keys, only {' or '.join(methods)}, and nothing is ever asked or typed",
        "Have its sshd take keys (PubkeyAuthentication yes), and a public key of yours stand in "
        "~/.ssh/authorized_keys there",
        final=True,
    )


def no_file(what: str, path: str) -> Unreachable:
    """A file of ours that was named does not exist, or is of another kind."""
    return Unreachable(f"{what} {path} cannot be read", f"ls -l {shlex.quote(path)}", final=True)


def in_circle(name: str, way: Sequence[str]) -> Unreachable:
    """A jump host is reached through itself."""
    return Unreachable(
        f"the way to {name} leads in a circle: {' → '.join(way)}",
        "ProxyJump in ~/.ssh/config holds for the jump host, too: give it `ProxyJump none`",
        final=True,
    )


def on_the_way(error: Unreachable, name: str, jump: str) -> Unreachable:
    """The same, of a machine that is only passed through."""
    told = Unreachable(
        f"{name} is reached through {jump}: {error.sentence}", error.hint, final=error.final
    )
    return told


def not_passed_on(name: str, jump: str, reason: str) -> Unreachable:
    """The last machine on the way was reached, and it lets nothing through, or reaches nobody."""
    return Unreachable(
        f"{jump} passes no connection on to {name}: {reason.rstrip('.')}",
        "Can it reach that machine, and may it pass connections on (AllowTcpForwarding)?",
    )


def not_started(name: str, status: int | None, said: str, program: str) -> Unreachable:
    """A login was possible, but what was to run there did not: the program, python3 or a fleet."""
    said = " ".join(said.split())[:300]
    own = program == "python3"
    if status in (126, 127):
        what = "is not there" if status == 127 else "cannot be run there"
        return Unreachable(
            f"no worker runtime can be started on {name}: {program} {what}"
            + (f" ({said})" if said else ""),
            "Install python3 there, 3.9 or newer; nothing else is needed"
            if own
            else f"fleet_binary is a program there, or leave it out; ls -l {shlex.quote(program)}",
            final=True,
        )
    why = said or (f"the login ended with exit code {status}" if status else "it ended")
    return Unreachable(f"no worker runtime can be started on {name}: {why}")
