"""Escapes in texts, as JSON, C and URLs write them: found, undone, and not cut in two.

Promises: `undone` tells where each part of a text has come from; `without` tells only what it
becomes, four times as fast. It knows nothing of what is looked for.
"""

from __future__ import annotations

import re
from itertools import accumulate

from codewhale_fleet.worker.needles import ENDS, SHORTEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")
    View = tuple[list[int], list[int]]
    """Where the parts of a text begin before and after every second one was undone."""

LEVELS = 4
"""How deep escapes may lie in each other."""
_FEW = 64
_SPARSE = 128
"""Bytes for each escape, from which on a look at each is quicker than one at all of the text."""
_NEAR = 40
_SIGN, _OTHER = b"10"
_ROW = b"1" * SHORTEST
_MOST_MEANINGS = 1 << 13
OF_C = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}"
    rb"|\\x[0-9a-fA-F]{2}|\\[0-3][0-7]{2}|\\.)"
)
OF_URLS = re.compile(rb"(%[0-9a-fA-F]{2})")
_COMMON = ((b"\\n", b""), (b'\\"', b'"'), (b"\\/", b"/"), (b"\\t", b"\t"), (b"\\r", b""))
_COMMON_OF_URLS = (
    (b"%20", b" "), (b"%2F", b"/"), (b"%2f", b"/"), (b"%3A", b":"), (b"%3D", b"="), (b"%0A", b""),
)  # fmt: skip
KINDS = {OF_C: b"\\", OF_URLS: b"%"}
"""How escapes begin."""
_LONGEST = 12
"""Bytes of the longest escape."""
_UNFINISHED = re.compile(
    rb"(?:\\(?:u[0-9a-fA-F]{0,3}|x[0-9a-fA-F]?|[0-3][0-7]?)?|%[0-9a-fA-F]?"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)+\Z"
)
"""Escapes, or halves of one, at the end of a text."""
_LETTERS = {98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t"}


class _Meanings(dict):  # type: ignore[type-arg]
    """Escape -> the bytes that it stands for; worked out once each."""

    def __missing__(self, escape: bytes) -> bytes:
        if escape[:1] == b"%":
            made = bytes.fromhex(escape[1:].decode())
        elif escape[1:2] == b"u" and len(escape) > 2:
            units = b"".join(bytes.fromhex(one.decode()) for one in escape.split(rb"\u")[1:])
            made = units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")
        elif escape[1:2] == b"x" and len(escape) > 2:
            made = bytes.fromhex(escape[2:].decode())
        elif len(escape) == 4:
            made = bytes([int(escape[1:], 8)])
        else:
            made = _LETTERS.get(escape[1], escape[1:])
        if len(self) < _MOST_MEANINGS:
            self[escape] = made
        return made


_meanings = _Meanings()


def undone(parts: list[bytes]) -> View:
    """Every second part, which is an escape, becomes what it stands for; where the parts begin,
    before and after.
    """
    before = list(accumulate(map(len, parts), initial=0))
    parts[1::2] = [_meanings[part] for part in parts[1::2]]
    return before, list(accumulate(map(len, parts), initial=0))


def steps(text: bytes, *, cut: bool = False) -> Iterator[tuple[bytes, list[View]]]:
    """What the text becomes as its escapes are undone, in every order, for each kind may eat what
    the other means; and where it came from. `cut`: half an escape at the end is left out.
    """

    def undo(
        kind: re.Pattern[bytes], text: bytes, views: list[View]
    ) -> tuple[bytes, list[View]] | None:
        parts = kind.split(finished(text) if cut else text)
        if len(parts) == 1:
            return None
        views = [*views, undone(parts)]
        return b"".join(parts), views

    return _all_ways(text, [], undo)


def _all_ways(
    text: bytes, state: T, undo: Callable[[re.Pattern[bytes], bytes, T], tuple[bytes, T] | None]
) -> Iterator[tuple[bytes, T]]:
    """Each text that `undo` makes of this one, with its state, by up to `LEVELS` steps."""
    now = [(text, state)]
    for _ in range(LEVELS):
        made = []
        for text, state in now:
            for kind, sign in KINDS.items():
                one = undo(kind, text, state) if sign in text else None
                if one:
                    yield one
                    made.append(one)
        now = made


def finished(text: bytes) -> bytes:
    """The text without halves of escapes at its end."""
    half = _UNFINISHED.search(text, max(len(text) - 4 * _LONGEST, 0))
    return text[: half.start()] if half else text


def signs_in(needles: Iterable[bytes]) -> bytes:
    """A table for `bytes.translate`: what stands in one of these becomes a 1, all else a 0."""
    signs = frozenset().union(*needles)
    return bytes(_SIGN if byte in signs else _OTHER for byte in range(256))


def without(text: bytes, reach: int, signs: bytes) -> Iterator[bytes]:
    """The same steps, four times as fast: only what was changed, with `reach` bytes around it.

    Where there are not even `SHORTEST` of the signs in a row, nothing is shown: there is no needle.
    """
    seen = {text}

    def undo(kind: re.Pattern[bytes], text: bytes, _: bytes) -> tuple[bytes, bytes] | None:
        made = _one(kind, text, reach, signs)
        if made[0] in seen:
            return None
        seen.add(made[0])
        return made

    for _, changed in _all_ways(text, b"", undo):
        yield changed


def _one(kind: re.Pattern[bytes], text: bytes, reach: int, signs: bytes) -> tuple[bytes, bytes]:
    """As `_by`; where much of the text is escapes, the common ones go first."""
    if text.count(KINDS[kind]) * _FEW <= len(text):
        return _by(kind, text, reach, signs)
    if kind is OF_URLS:
        for escape, meaning in _COMMON_OF_URLS:
            text = text.replace(escape, meaning)
        text = _by(OF_URLS, text, 0, signs)[0]
        return text, text
    text = text.replace(b"\\\\", b"\xff")
    for escape, meaning in _COMMON:
        text = text.replace(escape, meaning)
    if b"\\" in text:
        text = _by(OF_C, text, 0, signs)[0]
    text = text.replace(b"\xff", b"\\")
    return text, text


def _by(kind: re.Pattern[bytes], text: bytes, reach: int, signs: bytes) -> tuple[bytes, bytes]:
    """The text without the escapes of a kind, and what of it has changed."""
    parts = kind.split(text)
    if len(parts) == 1:
        return text, b""
    meanings = [_meanings[part] for part in parts[1::2]]
    parts[1::2] = meanings
    changed = text = b"".join(parts)
    if not reach or len(meanings) * _SPARSE > len(text):
        return text, changed
    places = list(accumulate(map(len, parts)))[::2]
    places = [
        at
        for at, meaning in zip(places, meanings)  # noqa: B905 (3.9)
        if _OTHER not in meaning.translate(signs, ENDS) and _may_hold(text, at, signs)
    ]
    if len(places) * reach * 4 < len(text):
        near = [text[max(at - reach, 0) : at + reach] for at in places]
        changed = b"\0".join(near)
    return text, changed


def _may_hold(text: bytes, at: int, signs: bytes) -> bool:
    """May a needle lie over this place? Not without signs enough in a row."""
    near = text[max(at - _NEAR, 0) : at + _NEAR]
    plain = near.translate(signs, ENDS)
    return _ROW in plain or len(near) - len(plain) > _NEAR - SHORTEST


def whole(data: bytes, cut: int) -> int:
    """The last place up to `cut` that lies in no escape."""
    start = max(cut - _LONGEST + 1, 0)
    at = max(data.rfind(b"\\", start, cut), data.rfind(b"%", start, cut))
    if at < 0:
        return cut
    return len(data[: at + 1].rstrip(b"\\")) if data[at] == 92 else at
