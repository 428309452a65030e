"""[alerts], and files of their own: every problem at once, and no value shown."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.core.alert_config import AlertConfig, PagerDuty
from codewhale_fleet.errors import to_install
from codewhale_fleet.wire import alerts
from codewhale_fleet.wire.problems import SpecProblems

from ..core.test_alert_config import EXAMPLE

PLANTED = "https://hooks.slack.com/services/T0/B0/planted0path"


def problems(config: Any, file: str = "alerts.json") -> list[tuple[int, str, str, str]]:
    text = config if isinstance(config, str) else json.dumps(config, indent=1)
    with pytest.raises(SpecProblems) as caught:
        alerts.parse(text.encode(), file)
    assert "planted" not in repr(caught.value.problems)
    return [(one.line, one.field, one.message, one.hint) for one in caught.value.problems]


def adapters(**fields: Any) -> dict[str, Any]:
    return {"adapters": {"ops": fields}}


def test_the_example_of_the_reference_loads_from_json_and_the_same_from_toml() -> None:
    config = alerts.parse(EXAMPLE.encode(), "alerts.json")
    assert (config.enabled, config.dry_run, len(config.routes)) == (True, True, 2)
    toml = """
enabled = true
dry_run = true
[[routes]]
events = ["stale", "restart_exhausted", "verifier_failed"]
adapter = "ops-slack"
[[routes]]
events = ["restart_exhausted"]
adapter = "pager"
[adapters.ops-slack]
kind = "slack"
webhook_env = "CODEWHALE_FLEET_SLACK_WEBHOOK"
channel = "#codewhale-fleet"
[adapters.pager]
kind = "pagerduty"
routing_key_env = "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY"
severity = "critical"
"""
    assert alerts.parse(toml.encode(), "alerts.toml") == config


def test_nothing_is_on_unless_it_is_switched_on() -> None:
    assert alerts.parse(b"{}", "a.json") == AlertConfig()


def test_everything_wrong_is_told_at_once_with_its_line() -> None:
    text = """{
 "enabled": true,
 "routes": [
  {"events": ["stale", "stael"], "adapter": "ops"},
  {"adapter": "pagr"}
 ],
 "adapters": {
  "ops": {"kind": "slak", "webhook_env": "A"},
  "pager": {
   "kind": "pager_duty",
   "severity": "bad"
  },
  "hook": {
   "kind": "webhook",
   "url_env": "https://x/planted",
   "allow_networks": ["here"]
  }
 },
 "dryrun": false
}"""
    found = problems(text)
    assert [(line, field) for line, field, _, _ in found] == [
        (4, "routes[0].events[1]"),
        (5, "routes[1].adapter"),
        (8, "adapters.ops.kind"),
        (9, "adapters.pager.routing_key_env"),
        (11, "adapters.pager.severity"),
        (15, "adapters.hook.url_env"),
        (16, "adapters.hook.allow_networks[0]"),
        (19, "dryrun"),
    ]
    told = {field: f"{message} {hint}" for _, field, message, hint in found}
    assert "did you mean stale?" in told["routes[0].events[1]"]
    assert told["routes[1].adapter"] == 'no adapter is called "pagr" did you mean pager?'
    assert "did you mean slack?" in told["adapters.ops.kind"]
    assert "one of critical, error, info, warning" in told["adapters.pager.severity"]
    assert "not its value export NAME=…" in told["adapters.hook.url_env"]
    assert "did you mean dry_run?" in told["dryrun"]


@pytest.mark.parametrize(
    ("kind", "field", "instead"),
    [
        ("slack", "webhook", "webhook_env"),
        ("slack", "url", "webhook_env"),
        ("slack", "webhook_url", "webhook_env"),
        ("webhook", "url", "url_env"),
        ("webhook", "endpoint_url", "url_env"),
        ("pagerduty", "routing_key", "routing_key_env"),
        ("pager_duty", "integration_key", "routing_key_env"),
        ("apprise", "url", "url_env"),
    ],
)
def test_a_value_in_the_file_is_refused_with_the_field_to_write(
    kind: str, field: str, instead: str
) -> None:
    ((_, where, message, hint),) = problems(adapters(kind=kind, **{field: PLANTED}))
    assert where == f"adapters.ops.{field}"
    assert message.startswith("must not stand in a file")
    assert hint == f'put it into a variable, and write {instead} = "ITS_NAME"'


def test_a_signing_key_in_the_file_is_refused_too() -> None:
    ((_, where, _, hint),) = problems(adapters(kind="webhook", url_env="U", secret="planted"))
    assert (where, "secret_env" in hint) == ("adapters.ops.secret", True)


def test_a_value_in_place_of_a_name_is_refused_and_not_shown() -> None:
    ((_, where, message, _),) = problems(adapters(kind="slack", webhook_env=PLANTED))
    assert (where, message) == (
        "adapters.ops.webhook_env",
        "must be the name of a variable, not its value",
    )


@pytest.mark.parametrize(
    "base", ["http://a", "https://a/v2/enqueue", "https://u:p@a", "a", "https://a?b", "https://a:x"]
)
def test_another_receiver_of_pagerdutys_events_is_named_by_its_host(base: str) -> None:
    ((_, where, _, hint),) = problems(
        adapters(kind="pager_duty", routing_key_env="K", base_url=base)
    )
    assert (where, "events.eu.pagerduty.com" in hint) == ("adapters.ops.base_url", True)


def test_the_region_in_europe_is_fine() -> None:
    config = alerts.parse(
        json.dumps(
            adapters(
                kind="pager-duty", routing_key_env="K", base_url="https://events.eu.pagerduty.com"
            )
        ).encode(),
        "a.json",
    )
    assert isinstance(config.adapters["ops"], PagerDuty)


def test_a_route_without_any_adapter_says_what_to_add() -> None:
    ((_, _, _, hint),) = problems({"routes": [{"adapter": "ops"}]})
    assert hint == "add [alerts.adapters.ops] with its kind"


def test_a_key_that_stands_twice_is_told() -> None:
    ((line, field, message, _),) = problems('{"enabled": true,\n "enabled": false}')
    assert (line, field, message) == (2, "enabled", "stands in line 1 already")


@pytest.mark.parametrize(
    ("text", "file", "line"),
    [
        ("[]", "a.json", 1),
        ("{", "a.json", 1),
        ("enabled = yes", "a.toml", 1),
        ("\n{'a': 1}", "a.json", 2),
        ("3", "a.json", 1),
    ],
)
def test_a_broken_file_has_its_line(text: str, file: str, line: int) -> None:
    assert problems(text, file)[0][0] == line


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.text(max_size=9) | st.floats(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["enabled", "routes", "adapters", "kind", "events", "adapter", "url_env",
                         "allow_networks", "base_url", "webhook", "ops"]),
        inner, max_size=4,
    ),
    max_leaves=12,
).map(lambda tree: json.dumps(tree).encode()))  # fmt: skip
def test_anything_is_taken_or_refused_in_a_sentence(data: bytes) -> None:
    for file in ("a.json", "a.toml"):
        try:
            alerts.parse(data, file)
        except SpecProblems as error:
            assert error.problems


# Whether it could send ------------------------------------------------------------------------


def unready(values: dict[str, str], **changes: Any) -> dict[str, str]:
    tree = {**json.loads(EXAMPLE), "dry_run": False, **changes}
    config = alerts.parse(json.dumps(tree).encode(), "a.json")
    return {
        ".".join(map(str, one.path)): f"{one.message} | {one.hint}"
        for one in alerts.unready(config, values)
    }


SET = {
    "CODEWHALE_FLEET_SLACK_WEBHOOK": PLANTED,
    "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY": "x" * 32,
}


def test_a_variable_that_is_not_set_is_named_with_what_to_type() -> None:
    assert unready(SET) == {}
    assert unready({**SET, "CODEWHALE_FLEET_SLACK_WEBHOOK": " "}) == {
        "adapters.ops-slack.webhook_env": "CODEWHALE_FLEET_SLACK_WEBHOOK is not set here | "
        "export CODEWHALE_FLEET_SLACK_WEBHOOK=…; dry_run = true sends nothing"
    }


def test_what_is_off_or_dry_or_on_no_route_needs_no_variable() -> None:
    assert unready({}, enabled=False) == {}
    assert unready({}, dry_run=True) == {}
    assert list(unready({}, routes=[{"adapter": "pager"}])) == ["adapters.pager.routing_key_env"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://x/planted", "holds an http URL, and alerts go by https only"),
        ("planted", "holds no https URL"),
        ("https://169.254.169.254/planted", "names an address that is link-local"),
        ("https://2852039166/planted", "names an address that is link-local"),
    ],
)
def test_a_url_that_could_never_be_sent_to_is_refused_and_not_shown(url: str, words: str) -> None:
    found = unready({**SET, "CODEWHALE_FLEET_SLACK_WEBHOOK": url})
    assert words in found["adapters.ops-slack.webhook_env"]
    assert "planted" not in repr(found)


def test_a_package_that_is_not_there_comes_with_the_line_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    for package in ("httpcore2", "slack_sdk", "pagerduty", "httpx2"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    config = alerts.parse(json.dumps({**json.loads(EXAMPLE), "dry_run": False}).encode(), "a.json")
    (found,) = alerts.adapter_unready(config, "ops-slack", SET, ())
    assert found.message == "slack needs packages that are not installed: httpcore2, slack_sdk"
    assert found.hint == to_install("alerts")
    dry = alerts.parse(json.dumps({**json.loads(EXAMPLE), "dry_run": True}).encode(), "a.json")
    assert found.message in [one.message for one in alerts.unready(dry, {})]
