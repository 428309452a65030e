"""Readers of agents' streams, as fleet.toml declares them: what must hold for their rules.

Promises that a declaration without findings can be followed by the worker runtime. Knows neither
agents nor lines.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any

from ..agents.usage import NUMBERS, TEXTS, Reader, Rule
from .problems import Found, Path


def reader_problems(reader: Reader) -> Iterator[Found]:
    """Everything that is wrong with a declaration; paths begin at the agent."""
    for field in (*NUMBERS, *TEXTS):
        for index, rule in enumerate(getattr(reader, field)):
            path: Path = ("usage", field, index)
            yield from (
                Found((*path, *one.path), one.message, one.hint) for one in _rule(field, rule)
            )


def _rule(field: str, rule: Rule) -> Iterator[Found]:
    numbers = field in NUMBERS
    allowed = (
        ("sum", "last", "first", "max", "count")
        if numbers
        else ("last", "first", "append", "clear")
    )
    if rule.take is not None and rule.take not in allowed:
        yield Found(("take",), f"must be one of {', '.join(allowed)} for {field}")
    if rule.path in (None, []) and rule.take not in ("count", "clear"):
        yield Found(("path",), "is needed: where the value is")
    for name in ("when", "where"):
        for key, value in getattr(rule, name).items():
            if not _is_wanted(value):
                yield Found((name, key), _WANTED)


_WANTED = 'must be a text, a number, true, false, a list of such, {"not": …} or {"has": …}'


def _is_wanted(value: Any) -> bool:
    if isinstance(value, dict) and list(value) == ["has"]:
        parts = value["has"] if isinstance(value["has"], list) else [value["has"]]
        return bool(parts) and all(isinstance(one, str) and one for one in parts)
    if isinstance(value, dict):
        inner = value.get("not")
        return list(value) == ["not"] and not isinstance(inner, dict) and _is_wanted(inner)
    if isinstance(value, list):
        return all(not isinstance(one, (dict, list)) and _is_wanted(one) for one in value)
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and isfinite(value))
