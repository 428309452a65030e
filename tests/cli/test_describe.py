"""What a fleet can do fits into 8 KB, whatever it holds, and every word of it is so."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from codewhale_fleet.cli import app, describe, runbook
from codewhale_fleet.cli.hot import Call
from codewhale_fleet.views.status import SOURCES

from .driver import look
from .scene import Scene

PLACES = re.compile(r"\b(RUN/TASK@1|RUN/TASK|RUN|SPEC|HOST|ID|SELECTOR|CMD|TEXT|WHY)\b")


def described(where: Path, **more: str) -> dict[str, Any]:
    told = look(where, "describe", "--json", **more)
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.encode()) <= describe.MAX_BYTES
    made: dict[str, Any] = json.decode(told.stdout)
    return made


def test_every_command_is_marked_and_a_loop_over_one_is_named_its_call(tmp_path: Path) -> None:
    made = described(tmp_path)
    assert list(made["commands"]) == [name for name, _ in runbook.visible()]
    for name, one in made["commands"].items():
        reach = app.REACHES[name]
        assert (one["fleet_aware"], one["fan_out"]) == reach[:2]
        assert one.get("use_instead", "") == reach.use_instead
    assert made["commands"]["logs"]["use_instead"] == "fleet logs RUN"


def test_each_call_that_is_told_is_one_that_is_read(tmp_path: Path) -> None:
    told = [
        line.partition(": ")[0]
        for lines in described(tmp_path)["how_to"].values()
        for line in lines
    ]
    assert len(told) > 10
    for call in told:
        words = shlex.split(PLACES.sub("x", call.rpartition("| ")[2]))
        assert words[0] == "fleet"
        assert isinstance(app.read(words[1:]), Call), call


def test_it_works_where_there_is_no_fleet_and_makes_none(tmp_path: Path) -> None:
    made = described(tmp_path)
    assert made["fleet"] is None
    assert list(tmp_path.iterdir()) == []
    assert "no fleet here yet" in look(tmp_path, "describe").stdout


def test_it_says_which_fleet_and_what_its_limits_are(scene: Scene) -> None:
    (scene.root / "fleet.toml").write_text("[fleet]\nmax_workers = 7\n")
    made = described(scene.root)
    assert made["fleet"] == {"id": scene.ledger.state.fleet, "root": str(scene.root)}
    assert made["limits"]["max_workers"] == made["limits"]["max_workers_of_each"] == 7
    assert scene.ledger.state.fleet in look(scene.root, "describe").stdout


def test_twenty_agents_are_counted_and_some_are_named(tmp_path: Path) -> None:
    names = [f"agent-{'x' * 20}-{number:02}" for number in range(20)]
    text = "".join(f'[agents.{name}]\ncommand = ["./agent"]\n' for name in names)
    (tmp_path / "fleet.toml").write_text(f'[fleet]\ndefault_agent = "{names[19]}"\n{text}')
    agents = described(tmp_path, PATH="/nowhere")["agents"]
    assert agents["count"] == 20
    assert agents["default"] == agents["examples"][0]["name"] == names[19]
    assert all(one["fan_out"] and one["fleet_aware"] for one in agents["examples"])
    assert "and 12 more" in look(tmp_path, "describe", PATH="/nowhere").stdout


def test_names_as_long_as_they_may_be_do_not_make_it_longer(tmp_path: Path) -> None:
    text = "".join(f'[agents.{"é" * 60}{number}]\ncommand = ["a"]\n' for number in range(20))
    (tmp_path / "fleet.toml").write_text(text.replace("é", "e"))
    assert described(tmp_path, PATH="/nowhere")["agents"]["examples"] == []


def test_what_receipts_and_exit_codes_say_is_what_they_can_be() -> None:
    assert set(runbook.SOURCES) == set(SOURCES)
    page = (Path(__file__).parents[2] / "docs/reference/exit-codes.md").read_text()
    known = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)}
    assert set(runbook.EXITS) <= known


def test_a_terminal_that_is_narrow_loses_no_call(scene: Scene) -> None:
    text = scene.fleet("describe").out
    for one in app.REACHES.values():
        assert one.use_instead in text


@pytest.mark.parametrize("what", runbook.HOW_TO)
def test_each_thing_that_a_manager_does_is_told(what: str) -> None:
    assert runbook.ABOUT[what] and 1 < len(runbook.HOW_TO[what]) < 8
