"""Rules that find figures and texts in the lines of an agent's stream, already decoded.

Their form is that of agents/usage.py. Promises: whatever stands in a line raises nothing, and what
is no number or text, negative or beyond all measure, is no value. Knows no files.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

MOST = 1 << 53
"""Larger figures are none."""
IDS = 10_000
"""Ids that a rule remembers; an older one that comes again counts again."""
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def walk(value: Any, path: tuple[str, ...], at: int = 0) -> Iterator[Any]:
    """What stands at a path: nothing, one value, or one for each way that `*` opens."""
    for step in path[at:]:
        at += 1
        if step == "*":
            members = value.values() if type(value) is dict else value
            if type(members) in (list, type({}.values())):
                for member in members:
                    yield from walk(member, path, at)
            return
        if type(value) is dict:
            if step not in value:
                return
            value = value[step]
        elif type(value) is list and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return
    yield value


def _values(item: Any, path: tuple[str, ...]) -> Iterable[Any]:
    """`walk`, at once where every step is a key that is there."""
    value = item
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):  # a list, something else, or nothing
        return () if type(value) is dict and "*" not in path else walk(item, path)
    return (value,) if "*" not in path else walk(item, path)


class Guard:
    """The conditions of a `when` or `where`."""

    __slots__ = ("_parts", "_plain", "_tests")

    def __init__(self, conditions: dict[str, Any]) -> None:
        self._plain: list[tuple[str, str]] = []
        self._tests: list[tuple[tuple[str, ...], list[Any], bool]] = []
        self._parts: list[tuple[tuple[str, ...], list[str]]] = []
        for path, wanted in conditions.items():
            if type(wanted) is str and "." not in path and path != "*":
                self._plain.append((path, wanted))
                continue
            if type(wanted) is dict and set(wanted) == {"has"}:
                parts = wanted["has"] if type(wanted["has"]) is list else [wanted["has"]]
                self._parts.append((tuple(path.split(".")), [str(one).lower() for one in parts]))
                continue
            negated = type(wanted) is dict and set(wanted) == {"not"}
            values = wanted["not"] if negated else wanted
            values = values if type(values) is list else [values]
            self._tests.append((tuple(path.split(".")), values, negated))

    def holds(self, item: Any) -> bool:
        """Whether all of them hold for a line or an item of one."""
        if type(item) is not dict:
            return False
        for key, word in self._plain:
            if item.get(key) != word:
                return False
        for path, wanted, negated in self._tests:
            for value in _values(item, path):
                same = any(type(value) is type(one) and value == one for one in wanted)
                if same is not negated:
                    break
            else:
                return False
        for path, parts in self._parts:
            texts = [value.lower() for value in _values(item, path) if type(value) is str]
            if not any(part in text for part in parts for text in texts):
                return False
        return True


class Rule:
    """One rule with what it has found so far."""

    __slots__ = (
        "each",
        "field",
        "found",
        "ids",
        "once",
        "paths",
        "take",
        "value",
        "where",
    )

    def __init__(self, field: str, rule: dict[str, Any]) -> None:
        self.field = field
        self.where = Guard(rule["where"]) if rule.get("where") else None
        self.each = tuple(rule["each"].split(".")) if rule.get("each") else ()
        path = rule.get("path") or []
        paths = [path] if isinstance(path, str) else path
        self.paths = [tuple(one.split(".")) for one in paths]
        self.take = rule.get("take") or ""
        self.once = tuple(rule["once_per"].split(".")) if rule.get("once_per") else ()
        self.found = False
        self.value: float = 0
        self.ids: dict[Any, float] = {}

    def items(self, line: dict[str, Any]) -> Iterable[Any]:
        """What of a line is looked at; its `when` holds."""
        if not self.each:
            members: Iterable[Any] = (line,)
        else:
            members = []
            for value in _values(line, self.each):
                if type(value) is dict:
                    members += value.values()
                elif type(value) is list:
                    members += value
        where = self.where
        return [item for item in members if where.holds(item)] if where else members

    def text_in(self, line: dict[str, Any]) -> str | None:
        """What a line says; None where it says nothing."""
        said: str | None = None
        for item in self.items(line):
            if self.take == "clear":
                return ""
            found = [
                value
                for path in self.paths
                for value in _values(item, path)
                if type(value) is str and value
            ]
            if not found:
                continue
            text = " ".join(found)
            if self.take == "first":
                return text
            said = said + text if said and self.take == "append" else text
        return said

    def count(self, line: dict[str, Any]) -> None:
        """Take what a line tells into `value`."""
        if self.each or self.where:
            for item in self.items(line):
                self._take(item)
        else:
            self._take(line)

    def _take(self, item: Any) -> None:
        take = self.take
        number: float = 1
        if take != "count":
            number, there = 0, False
            for path in self.paths:
                for value in _values(item, path):
                    if type(value) in (int, float) and 0 <= value <= MOST:
                        number += value
                        there = True
            if not there:
                return
        if not take or take == "sum" or take == "count":
            self.value = min(self.value + self._more(item, number), MOST)
        elif take == "max":
            self.value = max(self.value, number)
        elif take == "last" or not self.found:
            self.value = number
        self.found = True

    def _more(self, item: Any, number: float) -> float:
        """What an item adds: of one id only the latest counts."""
        for key in _values(item, self.once) if self.once else ():
            if type(key) not in (str, int):
                break
            ids = self.ids
            before = ids.get(key)
            ids[key] = number
            if before is not None:
                return number - before
            if len(ids) > IDS:
                del ids[next(iter(ids))]
        return number


class Group:
    """Rules with the same `when`; `words`: one of them stands in every line that they look at."""

    __slots__ = ("more", "needs", "rules", "when", "words", "written")

    def __init__(self, when: dict[str, Any], needs: list[tuple[bytes, ...]]) -> None:
        self.written = when
        self.when = Guard(when) if when else None
        self.needs = needs
        """Of each of these, one word stands in every such line."""
        self.words = needs[0] if needs else ()
        """Empty: any line may be one."""
        self.more = needs[1:]
        self.rules: list[Rule] = []

    def may_hold(self, line: bytes) -> bool:
        """Whether a line in which one of `words` stands is worth decoding for these rules."""
        for words in self.more:
            for word in words:
                if word in line:
                    break
            else:
                return False
        return True


def words_of(rule: dict[str, Any], format: str) -> list[tuple[bytes, ...]]:
    """Words, of each tuple of which one stands in every line that a rule finds anything in."""
    found: list[tuple[bytes, ...]] = []
    if format == "text":
        return found
    pairs = format == "pairs"
    for wanted in (rule.get("when") or {}).values():
        values = wanted if type(wanted) is list else [wanted]
        if values and all(type(one) is str and one and _PLAIN.issuperset(one) for one in values):
            found.append(tuple(_quoted(one, pairs) for one in values))
    if found:
        return found
    paths = [rule[key] for key in ("each", "path") if isinstance(rule.get(key), str)]
    for step in (step for path in paths for step in ([path] if pairs else path.split("."))):
        if step != "*" and not step.isdigit() and _PLAIN.issuperset(step):
            return [(_quoted(step, pairs),)]
    return []


def _quoted(word: str, pairs: bool) -> bytes:
    return word.encode() if pairs else f'"{word}"'.encode()
