"""fleet alerts: what people are still told, what they were told, and a test of an adapter."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core.outbox import due, sendable

from ..alerts.receiver import HOOK_PATH, Receiver, a_receiver
from .driver import look
from .scene import FAIL, RUN, Scene, the_usual

CONFIG: dict[str, Any] = {
    "enabled": True,
    "routes": [
        {"events": ["restart_exhausted", "run_completed"], "adapter": "ops"},
        {"events": ["restart_exhausted"], "adapter": "pager"},
    ],
    "adapters": {
        "ops": {"kind": "slack", "webhook_env": "OPS"},
        "pager": {"kind": "pager_duty", "routing_key_env": "PAGER"},
    },
}


def with_alerts(scene: Scene, *tasks: str) -> None:
    scene.run(*tasks, alerts=Raw(json.dumps(CONFIG).encode()))


def report(scene: Scene, adapter: str, state: str, **more: Any) -> None:
    """What came of the message that this adapter is owed."""
    now = time.time()
    scene.ask(*due(scene.ledger.state, now), by="manager")
    (letter,) = (one for one in sendable(scene.ledger.state, now) if one.adapter == adapter)
    scene.ask(
        c.ReportAlert(
            run=letter.run, cls=letter.cls, adapter=adapter, key=letter.key, state=state, **more
        ),
        by="manager",
    )


def test_a_fleet_whose_runs_have_no_alerts_says_how_to_have_people_told(scene: Scene) -> None:
    the_usual(scene)
    assert scene.fleet("alerts").out == (
        "all runs: nobody is told of anything.\n\n"
        "To have people told: [alerts] in fleet.toml, or fleet run --alerts FILE\n"
    )
    assert scene.fleet("alerts", "--json").json["told"] is False


def test_what_is_owed_sent_and_given_up_stands_in_the_outbox(scene: Scene) -> None:
    with_alerts(scene, "build", "lint")
    scene.ended(scene.place("build"), FAIL)
    answer = scene.fleet("alerts", RUN, "--json").json
    assert answer["counts"] == {"owed": 2, "sent": 0, "failed": 0, "suppressed": 0}
    assert {(row["adapter"], row["class"], row["state"]) for row in answer["owed"]} == {
        ("ops", "restart_exhausted", "owed"), ("pager", "restart_exhausted", "owed"),
    }  # fmt: skip
    report(scene, "ops", "sent", words="taken (HTTP 200)", digest="sha256:0")
    report(scene, "pager", "retry", words="answered HTTP 503", after=30.0)
    text = scene.fleet("alerts").out
    assert text.startswith("all runs: 1 to be sent, 1 sent\n")
    assert f"delayed  pager  restart exhausted  {RUN}/build" in text
    assert "answered HTTP 503 (tried 1 time)" in text
    assert "taken (HTTP 200)" in text
    assert text.endswith("To try an adapter: fleet alerts --test ADAPTER\n")


def test_a_message_that_was_given_up_says_why(scene: Scene) -> None:
    with_alerts(scene, "build")
    scene.ended(scene.place("build"), FAIL)
    report(scene, "pager", "failed", words="answered HTTP 400")
    answer = scene.fleet("alerts", "--json").json
    (row,) = answer["failed"]
    assert (row["adapter"], row["words"], row["class"]) == (
        "pager", "answered HTTP 400", "restart_exhausted",
    )  # fmt: skip
    assert "1 given up" in scene.fleet("alerts").out


def test_what_came_together_is_counted_and_says_why_it_was_not_sent_alone(scene: Scene) -> None:
    with_alerts(scene, *(f"t{number}" for number in range(5)))
    for number in range(5):
        scene.ended(scene.place(f"t{number}"), FAIL)
    report(scene, "ops", "sent", words="taken (HTTP 200)")
    answer = scene.fleet("alerts", "--json").json
    held = [row for row in answer["owed"] if row["state"] == "held"]
    assert {(row["adapter"], row["count"]) for row in held} == {("ops", 4), ("pager", 4)}
    text = scene.fleet("alerts").out
    assert f"held  ops    restart exhausted  {RUN}/t1 and 3 more" in text


def test_a_run_that_nobody_knows_is_said(scene: Scene) -> None:
    with_alerts(scene, "build")
    done = scene.fleet("alerts", "nothing")
    assert (done.code, done.out) == (2, "")


# --test ---------------------------------------------------------------------------------------


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with a_receiver(tmp_path) as made:
        yield made


def config(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {
        "dry_run": True,
        "adapters": {
            "hook": {
                "kind": "webhook",
                "url_env": "CODEWHALE_FLEET_WEBHOOK_URL",
                "secret_env": "CODEWHALE_FLEET_WEBHOOK_SECRET",
            },
            "pager": {
                "kind": "pager_duty",
                "routing_key_env": "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY",
                "base_url": receiver.url,
            },
        },
        **more,
    }


def test_an_adapter_is_tried_for_real_though_it_is_off_or_dry(
    receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(config(receiver)))
    words = ("alerts", "--test", "hook", "--alerts", "a.json")
    done = look(tmp_path, *words, **receiver.values)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sent  hook (webhook): taken (HTTP 204)\n")
    (one,) = receiver.wait_for(1)
    assert (one.path, one.problems) == (HOOK_PATH, [])
    assert one.body["event"]["status"] == "test"
    told = look(tmp_path, *words, "--json", **receiver.values).stdout
    assert json.loads(told) == {
        "adapter": "hook", "kind": "webhook", "state": "sent", "words": "taken (HTTP 204)",
        "status": 204, "after": None, "exit_code": 0,
    }  # fmt: skip


def test_a_pager_is_told_the_end_of_the_test_at_once(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(config(receiver)))
    done = look(tmp_path, "alerts", "--test", "pager", "--alerts", "a.json", **receiver.values)
    assert done.returncode == 0
    sent = [one.body for one in receiver.wait_for(2)]
    assert [body["event_action"] for body in sent] == ["trigger", "resolve"]
    assert len({body["dedup_key"] for body in sent}) == 1
    assert receiver.problems == []


def test_a_receiver_that_does_not_take_it_is_exit_code_1(
    receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(config(receiver)))
    words = ("alerts", "--test", "hook", "--alerts", "a.json")
    receiver.then(429, retry_after="7").then(404)
    done = look(tmp_path, *words, **receiver.values)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        1, "not sent  hook (webhook): answered HTTP 429 (too many), asks for 7 s",
    )  # fmt: skip
    assert "would try again" in done.stdout
    assert "give this message up" in look(tmp_path, *words, **receiver.values).stdout


@pytest.mark.parametrize(
    ("words", "values", "sentence", "hint"),
    [
        (("--test", "hok"), {}, 'no adapter is called "hok" in a.json.', "Nearest: hook"),
        (
            ("--test", "hook"),
            {"CODEWHALE_FLEET_WEBHOOK_URL": ""},
            "a.json:6: adapters.hook.url_env: CODEWHALE_FLEET_WEBHOOK_URL is not set here.",
            "export CODEWHALE_FLEET_WEBHOOK_URL=…",
        ),
        (
            ("--test", "hook"),
            {"CODEWHALE_FLEET_WEBHOOK_URL": "http://planted"},
            "CODEWHALE_FLEET_WEBHOOK_URL holds an http URL, and alerts go by https only.",
            "it must hold an https URL",
        ),
        (
            ("--test", "hook"),
            {"CODEWHALE_FLEET_WEBHOOK_URL": "https://169.254.169.254/planted"},
            "CODEWHALE_FLEET_WEBHOOK_URL names an address that is link-local, and such are refused",
            "of another address; allow_networks lets single networks through",
        ),
        ((), {}, "--alerts FILE goes with --test.", "fleet alerts --test ADAPTER"),
        (("@last", "--test", "hook"), {}, "--test sends of no run.", "fleet alerts --test hook"),
    ],
)
def test_what_cannot_be_tried_is_a_sentence_and_what_to_type(
    receiver: Receiver,
    tmp_path: Path,
    words: tuple[str, ...],
    values: dict[str, str],
    sentence: str,
    hint: str,
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(config(receiver), indent=1))
    more = {**receiver.values, **values}
    done = look(tmp_path, "alerts", "--alerts", "a.json", *words, **more)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert hint in done.stderr
    assert "planted" not in done.stderr
    assert receiver.received == []


def test_without_a_config_it_says_where_one_belongs(tmp_path: Path) -> None:
    done = look(tmp_path, "alerts", "--test", "hook")
    assert "there is no [alerts] here." in done.stderr
    assert "--alerts FILE" in done.stderr
