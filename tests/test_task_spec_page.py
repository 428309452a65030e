"""docs/reference/task-spec.md: what it says of each field is so. Knows types, and reads sources."""

import ast
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "task-spec.md"
TESTS = ROOT / "tests"

sys.path.insert(0, str(ROOT / "scripts" / "pages"))
try:
    HELD = import_module("held").HELD
    FIELDS: set[str] = import_module("spec").held_fields()
finally:
    sys.path.pop(0)

DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def test_each_field_that_is_not_refused_says_who_holds_it_and_no_other_does() -> None:
    assert set(HELD) == FIELDS


@cache
def pieces(file: str) -> dict[str, ast.stmt]:
    """Name -> what a test file makes of it at its top: a function, a class, a value."""
    made: dict[str, ast.stmt] = {}
    for part in ast.parse((TESTS / file).read_text()).body:
        if isinstance(part, DEFINED):
            made[part.name] = part
        elif isinstance(part, ast.Assign | ast.AnnAssign):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            made |= {target.id: part for target in targets if isinstance(target, ast.Name)}
    return made


def source_of(file: str, test: str) -> str:
    """The text of a test, with its decorators and all that it uses of its own file."""
    there, seen, wanted, text = pieces(file), set(), [test], ""
    while wanted:
        name = wanted.pop()
        if name in seen or name not in there:
            continue
        seen.add(name)
        text += ast.unparse(there[name]).replace("\\n", "\n") + "\n"
        for node in ast.walk(there[name]):
            if isinstance(node, ast.Name | ast.arg):
                wanted.append(node.id if isinstance(node, ast.Name) else node.arg)
    return text


def says(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


@pytest.mark.parametrize("field", sorted(HELD))
def test_the_module_holds_the_field_and_the_test_is_about_it(field: str) -> None:
    held, name = HELD[field], field.partition(".")[2]
    module = (ROOT / "codewhale_fleet" / held.module).read_text()
    assert says(module, held.written or name), f"{held.module} does not mention {name}"
    test = f"test_{held.test}"
    assert isinstance(pieces(held.file)[test], DEFINED), f"{held.file} has no {test}"
    assert says(source_of(held.file, test), held.used or name), f"{test} does not mention {name}"


def test_every_link_of_the_tables_has_an_end_that_is_there() -> None:
    text = PAGE.read_text()
    ends = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.M))
    assert set(re.findall(r"\[([\w/]+(?:\.py|/))\](?!:)", text)) == set(ends)
    assert [end for end in ends.values() if not (PAGE.parent / end).is_file()] == []
