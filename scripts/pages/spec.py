"""The fields of a spec, as tables: from core/spec.py, wire/unenforced.py and wire/fleetfile.py.

Promises that every type which a spec can reach has its table, and that a field is marked as refused
exactly where `fleet check` refuses it.
"""

from collections.abc import Iterator

from msgspec import inspect as kinds
from tables import default_words, table, type_words

from codewhale_fleet.core.spec import Spec
from codewhale_fleet.wire import fleetfile, specfile
from codewhale_fleet.wire.problems import SpecProblems
from codewhale_fleet.wire.schema import _docstrings as docstrings
from codewhale_fleet.wire.schema import spec_schema
from codewhale_fleet.wire.unenforced import NOT_YET, waiver_name

HEADS = ("field", "type", "default", "meaning")

SCORERS = {
    "tasks.scorer.command": "CommandScorer",
    "tasks.scorer.code_whale_verifier_prompt": "VerifierPrompt",
}
"""Entries of NOT_YET that are about a kind, not a field -> the kind's type."""


def blocks() -> dict[str, str]:
    """Every table of docs/reference/spec.md."""
    found = {kind.cls.__name__: kind for kind in _structs(kinds.type_info(Spec), set())}
    refused = _refused()
    held = {owner for _, owner, _ in _paths(kinds.type_info(Spec), (), 0)} | set(SCORERS.values())
    parts = spec_schema()["$defs"]
    made = {}
    for name, kind in found.items():
        words = {
            field: text.get("description", "") for field, text in parts[name]["properties"].items()
        }
        made[name] = _of_struct(
            kind, words, refused, _doc(kind, bool(kind.fields) and name not in held)
        )
    made["fleet_toml"] = _fleet_toml()
    made["fleet_toml_not_yet"] = _fleet_toml_not_yet()
    made["not_yet"] = _not_yet()
    return made


def _doc(kind: kinds.StructType, unused: bool) -> str:
    entry = next((one for one, name in SCORERS.items() if name == kind.cls.__name__), "")
    text = " ".join((kind.cls.__doc__ or "").split())
    if entry in NOT_YET:
        text += f" {_marked(NOT_YET[entry])}"
    elif unused:
        text += " Every field that takes one is refused so far."
    return f"{text}\n"


def _of_struct(
    kind: kinds.StructType, words: dict[str, str], refused: dict[tuple[str, str], str], doc: str
) -> str:
    name = kind.cls.__name__
    rows = []
    if kind.tag is not None:
        rows.append([f"`{kind.tag_field}`", f"`{kind.tag}`", "**required**", "Says which it is."])
    for field in kind.fields:
        meaning = words.get(field.encode_name, "")
        why = refused.get((name, field.encode_name))
        if why and name not in SCORERS.values():
            meaning = f"{meaning} {_marked(why)}"
        rows.append(
            [f"`{field.encode_name}`", type_words(field.type), default_words(field), meaning]
        )
    return f"{doc}\n{table(HEADS, rows)}" if rows else doc


def _marked(why: str) -> str:
    return f"**Not enforced yet**: {why}."


def _structs(kind: kinds.Type, seen: set[type]) -> Iterator[kinds.StructType]:
    """Every struct that a type can hold, itself first."""
    match kind:
        case kinds.StructType(cls=cls, fields=fields):
            if cls in seen:
                return
            seen.add(cls)
            yield kind
            for field in fields:
                yield from _structs(field.type, seen)
        case kinds.Metadata(type=inner):
            yield from _structs(inner, seen)
        case kinds.UnionType(types=types):
            for one in types:
                yield from _structs(one, seen)
        case kinds.ListType(item_type=item):
            yield from _structs(item, seen)
        case kinds.DictType(value_type=value):
            yield from _structs(value, seen)


def _refused() -> dict[tuple[str, str], str]:
    """(type, field) -> why `fleet check` refuses it."""
    found = {}
    for path, owner, field in _paths(kinds.type_info(Spec), (), 0):
        if why := NOT_YET.get(".".join(path)):
            found[owner, field] = why
    if why := _agents():
        found["Task", "agent"] = why
    return found


def _paths(
    kind: kinds.Type, path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(path, type, field) of every field that can be written, a few levels down."""
    match kind:
        case kinds.StructType(cls=cls, fields=fields) if depth < 5:
            for field in fields:
                here = (*path, field.encode_name)
                yield here, cls.__name__, field.encode_name
                if ".".join(here) not in NOT_YET:
                    yield from _paths(field.type, here, depth + 1)
        case kinds.Metadata(type=inner):
            yield from _paths(inner, path, depth)
        case kinds.UnionType(types=types):
            for one in types:
                yield from _paths(one, path, depth)
        case kinds.ListType(item_type=item):
            yield from _paths(item, path, depth)


def _agents() -> str:
    """Why a task with an agent is refused; empty once it is not."""
    try:
        specfile.load(b'[{"id": "a", "agent": "b", "instructions": "c"}]', file="-.json")
    except SpecProblems as found:
        for problem in found.problems:
            if problem.field.endswith(".agent"):
                return problem.message
    return ""


def _not_yet() -> str:
    rows = [(f"`{waiver_name(entry)}`", why) for entry, why in sorted(NOT_YET.items())]
    return table(("name", "why it is not enforced yet"), rows)


def _fleet_toml() -> str:
    words = docstrings(fleetfile)
    known = kinds.type_info(fleetfile.FleetFile)
    assert isinstance(known, kinds.StructType)
    parts = []
    for part in known.fields:
        assert isinstance(part.type, kinds.StructType)
        cls = part.type.cls
        about = " ".join((cls.__doc__ or "").split()).removeprefix(f"[{part.name}]").lstrip(": ")
        rows = [
            (
                f"`{field.name}`",
                type_words(field.type),
                default_words(field),
                _absent(words[cls.__name__].get(field.name, "")),
            )
            for field in part.type.fields
        ]
        said = f"{_absent(about[:1].upper() + about[1:])}\n\n" if about else ""
        parts.append(f"### [{part.name}]\n\n{said}{table(HEADS, rows)}")
    return "\n".join(parts)


def _absent(text: str) -> str:
    """In a file a value is absent, not None."""
    return " ".join(text.split()).replace("None: ", "Absent: ")


def _fleet_toml_not_yet() -> str:
    rows = [(_place(name), why) for name, why in sorted(fleetfile.NOT_YET.items())]
    return table(("name", "why it is refused"), rows)


def _place(name: str) -> str:
    """Where a refused name would stand: a table, or a name in one."""
    inside, _, key = name.rpartition(".")
    return f"`{key}` in `[{inside}]`" if inside else f"`[{name}]`"
