"""Names with brackets: `web[01-50]`, `db[a,b]`, `r[1-2]n[1-8]` stand for every name they spell.

Promises the names in the order written, zeros in front kept as they are written, and a ValueError
with the reason instead of a list that is too long. Knows nothing of workers.
"""

import re
from collections.abc import Iterator
from itertools import product

MOST = 10_000
"""Names that one pattern may stand for."""

_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_NUMBERS = re.compile(r"(\d+)[-:](\d+)(?::(\d+))?")
_LETTERS = re.compile(r"([a-z])[-:]([a-z])(?::(\d+))?|([A-Z])[-:]([A-Z])(?::(\d+))?")


def is_pattern(text: str) -> bool:
    """Whether a name has brackets."""
    return "[" in text or "]" in text


def expanded(text: str, most: int = MOST) -> list[str]:
    """All names that a pattern stands for; itself where it has no brackets."""
    fixed = _BRACKET.split(text)
    if any(is_pattern(part) for part in fixed[::2]):
        raise ValueError("a bracket is not closed, or stands inside another")
    choices = [_choices(part, most) for part in fixed[1::2]]
    count = 1
    for one in choices:
        count *= len(one)
    if count > most:
        raise ValueError(f"it stands for {count:,} names; at most {most:,} are allowed")
    return list(_joined(fixed[::2], choices))


def _joined(fixed: list[str], choices: list[list[str]]) -> Iterator[str]:
    for picked in product(*choices):
        parts = [fixed[0]]
        for middle, after in zip(picked, fixed[1:], strict=True):
            parts += (middle, after)
        yield "".join(parts)


def _choices(inside: str, most: int) -> list[str]:
    """What one pair of brackets stands for."""
    found: dict[str, None] = {}
    for part in inside.split(","):
        word = part.strip()
        if not word:
            raise ValueError("there is nothing in its brackets, or nothing beside a comma")
        for one in _range(word, most):
            found[one] = None
    return list(found)


def _range(word: str, most: int) -> list[str]:
    if numbers := _NUMBERS.fullmatch(word):
        first, last, step = int(numbers[1]), int(numbers[2]), int(numbers[3] or 1)
        if step < 1 or last < first:
            raise ValueError(f"{word} counts to nowhere: the first must not be above the last")
        if (last - first) // step >= most:
            raise ValueError(f"{word} are more than {most:,} names")
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        return [str(number).zfill(width) for number in range(first, last + 1, step)]
    if letters := _LETTERS.fullmatch(word):
        start, end, by = letters.group(1, 2, 3) if letters[1] else letters.group(4, 5, 6)
        step = int(by or 1)
        if step < 1 or end < start:
            raise ValueError(f"{word} counts to nowhere: the first must not be above the last")
        return [chr(sign) for sign in range(ord(start), ord(end) + 1, step)]
    if not word.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(f"{word} is no range, such as 01-50, and no name")
    return [word]
