"""The quick reader of command lines: the frequent commands, in their ordinary spellings.

`read` answers a `Call` or None. None means: something here is not plain (help, an error, a rare
spelling, another command), let the Typer declarations read it. Where it answers, it answers what
they would have; tests/cli/test_hot.py holds that for random command lines. The table it reads is
generated from those declarations by scripts/command-table, so there is one declaration.
"""

from .table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

COMMON = ("directory", "json", "quiet", "verbose", "no_color")
"""Parameters that every command has, and that make its Context."""


class Call:
    """A command to carry out: its name, its own parameters, and the common ones."""

    __slots__ = ("common", "name", "params")

    def __init__(self, name: str, params: "dict[str, Any]") -> None:
        self.name = name
        self.common = {key: params.pop(key) for key in COMMON}
        self.params = params

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Call{self._parts()!r}"

    def _parts(self) -> "tuple[str, dict[str, Any], dict[str, Any]]":
        return self.name, self.params, self.common


def read(argv: "Sequence[str]") -> "Call | None":
    """The call that a command line asks for, or None when Typer is to read it."""
    name, first = argv[0] if argv else "", 1
    if name not in COMMANDS:
        name, first = " ".join(argv[:2]), 2
        if name not in COMMANDS or len(argv) < 2:
            return None
    arguments, options, defaults = COMMANDS[name]
    params = dict(defaults)
    words: list[str] = []
    rest = iter(argv[first:])
    for word in rest:
        if word == "--":
            words.extend(rest)
            break
        if word[:1] != "-" or word == "-":
            words.append(word)
            continue
        if not _option(word, rest, options, params):
            return None
    if not _place(words, arguments, params):
        return None
    return Call(name, params)


def _option(word: str, rest: "Any", options: "Any", params: "dict[str, Any]") -> bool:
    """Take one option, with its value from `rest` when it has one; False when it is not plain."""
    name, equals, value = word.partition("=")
    if name not in options:
        return _attached(word, options, params)
    key, kind, low, high = options[name]
    if kind == "flag":
        if equals:
            return False
        params[key] = low
        return True
    if not equals:
        value = next(rest, "")
    elif name[:2] != "--":
        return False
    if not value or (value[0] == "-" and value != "-"):
        return False
    if kind == "list":
        params[key] = [*(params[key] or ()), value]
        return True
    taken = _value(value, kind, low, high)
    if taken is None:
        return False
    params[key] = taken
    return True


def _attached(word: str, options: "Any", params: "dict[str, Any]") -> bool:
    """Take a number that stands right behind its letter (`-j4`); False when it is no such thing."""
    if word[:2] == "--" or word[:2] not in options:
        return False
    key, kind, low, high = options[word[:2]]
    taken = _value(word[2:], kind, low, high) if kind in ("int", "float") else None
    if taken is None:
        return False
    params[key] = taken
    return True


def _value(text: str, kind: str, low: "Any", high: "Any") -> "Any":
    """The value that a word stands for, or None when it is none or lies outside its limits."""
    if kind == "str":
        return text
    if not text.isascii() or len(text) > 15:
        return None
    if kind == "int":
        number: int | float | None = int(text) if text.isdigit() else None
    else:
        whole, _, part = text.partition(".")
        plain = whole.isdigit() and (part.isdigit() or not part)
        number = float(text) if plain else None
    if number is None or (low is not None and number < low) or (high is not None and number > high):
        return None
    return number


def _place(words: list[str], arguments: "Any", params: "dict[str, Any]") -> bool:
    """Give the words to the arguments in order; False when there are too many or too few."""
    for key, many, required in arguments:
        if many:
            if required and not words:
                return False
            if words:
                params[key] = words
            return True
        if words:
            params[key] = words.pop(0)
        elif required:
            return False
    return not words
