"""The fields of a spec, as tables: from core/spec.py, wire/unenforced.py and wire/fleetfile.py.

Promises that every type which a spec can reach has its table, that a field is marked as refused
exactly where `fleet check` refuses it, and that every other one says where it is held and which
test proves that (held.py).
"""

from collections.abc import Iterator

from held import HELD
from msgspec import inspect as kinds
from tables import default_words, table, type_words

from codewhale_fleet.core import roles
from codewhale_fleet.core.spec import Spec
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.schema import _docstrings as docstrings
from codewhale_fleet.wire.schema import spec_schema
from codewhale_fleet.wire.unenforced import NOT_YET, OF_AGENTS, OF_MACHINES, waiver_name

ONLY_AGENTS = "**Only with an agent** whose definition holds it."

HEADS = ("field", "type", "default", "meaning", "held in · proved by")

SHORTER = {
    ("Worker", "name"): "the id",
    ("Worker", "host"): "ssh to the id",
    ("SshHost", "kind"): "`ssh`",
    ("SshHost", "host"): "the worker's id",
}
"""What stands for a field that a type needs where it is not written (`wire/workers.py`)."""

NOBODY = "**Not enforced yet**: every field that takes one is refused."


def blocks() -> dict[str, str]:
    """Every table of docs/reference/task-spec.md."""
    found = {kind.cls.__name__: kind for kind in _structs(kinds.type_info(Spec), set())}
    refused = _refused()
    reached = _reached(kinds.type_info(Spec), refused, set())
    parts = spec_schema()["$defs"]
    made = {}
    for name, kind in found.items():
        words = {
            field: text.get("description", "") for field, text in parts[name]["properties"].items()
        }
        made[name] = _of_struct(kind, words, refused, name in reached)
    made["fleet_toml"] = _fleet_toml()
    made["fleet_toml_not_yet"] = _fleet_toml_not_yet()
    made["not_yet"] = _waivable(NOT_YET, "why it is not enforced yet")
    made["of_agents"] = _waivable(OF_AGENTS, "why a command does not have it")
    made["of_machines"] = _waivable(OF_MACHINES, "what it takes")
    made["roles"] = _roles()
    made["presets"] = _presets()
    made["links"] = _links()
    return made


def held_fields() -> set[str]:
    """`Type.field` of everything that is not refused, with `kind` where it chooses the type."""
    refused = _refused()
    found = set()
    reached = _reached(kinds.type_info(Spec), refused, set())
    for kind in (*_structs(kinds.type_info(Spec), set()), *_tables()):
        name = kind.cls.__name__
        if name not in reached and kind.cls.__module__ != fleetfile.__name__:
            continue
        if kind.tag is not None:
            found.add(f"{name}.{kind.tag_field}")
        for field in kind.fields:
            if refused.get((name, field.encode_name), ONLY_AGENTS) == ONLY_AGENTS:
                found.add(f"{name}.{field.encode_name}")
    return found | {f"Role.{field.name}" for field in _role().fields}


def _of_struct(
    kind: kinds.StructType, words: dict[str, str], refused: dict[tuple[str, str], str], used: bool
) -> str:
    name = kind.cls.__name__
    about = " ".join((kind.cls.__doc__ or "").split())
    rows = []
    if kind.tag is not None:
        default = SHORTER.get((name, "kind"), "**required**")
        rows.append([f"`{kind.tag_field}`", f"`{kind.tag}`", default, "Says which it is."])
        rows[-1] += [_held(name, f"{kind.tag_field}")] if used else []
    for field in kind.fields:
        why = refused.get((name, field.encode_name), "")
        meaning = " ".join(words.get(field.encode_name, "").split())
        meaning += f" {ONLY_AGENTS}" if why == ONLY_AGENTS else ""
        default = SHORTER.get((name, field.encode_name)) or default_words(field)
        rows.append([f"`{field.encode_name}`", type_words(field.type), default, meaning])
        if used and why in ("", ONLY_AGENTS):
            rows[-1].append(_held(name, field.encode_name))
        elif used:
            rows[-1].append(f"**Not enforced yet**: {why}.")
    if not used:
        about = f"{about} {NOBODY}"
    return f"{about}\n\n{table(HEADS if used else HEADS[:-1], rows)}" if rows else f"{about}\n"


def _held(owner: str, field: str) -> str:
    """Where a field is held and what proves it, as links that `_links` says the ends of."""
    held = HELD.get(f"{owner}.{field}")
    if held is None:
        raise SystemExit(f"scripts/pages/held.py: nothing about {owner}.{field}")
    return f"[{_label(held.module)}] · [{held.file}] {held.test.replace('_', ' ')}"


def _label(module: str) -> str:
    """How a module is called in a cell; `__` would mean something to Markdown."""
    return module.removesuffix("__init__.py")


def _links() -> str:
    """The ends of the links in the tables; Markdown shows nothing of them."""
    ends = {_label(held.module): f"../../codewhale_fleet/{held.module}" for held in HELD.values()}
    ends |= {held.file: f"../../tests/{held.file}" for held in HELD.values()}
    return "".join(f"[{name}]: {ends[name]}\n" for name in sorted(ends))


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


def _reached(kind: kinds.Type, refused: dict[tuple[str, str], str], seen: set[str]) -> set[str]:
    """Names of the types that a spec can hold without a field that is always refused."""
    match kind:
        case kinds.StructType(cls=cls, fields=fields) if cls.__name__ not in seen:
            seen.add(cls.__name__)
            for field in fields:
                why = refused.get((cls.__name__, field.encode_name), ONLY_AGENTS)
                if why == ONLY_AGENTS:
                    _reached(field.type, refused, seen)
        case kinds.Metadata(type=inner):
            _reached(inner, refused, seen)
        case kinds.UnionType(types=types):
            for one in types:
                _reached(one, refused, seen)
        case kinds.ListType(item_type=item):
            _reached(item, refused, seen)
        case kinds.DictType(value_type=value):
            _reached(value, refused, seen)
    return seen


def _refused() -> dict[tuple[str, str], str]:
    """(type, field) -> why `fleet check` refuses it."""
    found = {}
    for path, owner, field in _paths(kinds.type_info(Spec), (), 0):
        if why := NOT_YET.get(entry := ".".join(path)):
            found[owner, field] = why
        elif entry in OF_AGENTS:
            found[owner, field] = ONLY_AGENTS
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


def _waivable(entries: dict[str, str], why: str) -> str:
    rows = [(f"`{waiver_name(entry)}`", text) for entry, text in sorted(entries.items())]
    return table(("name", why), rows)


def _role() -> kinds.StructType:
    found = kinds.type_info(roles.Role)
    assert isinstance(found, kinds.StructType)
    return found


def _roles() -> str:
    words = docstrings(roles)["Role"]
    rows = [
        (
            f"`{field.name}`",
            type_words(field.type),
            default_words(field),
            " ".join(words[field.name].split()),
            _held("Role", field.name),
        )
        for field in _role().fields
    ]
    return table(HEADS, rows)


def _presets() -> str:
    fields = ("tool_profile", "timeout_seconds", "trust_level", "description")
    rows = []
    for name, role in roles.PRESETS.items():
        said = ["–" if (one := getattr(role, field)) is None else str(one) for field in fields]
        rows.append((f"`{name}`", *(one.removesuffix(".0") for one in said)))
    return table(("role", *fields), rows)


def _tables() -> Iterator[kinds.StructType]:
    """The tables of fleet.toml; `[agents.NAME]` has a page of its own."""
    known = kinds.type_info(fleetfile.FleetFile)
    assert isinstance(known, kinds.StructType)
    for part in known.fields:
        if isinstance(part.type, kinds.StructType):
            yield part.type
        elif part.name == "inventory":
            assert isinstance(part.type, kinds.DictType)
            assert isinstance(part.type.value_type, kinds.StructType)
            yield part.type.value_type


def _fleet_toml() -> str:
    words = docstrings(fleetfile)
    parts = []
    for kind in _tables():
        name = kind.cls.__name__
        place = "[inventory.NAME]" if name == "Discovery" else f"[{name.lower()}]"
        about = " ".join((kind.cls.__doc__ or "").split()).removeprefix(place).lstrip(": ")
        rows = [
            (
                f"`{field.name}`",
                type_words(field.type),
                default_words(field),
                _absent(words[name].get(field.name, "")),
                _held(name, field.name),
            )
            for field in kind.fields
        ]
        said = f"{_absent(about[:1].upper() + about[1:])}\n\n" if about else ""
        parts.append(f"### {place}\n\n{said}{table(HEADS, rows)}")
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
