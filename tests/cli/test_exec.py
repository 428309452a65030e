"""`fleet exec` on this machine, and what it refuses before anything is recorded."""

import json
from pathlib import Path

import pytest

from .driver import environment, fleet
from .scene import Told, told


def refused(*words: str) -> Told:
    made = told("exec", *words)
    assert made.code == 2, made
    return made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in environment().keys() & {"FLEET_DIR"}:
        monkeypatch.delenv(name)
    return tmp_path


def test_without_a_command_it_says_where_that_goes() -> None:
    made = refused("--on", "all")
    assert "fleet exec was given no command" in made.err
    assert "fleet exec --on all -- uptime" in made.err


def test_without_a_selector_it_says_where_names_are_found() -> None:
    assert "fleet worker list" in refused("--", "uptime").err


def test_options_of_the_command_need_the_two_dashes() -> None:
    assert "two dashes: fleet exec --on SELECTOR -- CMD\n" in refused("--on", "all", "ls", "-Z").err


def test_a_selector_that_nobody_fits_names_who_there_is(here: Path) -> None:
    text = "".join(
        f'[[workers]]\nid = "{one}"\nname = "{one}"\nhost = {{ kind = "ssh", host = "{one}" }}\n'
        for one in ("web01", "web02")
    )
    (here / "fleet.toml").write_text(text)
    made = refused("--on", "wbe01", "--", "true")
    assert '"wbe01"' in made.err and "web01" in made.err
    assert not list(here.glob(".fleet/fleet.jsonl"))


def test_what_looks_secret_does_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "x")
    assert "looks like a secret" in refused("--on", "local", "--env", "DEPLOY_TOKEN", "--", "a").err
    unset = refused("--on", "local", "--env", "NOT_SET_HERE", "--timeout", "5", "--", "a").err
    assert "is not set here" in unset and "--env NOT_SET_HERE --timeout 5 -- a" in unset
    assert "no name of a variable" in refused("--on", "local", "--env", "A=1", "--", "a").err


def test_a_script_that_is_not_there_is_named_with_what_is(here: Path) -> None:
    (here / "fix.sh").write_text("true")
    assert "fix.sh" in refused("--on", "local", "--script", "fx.sh").err
    (here / "empty").touch()
    assert "is empty" in refused("--on", "local", "--script", "empty").err


def test_failed_of_a_run_that_is_none_or_that_passed() -> None:
    assert "no run" in refused("--on", "@failed:nothing", "--", "true").err


@pytest.mark.slow
def test_this_machine_answers_as_if_the_command_had_run_here(tmp_path: Path) -> None:
    done = fleet(tmp_path, "exec", "--on", "local", "--", "echo out; echo err >&2; pwd")
    assert (done.returncode, done.stdout) == (0, f"out\n{tmp_path}\n")
    assert done.stderr.startswith("err\nlocal passed in ")
    done = fleet(tmp_path, "exec", "--on", "local", "-q", "--", "sh", "-c", "exit $0; x", "3")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    receipts = fleet(tmp_path, "receipts", "@last", "--json")
    assert "exit 3" in receipts.stdout


@pytest.mark.slow
def test_json_tells_the_target_and_then_the_run(tmp_path: Path) -> None:
    done = fleet(tmp_path, "exec", "--on", "local", "--json", "--", "echo hi; exit 4")
    one, whole = map(json.loads, done.stdout.splitlines())
    assert (one["id"], one["result"], one["exit"], one["stdout"]) == ("local", "fail", 4, "hi\n")
    assert (whole["counts"], whole["exit_code"], done.returncode) == ({"failed": 1}, 1, 1)
    found = json.loads(fleet(tmp_path, "receipts", "@last", "--json").stdout)
    assert one["receipt"] == found["receipts"][0]["terminal_seq"]


@pytest.mark.slow
def test_a_script_runs_by_its_first_line_with_its_arguments(tmp_path: Path) -> None:
    python = tmp_path / "a b.py"
    python.write_text("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n")
    done = fleet(tmp_path, "exec", "--on", "local", "--script", python.name, "--", "x y", "$z")
    assert (done.returncode, done.stdout) == (0, "['x y', '$z']\n")
    done = fleet(
        tmp_path, "exec", "--on", "local", "--script", "-", "--", "7", given=b'echo "$1"; exit $1'
    )
    assert (done.returncode, done.stdout) == (1, "7\n")
    python.unlink()
    again = fleet(tmp_path, "resume", "@last", "--failed")
    assert again.returncode == 1 and "exit 7" in again.stdout
    assert fleet(tmp_path, "logs", "@last/local").stdout == "7\n"


@pytest.mark.slow
def test_a_timeout_and_variables_go_along(tmp_path: Path) -> None:
    words = ("--timeout", "0.3", "--env", "COLOUR", "--", 'echo "$COLOUR"; sleep 60')
    done = fleet(tmp_path, "exec", "--on", "local", *words, COLOUR="blue")
    assert (done.returncode, done.stdout) == (1, "blue\n")
    assert "timed out" in done.stderr or "0.3" in done.stderr


def test_blanks_are_no_command() -> None:
    assert "fleet exec was given no command" in refused("--on", "all", "--", " \n").err
