"""The scorer `json_path`."""

import time

import pytest

from codewhale_fleet import scoring
from codewhale_fleet.core.events import Evidence, Receipt
from codewhale_fleet.core.spec import JsonPath

from .builders import a_task, an_end, judged, of_file, told


def _of(expression: str, content: bytes | str) -> Receipt:
    return of_file(JsonPath(path="r.json", expression=expression), content)


def test_it_asks_for_its_file_up_to_a_million_bytes() -> None:
    task = a_task(JsonPath(path="r.json", expression="$.ok"))
    assert scoring.wanted(task) == [{"path": "r.json", "cap": 1_000_000}]


@pytest.mark.parametrize("expression", ["$.a.b", ".a.b"])
def test_both_short_forms_walk_object_keys(expression: str) -> None:
    receipt = _of(expression, '{"a": {"b": 1}}')
    assert told(receipt) == ("pass", "")
    assert (receipt.scorer, receipt.reason) == ("json_path", f"r.json: {expression} is 1")


@pytest.mark.parametrize("value", ["true", "0", '""', "[]", "{}", '"no"'])
def test_everything_but_null_and_false_passes(value: str) -> None:
    assert _of("$.a", f'{{"a": {value}}}').result == "pass"


@pytest.mark.parametrize("value", ["null", "false"])
@pytest.mark.parametrize("expression", ["$.a", "$['a']"])
def test_null_and_false_are_the_tasks_fault(expression: str, value: str) -> None:
    receipt = _of(expression, f'{{"a": {value}}}')
    assert told(receipt) == ("fail", "task")
    assert receipt.reason.endswith(f"is {value}")


@pytest.mark.parametrize("document", ["{}", '{"a": 1}', '{"a": []}', '{"a": {"c": 1}}', "[]", "3"])
@pytest.mark.parametrize("expression", ["$.a.b", "$['a']['b']"])
def test_what_is_not_found_is_the_tasks_fault(expression: str, document: str) -> None:
    receipt = _of(expression, document)
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == f"r.json has no {expression}"


def test_short_forms_take_keys_that_the_standard_wants_quoted() -> None:
    assert _of("$.test-results.unit", '{"test-results": {"unit": 1}}').result == "pass"
    assert _of(".größe", '{"größe": 1}').result == "pass"


@pytest.mark.parametrize(
    "expression",
    ["$['a'][0]", "$..ok", "$.a[?@.n > 1].ok", "$.a[-1]['ok']", ".a[0].ok", "$"],
)
def test_the_whole_standard_is_understood(expression: str) -> None:
    assert _of(expression, '{"a": [{"n": 2, "ok": true}]}').result == "pass"


def test_of_several_values_none_may_be_null_or_false() -> None:
    assert _of("$.a[*].ok", '{"a": [{"ok": true}, {"ok": 1}]}').reason == (
        "r.json: $.a[*].ok found 2 values, none null or false"
    )
    receipt = _of("$.a[*].ok", '{"a": [{"ok": true}, {"ok": false}]}')
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "r.json: $['a'][1]['ok'] is false"


def test_an_expression_that_selects_nothing_does_not_pass() -> None:
    assert told(_of("$.a[*].ok", '{"a": []}')) == ("fail", "task")


@pytest.mark.parametrize("expression", ["", "a.b", "$.", "$.a[", "$[?nope(@)]", "$.a.", " $.a"])
def test_other_syntax_is_the_verifiers_fault(expression: str) -> None:
    assert told(_of(expression, "{}")) == ("fail", "verifier")


@pytest.mark.parametrize("content", ["", "{", "{'a': 1}", '{"a": NaN}', '{"a": 1} x'])
def test_what_is_not_json_is_the_tasks_fault(content: str) -> None:
    receipt = _of("$.a", content)
    assert told(receipt) == ("fail", "task")
    assert receipt.reason.startswith("r.json is not JSON: ")


def test_bytes_that_are_not_utf_8_are_the_verifiers() -> None:
    assert told(_of("$.a", b'{"a": "\xff"}')) == ("fail", "verifier")


@pytest.mark.parametrize("expression", ["$.a", "$..a"])
@pytest.mark.parametrize("depth", [150, 200_000])
def test_a_document_nested_without_end_is_judged_or_refused_never_an_error(
    expression: str, depth: int
) -> None:
    content = '{"a":' * depth + "1" + "}" * depth
    receipt = _of(expression, content[:1_000_000] if depth < 1000 else "[" * depth + "]" * depth)
    assert told(receipt) in (("pass", ""), ("fail", "verifier"))


def test_too_many_values_are_the_verifiers() -> None:
    receipt = _of("$[*]", "[" + ",".join("1" * 1 for _ in range(100_001)) + "]")
    assert told(receipt) == ("fail", "verifier")
    assert receipt.reason == "r.json, $[*]: finds more than 100,000 values"


def test_a_large_number_is_a_value() -> None:
    assert _of("$.a", '{"a": 123456789012345678901234567890}').result == "pass"


def test_patterns_in_filters_take_linear_time_and_follow_the_standard() -> None:
    started = time.monotonic()
    slow = '[{"t": "' + "a" * 5000 + 'b"}]'
    assert told(_of("$[?match(@.t, '(a+)+')]", slow)) == ("fail", "task")
    assert time.monotonic() - started < 5
    assert _of("$[?search(@.t, 'a[.]b')]", '[{"t": "xa.by"}]').result == "pass"
    assert _of("$[?match(@.t, 'a.b')]", '[{"t": "a-b"}]').result == "pass"
    assert _of("$[?match(@.t, 'a.b')]", '[{"t": "xa-b"}]').result == "fail"
    assert _of("$[?match(@.t, 'a.b')]", '[{"t": "a\\rb"}]').result == "fail"
    assert _of(r"$[?match(@.t, 'a\\.b')]", '[{"t": "a-b"}]').result == "fail"
    assert _of("$[?search(@.t, '(')]", '[{"t": "("}]').result == "fail"
    assert _of("$[?search(@.t, 'x')]", '[{"t": 3}]').result == "fail"


def test_a_missing_file_is_the_tasks_fault() -> None:
    task = a_task(JsonPath(path="r.json", expression="$.ok"))
    receipt = judged(task, an_end(evidence={"r.json": Evidence(error="missing")}))
    assert told(receipt) == ("fail", "task")


def test_the_exit_status_does_not_matter() -> None:
    scorer = JsonPath(path="r.json", expression="$.ok")
    assert of_file(scorer, '{"ok": true}', unknown=True).result == "pass"
    assert of_file(scorer, '{"ok": false}').result == "fail"
