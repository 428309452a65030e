"""The three roads, and what their payloads look like."""

import json
import sys
from email.utils import formatdate
from typing import Any

import pytest

from codewhale_fleet.alerts.message import event_of, headline, shortened
from codewhale_fleet.alerts.payload import dedup_key, escaped, payload, redacted, signature, without
from codewhale_fleet.alerts.send import deliver, retry_after
from codewhale_fleet.core.alert_config import Adapter, Apprise, Webhook, variables
from codewhale_fleet.errors import to_install

from .builders import HOOK, MESSAGE, SLACK, changed, pager
from .receiver import ROUTING_KEY, Receiver, pagerduty_problems, slack_problems


def test_each_road_delivers_what_its_service_takes(receiver: Receiver) -> None:
    for adapter in (SLACK, HOOK, pager(receiver)):
        outcome = deliver(adapter, MESSAGE, receiver.values)
        assert (outcome.state, receiver.problems) == ("sent", [])
    slack, hook, paged = (one.body for one in receiver.wait_for(3))
    assert slack["channel"] == "#fleet"
    assert "restart exhausted: demo-7k3f2a/build: exit 1 after 2 attempts" in slack["text"]
    assert [block["type"] for block in slack["blocks"]] == ["section", "context"]
    event = hook["event"]
    assert hook["source"] == "codewhale"
    assert [event[name] for name in ("class", "run_id", "worker_id", "task_id", "status")] == [
        "restart_exhausted", "demo-7k3f2a", "demo-7k3f2a-local-1", "build", "failed",
    ]  # fmt: skip
    assert event["commands"][0] == "fleet status demo-7k3f2a"
    assert (paged["event_action"], paged["dedup_key"]) == ("trigger", MESSAGE.key)
    assert paged["payload"]["custom_details"] == event
    assert paged["payload"]["severity"] == "critical"


def test_a_date_in_retry_after_counts_by_the_clock_of_whoever_gave_it() -> None:
    date = formatdate(1_000_000_090, usegmt=True)
    there = formatdate(1_000_000_000, usegmt=True)
    assert retry_after({"retry-after": date}, 1_000_000_060.0) == 30.0
    assert retry_after({"retry-after": date, "date": there}, 5.0) == 90.0
    assert retry_after({"retry-after": there}, 1_000_000_060.0) == 0.0
    for nonsense in ("", "soon", "-5", "1e9", "²"):
        assert retry_after({"retry-after": nonsense}, 0.0) is None


def body_of(adapter: Adapter, **changes: Any) -> Any:
    return json.loads(payload(adapter, changed(**changes), redacted(adapter), 0.0).body)


@pytest.mark.parametrize("size", [0, 1, 239, 240, 241, 100_000])
@pytest.mark.parametrize("sign", ["x", "é", "<", "&", "🐋", "\x00", "`"])
def test_reasons_and_names_of_any_size_keep_to_the_schemas(size: int, sign: str) -> None:
    text = sign * size
    changes = {"reason": text, "key": text or "k", "commands": [text] * 9 or [""], "task": text}
    assert list(slack_problems(body_of(SLACK, **changes))) == []
    paged = body_of(pager(None), **changes)
    paged["routing_key"] = ROUTING_KEY
    assert list(pagerduty_problems(paged)) == []
    assert len(event_of(changed(reason=text))["reason"].encode()) <= 240


def test_a_long_reason_ends_in_three_dots_and_in_no_half_character() -> None:
    assert shortened("x" * 241) == "x" * 237 + "..."
    assert shortened("é" * 200) == "é" * 118 + "..."
    assert shortened(" a\n\tb ") == "a b"


def test_slack_sees_no_mention_no_link_and_no_half_of_an_escape() -> None:
    assert escaped("<!channel> & <http://a|b>") == "&lt;!channel&gt; &amp; &lt;http://a|b&gt;"
    section = body_of(SLACK, reason="see <!here> `code`")["blocks"][0]["text"]
    assert section["verbatim"] is True
    assert "<" not in section["text"]
    said = body_of(SLACK, task="&" * 5000)["blocks"][0]["text"]["text"]
    assert said.endswith("&amp;…")


def test_a_line_says_what_where_and_why() -> None:
    assert headline(MESSAGE) == "restart exhausted: demo-7k3f2a/build: exit 1 after 2 attempts"
    many = changed(count=500, task="", attempt="", worker="", reason="")
    assert headline(many) == "restart exhausted: demo-7k3f2a and 499 more"
    assert headline(changed(action="resolve", reason="")) == (
        "restart exhausted is over: demo-7k3f2a/build"
    )


def test_values_are_taken_out_of_everything_that_a_message_says() -> None:
    dirty = changed(
        reason="a secret1", others=["secret1"], commands=["x secret1"], status="secret1"
    )
    clean = without(dirty, {"KEY": "secret1", "SHORT": "a"})
    assert "secret1" not in repr(clean)
    assert clean.reason == "a <redacted:env:KEY>"


def test_a_signature_is_over_the_time_and_the_body() -> None:
    made = {signature("key", at, body) for at in (1, 2) for body in (b"{}", b"{ }")}
    assert len(made) == 4
    assert signature("<redacted:env:KEY>", 1, b"") == "sha256=<redacted:env:KEY>"
    assert (
        "X-CodeWhale-Signature"
        not in payload(Webhook(url_env="U"), MESSAGE, {"U": "https://a"}, 0.0).headers
    )


def test_a_key_that_is_too_long_for_pagerduty_still_names_one_alert() -> None:
    long = ["k" * 300, "k" * 301]
    made = [dedup_key(key) for key in long]
    assert len(set(made)) == 2
    assert all(len(key) <= 255 for key in made)
    assert dedup_key("k" * 255) == "k" * 255


def test_apprise_gets_a_title_a_text_and_a_type() -> None:
    body = body_of(Apprise(url_env="A"))
    assert body["title"] == "alert: restart exhausted (demo-7k3f2a)"
    assert body["body"].splitlines()[0] == headline(MESSAGE)
    assert body["type"] == "failure"
    assert body_of(Apprise(url_env="A"), action="resolve")["type"] == "success"


@pytest.mark.parametrize(
    ("adapter", "package", "kind", "extra"),
    [
        (SLACK, "slack_sdk.models.blocks", "slack", "alerts"),
        (pager(None), "pagerduty", "pager_duty", "alerts"),
        (HOOK, "httpcore2", "webhook", "alerts"),
    ],
)
def test_a_package_that_is_missing_is_said_with_the_line_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, adapter: Adapter, package: str, kind: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = deliver(adapter, MESSAGE, dict.fromkeys(variables([adapter]), "https://localhost:1"))
    assert (outcome.state, outcome.words) == (
        "failed",
        f"alerts by {kind} need packages that are not installed: {to_install(extra)}",
    )
