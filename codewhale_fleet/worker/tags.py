"""Names, tags and tag expressions of a run's data. Pure; the same for tasks and for people.

An expression is terms with commas between, all of which must hold: `KEY` (there is such a tag),
`!KEY` (there is none), `KEY=VALUE`, `KEY!=VALUE` (another value, or no such tag). For whatever is
none there is a sentence.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_TAGS = 16
_NAME = 128
_VALUE = 256


class Wrong(Exception):
    """The sentence about a name, a tag or an expression that is none."""


def name_of(text: object) -> str:
    """A name of data; Wrong where it can be none."""
    if type(text) is not str or not 0 < len(text) <= _NAME or not is_plain(text):
        raise Wrong(
            f"{_shown(text)} can be no name: letters, digits and ._:/- up to {_NAME} characters"
        )
    return text


def is_plain(text: str) -> bool:
    """Letters, digits and ._:/- only, and no dash in front."""
    rest = text.translate(_PLAIN)
    return not rest and not text.startswith("-")


_PLAIN = {
    ord(sign): None
    for sign in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-"
}


def tags_of(given: object) -> dict[str, str]:
    """Tags as they are kept; Wrong where they can be none."""
    if type(given) is not dict or len(given) > MOST_TAGS:
        raise Wrong(f"at most {MOST_TAGS} tags, each KEY=VALUE")
    for key, value in given.items():
        if type(key) is not str or not 0 < len(key) <= _NAME or not is_plain(key):
            raise Wrong(f"{_shown(key)} can be no tag: letters, digits and ._:/-")
        if type(value) is not str or len(value) > _VALUE or not value.isprintable():
            raise Wrong(f"the tag {key} has a value that is no line of {_VALUE} characters")
    return given


def read_tags(words: Iterable[str]) -> dict[str, str]:
    """Tags as people write them: KEY=VALUE, several with commas between."""
    made: dict[str, str] = {}
    for word in words:
        for one in word.split(","):
            key, _, value = one.strip().partition("=")
            if key:
                made[key.strip()] = value.strip()
    return tags_of(made)


class Query:
    """A tag expression, read."""

    __slots__ = ("_terms",)

    def __init__(self, text: str) -> None:
        self._terms: list[tuple[str, str | None, bool]] = []
        """Key, the value that it must have (None: any), and whether the term is turned around."""
        for word in text.split(","):
            key, equals, value = word.strip().partition("=")
            denied = key.endswith("!") if equals else key.startswith("!")
            key = key.strip("!").strip()
            if not key or not is_plain(key):
                raise Wrong(
                    f'"{word.strip()}" is no term; they are KEY, !KEY, KEY=VALUE and KEY!=VALUE, '
                    "with commas between"
                )
            self._terms.append((key, value.strip() if equals else None, denied))

    def holds(self, tags: dict[str, str]) -> bool:
        """Whether all of it holds for these tags."""
        for key, value, denied in self._terms:
            found = key in tags if value is None else tags.get(key) == value
            if found == denied:
                return False
        return True


def _shown(text: object) -> str:
    shown = str(text)
    return f'"{shown if len(shown) <= 40 else shown[:39] + "…"}"'
