"""Finds keys that stand twice in one JSON object; a decoder would silently take the last.

Promises to miss none, and to cost next to nothing where there is none: a key that is lost takes its
colon along, so colons are counted before the text is read again with care. TOML has no such keys,
its parser refuses them. Knows nothing of specs.
"""

import re
from bisect import bisect_left
from functools import partial
from typing import Any

import msgspec

from .problems import Path

_ESCAPED_COLON = b"\\u003"
"""How an escape that stands for a colon begins; with one in a text, counting proves nothing."""

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)


def may_repeat(text: bytes, read: bytes) -> bool:
    """Whether a key may be lost in `read`, the JSON of what was read from `text`.

    False is certain as long as reading adds no key.
    """
    return text.count(b":") != read.count(b":") or _ESCAPED_COLON in text


def repeats(text: bytes) -> bool:
    """Whether a key of valid JSON may stand twice; False is certain."""
    return may_repeat(text, msgspec.json.encode(msgspec.json.decode(text)))


def head_repeats(data: bytes, head: "dict[str, Any]") -> bool:
    """The same of the outermost object, whose values are still undecoded."""
    inside = sum(bytes(memoryview(value)).count(b":") for value in head.values())
    keys = sum(key.count(":") + 1 for key in head)
    return data.count(b":") != inside + keys or _ESCAPED_COLON in data


def repeated_keys(text: str) -> "list[tuple[Path, int, int]]":
    """Path, line and first line of each key that stands again in its object."""
    found: list[tuple[Path, int, int]] = []
    stack: list[tuple[dict[str, int] | None, str | int]] = []
    keys: dict[str, int] | None = None
    """Keys of the innermost object, with their offsets; None in a list."""
    part: str | int = 0
    wants_key = False
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            stack.append((keys, part))
            keys, part = ({}, "") if first == "{" else (None, 0)
            wants_key = first == "{"
        elif first in "]}":
            keys, part = stack.pop()
            wants_key = False
        elif first == ",":
            part = part + 1 if isinstance(part, int) else part
            wants_key = keys is not None
        elif wants_key and first == '"' and keys is not None:
            part, wants_key = msgspec.json.decode(token[0], type=str), False
            before = keys.setdefault(part, token.start())
            if before != token.start():
                path = (*(outer for _, outer in stack[1:]), part)
                found.append((path, token.start(), before))
    ends = [match.start() for match in re.finditer("\n", text)] if found else []
    lines = partial(bisect_left, ends)
    return [(path, lines(again) + 1, lines(first) + 1) for path, again, first in found]
