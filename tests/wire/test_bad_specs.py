"""Every way in which a spec can be wrong, and the sentence for it."""

import json
from typing import Any

import pytest

from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire.specfile import SIZE_LIMIT, SpecProblems, load, problems_text

from .builders import a_spec, a_task, loaded, problem_of, problems_of

# The text


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("file", ["a.toml", "a.json", "-"])
def test_an_empty_file_is_said_to_be_empty(data: bytes, file: str) -> None:
    assert problem_of(data, file) == ("", "is empty")


def test_text_that_is_not_utf_8_is_told_with_its_byte_and_line() -> None:
    with pytest.raises(SpecProblems) as caught:
        load(b'name = "x"\nlabels.a = "\xff"\n', file="a.toml")
    assert caught.value.line == 2
    assert "byte 23 is 0xff" in caught.value.sentence
    assert "byte 25 is 0xe9" in problem_of(b'[{"id": "a", "command": "\xe9"}]', "a.json")[1]


def test_a_file_over_the_limit_is_refused_before_it_is_read_as_text() -> None:
    assert "64 MiB" in problem_of(b"x" * (SIZE_LIMIT + 1), "a.json")[1]


def test_a_toml_syntax_error_has_its_line() -> None:
    with pytest.raises(SpecProblems) as caught:
        load(b'name = "x"\n\ntasks = = 2\n', file="a.toml")
    assert caught.value.line == 3
    assert caught.value.sentence == "a.toml:3: is not valid TOML: invalid value."


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b'{"tasks":\n [{"id" "a"}]}', 2, "expected ':'"),
        (b'{"tasks": [\n', 1, "ends too early"),
        (b'[{"id": "a", "command": "x"}]\n\nmore', 3, "trailing characters"),
        (b'[{"id":"a","command":"\\q"}]', 1, "not valid JSON"),
    ],
)
def test_a_json_syntax_error_has_its_line(data: bytes, line: int, words: str) -> None:
    with pytest.raises(SpecProblems) as caught:
        load(data, file="a.json")
    assert caught.value.line == line
    assert words in caught.value.sentence


def test_toml_under_another_name_says_how_the_format_is_chosen() -> None:
    with pytest.raises(SpecProblems) as caught:
        load(b"[[tasks]]\n", file="tasks.tml")
    assert "ends in .toml" in caught.value.hint


@pytest.mark.parametrize("depth", [2_000, 200_000])
@pytest.mark.parametrize("frame", ['{"tasks": %s}', '[{"id":"a","command":"b","metadata":%s}]'])
def test_deep_nesting_is_refused(depth: int, frame: str) -> None:
    deep = "[" * depth + "]" * depth
    assert "nested too deeply" in problem_of(frame % deep, "a.json")[1]
    assert "nested too deeply" in problem_of(f"x = {deep}", "a.toml")[1]


@pytest.mark.parametrize("data", ["3", "null", '"tasks"', "true"])
def test_json_that_is_no_spec_at_all_is_refused(data: str) -> None:
    assert "a document, a list of tasks, or one task" in problem_of(data, "a.json")[1]


@pytest.mark.parametrize("data", [{}, {"tasks": []}, [], {"name": "x"}])
def test_a_spec_without_tasks_is_refused(data: Any) -> None:
    assert "at least one task" in problems_of(data)["tasks"]


@pytest.mark.parametrize("tasks", [{"a": 1}, "x", 3, None])
def test_tasks_that_are_no_list_are_refused(tasks: Any) -> None:
    assert problem_of({"tasks": tasks}) == ("tasks", "must be a list of tasks")


# Shapes


def test_an_unknown_field_names_the_nearest() -> None:
    assert problem_of(a_spec(a_task(timeout_secnds=3))) == (
        "tasks[0].timeout_secnds",
        "unknown field; did you mean timeout_seconds?",
    )
    assert problem_of(a_spec(lables={}))[1] == "unknown field; did you mean labels?"
    assert problem_of(a_spec(a_task(retry_policy={"attempts": 3})))[0].endswith(".attempts")
    assert problem_of(a_spec(a_task(qqq=1)))[1] == "unknown field"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timeout_seconds": "30"}, 'must be a number, not the string "30"'),
        ({"timeout_seconds": True}, "must be a number, not true"),
        ({"timeout_seconds": -5}, "must be more than 0, not -5"),
        ({"timeout_seconds": 0}, "must be more than 0, not 0"),
        ({"tags": "a"}, 'must be a list of strings, not the string "a"'),
        ({"tags": None}, "must be a list of strings, not null"),
        ({"workspace": ["a"]}, "must be a table, not a list"),
        ({"command": 3}, "must be a string or a list of strings, not the number 3"),
        ({"command": []}, "must not be empty"),
        ({"command": " "}, "must not be blank"),
        ({"command": ""}, "must not be blank"),
        ({"when": "sucess"}, 'must be one of always, failure, success, not "sucess"'),
        ({"priority": 2**40}, "must be at most 2,147,483,647, not 1099511627776"),
        ({"priority": 1.5}, "must be an integer, not the number 1.5"),
        ({"name": "  "}, "must not be blank"),
        ({"name": "a\tb"}, "must not contain control characters"),
        ({"name": "é" * 129}, "takes 258 bytes; at most 256 are allowed"),
        ({"objective": " "}, "must not be blank"),
        ({"instructions": ""}, "must not be blank"),
    ],
)
def test_a_wrong_value_says_what_is_allowed(fields: dict[str, Any], message: str) -> None:
    field, said = problem_of(a_spec(a_task(**fields)))
    assert field == f"tasks[0].{next(iter(fields))}"
    assert said == message


def test_a_task_that_is_no_table_is_refused() -> None:
    assert problem_of([a_task(), 7]) == ("tasks[1]", "must be a table, not the number 7")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("retry_policy.max_attempts", -1),
        ("retry_policy.max_attempts", 0),
        ("retry_policy.initial_backoff_seconds", -1),
        ("retry_policy.max_backoff_seconds", -0.5),
        ("retry_policy.backoff_multiplier", -2),
        ("retry_policy.jitter", 1.5),
        ("budget.max_seconds", -1),
        ("budget.max_tokens", -1),
    ],
)
def test_negative_and_other_impossible_numbers_are_refused(path: str, value: float) -> None:
    part, _, name = path.partition(".")
    field, message = problem_of(a_spec(a_task(**{part: {name: value}})))
    assert field == f"tasks[0].{path}"
    assert message.endswith(f"not {json.dumps(value)}")


@pytest.mark.parametrize("field", ["max_workers", "max_failures"])
def test_limits_of_a_run_are_positive(field: str) -> None:
    assert problem_of(a_spec(**{field: -1})) == (field, "must be at least 1, not -1")
    assert problem_of(a_spec(max_workers=129))[1] == "must be at most 128, not 129"


@pytest.mark.parametrize(
    ("scorer", "field", "message"),
    [
        ({"kind": "file_exists"}, "path", "needed by file_exists"),
        ({"kind": "regex_match", "path": "a"}, "pattern", "needed by regex_match"),
        ({"kind": "json_path", "path": "a"}, "expression", "needed by json_path"),
        ({"kind": "exit_code", "path": "a"}, "path", "unknown field"),
        ({}, "kind", "is needed: one of exit_code, file_exists"),
        ({"kind": "regex"}, "kind", "must be one of exit_code, file_exists"),
        ({"kind": 3}, "kind", "must be one of exit_code, file_exists"),
    ],
)
def test_a_scorer_needs_its_parameters(scorer: dict[str, Any], field: str, message: str) -> None:
    where, said = problem_of(a_spec(a_task(scorer=scorer)))
    assert where == f"tasks[0].scorer.{field}"
    assert said.startswith(message)


# Rules


@pytest.mark.parametrize("id", ["a/b", "", "a b", "ä", "x" * 129])
def test_an_id_with_other_characters_says_which_are_allowed(id: str) -> None:
    field, message = problem_of(a_spec(a_task(id=id)))
    assert field == "tasks[0].id"
    assert message.startswith("must be 1 to 128 of the characters A-Z a-z 0-9 . _ -")


@pytest.mark.parametrize("id", [".", ".."])
def test_an_id_of_dots_is_refused(id: str) -> None:
    assert problem_of(a_spec(a_task(id=id)))[0] == "tasks[0].id"


def test_a_missing_id_is_told_beside_everything_else() -> None:
    found = problems_of({"tasks": [{"command": " ", "workspace": {"root": "/etc"}}]})
    assert set(found) == {"tasks[0].id", "tasks[0].command", "tasks[0].workspace.root"}


def test_a_duplicate_id_names_both_lines() -> None:
    text = '[[tasks]]\nid = "a"\ncommand = "x"\n\n[[tasks]]\ncommand = "y"\nid = "a"\n'
    with pytest.raises(SpecProblems) as caught:
        load(text.encode(), file="a.toml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.field) == (7, "tasks[1].id")
    assert problem.message == '"a" is already the id of tasks[0].id (line 2)'


def test_a_task_without_a_command_and_without_an_agent_hears_how_to_set_one() -> None:
    field, message = problem_of([{"id": "a", "instructions": "do it"}])
    assert field == "tasks[0].command"
    assert message == "is needed: there is no default agent that would do it"


def test_a_command_and_an_agent_exclude_each_other() -> None:
    field, message = problem_of(a_spec(a_task(agent="claude")))
    assert (field, message) == ("tasks[0].agent", "is not allowed together with command")


def test_instructions_beside_a_command_are_documentation() -> None:
    assert not problems_of(a_spec(a_task(instructions="what this is for")))


@pytest.mark.parametrize("command", ["a\0b", ["a", "b\0"]])
def test_a_command_cannot_hold_a_nul(command: Any) -> None:
    assert "NUL" in problem_of(a_spec(a_task(command=command)))[1]


def test_an_argument_that_linux_would_not_take_is_refused() -> None:
    assert not problems_of(a_spec(a_task(command="x" * 131_071)))
    assert "131,071" in problem_of(a_spec(a_task(command=["x", "y" * 131_072])))[1]


def test_a_task_too_long_for_a_line_of_the_ledger_is_refused() -> None:
    assert "245,760" in problem_of(a_spec(a_task(description="x" * 300_000)))[1]


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../b", "C:\\x", "a\nb"])
@pytest.mark.parametrize("place", ["root", "writable_paths", "required_files"])
def test_a_path_that_leaves_the_workspace_is_refused(path: str, place: str) -> None:
    value: Any = path if place == "root" else ["ok", path]
    field, _ = problem_of(a_spec(a_task(workspace={place: value})))
    assert field == f"tasks[0].workspace.{place}" + ("" if place == "root" else "[1]")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scorer": {"kind": "file_exists", "path": "/etc/passwd"}}, "scorer.path"),
        ({"scorer": {"kind": "file_exists", "path": ""}}, "scorer.path"),
        ({"artifacts": {"report": "../*"}}, "artifacts.report"),
        ({"artifacts": {"report": ["a", "/b"]}}, "artifacts.report[1]"),
        ({"artifacts": {"report": []}}, "artifacts.report"),
    ],
)
def test_scorers_and_artifacts_stay_in_the_workspace(fields: Any, field: str) -> None:
    assert problem_of(a_spec(a_task(**fields)))[0] == f"tasks[0].{field}"


def test_writable_paths_are_bounded() -> None:
    many = {"writable_paths": [f"p{n}" for n in range(33)]}
    assert "at most 32" in problem_of(a_spec(a_task(workspace=many)))[1]
    long = {"writable_paths": ["x" * 513]}
    assert "at most 512" in problem_of(a_spec(a_task(workspace=long)))[1]


@pytest.mark.parametrize("pattern", ["a(", "(?=x)", r"(a)\1", "[z-a]"])
def test_a_pattern_that_re2_does_not_take_is_refused_with_its_error(pattern: str) -> None:
    scorer = {"kind": "regex_match", "path": "a", "pattern": pattern}
    field, message = problem_of(a_spec(a_task(scorer=scorer)))
    assert field == "tasks[0].scorer.pattern"
    assert message.startswith("is no RE2 pattern: ")


@pytest.mark.parametrize("expression", ["", "a.b", "$[", "$.a["])
def test_an_expression_that_is_no_json_path_is_refused(expression: str) -> None:
    scorer = {"kind": "json_path", "path": "a", "expression": expression}
    assert problem_of(a_spec(a_task(scorer=scorer)))[0] == "tasks[0].scorer.expression"


@pytest.mark.parametrize(
    "name",
    ["GITHUB_TOKEN", "my_secret", "DB_PASSWORD", "X_PASSWD", "OPENAI_API_KEY", "PRIVATE-KEY"],
)
@pytest.mark.parametrize("place", ["allowlist", "required"])
def test_a_variable_that_looks_secret_is_not_passed_on(name: str, place: str) -> None:
    workspace = {"environment": {place: ["CI", name]}}
    field, message = problem_of(a_spec(a_task(workspace=workspace)))
    assert field == f"tasks[0].workspace.environment.{place}[1]"
    assert "looks like a secret's name" in message


@pytest.mark.parametrize("name", ["", " ", "A=B", "LC_*", "A B", "$HOME"])
def test_a_variable_needs_a_whole_name(name: str) -> None:
    workspace = {"environment": {"allowlist": [name]}}
    assert problem_of(a_spec(a_task(workspace=workspace)))[0].endswith("allowlist[0]")


SECRETS = [
    "sk-abcdefghijklmnopqrstuvwx",
    "sk-proj-Abcdefghijklmnopqr123",
    "sk-ant-api03-Abcdefghijklmnopqr123",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0123456789_abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-1234567890-abcdefghij",
    "-----BEGIN RSA PRIVATE KEY-----",
    "Authorization: Bearer abcdef0123456789",
    "glpat-abcdefghij0123456789",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "https://hooks.slack.com/services/T0000000/B0000000/XXXXXXXXXXXXXXXX",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_literal_secret_is_refused_and_never_shown(secret: str) -> None:
    spec = a_spec(
        a_task(command=["curl", f"-H\n{secret}"], instructions=f"use {secret} here", qqq=secret),
        labels={"a": secret},
    )
    with pytest.raises(SpecProblems) as caught:
        loaded(spec)
    fields = {problem.field for problem in caught.value.problems}
    assert fields == {"labels.a", "tasks[0].command[1]", "tasks[0].instructions", "tasks[0].qqq"}
    assert secret not in problems_text(caught.value.problems)
    assert secret not in str([problem.value for problem in caught.value.problems])


@pytest.mark.parametrize(
    "text",
    [
        "make disk-abcdefghijklmnopqrst",
        "task-0123456789abcdefghij",
        "pip install sk-learn",
        "Bearer authentication is used here",
        'curl -H "Authorization: Bearer $KEY"',
        "git clone xox",
    ],
)
def test_text_that_only_resembles_a_secret_passes(text: str) -> None:
    assert not problems_of(a_spec(a_task(command=text)))


def test_tags_are_neither_blank_nor_double() -> None:
    assert set(problems_of(a_spec(a_task(tags=["a", " ", "a"])))) == {
        "tasks[0].tags[1]",
        "tasks[0].tags[2]",
    }


def test_an_expected_artifact_needs_a_place() -> None:
    assert not problems_of(a_spec(a_task(expected_artifacts=["log", "receipt"])))
    field, message = problem_of(a_spec(a_task(expected_artifacts=["report"])))
    assert field == "tasks[0].expected_artifacts[0]"
    assert 'nothing says where "report" lies' in message


@pytest.mark.parametrize(
    "metadata",
    [
        {"priority": "high"},
        {"priority": True},
        {"priority": 2**31},
        {"coordination_contracts": "a"},
        {"coordination_contracts": [" "]},
        {"coordination_contracts": ["a\nb"]},
        {"coordination_contracts": ["x" * 129]},
        {"coordination_contracts": [str(n) for n in range(17)]},
        {"coordination_contracts": [3]},
    ],
)
def test_metadata_with_a_meaning_is_checked(metadata: dict[str, Any]) -> None:
    assert problem_of(a_spec(a_task(metadata=metadata)))[0].startswith("tasks[0].metadata.")


def test_two_priorities_must_agree() -> None:
    assert not problems_of(a_spec(a_task(priority=3, metadata={"priority": 3})))
    assert "contradicts" in problem_of(a_spec(a_task(priority=3, metadata={"priority": 4})))[1]


def test_a_number_that_json_does_not_know_is_refused() -> None:
    text = '[[tasks]]\nid = "a"\ncommand = "x"\nmetadata = { a = [1.0, nan] }\n'
    assert problem_of(text) == ("tasks[0].metadata.a[1]", "is nan, which is no number in JSON")


@pytest.mark.parametrize(
    ("channel", "field"),
    [
        ({"kind": "slack", "url": "https://example.org"}, "url"),
        ({"kind": "webhook", "webhook_url": "https://example.org"}, "url"),
        ({"kind": "pager_duty", "severity": "error", "routing_key": "x"}, "routing_key"),
    ],
)
def test_an_alert_channel_holds_a_reference_not_a_url(channel: Any, field: str) -> None:
    task = a_task(alert_policy={"channels": [channel]})
    where, _ = problem_of(a_spec(task))
    assert where == f"tasks[0].alert_policy.channels[0].{field}"


@pytest.mark.parametrize(
    ("channel", "field", "said"),
    [
        ({"kind": "slack"}, "", "does not say where to"),
        ({"kind": "slack", "url_ref": "A", "secret_ref": "B"}, ".secret_ref", "means nothing to"),
        ({"kind": "webhook", "url_ref": "a b"}, ".url_ref", "can be no secret's name"),
        ({"kind": "pager_duty", "url_ref": "A", "severity": "dire"}, ".severity", "must be one of"),
    ],
)
def test_an_alert_channel_says_where_to_and_how_bad(channel: Any, field: str, said: str) -> None:
    where, message = problem_of(a_spec(a_task(alert_policy={"channels": [channel]})))
    assert where == f"tasks[0].alert_policy.channels[0]{field}"
    assert said in message


def test_an_alias_beside_its_field_is_refused() -> None:
    found = problems_of(a_spec(a_task(worker={"profile": "a", "agent_profile": "b"})), "", "worker")
    assert "is the same as agent_profile" in found["tasks[0].worker.profile"]


def test_a_worker_type_and_a_worker_name_exclude_each_other() -> None:
    task = a_task(worker={"type": "vm", "name": "web-01"})
    assert problem_of(a_spec(task), "", "worker.type", "worker.name")[0] == "tasks[0].worker.name"


def test_worker_ids_are_unique() -> None:
    worker = {"id": "w", "name": "W", "host": "10.0.0.1"}
    found = problem_of(a_spec(workers=[worker, worker]), "", "workers")
    assert found == ("workers[1].id", '"w" is already the id of workers[0].id (line 1)')


# All at once


def test_everything_is_told_at_once_in_the_order_of_lines() -> None:
    text = """\
lables = { a = "b" }

[[tasks]]
id = "a/b"
command = "true"
timeout_secnds = 3

[[tasks]]
id = "c"
command = "true"
scorer = { kind = "file_exists" }

[[tasks]]
id = "d"
command = "true"
[tasks.budget]
max_tokens = 5
"""
    with pytest.raises(SpecProblems) as caught:
        load(text.encode(), file="tasks.toml")
    assert (
        problems_text(caught.value.problems)
        == """\
tasks.toml: 5 problems

  tasks.toml:1   lables                      unknown field; did you mean labels?
  tasks.toml:4   tasks[0].id                 must be 1 to 128 of the characters A-Z a-z 0-9 . _ -, \
not "a/b"
  tasks.toml:6   tasks[0].timeout_secnds     unknown field; did you mean timeout_seconds?
  tasks.toml:11  tasks[1].scorer.path        needed by file_exists
  tasks.toml:17  tasks[2].budget.max_tokens  nothing reports the tokens of a command
                                             remove it, or allow it unheld with \
--allow-unenforced budget.max_tokens"""
    )


def test_one_problem_is_a_sentence_with_its_place() -> None:
    with pytest.raises(FleetError) as caught:
        load(b'[[tasks]]\nid = "a"\ncommand = "x"\nwhem = "always"\n', file="a.toml")
    error = caught.value
    assert error.sentence == "a.toml:4: tasks[0].whem: unknown field; did you mean when?"
    assert (error.exit_code, error.file, error.line, error.field) == (
        2, "a.toml", 4, "tasks[0].whem",
    )  # fmt: skip


def test_very_many_problems_are_counted_not_listed() -> None:
    with pytest.raises(SpecProblems) as caught:
        loaded([a_task(id=f"t{n}", x=1) for n in range(300)])
    assert len(caught.value.problems) == 300
    assert problems_text(caught.value.problems).endswith("… and 100 more")
