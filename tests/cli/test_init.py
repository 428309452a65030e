"""A fleet begins."""

import json
import re
import tomllib
from pathlib import Path

from .driver import fleet, words_of


def a_program(path: Path, text: str = "echo 7.1 of a program") -> None:
    """Something on PATH that says its version."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def with_programs(where: Path) -> str:
    """A PATH with those of the test, and no agent of this machine."""
    return f"{where / 'bin'}:/usr/bin:/bin"


def test_init_makes_a_fleet_that_git_does_not_see(tmp_path: Path) -> None:
    done = fleet(tmp_path, "init")
    assert done.returncode == 0, done.stderr
    assert "Made fleet.toml and .fleet" in done.stdout
    assert (tmp_path / ".fleet" / ".gitignore").read_text().strip() == "*"
    assert (tmp_path / ".fleet").stat().st_mode & 0o777 == 0o700
    assert words_of(tmp_path) == ["fleet.initialized"]


def test_the_written_file_is_accepted_as_it_is_and_uncommented(tmp_path: Path) -> None:
    fleet(tmp_path, "init")
    path = tmp_path / "fleet.toml"
    path.write_text(re.sub(r"^# (\w+ = )", r"\1", path.read_text(), flags=re.MULTILINE))
    said = tomllib.loads(path.read_text())
    assert {table: list(names) for table, names in said.items()} == {
        "fleet": ["max_workers", "default_agent"],
        "retention": ["files_days", "detail_days"],
        "disk": ["warn_below_mb", "stop_below_mb"],
    }
    assert said["disk"] == {"warn_below_mb": 1000, "stop_below_mb": 100}
    a_program(tmp_path / "bin" / "claude")
    assert fleet(tmp_path, "doctor", PATH=with_programs(tmp_path)).returncode == 0


def test_the_agents_that_are_found_have_a_section_and_one_is_the_default(tmp_path: Path) -> None:
    a_program(tmp_path / "bin" / "codex")
    a_program(tmp_path / "bin" / "aider")
    fleet(tmp_path, "init", PATH=with_programs(tmp_path))
    path = tmp_path / "fleet.toml"
    said = tomllib.loads(path.read_text())
    assert (list(said["agents"]), said["fleet"]["default_agent"]) == (["codex", "aider"], "codex")
    assert "# Codex CLI." in path.read_text()
    path.write_text(re.sub(r"^# (\w+ = )", r"\1", path.read_text(), flags=re.MULTILINE))
    done = fleet(tmp_path, "doctor", "--json", PATH=with_programs(tmp_path))
    seen = {check["name"]: check["seen"] for check in json.loads(done.stdout)["checks"]}
    assert seen["agent codex"] == "7.1 of a program, tried, the default"
    assert seen["agent aider"] == "7.1 of a program, untried"


def test_twice_is_harmless_and_changes_nothing(tmp_path: Path) -> None:
    fleet(tmp_path, "init")
    (tmp_path / "fleet.toml").write_text("# mine\n")
    before = (tmp_path / ".fleet" / "fleet.jsonl").read_bytes()
    done = fleet(tmp_path, "init")
    assert done.returncode == 0
    assert "is a fleet already" in done.stdout
    assert "nothing was changed" in done.stdout
    assert (tmp_path / "fleet.toml").read_text() == "# mine\n"
    assert (tmp_path / ".fleet" / "fleet.jsonl").read_bytes() == before


def test_init_below_a_fleet_makes_one_of_its_own(tmp_path: Path) -> None:
    fleet(tmp_path, "init")
    (tmp_path / "below").mkdir()
    fleet(tmp_path / "below", "init")
    assert (tmp_path / "below" / ".fleet" / "fleet.jsonl").exists()


def test_init_in_json_says_what_was_made(tmp_path: Path) -> None:
    made = json.loads(fleet(tmp_path, "init", "--json").stdout)
    assert made["made"] == ["fleet.toml", ".fleet"]
    assert made["fleet"].startswith("fl-")
    again = json.loads(fleet(tmp_path, "init", "--json").stdout)
    assert (again["made"], again["fleet"]) == ([], made["fleet"])


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = fleet(tmp_path, "init", "--dir", "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_a_fleet_file_with_an_unknown_name_stops_a_run(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("[fleet]\n\nmax_worker = 3\n")
    (tmp_path / "t.toml").write_text('[[tasks]]\nid = "a"\ncommand = "true"\n')
    done = fleet(tmp_path, "run", "t.toml")
    assert done.returncode == 2
    assert "fleet.toml:3" in done.stderr
    assert "max_workers" in done.stderr
