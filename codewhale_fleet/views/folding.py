"""Many like one: names folded into patterns, answers that are the same told once.

`folded` writes names as a person would (`web[01-48],db1`), and the pattern stands for exactly those
names: read as a selector it means them again. `Groups` collects who gave which answer, and holds
one small row a name whatever was answered. `Spread` tells texts as one that differ in numbers only,
`difference` one text by what it does not share with another. Pure: nothing here reads or prints.
"""

import re
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_NUMBERS = re.compile(r"([0-9]+)")

DIFFERENCE_LINES = 20
"""A difference with more lines than this says less than the text itself."""

COMPARED_BYTES = 64 * 1024
"""Texts longer than this are not compared line by line."""

NEARLY = 0.5
"""Numbers are told as ranges where there are more different answers than this part of the names."""


# Names ------------------------------------------------------------------------------------------


def natural(name: str) -> tuple[object, ...]:
    """A key that sorts as people count: web2 before web10."""
    parts = _NUMBERS.split(name)
    values = (digits.lstrip("0") for digits in parts[1::2])
    parts[1::2] = (f"{len(value):04d}{value}" for value in values)
    return (*parts, name)


def folded(names: Iterable[str]) -> str:
    """Names as patterns, separated by commas: `db1,web[01-10,13]`; each stands for itself once."""
    shapes: dict[tuple[str, ...], list[tuple[frozenset[str], ...]]] = {}
    for name in sorted(set(names), key=natural):
        parts = _NUMBERS.split(name)
        sets = tuple(frozenset((digits,)) for digits in parts[1::2])
        shapes.setdefault(tuple(parts[::2]), []).append(sets)
    return ",".join(
        _written(words, sets) for words, rows in shapes.items() for sets in _merged(rows)
    )


def _merged(rows: list[tuple[frozenset[str], ...]]) -> list[tuple[frozenset[str], ...]]:
    """Rows that differ in one place only become one; a row stands for the product of its sets."""
    for place in reversed(range(len(rows[0]))):
        found: dict[tuple[frozenset[str], ...], set[str]] = {}
        for row in rows:
            found.setdefault((*row[:place], *row[place + 1 :]), set()).update(row[place])
        rows = [(*key[:place], frozenset(one), *key[place:]) for key, one in found.items()]
    return rows


def _written(words: tuple[str, ...], sets: tuple[frozenset[str], ...]) -> str:
    made = words[0]
    for numbers, word in zip(sets, words[1:], strict=True):
        ranges = ",".join(_ranges(sorted(numbers, key=natural)))
        made += (ranges if len(numbers) == 1 else f"[{ranges}]") + word
    return made


def _ranges(numbers: list[str]) -> Iterator[str]:
    """Numbers that follow each other as `FIRST-LAST`; `08` is followed by `09`, and `8` by `9`."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != str(int(last) + 1).zfill(len(last) if first[0] == "0" else 1):
            yield first if first == last else f"{first}-{last}"
            first = number
        last = number
    yield first if first == last else f"{first}-{last}"


# Answers ----------------------------------------------------------------------------------------


class Group(Generic[Key]):
    """Who gave the same answer: `names` in the order in which they gave it."""

    __slots__ = ("key", "names")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.names: list[str] = []


class Groups(Generic[Key]):
    """Answers as they arrive, the same ones together. A later answer of a name replaces none."""

    def __init__(self) -> None:
        self._found: dict[Key, Group[Key]] = {}

    def add(self, name: str, key: Key) -> None:
        """One more answer."""
        group = self._found.get(key)
        if group is None:
            group = self._found[key] = Group(key)
        group.names.append(name)

    def ordered(self) -> list[Group[Key]]:
        """The larger ones first; among equals, by their first name."""
        made = list(self._found.values())
        for group in made:
            group.names.sort(key=natural)
        return sorted(made, key=lambda group: (-len(group.names), natural(group.names[0])))


# Texts ------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?![\w]|\.[0-9])|(?<=[:,])[0-9]+")


class Spread:
    """Texts that are the same but for numbers: each number is told as the range it was seen in."""

    def __init__(self, text: str) -> None:
        self._words = self.words_of(text)
        self._low = _NUMBER.findall(text)
        self._high = list(self._low)

    @staticmethod
    def words_of(text: str) -> tuple[str, ...]:
        """What of a text is no number: texts of which this is the same can be one spread."""
        return tuple(_NUMBER.split(text))

    def take(self, text: str) -> None:
        """One more text, of the same words."""
        for at, number in enumerate(_NUMBER.findall(text)):
            if float(number) < float(self._low[at]):
                self._low[at] = number
            elif float(number) > float(self._high[at]):
                self._high[at] = number

    def text(self) -> str:
        """The text with its ranges: `load 0.10–0.84`."""
        made = self._words[0]
        for low, high, word in zip(self._low, self._high, self._words[1:], strict=True):
            made += (low if low == high else f"{low}–{high}") + word
        return made


def is_scattered(groups: int, names: int) -> bool:
    """Whether hardly two gave the same answer: then numbers are told as ranges."""
    return groups > 2 and groups > names * NEARLY


def difference(text: str, other: str) -> list[str]:
    """What a text has (`+`) and lacks (`-`) against another; nothing where that says no more.

    Only of texts of several lines, most of which they share.
    """
    if max(len(text), len(other)) > COMPARED_BYTES:
        return []
    mine, theirs = text.splitlines(), other.splitlines()
    if min(len(mine), len(theirs)) < 3:
        return []
    from difflib import unified_diff

    found = list(unified_diff(theirs, mine, n=0, lineterm=""))[2:]
    changed = [line for line in found if not line.startswith("@@")]
    if not changed or len(changed) > DIFFERENCE_LINES or len(changed) > len(mine):
        return []
    return changed
