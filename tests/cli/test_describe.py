"""What a fleet can do fits into 8 KB, whatever it holds, and every word of it is so."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from codewhale_fleet.cli import app, describe, runbook
from codewhale_fleet.cli.hot import Call
from codewhale_fleet.core import commands as c
from codewhale_fleet.core.selectors import parse
from codewhale_fleet.views.status import SOURCES
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.inventory import Inventory

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


FIVE_HUNDRED = """
[[workers]]
id = "web[001-400]"
groups = ["web", "europe"]
labels = { role = "jenkins", tier = "front" }

[[workers]]
id = "db[01-99]"
groups = ["db"]
labels = { role = "db" }

[[workers]]
id = "build"
"""


def test_five_hundred_workers_are_counted_and_some_are_named(scene: Scene) -> None:
    agents = "".join(f'[agents.agent-{number}]\ncommand = ["./a"]\n' for number in range(20))
    (scene.root / "fleet.toml").write_text(FIVE_HUNDRED + agents)
    scene.ask(c.Drain(worker="web007", on=True, reason="kernel"))
    scene.ask(c.ReportUnreachable(worker="db01", why="no route to host"))
    made = described(scene.root)
    workers = made["workers"]
    assert workers["count"] == 500 and len(workers["examples"]) == 5
    assert workers["groups"] == {"web": 400, "europe": 400, "db": 99}
    assert workers["labels"]["role"] == {"jenkins": 400, "db": 99}
    assert workers["states"] == {"never_used": 498, "draining": 1, "unreachable": 1}
    assert workers["kinds"]["ssh"] == {"count": 500, "fleet_aware": True, "fan_out": True}
    assert "left_out" not in made
    assert "500 (498 never used, 1 draining, 1 unreachable)" in scene.fleet("describe").out


def test_the_selectors_that_are_examples_mean_somebody_here(scene: Scene) -> None:
    assert described(scene.root)["selectors"]["examples_here"] == ["local"]
    (scene.root / "fleet.toml").write_text(FIVE_HUNDRED)
    told = described(scene.root)["selectors"]
    assert {"all", "web*", "web001", "role=jenkins and not draining"} <= set(told["examples_here"])
    workers = Inventory.load(scene.root, fleetfile.read(scene.root)).definitions
    for text in told["examples_here"]:
        assert parse(text).choose(workers)
    assert any(line.startswith("@failed:RUN: ") for line in told["grammar"])
    assert len(told["grammar"]) == 6


def test_names_as_many_and_as_long_as_they_may_be_do_not_make_it_longer(tmp_path: Path) -> None:
    long = "x" * describe.NAME_BYTES
    workers = "".join(
        f'[[workers]]\nid = "{long[4:]}{number:04}"\ngroups = ["{long[4:]}g{number:03}"]\n'
        f'labels = {{ {long[4:]}k{number:03} = "{long[4:]}v", l = "{long[5:]}{number}" }}\n'
        for number in range(100)
    )
    agents = "".join(f'[agents.{long[2:]}{number:02}]\ncommand = ["a"]\n' for number in range(20))
    where = tmp_path / ("d" * 200) / ("e" * 200)
    where.mkdir(parents=True)
    (where / "fleet.toml").write_text(workers + agents)
    made = described(where, PATH="/nowhere")
    assert made["workers"]["count"] == 100 and made["agents"]["count"] == 20
    assert len(made["commands"]) == len(app.REACHES)
    too_long = {**made, "fleet": {"id": "f", "root": "/" + "é" * 3000}}
    assert describe.fitting(too_long)["fleet"] == {"id": "f"}


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
