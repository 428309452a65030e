"""The JSON Schema of a task spec, for editors, made from the types of `core/spec.py`.

Promises that every field is in it with the docstring that stands below it in the source. It says
only what types say: rules about fields together are for `fleet check`.
"""

import ast
import inspect
import json
from types import ModuleType
from typing import Any

import msgspec

from ..core import spec, spec_hosts


def spec_schema() -> dict[str, Any]:
    """The schema, as JSON Schema 2020-12."""
    (root,), parts = msgspec.json.schema_components((spec.Spec,))
    documented = {**_docstrings(spec_hosts), **_docstrings(spec)}
    for name, part in parts.items():
        kind = getattr(spec, name, None) or getattr(spec_hosts, name)
        words = _words_of(kind, documented)
        for field, schema in part.get("properties", {}).items():
            if field in words:
                schema["description"] = words[field]
    _shortened(parts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "CodeWhale Fleet task spec",
        **root,
        "$defs": dict(sorted(parts.items())),
    }


def _shortened(parts: dict[str, Any]) -> None:
    """Let workers be written in their short spellings, too (`wire/workers.py` makes them long)."""
    worker, ssh = parts["Worker"], parts["SshHost"]
    worker["required"] = ["id"]
    worker["properties"]["id"]["pattern"] = r"^[A-Za-z0-9._\[\],:-]{1,128}$"
    host = worker["properties"]["host"]
    host.pop("discriminator", None)
    host["anyOf"] = [*host["anyOf"], {"type": "string", "minLength": 1}]
    ssh.pop("required", None)


def schema_text() -> str:
    """The schema as the file in specs/schema/ holds it."""
    return json.dumps(spec_schema(), indent=2, ensure_ascii=False) + "\n"


def _words_of(kind: type[msgspec.Struct], documented: dict[str, dict[str, str]]) -> dict[str, str]:
    """Field as written -> its docstring, inherited ones included."""
    written = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    words: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        for field, text in documented.get(base.__name__, {}).items():
            words[written.get(field, field)] = text
    return words


def _docstrings(module: ModuleType) -> dict[str, dict[str, str]]:
    """Class -> field -> the string below the field, from a module's source."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        words = found.setdefault(node.name, {})
        for field, below in zip(node.body, node.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    words[name] = text
    return found
