"""Fields of a spec, from the file to what a task meets: real runs of real commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from .driver import fleet, spec, tasks

pytestmark = pytest.mark.slow


def outcomes(where: Path, text: str) -> dict[str, dict[str, Any]]:
    """Task -> its receipt, after a run of this spec."""
    done = fleet(where, "run", spec(where, text))
    assert done.returncode in (0, 1, 3), done.stdout + done.stderr
    told = json.loads(fleet(where, "receipts", "@last", "--json").stdout)
    return {one["task_id"]: one for one in told["receipts"]}


def results(where: Path, text: str) -> dict[str, tuple[str, str]]:
    """Task -> its result and the reason for it."""
    return {
        task: (one["result"], one["score"]["notes"] if one["score"] else one["reason"])
        for task, one in outcomes(where, text).items()
    }


def test_text_is_for_the_shell_and_a_list_is_for_the_program(tmp_path: Path) -> None:
    text = """
[[tasks]]
id = "text"
command = "echo $((20 + 3)) > text"
[[tasks]]
id = "list"
command = ["tee", "$((20 + 3))"]
"""
    assert {one["result"] for one in outcomes(tmp_path, text).values()} == {"pass"}
    assert (tmp_path / "text").read_text() == "23\n"
    assert (tmp_path / "$((20 + 3))").exists()


def test_a_task_begins_in_its_root_where_its_required_files_are(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "here.txt").touch()
    text = """
[[tasks]]
id = "there"
command = "pwd > place"
workspace = { root = "web", required_files = ["here.txt"] }
[[tasks]]
id = "gone"
command = "touch began"
workspace = { root = "web", required_files = ["here.txt", "gone.txt"] }
"""
    found = results(tmp_path, text)
    assert (tmp_path / "web" / "place").read_text() == f"{tmp_path}/web\n"
    assert found["there"][0] == "pass"
    assert found["gone"][0] == "fail" and "gone.txt" in found["gone"][1]
    assert "here.txt" not in found["gone"][1] and not (tmp_path / "web" / "began").exists()


def test_what_a_task_may_write_is_made_and_whose_paths_overlap_take_turns(tmp_path: Path) -> None:
    one = """
[[tasks]]
id = "%s"
command = "mkdir -p out/deep && mkdir out/deep/busy && sleep 0.1 && rmdir out/deep/busy"
workspace = { writable_paths = ["%s"] }
"""
    found = outcomes(tmp_path, one % ("a", "out/deep") + one % ("b", "out"))
    assert [row["result"] for row in found.values()] == ["pass", "pass"]
    assert (tmp_path / "out" / "deep").is_dir()


def test_time_that_is_up_ends_an_attempt(tmp_path: Path) -> None:
    text = tasks("exec sleep 600") + "timeout_seconds = 0.2\n"
    text += tasks("exec sleep 600").replace("t1", "t2") + "budget = { max_seconds = 0.2 }\n"
    assert results(tmp_path, text) == {
        "t1": ("timeout", "ran longer than timeout_seconds = 0.2"),
        "t2": ("fail", "all attempts together ran longer than budget.max_seconds = 0.2"),
    }


def test_a_promised_artifact_must_be_there_and_is_found_by_its_glob(tmp_path: Path) -> None:
    promise = 'artifacts = { report = "%s/*.md" }\nexpected_artifacts = ["report"]\n'
    text = tasks("mkdir a && echo hello > a/b.md") + promise % "a"
    text += tasks("true").replace("t1", "t2") + promise % "nowhere"
    found = outcomes(tmp_path, text)
    kept = [one["path"] for one in found["t1"]["artifacts"] if one["kind"] == "report"]
    assert found["t1"]["result"] == "pass" and kept == ["a/b.md"]
    assert found["t2"]["result"] == "fail"
    assert found["t2"]["score"]["notes"].endswith("promised artifact missing: report")


def test_no_more_run_at_once_than_the_spec_says(tmp_path: Path) -> None:
    alone = "mkdir busy && sleep 0.1 && rmdir busy"
    text = "max_workers = 1\n" + tasks(alone, alone, alone)
    assert [one["result"] for one in outcomes(tmp_path, text).values()] == ["pass"] * 3


def test_a_run_stops_after_as_many_failures_as_its_spec_allows(tmp_path: Path) -> None:
    text = "max_workers = 1\nmax_failures = 1\n" + tasks("false", "touch began")
    found = results(tmp_path, text)
    assert found["t1"][0] == "fail"
    assert found["t2"] == ("skip", "max_failures = 1 was reached")
    assert not (tmp_path / "began").exists()


def test_a_run_ends_at_its_deadline_and_a_resume_gives_it_anew(tmp_path: Path) -> None:
    text = "max_workers = 1\ndeadline_seconds = 1\n"
    wait = "test -e go || { touch go; exec sleep 60; }"
    found = results(tmp_path, text + tasks(wait, "touch began"))
    assert {reason for _, reason in found.values()} == {"deadline_seconds = 1 have passed"}
    assert not (tmp_path / "began").exists()
    done = fleet(tmp_path, "resume", "@last")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "began").exists()


def test_the_name_of_its_schema_changes_nothing(tmp_path: Path) -> None:
    text = '"$schema" = "nowhere/at-all.json"\n' + tasks("true")
    assert outcomes(tmp_path, text)["t1"]["result"] == "pass"


def test_each_kind_of_scorer_judges(tmp_path: Path) -> None:
    verdict = '{"verdict": "pass", "quotes": ["exit 0"]}'
    (tmp_path / "fleet.toml").write_text(
        f"[agents.judge]\ncommand = ['sh', '-c', \"echo '{json.dumps(verdict)[1:-1]}'\"]\n"
        'prompt = "argument"\nusage = "none"\n'
    )
    (tmp_path / "a.json").write_text('{"ok": true}')
    kinds = {
        "exit_code": "",
        "file_exists": 'path = "a.json"',
        "regex_match": 'path = "a.json", pattern = "true"',
        "json_path": 'path = "a.json", expression = "$.ok"',
        "command": 'command = "true"',
        "code_whale_verifier_prompt": 'prompt = "?", agent = "judge"',
        "manual": "",
    }
    text = "".join(
        f'[[tasks]]\nid = "{kind}"\ncommand = "true"\n'
        f'scorer = {{ kind = "{kind}"{more and ", " + more} }}\n'
        for kind, more in kinds.items()
    )
    found = outcomes(tmp_path, text)
    assert {task: one["scorer"] for task, one in found.items()} == {kind: kind for kind in kinds}
    assert found.pop("manual")["result"] == "partial"
    assert {one["result"] for one in found.values()} == {"pass"}


def test_a_scorer_of_its_own_has_its_arguments_and_its_time(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        '[agents.judge]\ncommand = ["sh", "-c", "exec sleep 600"]\nprompt = "argument"\n'
        'usage = "none"\n'
    )
    text = tasks("echo draft > 'a b'", "true", "true")
    made, late, hung = text.split("[[tasks]]\n")[1:]
    command = 'scorer = { kind = "command", command = "%s", args = ["%s"], timeout_seconds = %s }\n'
    text = f"[[tasks]]\n{made}" + command % ("stat", "a b", 60)
    text += f"[[tasks]]\n{late}" + command % ("sleep", "600", 0.2)
    text += f"[[tasks]]\n{hung}" + (
        'scorer = { kind = "code_whale_verifier_prompt", prompt = "?", agent = "judge", '
        "timeout_seconds = 0.2 }\n"
    )
    found = outcomes(tmp_path, text)
    assert found["t1"]["result"] == "pass"
    for late_one in ("t2", "t3"):
        assert found[late_one]["failure_kind"] == "verifier"
        assert "timeout_seconds = 0.2" in found[late_one]["score"]["notes"]


def test_an_agent_that_costs_more_than_its_task_may_is_ended(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        """[agents.dear]
command = ["sh", "-c", 'echo "{\\"spent\\": 0.75}"; exec sleep 600']
usage = { cost_usd = [{ path = "spent", take = "last" }] }
"""
    )
    text = """
[[tasks]]
id = "a"
agent = "dear"
instructions = "think"
budget = { max_cost_usd = 0.5 }
"""
    told = "used more than budget.max_cost_usd = 0.5 (0.75 in all attempts)"
    assert results(tmp_path, text) == {"a": ("fail", told)}
