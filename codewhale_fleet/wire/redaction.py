"""The manager's own look for secret values, in what it reads from files.

The runtime has taken them out before: this is the second lock on the same door, for a manager that
knows the values (that of whoever asked for the run). RE2 finds the places in one pass, the worker's
redactor looks at them closely. Promises that a text without values comes back as it is, and at the
speed of RE2; finds values as they are, over line ends, behind escapes, in base64 and hexadecimal.
What only several escapes in each other hide, the runtime alone finds.
"""

from collections.abc import Iterator
from typing import Any

import re2  # type: ignore[import-untyped]

from ..worker.needles import SHORTEST, Places
from ..worker.redaction import Redactor, merged, replaced

_PART = 64
_BLOCK = 64 * 1024
_MOST = 16
"""Places of a block that are looked at one by one."""
_MEMORY = 512 << 20
"""Bytes that RE2 may take for what it remembers of a pattern: little of it is ever used."""
_LETTERS = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class Redaction:
    """The values of one run, ready to be found."""

    def __init__(self, values: dict[str, str]) -> None:
        self._redactor = Redactor(values)
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = _MEMORY
        options.encoding = re2.Options.Encoding.LATIN1
        plain = [piece for value in values.values() for piece in _beginnings(value.strip())]
        forms = [_escaped(one) for one in plain]
        forms += [_literal(needle) for needle in self._redactor.needles]
        self._pattern: Any = re2.compile(b"|".join(forms), options) if forms else None

    def redacted(self, data: bytes) -> bytes:
        """`data` without values."""
        if self._pattern is None:
            return data
        reach = self._redactor.reach
        found: list[tuple[int, int, str]] = []
        for at in range(0, len(data), _BLOCK):
            start = max(at - reach, 0)
            block = data[start : at + _BLOCK + reach]
            for first, last in self._near(block):
                near = self._redactor.find(block[first:last])
                found += [(one + start + first, two + start + first, key) for one, two, key in near]
        return replaced(data, merged(data, found), 0, len(data)) if found else data

    def _near(self, block: bytes) -> Iterator[tuple[int, int]]:
        """The parts of a block in which something stands; all of it where that is much."""
        places, reach = Places(block), self._redactor.reach
        plain = places.plain
        match = self._pattern.search(plain)
        for _ in range(_MOST):
            if match is None:
                return
            first, last = match.span()
            place = places.of(first)
            yield max(place - reach, 0), place + last - first + reach  # with its line ends
            match = self._pattern.search(plain, match.end())
        if match is not None:
            yield 0, len(block)


def _beginnings(value: str) -> list[str]:
    """What finds a value: all of it, of a long one the beginnings of its parts."""
    if len(value.encode("utf-8", "surrogateescape")) < SHORTEST:
        return []
    size = max(_PART, len(value) // _PART)
    return [value[at : at + _PART] for at in range(0, max(len(value) - size // 2, 1), size)]


def _literal(needle: bytes) -> bytes:
    """A needle, whose signs that base64 has besides letters may stand behind an escape."""
    return b"".join(
        b"(?:" + _behind(chr(byte)) + b")" if byte in b"+/" else _byte(byte) for byte in needle
    )


def _escaped(value: str) -> bytes:
    """A value as it is, each of whose letters may stand behind an escape; line ends may be gone."""
    return b"".join(
        b"(?:" + _behind(letter) + (b")?" if letter in "\r\n" else b")") for letter in value
    )


def _behind(letter: str) -> bytes:
    """One letter in all the ways in which it can be written."""
    bytewise = b"".join(
        b"(?:%s|%%(?:25)*(?i:%02x)|\\\\+x(?i:%02x)|\\\\+%03o)" % (_byte(byte), byte, byte, byte)
        for byte in letter.encode("utf-8", "surrogateescape")
    )
    wide = letter.encode("utf-16-be", "surrogatepass").hex()
    units = b"".join(rb"\\+u(?i:%s)" % wide[at : at + 4].encode() for at in range(0, len(wide), 4))
    short = _LETTERS.get(letter, letter if letter.isascii() and not letter.isalnum() else "")
    forms = [bytewise, units]
    if short:
        forms.append(rb"\\+" + re2.escape(short.encode()))
    if letter == " ":
        forms.append(rb"\+")
    return b"|".join(forms)


def _byte(byte: int) -> bytes:
    return rb"\x%02x" % byte
