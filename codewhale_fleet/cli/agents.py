"""Which agents this machine has: for `fleet doctor`, which tries them, and `fleet init`.

A preset whose program is on PATH is there; whether it was ever driven end to end is what the
preset says, not what is tried here. Starts nothing but `PROGRAM --version`.
"""

import subprocess
from shutil import which

from msgspec import Struct

from ..agents.definition import Agent
from ..agents.presets import PRESETS
from ..agents.roster import Roster, base_of, resolve

VERSION_SECONDS = 10.0
"""A program that takes longer to say its version is told as such."""


class Seen(Struct, frozen=True, omit_defaults=True):
    """One agent as it was found here."""

    name: str
    program: str
    path: str = ""
    """Where the program is; empty: not on PATH."""
    version: str = ""
    tried: bool = False
    """Whether the project's own tests drive the real program as its preset does."""
    own: bool = False
    """fleet.toml gives its command; no preset is asked."""
    trouble: str = ""


def on_path(path: str) -> list[str]:
    """Presets whose program is on PATH, in the presets' order."""
    return [name for name, agent in PRESETS.items() if which(agent.program, path=path)]


def seen(roster: Roster, environ: dict[str, str]) -> list[Seen]:
    """Every agent that fleet.toml has, and every preset whose program is on PATH."""
    path = environ.get("PATH", "")
    names = dict.fromkeys((*roster.written, *on_path(path)))
    if roster.default is not None:
        names.setdefault(roster.default)
    return [_seen(name, roster, environ) for name in names]


def _seen(name: str, roster: Roster, environ: dict[str, str]) -> Seen:
    written = roster.written.get(name) or Agent()
    agent = resolve(name, written)
    tried = roster.is_tried(name)
    found = which(agent.program, path=environ.get("PATH", "")) or ""
    own = written.command is not None or not base_of(name, written)
    version, trouble = _version(found, environ) if found and not own else ("", "")
    return Seen(
        name=name,
        program=agent.program,
        path=found,
        version=version,
        tried=tried,
        own=own,
        trouble=trouble,
    )


def _version(program: str, environ: dict[str, str]) -> tuple[str, str]:
    """What a program says of its version, and what kept it from that."""
    try:
        done = subprocess.run(
            [program, "--version"],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"{program} --version takes more than {VERSION_SECONDS:g} s"
    except OSError as error:
        return "", f"{program} cannot be run: {error.strerror}"
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not said:
        return "", f"{program} --version ends with {done.returncode}"
    line = "".join(sign if sign.isprintable() else "?" for sign in said[-1])
    return line[:60], ""
