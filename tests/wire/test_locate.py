"""Lines of fields, in every way that TOML and JSON can write them."""

import json

import pytest

from codewhale_fleet.wire.locate import lines_of
from codewhale_fleet.wire.problems import Path

TOML = '''\
# a comment with [[tasks]] in it
name = "x" # and = here
labels = { a = "1", "b.c" = "2" }
labels2.deep."er key" = 1

[[tasks]]
id = "one"
command = """
[[tasks]]
id = "not me" \\"""
"""
tags = [
  "a", # "b"
  ["x",
   'y]'],
  { k = 1,  m = [1,
    2] },
]
worker.tools = ["t"]

[tasks.workspace]
root = '\'\''raw ] } # '\'\''
writable_paths = [ "a",
  "b" ]
environment = { allowlist = [ "A", "B" ] }

[ "tasks" . budget ]
max_seconds = 5

[[tasks]]

id = "two"
scorer = { kind = "x" }
when = 1979-05-27 07:32:00
profile = 1

[[tasks.steps]]
a = 1
[[tasks.steps]]
a = 2
[tasks.steps.sub]
z = 1
[last]
x = 1
'''.replace("'\\'\\''", "'''")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("labels",), 3),
        (("labels", "a"), 3),
        (("labels", "b.c"), 3),
        (("labels2", "deep", "er key"), 4),
        (("tasks",), 6),
        (("tasks", 0), 6),
        (("tasks", 0, "id"), 7),
        (("tasks", 0, "command"), 8),
        (("tasks", 0, "tags", 0), 13),
        (("tasks", 0, "tags", 1), 14),
        (("tasks", 0, "tags", 1, 1), 15),
        (("tasks", 0, "tags", 2, "m"), 16),
        (("tasks", 0, "tags", 2, "m", 1), 17),
        (("tasks", 0, "worker", "tools"), 19),
        (("tasks", 0, "workspace"), 21),
        (("tasks", 0, "workspace", "root"), 22),
        (("tasks", 0, "workspace", "writable_paths", 1), 24),
        (("tasks", 0, "workspace", "environment", "allowlist", 1), 25),
        (("tasks", 0, "budget", "max_seconds"), 28),
        (("tasks", 1), 30),
        (("tasks", 1, "id"), 32),
        (("tasks", 1, "scorer", "kind"), 33),
        (("tasks", 1, "scorer", "path"), 33),
        (("tasks", 1, "when"), 34),
        (("tasks", 1, "agent_profile"), 35),
        (("tasks", 1, "steps", 0, "a"), 38),
        (("tasks", 1, "steps", 1, "a"), 40),
        (("tasks", 1, "steps", 1, "sub", "z"), 42),
        (("last", "x"), 44),
        (("last", "missing", 3, "x"), 43),
        (("tasks", 9, "id"), 6),
        (("nowhere",), 1),
        ((), 1),
    ],
)
def test_a_field_of_toml_has_its_line(path: Path, line: int) -> None:
    assert lines_of(TOML, "toml", [path]) == {path: line}


def test_the_toml_of_these_tests_is_valid() -> None:
    import tomllib

    assert tomllib.loads(TOML)["tasks"][1]["steps"][1] == {"a": 2, "sub": {"z": 1}}


JSON = r"""
{ "name": "a \" { [ , : \\",
  "labels": {}, "empty": [],
  "tasks": [
    {"id": "one",
     "tags": ["a",
              "b"], "profile": 3},
    [1,
     [2,
      3]],
    {
      "w\u006frker": {"a":
         null, "b": true}
    }
  ],
  "after":
     -1.5e3
}"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("name",), 2),
        (("labels",), 3),
        (("empty",), 3),
        (("tasks",), 4),
        (("tasks", 0), 5),
        (("tasks", 0, "id"), 5),
        (("tasks", 0, "tags", 1), 7),
        (("tasks", 0, "agent_profile"), 7),
        (("tasks", 1), 8),
        (("tasks", 1, 1), 9),
        (("tasks", 1, 1, 1), 10),
        (("tasks", 2, "worker", "a"), 12),
        (("tasks", 2, "worker", "b"), 13),
        (("tasks", 2, "worker", "c"), 12),
        (("after",), 16),
        (("nowhere", 1), 1),
    ],
)
def test_a_field_of_json_has_its_line(path: Path, line: int) -> None:
    assert json.loads(JSON)
    assert lines_of(JSON, "json", [path]) == {path: line}


def test_many_paths_are_found_in_one_pass() -> None:
    text = "\n".join('[[tasks]]\nid = "x"' for _ in range(1000))
    paths: list[Path] = [("tasks", n, "id") for n in range(1000)]

    assert lines_of(text, "toml", paths) == {("tasks", n, "id"): 2 * n + 2 for n in range(1000)}
