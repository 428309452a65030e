"""fleet alert-dry-run: what would go out, without its secrets."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..alerts.receiver import ROUTING_KEY, pagerduty_problems, slack_problems
from .driver import look

EVENT = (
    "--event", "stale", "--run-id", "fleet-demo", "--worker-id", "fleet-demo-local-1",
    "--task-id", "release-triage",
    "--reason", "worker heartbeat stale since 2026-06-13T02:00:00Z",
)  # fmt: skip
"""As the guide of the reference types it."""

PLANTED = {
    "CODEWHALE_FLEET_SLACK_WEBHOOK": "https://hooks.slack.com/services/planted",
    "CODEWHALE_FLEET_WEBHOOK_URL": "https://example.org/planted",
    "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY": "planted",
    "CODEWHALE_FLEET_APPRISE_URL": "planted",
    "OPS_SECRET": "planted",
}


def dry(where: Path, *words: str) -> dict[str, Any]:
    done = look(where, "alert-dry-run", *EVENT, *words, **PLANTED)
    assert (done.returncode, done.stderr) == (0, "")
    assert "planted" not in done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_slack_gets_text_blocks_and_no_address(tmp_path: Path) -> None:
    made = dry(tmp_path, "--adapter", "slack")
    assert [made[name] for name in ("adapter", "kind", "dry_run", "target")] == [
        "slack", "slack", True, "<redacted:env:CODEWHALE_FLEET_SLACK_WEBHOOK>",
    ]  # fmt: skip
    assert made["event"]["status"] == "stale"
    assert made["event"]["commands"] == [
        "fleet status fleet-demo",
        "fleet inspect fleet-demo/release-triage",
        "fleet inspect fleet-demo-local-1",
    ]
    assert list(slack_problems(made["body"])) == []
    assert "fleet-demo/release-triage: worker heartbeat stale" in made["body"]["text"]


def test_pagerduty_gets_its_event_and_its_key_stays_out(tmp_path: Path) -> None:
    made = dry(tmp_path, "--adapter", "pager-duty", "--pagerduty-severity", "critical")
    assert made["target"] == "https://events.pagerduty.com/v2/enqueue"
    assert "event" not in made
    body = made["body"]
    assert body.pop("routing_key") == "<redacted:env:CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY>"
    assert list(pagerduty_problems({**body, "routing_key": ROUTING_KEY})) == []
    assert body["payload"]["severity"] == "critical"


def test_a_webhook_shows_its_headers_and_that_it_would_be_signed(tmp_path: Path) -> None:
    made = dry(
        tmp_path, "--adapter", "webhook", "--webhook-secret-env", "OPS_SECRET", "--status", "odd"
    )
    assert made["headers"]["X-CodeWhale-Signature"] == "sha256=<redacted:env:OPS_SECRET>"
    assert made["headers"]["X-CodeWhale-Delivery"] == "fleet-demo/stale:trigger"
    assert made["body"] == {"source": "codewhale", "event": made["event"]}
    assert made["event"]["status"] == "odd"
    assert "X-CodeWhale-Signature" not in dry(tmp_path, "--adapter", "webhook")["headers"]


def test_words_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path) -> None:
    for adapter in ("slack", "webhook", "pager-duty", "apprise"):
        made = dry(tmp_path, "--adapter", adapter, "--reason", "a\udcff", "--task-id", "b\udcff")
        assert "a?" in json.dumps(made)


def test_in_json_it_is_one_line_and_an_unset_variable_is_named_beside_the_answer(
    tmp_path: Path,
) -> None:
    done = look(tmp_path, "alert-dry-run", *EVENT, "--adapter", "apprise", "--json")
    assert done.stdout.count("\n") == 1
    done = look(tmp_path, "alert-dry-run", *EVENT, "--adapter", "apprise")
    told = "CODEWHALE_FLEET_APPRISE_URL is not set here; to send for real it has to be.\n"
    assert (done.returncode, done.stderr) == (0, told)


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (("--event", "stael"), '--event "stael" is no class of alerts.', "Nearest: stale"),
        (("--event", "zzz"), '--event "zzz" is no class of alerts.', "There are: stale, "),
        (("--adapter", "slak"), 'no adapter is called "slak".', "Nearest: slack"),
        (("--pagerduty-severity", "bad", "--adapter", "pagerduty"), '"bad" is none', "There are: "),
        (
            ("--adapter", "webhook", "--webhook-secret-env", "a b"),
            "--webhook-secret-env takes the name of a variable, never its value.",
            "export NAME=…, and give NAME",
        ),
        (
            ("--adapter", "webhook", "--webhook-url-env", "https://x"),
            "--webhook-url-env takes the name of a variable, never its value.",
            "export NAME=…",
        ),
        (
            ("--adapter", "slack", "--slack-webhook-env", ""),
            "--slack-webhook-env takes the name",
            "export NAME=…",
        ),
        (
            ("--adapter", "pager-duty", "--pagerduty-routing-key-env", "-"),
            "--pagerduty-routing-key-env takes the name",
            "export NAME=…",
        ),
        (
            ("--adapter", "apprise", "--apprise-url-env", "mailto://x"),
            "--apprise-url-env takes the name",
            "export NAME=…",
        ),
    ],
)
def test_a_mistake_is_a_sentence_and_what_to_type(
    tmp_path: Path, words: tuple[str, ...], sentence: str, hint: str
) -> None:
    done = look(tmp_path, "alert-dry-run", *EVENT, "--adapter", "slack", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert hint in done.stderr
