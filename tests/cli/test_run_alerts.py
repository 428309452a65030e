"""fleet run with alerts, from fleet.toml or a file: recorded by name; none that could not send."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..core.test_alert_config import EXAMPLE
from .driver import fleet, look

SPEC = '[[tasks]]\nid = "a"\ncommand = "true"\n'
TOML = """[fleet]
max_workers = 2

[alerts]
enabled = true
dry_run = true

[[alerts.routes]]
adapter = "hook"

[alerts.adapters.hook]
kind = "webhook"
url_env = "HOOK"
"""


def recorded(where: Path) -> dict[str, Any]:
    """What the newest run recorded of its alerts."""
    lines = (where / ".fleet" / "fleet.jsonl").read_text().splitlines()
    created = [line for line in map(json.loads, lines) if line["k"] == "run.created"]
    found: dict[str, Any] = created[-1]["d"].get("alerts", {})
    return found


def written(where: Path, toml: str = TOML) -> None:
    (where / "s.toml").write_text(SPEC)
    (where / "fleet.toml").write_text(toml)


@pytest.mark.slow
def test_a_run_records_the_names_of_fleet_toml_and_no_value(tmp_path: Path) -> None:
    written(tmp_path, TOML.replace("dry_run = true\n", ""))
    where, planted = tmp_path, "https://127.0.0.1:1/planted0path"
    done = fleet(where, "run", "s.toml", "--max-workers", "1", HOOK=planted)
    assert done.returncode == 0, done.stderr
    assert recorded(where)["adapters"] == {"hook": {"kind": "webhook", "url_env": "HOOK"}}
    for path in (where / ".fleet").rglob("*"):
        if path.is_file():
            assert b"planted0path" not in path.read_bytes(), path


def test_a_file_wins_over_fleet_toml_as_a_whole(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "example.json").write_text(EXAMPLE)
    done = fleet(tmp_path, "run", "s.toml", "--alerts", "example.json")
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path) == json.loads(EXAMPLE)


@pytest.mark.slow
def test_nothing_is_recorded_where_nothing_is_switched_on(tmp_path: Path) -> None:
    written(tmp_path, TOML.replace("enabled = true", "enabled = false"))
    assert fleet(tmp_path, "run", "s.toml").returncode == 0
    assert recorded(tmp_path) == {}
    (tmp_path / "off.json").write_text("{}")
    done = fleet(tmp_path, "run", "s.toml", "--alerts", "off.json")
    assert "off.json does not say that alerts are enabled: nobody is told" in done.stderr


@pytest.mark.parametrize(
    "values", [{}, {"HOOK": "http://planted"}, {"HOOK": "https://169.254.1.1"}]
)
def test_what_could_not_be_sent_from_here_is_refused_before_anything_is_recorded(
    tmp_path: Path, values: dict[str, str]
) -> None:
    written(tmp_path, TOML.replace("dry_run = true\n", ""))
    done = look(tmp_path, "run", "s.toml", **values)
    assert (done.returncode, done.stdout) == (2, "")
    assert "fleet.toml:12: alerts.adapters.hook.url_env: HOOK " in done.stderr
    assert "planted" not in done.stderr
    assert not (tmp_path / ".fleet" / "fleet.jsonl").exists()


def test_everything_wrong_with_the_section_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    written(
        tmp_path,
        TOML.replace('adapter = "hook"', 'adapter = "hok"\nevents = ["stael"]')
        .replace('url_env = "HOOK"', 'url = "https://planted"')
        .replace("dry_run", "dryrun"),
    )
    done = look(tmp_path, "check", "s.toml")
    assert (done.returncode, done.stdout.splitlines()[0][-10:]) == (2, "4 problems")
    assert "planted" not in done.stdout
    done = look(tmp_path, "run", "s.toml", "--json")
    assert json.loads(done.stderr)["error"]["field"] == "alerts.dryrun"


def test_a_file_is_checked_beside_a_spec_and_refused_with_the_command_that_shows_all(
    tmp_path: Path,
) -> None:
    written(tmp_path)
    (tmp_path / "a.json").write_text(EXAMPLE)
    words = ("s.toml", "--alerts", "a.json")
    done = look(tmp_path, "check", *words)
    assert done.stdout.endswith("To run it: fleet run s.toml --alerts a.json\n")
    (tmp_path / "a.json").write_text(EXAMPLE.replace('"dry_run": true', '"dry_run": false'))
    done = look(tmp_path, "run", *words)
    assert "a.json has 2 problems; a.json:12: adapters.ops-slack.webhook_env: " in done.stderr
    assert "To see them all: fleet check s.toml --alerts a.json" in done.stderr
    done = look(tmp_path, "check", *words)
    assert done.returncode == 2
    assert "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY is not set here" in done.stdout


@pytest.mark.slow
def test_doctor_names_what_is_missing_and_what_is_well(tmp_path: Path) -> None:
    written(tmp_path, TOML.replace("dry_run = true\n", ""))
    (check,) = alerts_of(tmp_path)
    assert check["state"] == "note"
    assert check["seen"] == "hook: HOOK is not set here"
    assert "export HOOK=…" in check["advice"]
    (check,) = alerts_of(tmp_path, HOOK="https://example.org/x")
    assert (check["state"], check["seen"]) == ("ok", "hook")
    written(tmp_path, TOML.replace("enabled = true", ""))
    assert alerts_of(tmp_path)[0]["seen"] == "off: enabled is not true in [alerts]"
    written(tmp_path)
    assert alerts_of(tmp_path)[0]["seen"] == "hook, a dry run: nothing is sent"


def alerts_of(where: Path, **values: str) -> list[dict[str, Any]]:
    answer = json.loads(look(where, "doctor", "--json", **values).stdout)
    return [check for check in answer["checks"] if check["name"] == "alerts"]
