"""Finds text that is plainly a secret: known key prefixes, private keys, bearer tokens.

Promises few false alarms (a person is stopped by each), not that every secret is found. `hints`
keeps it cheap: patterns are only tried where the fixed text that they need occurs at all.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Place = tuple[str | int, ...]

_PATTERNS = {
    "sk-": r"sk-(?:[A-Za-z0-9]{1,12}-){0,4}[A-Za-z0-9_]{16,}",
    "_live_": r"[prs]k_live_[A-Za-z0-9]{8,}",
    "ghp_": r"ghp_[A-Za-z0-9]{20,}",
    "gho_": r"gho_[A-Za-z0-9]{20,}",
    "ghu_": r"ghu_[A-Za-z0-9]{20,}",
    "ghs_": r"ghs_[A-Za-z0-9]{20,}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{20,}",
    "AKIA": r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])",
    "xox": r"xox[abprs]-[A-Za-z0-9-]{10,}",
    "xapp-": r"xapp-[A-Za-z0-9-]{20,}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20,}",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",
    "pypi-": r"pypi-[A-Za-z0-9_-]{50,}",
    "hooks.slack.com/": r"hooks\.slack\.com/(?:services|workflows)/[A-Z0-9]+/[A-Za-z0-9/]{20,}",
    "hf_": r"hf_[A-Za-z0-9]{20,}",
    "PRIVATE KEY-----": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
    "earer": r"(?i:bearer)[ \t]+(?=[^\s'\"]*[0-9]|[^\s'\"]{24})[A-Za-z0-9._~+/=-]{8,}",
}
"""Fixed text -> the pattern around it."""

LOOKS_SECRET = (
    "SECRET", "TOKEN", "PASSWORD", "PASSWD", "API_KEY", "CREDENTIAL", "PRIVATE_KEY",
)  # fmt: skip
"""Parts, in any case, of variable names that may not stand in an allowlist."""


def hints(data: bytes) -> tuple[str, ...]:
    """The fixed texts that occur in `data`; empty: it holds no secret that we would know."""
    return tuple(text for text in _PATTERNS if text.encode() in data)


@cache
def _patterns(wanted: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    any_of = "|".join(_PATTERNS[text] for text in wanted)
    return re.compile(any_of), re.compile(rf"(?<![A-Za-z0-9_-])(?:{any_of})")


def may_hold_secret(text: str, wanted: tuple[str, ...] = tuple(_PATTERNS)) -> bool:
    """False: no string in the JSON `text` is plainly a secret. `wanted` are `hints` of it."""
    return _patterns(wanted)[0].search(text) is not None


def is_secret_of(name: str, value: str) -> bool:
    """Whether a variable's value is a secret: by itself, or because its name says so and it looks
    like one. A number or a word is none."""
    if may_hold_secret(value):
        return True
    kinds = (str.isalpha, str.isdigit)
    whole = len(value) >= 16 and not value.startswith(("/", "~", "."))
    plain = whole and all(one.isalnum() or one in "+/=_-." for one in value)
    return name_looks_secret(name) and plain and all(any(map(kind, value)) for kind in kinds)


def secret_paths(tree: Any, wanted: tuple[str, ...]) -> Iterator[Place]:
    """Paths of the strings in `tree` (dicts, lists, scalars) that are plainly secrets."""
    exact = _patterns(wanted)[1].search
    return paths_of(tree, lambda text: exact(text) is not None)


def paths_of(tree: Any, is_meant: Callable[[str], bool], path: Place = ()) -> Iterator[Place]:
    """Paths of the strings in `tree` that are meant; of a key the path of its table."""
    if isinstance(tree, str):
        if is_meant(tree):
            yield path
    elif isinstance(tree, dict):
        if any(isinstance(key, str) and is_meant(key) for key in tree):
            yield path
        for key, value in tree.items():
            yield from paths_of(value, is_meant, (*path, key))
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from paths_of(value, is_meant, (*path, index))


def name_looks_secret(name: str) -> bool:
    """Whether a variable's name says that its value is a secret."""
    upper = name.upper().replace("-", "_")
    return any(part in upper for part in LOOKS_SECRET)
