"""Specs as tests write them: plain dicts, turned to TOML or JSON text."""

import json
from typing import Any

from codewhale_fleet.wire.specfile import LoadedSpec, SpecProblems, load


def a_task(**fields: Any) -> dict[str, Any]:
    """A task that loads, with these fields besides or instead."""
    return {"id": "build", "command": "true", **fields}


def a_spec(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A document with these tasks, or with one that loads."""
    return {**fields, "tasks": list(tasks) or [a_task()]}


def toml_value(value: Any) -> str:
    """A value as TOML, on one line. None has no form there: its key is left out."""
    if isinstance(value, dict):
        pairs = (f"{toml_value(k)} = {toml_value(v)}" for k, v in value.items() if v is not None)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(one) for one in value if one is not None) + "]"
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return text if isinstance(value, str) else text.replace("Infinity", "inf").replace("NaN", "nan")


def toml_text(document: dict[str, Any]) -> bytes:
    """A document as TOML, one line a field."""
    pairs = ((key, value) for key, value in document.items() if value is not None)
    return "".join(f"{toml_value(key)} = {toml_value(value)}\n" for key, value in pairs).encode()


def loaded(document: Any, *waivers: str) -> LoadedSpec:
    """A document, loaded from JSON."""
    return load(json.dumps(document).encode(), file="spec.json", waivers=waivers)


def problems_of(data: Any, file: str = "spec.toml", *waivers: str) -> dict[str, str]:
    """Field -> message of everything that is wrong with a text, or with a document as JSON."""
    if not isinstance(data, (str, bytes)):
        data, file = json.dumps(data), "spec.json"
    data = data.encode() if isinstance(data, str) else data
    try:
        load(data, file=file, waivers=waivers)
    except SpecProblems as error:
        return {problem.field: problem.message for problem in error.problems}
    return {}


def problem_of(data: Any, file: str = "spec.toml", *waivers: str) -> tuple[str, str]:
    """Field and message of the one thing that is wrong."""
    found = problems_of(data, file, *waivers)
    assert len(found) == 1, found
    return next(iter(found.items()))
