"""Which private keys could have opened a door: those of files, and those that an agent holds."""

from __future__ import annotations

import os

import asyncssh

_FALSE_LOCKS = "Passphrase"
"""How asyncssh begins what it says of a private key that needs one."""


def sorted_keys(paths: list[str]) -> tuple[list[str], list[str]]:
    """(those that open without a passphrase, those that do not)."""
    tried, locked = [], []
    for path in paths:
        try:
            asyncssh.read_private_key(path)
            tried.append(path)
        except ValueError as error:
            if str(error).startswith(_FALSE_LOCKS):
                locked.append(path)
        except OSError:
            continue
    return tried, locked


async def in_agent() -> list[str]:
    """What an agent offers, in words."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return []
    try:
        async with asyncssh.connect_agent(path) as agent:
            count = len(await agent.get_keys())
    except (OSError, ValueError):
        return []
    return [f"{count} of the agent"] if count else []
