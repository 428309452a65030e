"""Finds the lines of fields in TOML and JSON text.

The parsers give values without places, so this reads the text once more, only when there is
something to tell. The text is known to be valid; promises a line for every path asked for: where
the field itself is not written, the nearest enclosing one. Knows nothing of specs but the other
spellings of fields.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable

from .aliases import ALIASES
from .problems import Format, Found, Path, Problem, field_name
from .repeats import repeated_keys


def lines_of(text: str, format: Format, paths: Iterable[Path]) -> dict[Path, int]:
    """The line, from 1, of each path."""
    root = _Node(0)
    wanted = dict.fromkeys(paths)
    for path in wanted:
        node = root
        for part in path:
            node = node.below.setdefault(part, _Node(-1))
    try:
        if format == "json":
            _scan_json(text, root)
        else:
            _Toml(text, root).scan()
    except RecursionError:
        pass
    ends = [match.start() for match in re.finditer("\n", text)]
    return {path: bisect_right(ends, _deepest(root, path) - 1) + 1 for path in wanted}


def located(
    found: list[Found],
    text: str,
    format: Format,
    file: str,
    named: Callable[[Path], str] = field_name,
) -> list[Problem]:
    """What was found, with lines; `named` says what a path is called."""
    paths = {one.path for one in found} | {one.also for one in found if one.also}
    lines = lines_of(text, format, paths)
    return [
        Problem(
            file=file,
            line=lines[one.path],
            field=named(one.path),
            message=one.message
            + (f" {named(one.also)} (line {lines[one.also]})" if one.also else ""),
            hint=one.hint,
            value=one.value,
        )
        for one in found
    ]


def repeated(text: str, file: str, named: Callable[[Path], str] = field_name) -> list[Problem]:
    """Keys that stand twice in one object of a JSON text, with lines."""
    return [
        Problem(
            file=file,
            line=line,
            field=named(path),
            message=f"stands twice in the same object; first on line {first}",
            hint="keep one of them",
        )
        for path, line, first in repeated_keys(text)
    ]


class _Node:
    """A wanted path, or a prefix of one; `offset` is -1 until it has been seen."""

    __slots__ = ("below", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.below: dict[str | int, _Node] = {}

    def enter(self, part: str | int, offset: int) -> "_Node | None":
        node = self.below.get(part)
        if node is None and isinstance(part, str):
            node = self.below.get(ALIASES.get(part, part))
        if node is not None and node.offset < 0:
            node.offset = offset
        return node


def _deepest(root: _Node, path: Path) -> int:
    node = root
    for part in path:
        below = node.below[part]
        if below.offset < 0:
            break
        node = below
    return node.offset


_JSON = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


def _scan_json(text: str, root: _Node) -> None:
    """One pass over the tokens, with a stack of open containers."""
    stack: list[tuple[bool, _Node | None, int]] = []
    is_list, node, index = False, None, 0
    value_node: _Node | None = root
    wants_key = False
    for token in _JSON.finditer(text):
        first = token[0][0]
        if first in "]}":
            is_list, node, index = stack.pop()
            wants_key = False
        elif first == ",":
            index += 1
            wants_key = not is_list
        elif first == ":":
            wants_key = False
        elif wants_key:
            value_node = node.enter(_json_key(token[0]), token.start()) if node else None
        else:
            if is_list:
                value_node = node.enter(index, token.start()) if node else None
            if first in "[{":
                stack.append((is_list, node, index))
                is_list, node, index = first == "[", value_node, 0
                wants_key = not is_list


def _json_key(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    import json

    return str(json.loads(token))


_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|\'[^\']*\'|[A-Za-z0-9_-]+')
_SCALAR = re.compile(
    r'"""(?:"{0,2}(?:\\.|[^"\\]))*"{3,5}'
    r"|'''(?:'{0,2}[^'])*'{3,5}"
    r'|"[^"\\]*(?:\\.[^"\\]*)*"'
    r"|'[^']*'"
    r"|[^,\]}#\n]+",
    re.DOTALL,
)


class _Toml:
    """One pass over the lines of valid TOML."""

    def __init__(self, text: str, root: _Node) -> None:
        self.text = text
        self.root = root
        self.at = 0
        self.last: dict[Path, int] = {}
        """Path of an array of tables -> index of its latest table."""

    def scan(self) -> None:
        table: _Node | None = self.root
        self._skip(_BLANK)
        while self.at < len(self.text):
            before = self.at
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
            if self.at == before:
                return

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()

    def _key(self) -> list[str]:
        """A dotted key; leaves the position behind it."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            match = _KEY.match(self.text, self.at)
            if match is None:
                return parts
            self.at = match.end()
            token = match[0]
            if token[0] == '"':
                token = _toml_string(token)
            elif token[0] == "'":
                token = token[1:-1]
            parts.append(token)
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _header(self) -> _Node | None:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        keys = self._key()
        self.at += 2 if is_array else 1
        path: Path = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            if is_array and index == len(keys) - 1:
                self.last[path] = self.last.get(path, -1) + 1
            if path in self.last:
                path = (*path, self.last[path])
        return self._enter(self.root, path, start)

    def _enter(self, node: _Node | None, path: Iterable[str | int], start: int) -> _Node | None:
        for part in path:
            if node is None:
                return None
            node = node.enter(part, start)
        return node

    def _pair(self, table: _Node | None) -> None:
        start = self.at
        node = self._enter(table, self._key(), start)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(node)

    def _value(self, node: _Node | None) -> None:
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self._array(node)
        elif first == "{":
            self._inline_table(node)
        else:
            self._skip(_SCALAR)

    def _array(self, node: _Node | None) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text) or self.text[self.at] == "]":
                self.at += 1
                return
            before = self.at
            self._value(node.enter(index, self.at) if node else None)
            index += 1
            self._skip(_BLANK)
            if self.text.startswith(",", self.at):
                self.at += 1
            if self.at == before:
                return

    def _inline_table(self, node: _Node | None) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text) or self.text[self.at] == "}":
                self.at += 1
                return
            before = self.at
            self._pair(node)
            self._skip(_BLANK)
            if self.text.startswith(",", self.at):
                self.at += 1
            if self.at <= before:
                return


def _toml_string(token: str) -> str:
    import tomllib

    try:
        return str(tomllib.loads(f"k = {token}")["k"])
    except tomllib.TOMLDecodeError:
        return token[1:-1]
