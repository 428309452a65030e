"""Every problem at once, and nothing run."""

import json
from pathlib import Path

from .driver import fleet, spec, tasks


def test_a_right_spec_is_fine_and_says_what_to_type_next(tmp_path: Path) -> None:
    done = fleet(tmp_path, "check", spec(tmp_path, tasks("true", "true")))
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "tasks.toml: 2 tasks, fine"
    assert done.stdout.splitlines()[-1] == "To run it: fleet run tasks.toml"
    assert list(tmp_path.iterdir()) == [tmp_path / "tasks.toml"]


def test_every_problem_is_told_with_its_line_and_field(tmp_path: Path) -> None:
    text = (
        '[[tasks]]\nid = "a"\ncommand = "true"\ntimeout_secnds = 3\n'
        '[[tasks]]\nid = "a"\ncommand = "true"\nscorer = { kind = "file_exists" }\n'
    )
    done = fleet(tmp_path, "check", spec(tmp_path, text))
    assert done.returncode == 2
    assert "tasks.toml: 3 problems" in done.stdout
    assert "tasks.toml:4" in done.stdout
    assert "tasks[0].timeout_secnds" in done.stdout
    assert "timeout_seconds" in done.stdout
    assert "tasks[1].scorer.path" in done.stdout


def test_problems_are_one_object_in_json(tmp_path: Path) -> None:
    done = fleet(tmp_path, "check", spec(tmp_path, tasks("true") + "nme = 1\n"), "--json")
    assert done.returncode == 2
    made = json.loads(done.stdout)
    assert (made["ok"], made["exit_code"]) == (False, 2)
    (problem,) = made["problems"]
    assert problem["line"] == 4
    assert problem["field"] == "tasks[0].nme"


def test_a_right_spec_in_json(tmp_path: Path) -> None:
    made = json.loads(fleet(tmp_path, "check", spec(tmp_path, tasks("true")), "--json").stdout)
    assert (made["ok"], made["tasks"], made["problems"]) == (True, 1, [])
    assert len(made["digest"]) == 64


def test_explain_prints_the_plan(tmp_path: Path) -> None:
    done = fleet(tmp_path, "check", spec(tmp_path, tasks("make")), "--explain")
    assert done.returncode == 0
    assert "tasks: 1 task, 4 at once" in done.stdout
    assert "t1  make" in done.stdout


def test_a_waived_field_is_told_and_kept_in_the_next_command(tmp_path: Path) -> None:
    name = spec(tmp_path, tasks("true") + "lease_seconds = 5\n")
    assert fleet(tmp_path, "check", name).returncode == 2
    done = fleet(tmp_path, "check", name, "--allow-unenforced", "lease_seconds")
    assert done.returncode == 0
    assert "Not enforced, as allowed: lease_seconds" in done.stdout
    assert done.stdout.endswith("--allow-unenforced lease_seconds\n")


def test_a_waiver_that_is_no_field_names_the_nearest(tmp_path: Path) -> None:
    name = spec(tmp_path, tasks("true"))
    done = fleet(tmp_path, "check", name, "--allow-unenforced", "lease_second")
    assert done.returncode == 2
    assert "lease_seconds" in done.stderr


def test_stdin_is_checked_too(tmp_path: Path) -> None:
    done = fleet(tmp_path, "check", "-", given=tasks("true").encode())
    assert done.stdout.startswith("standard input: 1 task, fine")
