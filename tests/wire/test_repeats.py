"""Keys that stand twice in one object: all of them found, with their lines, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.wire import specfile
from codewhale_fleet.wire.repeats import repeated_keys, repeats
from codewhale_fleet.wire.specfile import SpecProblems

TASK = '{"id": "a", "command": "true"}'


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(SpecProblems) as caught:
        specfile.load(text.encode(), file="s.json")
    assert caught.value.exit_code == 2
    return [(one.line, one.field, one.message) for one in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "line", "field", "first"),
    [
        ('{"name": "x",\n"name": "y",\n"tasks": [TASK]}' , 2, "name", 1),
        ('{"tasks": [TASK],\n"tasks": [TASK]}' , 2, "tasks", 1),
        ('{"labels": {"a": "1",\n\n"a": "1"}, "tasks": [TASK]}' , 3, "labels.a", 1),
        ('[TASK, {"id": "b",\n"id": "c", "command": "x"}]' , 2, "tasks[1].id", 1),
        ('{"id": "a",\n"command": "x",\n"command": "y"}', 3, "command", 2),
        ('{"id": "a", "command": "x:",\n"comm\\u0061nd": "\\u003a:"}', 2, "command", 1),
        ('[{"id": "a", "command": "x", "metadata": {"k": [0, {"q": 1,\n"q": 2}]}}]', 2,
         "tasks[0].metadata.k[1].q", 1),
        ('[{"id": "a", "command": "x", "tags": [],\n"tags": []}]', 2, "tasks[0].tags", 1),
    ],
)  # fmt: skip
def test_a_key_that_stands_twice_is_told_with_both_lines(
    text: str, line: int, field: str, first: int
) -> None:
    text = text.replace("TASK", TASK)
    message = f"stands twice in the same object; first on line {first}"
    assert problems(text) == [(line, field, message)]


def test_it_is_told_beside_every_other_problem() -> None:
    text = '[{"id": "a", "id": "b", "comand": "x"}, {"id": 3, "id": 4, "command": "x"}]'
    fields = [field for _, field, _ in problems(text)]
    assert fields.count("tasks[0].id") == 1
    assert fields.count("tasks[1].id") >= 1
    assert "tasks[0].comand" in fields


def test_the_same_key_in_different_objects_and_in_strings_is_fine() -> None:
    text = (
        '{"labels": {"name": "name"}, "name": "{\\"name\\": 1, \\"name\\": 2}", "tasks": ['
        '{"id": "a", "command": ["\\u003a", "a:b"], "tags": [], "metadata": {"id": {"id": 1}}}]}'
    )
    assert len(specfile.load(text.encode(), file="s.json").tasks) == 1


_KEYS = st.sampled_from(["a", "b", ":", r"\u003a", r"\u0061", r"\"", r"\\"])
_TEXTS = st.recursive(
    st.sampled_from(["1", '":"', "null", '"\\u003A,{"', "[]", "{}"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(_KEYS, inner), max_size=4).map(
            lambda pairs: "{" + ",\n".join(f'"{key}" : {value}' for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


@given(_TEXTS)
def test_what_is_found_is_what_a_careful_decoder_finds(text: str) -> None:
    lost = 0

    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal lost
        lost += len(pairs) - len(dict(pairs))
        return dict(pairs)

    json.loads(text, object_pairs_hook=hook)
    found = repeated_keys(text)
    assert len(found) == lost
    assert all(1 <= first <= line <= text.count("\n") + 1 for _, line, first in found)
    assert repeats(text.encode()) or not lost
