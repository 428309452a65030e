"""Ids for machines that other files name: what an id may not hold is replaced."""

import re

from ..core.selectors import WORDS

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")


def id_of(name: str) -> str:
    """An id that is as near to a host's name as an id can be."""
    made = _NOT_ALLOWED.sub("-", name).strip("-")[:128]
    return f"host-{made}" if made in WORDS or made in ("", ".", "..") else made
