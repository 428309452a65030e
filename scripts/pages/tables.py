"""Markdown tables, and types in words that people use. Nothing here knows what is described."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect as kinds

ABSENT = "–"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def type_words(kind: kinds.Type) -> str:
    """A type as a person would say it: `list of text`, `number above 0`."""
    match kind:
        case kinds.Metadata(type=inner, extra=extra):
            return (extra or {}).get("allowed") or type_words(inner)
        case kinds.UnionType(types=types):
            return " or ".join(type_words(one) for one in types if not _is_none(one))
        case kinds.ListType(item_type=item) | kinds.VarTupleType(item_type=item):
            many = _between("entries", kind) if isinstance(kind, kinds.ListType) else ""
            return f"list of {type_words(item)}{many}"
        case kinds.DictType(value_type=value):
            return f"table of {type_words(value)}"
        case kinds.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case kinds.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case kinds.IntType():
            return f"integer{_bounds(kind)}"
        case kinds.FloatType():
            return f"number{_bounds(kind)}"
        case kinds.StrType(min_length=least):
            return "text, not empty" if least else "text"
        case kinds.TupleType(item_types=items):
            return f"[{', '.join(type_words(one) for one in items)}]"
    return _PLAIN.get(type(kind), type(kind).__name__.removesuffix("Type").lower())


_PLAIN: dict[type, str] = {kinds.BoolType: "true or false", kinds.AnyType: "any value"}


def _is_none(kind: kinds.Type) -> bool:
    return isinstance(kind, kinds.NoneType)


def _bounds(kind: kinds.IntType | kinds.FloatType) -> str:
    most = kind.le if kind.le is not None and kind.le <= 10**9 else None
    if kind.gt is not None:
        upper = f", at most {_number(most)}" if most is not None else ""
        return f" above {_number(kind.gt)}{upper}"
    if kind.ge is not None and kind.ge < -(10**7):
        return ""
    if kind.ge is not None and most is not None:
        return f" from {_number(kind.ge)} to {_number(most)}"
    return f" from {_number(kind.ge)}" if kind.ge is not None else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _between(what: str, kind: kinds.ListType) -> str:
    if kind.max_length is not None:
        return f", at most {kind.max_length} {what}"
    return f", at least {kind.min_length}" if kind.min_length else ""


def default_words(field: kinds.Field) -> str:
    """The default of a field as it would be written; **required** where there is none."""
    if field.required:
        return "**required**"
    factory: Any = field.default_factory
    value: Any = field.default if factory is msgspec.NODEFAULT else factory()
    if value is None:
        return ABSENT
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{msgspec.json.encode(value).decode()}`"
