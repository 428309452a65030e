"""Alerts of a run with secrets: what tasks say of them goes to nobody, nor do the alerts' own."""

import json
from pathlib import Path

import pytest

from codewhale_fleet.worker.redaction import Redactor

from ..cli.driver import fleet
from .receiver import Receiver

pytestmark = pytest.mark.slow

VALUE = "pl4nted-tok/en+with=odd&signs"
SPEC = """
[[tasks]]
id = "judged"
command = 'printf "the key is %s\\n" "$KEY" > out.txt'
secrets = ["KEY"]
scorer = { kind = "command", command = "sh", args = ["-c", "echo saw $(cat out.txt); exit 1"] }

[[tasks]]
id = "asks"
command = 'fleet ask "May $KEY go to $CODEWHALE_FLEET_WEBHOOK_URL?" --timeout 1 --choices "$KEY,no"'
secrets = ["KEY", "CODEWHALE_FLEET_WEBHOOK_URL"]
"""


def test_neither_values_of_tasks_nor_of_adapters_are_in_what_is_sent(
    receiver: Receiver, tmp_path: Path
) -> None:
    config = {
        "enabled": True,
        "routes": [{"adapter": "hook"}, {"adapter": "slack"}],
        "adapters": {
            "hook": {
                "kind": "webhook",
                "url_env": "CODEWHALE_FLEET_WEBHOOK_URL",
                "secret_env": "CODEWHALE_FLEET_WEBHOOK_SECRET",
            },
            "slack": {"kind": "slack", "webhook_env": "CODEWHALE_FLEET_SLACK_WEBHOOK"},
        },
    }
    (tmp_path / "alerts.json").write_text(json.dumps(config))
    (tmp_path / "s.toml").write_text(SPEC)
    words = ("run", "s.toml", "--alerts", "alerts.json")
    done = fleet(tmp_path, *words, **receiver.values, KEY=VALUE)
    assert done.returncode == 1, done.stdout + done.stderr
    sent = [one.body for one in receiver.wait_for(8)]
    assert receiver.problems == []
    text = json.dumps(sent)
    assert text.count("saw the key is [redacted:KEY]") >= 2, text
    assert text.count("May [redacted:KEY] go to [redacted:CODEWHALE_FLEET_WEBHOOK_URL]?") >= 2, text
    values = {"KEY": VALUE, **{n: v for n, v in receiver.values.items() if n.startswith("CODEW")}}
    assert Redactor(values).held_in(text) == []
    shown = fleet(tmp_path, "alerts", "@last", "--json").stdout + done.stdout + done.stderr
    assert Redactor(values).held_in(shown) == []
    for path in (tmp_path / ".fleet").rglob("*"):
        if path.is_file():
            assert Redactor(values).held_in(path.read_bytes()) == [], path
