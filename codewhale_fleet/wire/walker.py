"""Says everything that is wrong with the shape of a value, where msgspec stops at the first.

One generic walk over `msgspec.inspect`: no field is named here. Promises to find at least what
makes msgspec refuse, and to hand back what is left when the wrong parts are taken out, so that
rules about values can still be checked. Only used when something is wrong: it may be slow.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from functools import cache, lru_cache
from typing import Any

from msgspec import inspect

from .problems import Found, Path, excerpt

GONE: Any = object()
"""Stands for a value that was wrong and has been taken out."""

_ALLOWED_SHOWN = 12


@lru_cache(maxsize=1024)
def nearest(name: str, known: tuple[str, ...]) -> str:
    """The known name that is most like `name`, or empty."""
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1)), "")


def is_field(kind: inspect.Type, names: list[str]) -> bool:
    """Whether a dotted name, such as `budget.max_seconds`, is a field of a type."""
    match kind:
        case inspect.Metadata():
            return is_field(kind.type, names)
        case inspect.UnionType():
            return any(is_field(one, names) for one in kind.types)
        case inspect.ListType():
            return is_field(kind.item_type, names)
        case inspect.StructType() if names:
            inner = {field.encode_name: field.type for field in kind.fields}
            return names[0] in inner and is_field(inner[names[0]], names[1:])
    return not names


@cache
def shape_of(kind: type) -> inspect.Type:
    """What `walk` walks along for a type."""
    return inspect.type_info(kind)


def walk(
    value: Any,
    kind: inspect.Type,
    path: Path,
    found: list[Found],
    extra: dict[str, Any] | None = None,
) -> Any:
    """Check `value` against `kind`, add what is wrong to `found`; the value without it, or GONE."""
    if isinstance(kind, inspect.Metadata):
        return walk(value, kind.type, path, found, kind.extra)
    if isinstance(kind, inspect.AnyType):
        return value
    if isinstance(kind, inspect.UnionType):
        return _union(value, kind, path, found)
    if not _fits(value, kind):
        found.append(_must_be(kind, value, path))
        return GONE
    handler = _HANDLERS.get(type(kind))
    if handler is not None:
        return handler(value, kind, path, found)
    problem = _limits(value, kind, extra or {})
    if problem:
        message, hint = problem
        found.append(Found(path, message, hint, excerpt(value)))
        return GONE
    return value


def _must_be(kind: inspect.Type, value: Any, path: Path) -> Found:
    is_open = isinstance(value, (dict, list))
    shown = described(value) if is_open else f"{described(value)} {excerpt(value)}".lstrip()
    return Found(path, f"must be {allowed(kind)}, not {shown}", value=excerpt(value))


def _union(value: Any, kind: inspect.UnionType, path: Path, found: list[Found]) -> Any:
    if value is None and kind.includes_none:
        return value
    tagged = [one for one in kind.types if isinstance(one, inspect.StructType) and one.tag_field]
    if len(tagged) > 1 and isinstance(value, dict):
        return _tagged(value, tagged, path, found)
    for one in kind.types:
        plain, extra = (one.type, one.extra) if isinstance(one, inspect.Metadata) else (one, None)
        if _fits(value, plain):
            return walk(value, plain, path, found, extra)
    found.append(_must_be(kind, value, path))
    return GONE


def _tagged(
    value: dict[str, Any], kinds: list[inspect.StructType], path: Path, found: list[Found]
) -> Any:
    field = str(kinds[0].tag_field)
    names = [str(kind.tag) for kind in kinds]
    tag = value.get(field)
    if field not in value:
        found.append(Found((*path, field), f"is needed: {_one_of(names)}"))
        return GONE
    if tag not in names:
        near = nearest(str(tag), tuple(names))
        hint = f"did you mean {near}?" if near else ""
        message = f"must be {_one_of(names)}, not {excerpt(tag)}"
        found.append(Found((*path, field), message, hint, excerpt(tag)))
        return GONE
    return _struct(value, kinds[names.index(tag)], path, found)


def _struct(value: dict[str, Any], kind: inspect.StructType, path: Path, found: list[Found]) -> Any:
    fields = {field.encode_name: field for field in kind.fields}
    kept: dict[str, Any] = {}
    broken = False
    for key, inner in value.items():
        if key == kind.tag_field:
            kept[key] = inner
            continue
        if key not in fields:
            found.append(_unknown(key, list(fields), path, _inside(kind)))
            continue
        left = walk(inner, fields[key].type, (*path, key), found)
        if left is not GONE:
            kept[key] = left
        else:
            broken = broken or fields[key].required
    missing = [name for name, field in fields.items() if field.required and name not in value]
    for name in missing:
        found.append(Found((*path, name), f"needed by {kind.tag}" if kind.tag else "is needed"))
    return GONE if missing or broken else kept


def _inside(kind: inspect.StructType) -> list[str]:
    """Dotted names of the fields one table further in."""
    names = []
    for field in kind.fields:
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        for one in kinds:
            if isinstance(one, inspect.StructType):
                names += [f"{field.encode_name}.{inner.encode_name}" for inner in one.fields]
    return names


def _unknown(key: Any, fields: list[str], path: Path, inside: Sequence[str] = ()) -> Found:
    near = nearest(str(key), tuple(fields))
    if not near:
        last = {name.rpartition(".")[2]: name for name in inside}
        near = last.get(nearest(str(key), tuple(last)), "")
    if near:
        message = f"unknown field; did you mean {near}?"
        return Found((*path, str(key)), message, value=excerpt(key))
    hint = ""
    if not fields:
        hint = "no fields are allowed here"
    elif len(fields) <= _ALLOWED_SHOWN:
        hint = f"allowed here: {', '.join(fields)}"
    return Found((*path, str(key)), "unknown field", hint, excerpt(key))


def _list(value: list[Any], kind: inspect.CollectionType, path: Path, found: list[Found]) -> Any:
    if kind.min_length and len(value) < kind.min_length:
        found.append(Found(path, "must not be empty"))
    if kind.max_length is not None and len(value) > kind.max_length:
        message = f"has {len(value)} entries; at most {kind.max_length} are allowed"
        found.append(Found(path, message))
    left = [walk(item, kind.item_type, (*path, index), found) for index, item in enumerate(value)]
    return GONE if any(item is GONE for item in left) else left


def _dict(value: dict[str, Any], kind: inspect.DictType, path: Path, found: list[Found]) -> Any:
    known = {key: item for key, item in value.items() if _is_key(key, kind, path, found)}
    left = {key: walk(item, kind.value_type, (*path, key), found) for key, item in known.items()}
    return {key: item for key, item in left.items() if item is not GONE}


def _is_key(key: Any, kind: inspect.DictType, path: Path, found: list[Found]) -> bool:
    return walk(key, kind.key_type, (*path, str(key)), found) is not GONE


_HANDLERS: dict[type, Callable[[Any, Any, Path, list[Found]], Any]] = {
    inspect.StructType: _struct,
    inspect.ListType: _list,
    inspect.VarTupleType: _list,
    inspect.DictType: _dict,
}


def _limits(value: Any, kind: inspect.Type, extra: dict[str, Any]) -> tuple[str, str] | None:
    """What a scalar breaks, as (message, hint)."""
    shown = excerpt(value)
    if isinstance(kind, inspect.LiteralType) and value not in kind.values:
        near = nearest(str(value), tuple(map(str, kind.values)))
        hint = f"did you mean {near}?" if near else ""
        return f"must be {allowed(kind)}, not {shown}", hint
    if isinstance(kind, inspect.StrType):
        import re

        if kind.pattern and not re.search(kind.pattern, value):
            return f"must be {extra.get('allowed', kind.pattern)}, not {shown}", ""
        if kind.min_length and len(value) < kind.min_length:
            return "must not be blank", ""
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        if kind.gt is not None and not value > kind.gt:
            hint = "leave it out for no limit" if value == 0 else ""
            return f"must be more than {kind.gt:g}, not {shown}", hint
        if kind.ge is not None and not value >= kind.ge:
            return f"must be at least {kind.ge:,g}, not {shown}", ""
        if kind.le is not None and not value <= kind.le:
            return f"must be at most {kind.le:,.15g}, not {shown}", ""
    return None


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Whether a value has the right JSON type, whatever its limits."""
    match kind:
        case inspect.Metadata():
            return _fits(value, kind.type)
        case inspect.AnyType():
            return True
        case inspect.UnionType():
            return any(_fits(value, one) for one in kind.types)
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return type(value) is int
        case inspect.FloatType():
            return type(value) in (int, float)
        case inspect.StrType() | inspect.LiteralType():
            return isinstance(value, str)
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(value, list)
        case inspect.DictType() | inspect.StructType():
            return isinstance(value, dict)
    return True


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def allowed(kind: inspect.Type) -> str:
    """What a type allows, in words: `a string`, `a list of strings`, `one of a, b`."""
    match kind:
        case inspect.Metadata():
            return allowed(kind.type)
        case inspect.UnionType():
            words = [allowed(one) for one in kind.types if not isinstance(one, inspect.NoneType)]
            return " or ".join(dict.fromkeys(words))
        case inspect.LiteralType():
            return _one_of([str(one) for one in kind.values])
        case inspect.ListType() | inspect.VarTupleType():
            return f"a list of {_PLURALS.get(type(kind.item_type), 'values')}"
    return _WORDS.get(type(kind), "another value")


_WORDS: dict[type, str] = {
    inspect.StrType: "a string",
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.DictType: "a table",
    inspect.StructType: "a table",
}
_PLURALS: dict[type, str] = {
    inspect.StrType: "strings",
    inspect.LiteralType: "strings",
    inspect.StructType: "tables",
}


def described(value: Any) -> str:
    """What a value is, in words; the value itself follows."""
    match value:
        case bool():
            return ""
        case int() | float():
            return "the number"
        case str():
            return "the string"
        case list():
            return "a list"
        case dict():
            return "a table"
        case datetime() | date() | time():
            return "the date"
    return ""
