"""The example of the reference's guide, dry and for real: from a task that fails to a pager."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..cli.driver import fleet
from ..core.test_alert_config import EXAMPLE
from .receiver import Receiver

pytestmark = pytest.mark.slow

SPEC = '[[tasks]]\nid = "build"\ncommand = "exit 3"\n'


def run(where: Path, receiver: Receiver, **changes: Any) -> dict[str, Any]:
    """A run that fails under the example's config; what its outbox says."""
    config = {**json.loads(EXAMPLE), **changes}
    config["adapters"]["pager"]["base_url"] = receiver.url
    (where / "alerts.json").write_text(json.dumps(config))
    (where / "s.toml").write_text(SPEC)
    done = fleet(where, "run", "s.toml", "--alerts", "alerts.json", **receiver.values)
    assert done.returncode == 1, done.stderr
    answer: dict[str, Any] = json.loads(fleet(where, "alerts", "@last", "--json").stdout)
    return answer


def test_as_it_stands_it_is_a_dry_run_that_sends_nothing(
    receiver: Receiver, tmp_path: Path
) -> None:
    answer = run(tmp_path, receiver)
    assert answer["counts"] == {"owed": 0, "sent": 2, "failed": 0, "suppressed": 0}
    assert {(row["adapter"], row["dry_run"]) for row in answer["sent"]} == {
        ("ops-slack", True), ("pager", True),
    }  # fmt: skip
    assert receiver.connections == 0


def test_for_real_slack_and_the_pager_hear_of_a_task_that_failed_for_good(
    receiver: Receiver, tmp_path: Path
) -> None:
    answer = run(tmp_path, receiver, dry_run=False)
    slack, paged = sorted(
        (one.body for one in receiver.wait_for(2)), key=lambda one: "event_action" in one
    )
    assert receiver.problems == []
    assert slack["channel"] == "#codewhale-fleet"
    assert "/build: exit 3" in slack["text"]
    assert paged["event_action"] == "trigger"
    assert paged["payload"]["severity"] == "critical"
    assert paged["payload"]["custom_details"]["status"] == "failed"
    assert answer["counts"] == {"owed": 0, "sent": 2, "failed": 0, "suppressed": 0}
    for path in (tmp_path / ".fleet").rglob("*"):
        if path.is_file():
            assert b"planted" not in path.read_bytes(), path
