"""Finds the secret values of a run in what its tasks write, and puts `[redacted:KEY]` there.

A value is found as it is, across line ends, in base64 (standard and URL-safe, wherever in a larger
text it begins), in hexadecimal, as XML and HTML write it, and behind escapes: of JSON, of C, of
URLs, up to four deep. Long
values, and those of several lines, are found by their parts, too. Promises: what a `Stream` lets
out does not depend on how its input was cut; text that holds no value comes out byte for byte;
time grows with the length of the text, not with the number of values. Values shorter than
`SHORTEST` bytes are not looked for: they would be found everywhere. Not found: what was compressed,
encrypted, reversed, or split by anything but line ends.

How: every value is turned into *needles*. Of each needle one word of four bytes is chosen for each
way in which it can lie over the text's words, and the text's words (every fourth byte begins one,
every eighth or sixteenth where no needle is short) are looked up in the set of these; only needles
with a word in common are searched for. It knows no files.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from codewhale_fleet.worker.escapes import (
    finished,
    signs_in,
    steps,
    whole,
    without,
)
from codewhale_fleet.worker.needles import (
    ENDS,
    SHORTEST,
    WORD,
    Needle,
    Places,
    needles_of,
    stride_of,
    words_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codewhale_fleet.worker.escapes import View

    Found = tuple[int, int, str]

_CUT = 6
"""Bytes of a needle's beginning that are taken for it where the text was cut off."""
_SOON = 4
_NEAR = 4
"""Most bytes between two parts of one value: what base64 makes of a line end."""
_MOST_HELD = 1 << 16
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")


class Redactor:
    """The secret values of one run. `short`: keys of those that are too short to be looked for.

    `before`: what took out the values that it had before; they are taken out still.
    """

    def __init__(self, values: dict[str, str], before: Redactor | None = None) -> None:
        self.values = values
        self.short: list[str] = []
        self.needles: dict[bytes, Needle] = {}
        self._words: dict[int, list[bytes]] = {}
        for key in sorted(values):
            value = values[key].encode("utf-8", "surrogateescape")
            needles = needles_of(key, value)
            for needle in needles:
                self.needles.setdefault(needle.text, needle)
            if not needles:
                self.short.append(key)
        for text, needle in before.needles.items() if before else ():
            self.needles.setdefault(text, needle)
        stride = stride_of(self.needles)
        self._every = stride // WORD
        for text in self.needles:
            for word in words_of(text, stride):
                self._words.setdefault(word, []).append(text)
        self._set = frozenset(self._words)
        self._sorted = sorted(self.needles)
        self._signs = signs_in(self._sorted)
        self._longest = max(map(len, self._sorted), default=0)
        self.reach = 8 * self._longest + 64
        """Bytes in which any form of a value lies."""

    def __bool__(self) -> bool:
        return bool(self.needles)

    # ---- whole texts

    def redacted(self, data: bytes) -> bytes:
        """`data` without values."""
        found = self.find(data)
        return replaced(data, found, 0, len(data)) if found else data

    def text(self, text: str) -> str:
        """`text` without values."""
        data = text.encode("utf-8", "surrogatepass")
        found = self.find(data)
        if not found:
            return text
        return replaced(data, found, 0, len(data)).decode("utf-8", "replace")

    def tree(self, value: Any, kept: frozenset[str] = frozenset()) -> Any:
        """The same of every text in dicts and lists but those under the keys `kept`."""
        if type(value) is str:
            return self.text(value) if len(value) >= SHORTEST else value
        if type(value) is dict:
            return {
                name: one if name in kept else self.tree(one, kept) for name, one in value.items()
            }
        if type(value) in (list, tuple):
            return [self.tree(one, kept) for one in value]
        return value

    def held_in(self, data: bytes | str) -> list[str]:
        """The keys of the values that stand in `data`, sorted."""
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        return sorted({key for _, _, key in self.find(data)})

    def stream(self) -> Stream:
        """For text that comes in blocks."""
        return Stream(self)

    # ---- finding

    def find(self, data: bytes) -> list[Found]:
        """Where values stand, as (start, end, key), in order and apart from each other."""
        plain = data.translate(None, ENDS)
        found = self._placed(data, plain, [])
        if self._is_behind_escapes(data):
            for text, views in steps(data):
                found += self._placed(text, text.translate(None, ENDS), views)
        return merged(data, found) if found else found

    def _is_behind_escapes(self, text: bytes) -> bool:
        """Does the text hold a value once its escapes are undone?"""
        for view in without(text, self.reach, self._signs):
            plain = view.translate(None, ENDS)
            if any(needle in plain for needle in self._likely(plain)):
                return True
        return False

    def _likely(self, plain: bytes) -> set[bytes]:
        """The needles that may stand in a text without line ends."""
        words = array("I", plain[: len(plain) // WORD * WORD])[:: self._every]
        return {text for word in self._set.intersection(words) for text in self._words[word]}

    def _placed(self, text: bytes, plain: bytes, views: list[View]) -> list[Found]:
        """What stands in one view, by its places in the text behind all views."""
        found: list[Found] = []
        way = None
        for needle in self._likely(plain):
            at = plain.find(needle)
            while at >= 0:
                way = way or _Way(text, plain, views)
                found.append(way.place(at, self.needles[needle]))
                at = plain.find(needle, at + 1)
        return found

    def opened(self, data: bytes) -> tuple[int, str, int]:
        """The last value that may go on after `data`: where it begins, its key, and how many bytes
        of it are there; the length of `data`, no key and 0 if there is none.
        """
        base = max(len(data) - self.reach, 0)
        best = len(data), "", 0
        end = data[base:]
        none: list[View] = []
        for text, views in ((end, none), *steps(end, cut=True)):
            done = finished(text)
            plain = done.translate(None, ENDS)
            at, key = self._open_in(plain)
            if key or len(done) < len(text):
                place = base + _Way(done, plain, views).start(at)
                if place < best[0]:
                    best = place, key, len(plain) - at
        return best

    def _open_in(self, plain: bytes) -> tuple[int, str]:
        known, count = self._sorted, len(self._sorted)
        first = max(len(plain) - self._longest + 1, 0)
        first += plain[first:].translate(self._signs).rfind(b"0") + 1
        for at in range(first, len(plain)):
            end = plain[at:]
            place = bisect_left(known, end)
            if place < count and known[place].startswith(end):
                return at, self.needles[known[place]].key
        return len(plain), ""


class Blind:
    """Stands for a redactor whose values are not known any more: nothing can be let out."""

    _WITHHELD = "[withheld: the values of its secrets are not known here any more]"

    def text(self, text: str) -> str:
        """Instead of a text."""
        return self._WITHHELD if text else text


class _Way:
    """The way back from places in a view without line ends to those in the text behind it all."""

    def __init__(self, text: bytes, plain: bytes, views: list[View]) -> None:
        self._text = text
        self._place = Places(text).of if len(text) != len(plain) else int
        self._views = views[::-1]

    def place(self, at: int, needle: Needle) -> tuple[int, int, str]:
        """Where a needle that was found at `at` stands, with what beside it tells of it."""
        text, end = self._text, self._place(at + len(needle.text) - 1) + 1
        at = self._place(at)
        if needle.left and at and text[at - 1] in _BASE64:
            at -= 1
        if needle.right and end < len(text) and text[end] in _BASE64:
            end += 1
        for before, after in self._views:
            part = bisect_left(after, end) - 1
            end = before[part + 1] if part % 2 else before[part] + end - after[part]
        return self._back(at), end, needle.key

    def start(self, at: int) -> int:
        """Where the byte at `at` stands."""
        return self._back(self._place(at))

    def _back(self, at: int) -> int:
        for before, after in self._views:
            part = bisect_right(after, at) - 1
            at = before[part] + (0 if part % 2 else at - after[part])
        return at


class Stream:
    """Text that comes in blocks. `count`: how many values were taken out so far."""

    __slots__ = ("_held", "_past", "_redactor", "count")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        self._past = b""
        """What was let out although a value may have begun in it."""
        self.count = 0

    @property
    def held(self) -> int:
        """Bytes that came and were not let out yet."""
        return len(self._held)

    def feed(self, data: bytes, *, soon: bool = False) -> bytes:
        """What may be let out, now that `data` has come.

        `soon`: somebody waits for it. A line then goes out whole, even if its last letters (three
        at most) may be the first ones of a value that goes on in the next line.
        """
        redactor, base = self._redactor, len(self._past)
        data = self._past + self._held + data
        cut, _, length = redactor.opened(data)
        past = b""
        if soon and 0 < length < _SOON and data[-1] in ENDS:
            past, cut = data[cut:], len(data)
        if cut and data[cut - 1] in _BASE64:  # what comes next may reach back to it
            cut = whole(data, cut - 1)
        found = [(max(start, base), end, key) for start, end, key in redactor.find(data)]
        found = [one for one in found if one[1] > base]
        for start, end, _ in reversed(found):
            if end + _NEAR >= min(cut, len(data) - 1):
                cut = min(cut, start)
        if len(data) - cut > _MOST_HELD + redactor.reach:
            cut = len(data)
        self._past = past if cut == len(data) else self._past if cut < base else b""
        return self._let_out(data, found, base, max(cut, base))

    def finish(self, *, cut: bool = False) -> bytes:
        """The rest. `cut`: the text may end within a value, whose beginning is taken out, too."""
        data, base = self._past + self._held, len(self._past)
        found = self._redactor.find(data)
        if cut:
            place, key, length = self._redactor.opened(data)
            if length >= _CUT:
                found = merged(data, [*found, (place, len(data), key)])
        found = [(max(start, base), end, key) for start, end, key in found if end > base]
        return self._let_out(data, found, base, len(data))

    def _let_out(self, data: bytes, found: list[Found], start: int, cut: int) -> bytes:
        self._held = data[cut:]
        found = [one for one in found if one[0] < cut]
        self.count += len(found)
        return replaced(data, found, start, cut) if found else data[start:cut]


def merged(data: bytes, found: list[Found]) -> list[Found]:
    """Places in order; those that overlap, and near parts of one value in one line, as one."""
    found.sort()
    made = [found[0]]
    longest = found[0][1] - found[0][0]
    for start, end, key in found[1:]:
        first, last, before = made[-1]
        near = key == before and start <= last + _NEAR and b"\n" not in data[last:start]
        if start >= last and not near:
            made.append((start, end, key))
            longest = end - start
            continue
        if end - start > longest:
            longest, before = end - start, key
        made[-1] = (first, max(last, end), before)
    return made


def replaced(data: bytes, found: list[Found], at: int, until: int) -> bytes:
    """The text from `at` to `until`, with the names of values in the place of each."""
    parts: list[bytes] = []
    for start, end, key in found:
        parts += data[at:start], f"[redacted:{key}]".encode()
        at = end
    if at < until:
        parts.append(data[at:until])
    return b"".join(parts)
