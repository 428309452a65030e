"""The forms in which a secret value is looked for: each is a *needle*, a text without line ends.

Promises that every needle has at least `SHORTEST` bytes, and that whoever finds a needle has found
at least a part of its value that is as long. It knows no text that is searched.
"""

from __future__ import annotations

import sys
from binascii import b2a_base64
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST = 8
"""Bytes of the shortest value that is looked for."""
ENDS = b"\r\n"
WORD = 4
"""Bytes of a word, by which needles are looked up."""
_STRIDES = (16, 8, 4)
"""A text's words lie so far apart: a needle of this and three bytes holds one, wherever it lies."""
_PIECE = 64
"""A value of more than one and a half times this is looked for in pieces of so many bytes."""
_PIECES = 64
"""Of a long value the pieces are longer, so that there are about so many."""
_SKIPPED = (0, 2, 3)
"""Characters of base64 that depend on what stands before a value, by its place modulo 3."""
_USUAL = bytes(97 <= byte <= 122 or byte in b" .0" for byte in range(256))
_PLACES = 4096
_QUOTES = (
    (b'"', b"'"), (b"&quot;", b"'"), (b"&quot;", b"&#x27;"), (b"&quot;", b"&#39;"),
    (b"&#34;", b"&#39;"), (b"&quot;", b"&apos;"),
)  # fmt: skip
"""How writers of XML and HTML put double and single quotes, where they do."""
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Needle:
    """One form of one value. `left`, `right`: a character of base64 beside it tells of it, too."""

    __slots__ = ("key", "left", "right", "text")

    def __init__(self, text: bytes, key: str, left: bool = False, right: bool = False) -> None:
        self.text = text
        self.key = key
        self.left = left
        self.right = right


def _pieces(value: bytes) -> list[bytes]:
    size = max(_PIECE, len(value) // _PIECES)
    if len(value) <= size * 3 // 2:
        return [value]
    cuts = [*range(0, len(value) - size // 2, size), len(value)]
    return [value[start:end] for start, end in zip(cuts, cuts[1:])]  # noqa: B905, RUF007 (3.9)


def needles_of(key: str, value: bytes) -> list[Needle]:
    """Every needle of a value; none where it is too short."""
    if len(value.strip()) < SHORTEST:
        return []
    return [needle for needle in _forms(key, value) if len(needle.text) >= SHORTEST]


def _forms(key: str, value: bytes) -> Iterable[Needle]:
    value = value.strip()
    lines = [line.strip() for line in value.splitlines()] if b"\n" in value else []
    parts = [line for line in lines if len(line) >= SHORTEST and not line.startswith(b"-----")]
    parts = [piece for part in parts for piece in _pieces(part)]
    for plain in [*_pieces(value.translate(None, ENDS)), *parts]:
        yield Needle(plain, key)
        if b" " in plain:
            yield Needle(plain.replace(b" ", b"+"), key)
        for text in _in_markup(plain):
            yield Needle(text, key)
    for part in [*_pieces(value), *parts]:
        shown = part.hex().encode()
        yield Needle(shown, key)
        yield Needle(shown.upper(), key)
        for before, skipped in enumerate(_SKIPPED):
            bits = 8 * (before + len(part))
            made = b2a_base64(bytes(before) + part, newline=False)[skipped : bits // 6]
            for text in {made, made.translate(_URL_SAFE)}:
                yield Needle(text, key, before > 0, bits % 6 > 0)


def _in_markup(plain: bytes) -> set[bytes]:
    """A text as it stands in XML and HTML, where that is another one."""
    made = plain.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")
    found = {made.replace(b'"', double).replace(b"'", single) for double, single in _QUOTES}
    return found - {plain}


def stride_of(needles: Iterable[bytes]) -> int:
    """How far apart the words of a text may lie, so that none of these needles is missed."""
    shortest = min(map(len, needles), default=SHORTEST)
    return next(one for one in _STRIDES if one + WORD - 1 <= shortest)


def words_of(needle: bytes, stride: int) -> Iterable[int]:
    """A word for each way in which a needle can lie over words: the rarest one.

    How seldom four bytes stand in the texts that people and programs write is a guess.
    """
    last, usual = len(needle) - WORD, needle.translate(_USUAL)
    words = [needle[at : at + WORD] for at in range(last + 1)]
    rarity = [len(set(word)) - 2 * usual.count(1, at, at + WORD) for at, word in enumerate(words)]
    for first in range(stride):
        best = max(range(first, last + 1, stride), key=rarity.__getitem__)
        yield int.from_bytes(words[best], sys.byteorder)


class Places:
    """A text without its line ends, `plain`, and where its bytes stand in that with them."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.plain = text.translate(None, ENDS)
        self._returns = False
        self._starts = [0]
        """Where pieces of the text begin in `plain`: counted as far as somebody asks."""

    def _line_ends(self, first: int, until: int) -> int:
        ends = self._text.count(b"\n", first, until)
        return ends + self._text.count(b"\r", first, until) if self._returns else ends

    def of(self, at: int) -> int:
        """The place of a byte, by its number."""
        size, starts = len(self._text), self._starts
        if len(starts) == 1:
            self._returns = b"\r" in self._text
        while starts[-1] <= at and (first := (len(starts) - 1) * _PLACES) < size:
            until = min(first + _PLACES, size)
            starts.append(starts[-1] + until - first - self._line_ends(first, until))
        piece = bisect_right(starts, at, 0, len(starts) - 1) - 1
        counted = piece * _PLACES
        place = counted + at - starts[piece]
        while counted <= place:
            until = place + 1
            place += self._line_ends(counted, until)
            counted = until
        return place
