"""Budgets, usage limits and cost, with a scripted stand-in as the agent, through `fleet run`."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .driver import FLEET, REPOSITORY, environment, fleet

pytestmark = pytest.mark.slow

STAND_IN = REPOSITORY / "tests" / "agents" / "stand_in.py"
FAST = 'scorer = { kind = "exit_code" }\n'


def agents(where: Path, quota: str = "") -> None:
    (where / "fleet.toml").write_text(
        f"""
[agents.helper]
command = ["{sys.executable}", "-I", "{STAND_IN}"]
usage = "claude-stream-json"
{quota}
"""
    )


def written(where: Path, head: str = "", **tasks: str) -> str:
    """A spec of tasks for the stand-in: name -> its script, and TOML after a line of `---`."""
    text = head
    for name, script in tasks.items():
        words, _, more = script.partition("---\n")
        text += f'\n[[tasks]]\nid = "{name}"\nagent = "helper"\n{FAST}{more}'
        text += f'instructions = """\n{words}"""\n'
    (where / "work.toml").write_text(text)
    return "work.toml"


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_cap_ends_an_agent_and_says_what_was_used(tmp_path: Path) -> None:
    agents(tmp_path)
    script = "@tokens 850 0\n@tokens 300 0\n@hang\n---\nbudget = { max_tokens = 1000 }\n"
    done = fleet(tmp_path, "run", written(tmp_path, greedy=script), "--json")
    made = answer(done)
    assert done.returncode == 1
    assert (made["sources"], made["usage"]["tokens"]) == ({"budget": 1}, 1150)
    reason = "used more than budget.max_tokens = 1,000 (1,150 in all attempts)"
    assert made["failed"][0]["reason"] == reason
    said = fleet(tmp_path, "explain", "@last/greedy").stdout
    assert "attempt 1 has used 80 % of budget.max_tokens" in said
    assert reason in said


def test_a_budget_sums_over_attempts(tmp_path: Path) -> None:
    agents(tmp_path)
    more = "---\nbudget = { max_tool_calls = 4 }\nretry_policy = { initial_backoff_seconds = 0 }\n"
    hangs_later = tmp_path / "hangs-later"
    hangs_later.write_text("#!/bin/sh\nmkdir first || exec sleep 600\n")
    hangs_later.chmod(0o755)
    script = f"@tool Read a\n@tool Read b\n@run ./hangs-later\n@fail no\n{more}"
    made = answer(fleet(tmp_path, "run", written(tmp_path, caller=script), "--json"))
    assert made["sources"] == {"budget": 1}
    assert made["failed"][0]["attempts"] == 2
    reason = "used more than budget.max_tool_calls = 4 (6 in all attempts)"
    assert made["failed"][0]["reason"] == reason


def test_a_run_ends_when_its_tasks_together_have_used_its_budget(tmp_path: Path) -> None:
    agents(tmp_path)
    script = "@tokens 400 0\n@hang\n"
    head = 'name = "work"\nbudget = { max_tokens = 1000 }\n'
    spec = written(tmp_path, head, a=script, b=script, c=script, d=script)
    made = answer(fleet(tmp_path, "run", spec, "--max-workers", "3", "--json"))
    assert made["counts"] == {"failed": 3, "cancelled": 1}
    assert made["sources"] == {"budget": 3}
    told = "the tasks of its run used more than the run's budget.max_tokens = 1,000"
    assert {row["reason"].partition(" (")[0] for row in made["failed"]} == {told}
    assert made["usage"]["tokens"] == 1200


def test_a_cap_holds_while_no_manager_lives(tmp_path: Path) -> None:
    agents(tmp_path)
    script = "@tokens 600 0\n@wait go\n@tokens 600 0\n@hang\n---\nbudget = { max_tokens = 1000 }\n"
    spec = written(tmp_path, greedy=script)
    manager = subprocess.Popen(
        [*FLEET, "run", spec], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    )
    assert manager.stderr is not None
    until_line(manager.stderr.fileno(), b"running greedy 600 tokens")
    os.kill(manager.pid, signal.SIGKILL)
    manager.wait()
    manager.stderr.close()
    (tmp_path / "go").touch()
    made = answer(fleet(tmp_path, "resume", "@last", "--json"))
    reason = "used more than budget.max_tokens = 1,000 (1,200 in all attempts)"
    assert made["failed"][0]["reason"] == reason


def until_line(descriptor: int, wanted: bytes) -> None:
    heard, until = b"", time.monotonic() + 30
    while wanted not in heard:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        assert ready, heard
        data = os.read(descriptor, 4096)
        assert data, heard
        heard += data


QUOTA = "quota = { patterns = ['limit . resets (?P<until>.+)', 'usage limit'], wait_seconds = 30 }"


def test_a_usage_limit_holds_back_the_agents_work_and_nothing_else(tmp_path: Path) -> None:
    agents(tmp_path, QUOTA)
    limited = "@limit 570 You've hit your limit\n"
    spec = written(tmp_path, first=limited, second="@say ok\n")
    with (tmp_path / spec).open("a") as file:
        file.write('[[tasks]]\nid = "shell"\ncommand = "true"\n')
    manager = subprocess.Popen(
        [*FLEET, "run", spec, "--max-workers", "1"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
    )
    try:
        assert manager.stderr is not None
        until_line(manager.stderr.fileno(), b"passed shell")
        assert_it_rests(tmp_path)
        os.kill(manager.pid, signal.SIGKILL)  # who comes after knows of it, too
        manager.wait()
        assert_it_rests(tmp_path)
        fleet(tmp_path, "stop", "@last")
    finally:
        manager.kill()
        manager.wait()
        assert manager.stderr is not None
        manager.stderr.close()
    made = answer(fleet(tmp_path, "inspect", "@last/first", "--json"))
    assert (made["attempt"], made["failures"]) == (1, 0)


def test_a_usage_limit_of_a_verifier_leaves_the_work_to_a_person(tmp_path: Path) -> None:
    agents(tmp_path, QUOTA)
    scorer = """scorer = { kind = "code_whale_verifier_prompt", agent = "helper", prompt = '''
@limit 570 You've hit your limit
''' }"""
    (tmp_path / "work.toml").write_text(
        f'[[tasks]]\nid = "done"\ncommand = "echo the answer is 42"\n{scorer}\n'
    )
    run = fleet(tmp_path, "run", "work.toml")
    assert run.returncode == 3, run.stdout + run.stderr
    assert "not verified: helper has reached a usage limit: You've hit your limit" in run.stdout
    assert "fleet verify " in run.stdout
    resting = answer(fleet(tmp_path, "status", "--json"))["resting"]
    assert [row["agent"] for row in resting] == ["helper"]
    why = fleet(tmp_path, "explain", "@last/done").stdout
    assert "helper has reached a usage limit and rests for 9 min" in why
    assert fleet(tmp_path, "verify", "@last/done", "--pass").returncode == 0


def assert_it_rests(where: Path) -> None:
    resting = answer(fleet(where, "status", "--json"))["resting"]
    assert [row["agent"] for row in resting] == ["helper"]
    assert 500 < resting[0]["until"] - time.time() <= 570
    said = fleet(where, "status").stdout
    assert "helper rests until " in said and "You've hit your limit" in said
    why = answer(fleet(where, "explain", "@last/second", "--json"))
    assert why["waiting"] == "quota"
    assert "helper has reached a usage limit: You've hit your limit (in 9 min)" in str(why["lines"])
    said = fleet(where, "explain", "@last").stdout
    assert "2 tasks wait: helper has reached a usage limit" in said


def test_work_goes_on_by_itself_after_a_usage_limit(tmp_path: Path) -> None:
    script = tmp_path / "agent.sh"
    script.write_text(
        "#!/bin/sh\nif test -e there; then echo fine; exit 0; fi\n"
        "touch there; echo 'usage limit reached' >&2; exit 1\n"
    )
    script.chmod(0o755)
    (tmp_path / "fleet.toml").write_text(
        f'[agents.helper]\ncommand = ["{script}"]\n{QUOTA.replace("30", "1")}\n'
    )
    done = fleet(tmp_path, "run", written(tmp_path, a="go on\n"))
    assert done.returncode == 0
    assert "again in 1" in done.stderr or "again in 9" in done.stderr
    attempts = answer(fleet(tmp_path, "inspect", "@last/a", "--json"))["attempts"]
    assert [row["result"] for row in attempts] == ["skip", "pass"]
    assert attempts[0]["quota"]["words"] == "usage limit reached"


def test_cost_is_told_by_task_agent_model_and_label(tmp_path: Path) -> None:
    agents(tmp_path)
    spec = written(
        tmp_path,
        'name = "work"\nlabels = { team = "docs" }\n',
        good="@tokens 900 100\n@tool Edit a\n@cost 0.25\n",
        bad="@tokens 500 0\n@cost 0.50\n@fail no\n",
        killed="@tokens 10 0\n@exit 1\n",
    )
    fleet(tmp_path, "run", spec)
    made = answer(fleet(tmp_path, "cost", "@last", "--json"))
    total = made["total"]
    assert (total["tokens"], total["tool_calls"], total["cost_usd"]) == (1510, 1, 0.75)
    assert (total["passed"], total["cost_per_passed_usd"]) == (1, 0.75)
    by_task = {row["task"].partition("/")[2]: row for row in made["by_task"]}
    assert list(by_task) == ["bad", "good", "killed"]
    assert by_task["good"]["cost_per_passed_usd"] == 0.25
    assert by_task["killed"]["cost_usd"] is None
    assert [row["agent"] for row in made["by_agent"]] == ["helper"]
    assert [row["model"] for row in made["by_model"]] == ["stand-in-1"]
    assert [row["label"] for row in made["by_label"]] == ["team=docs"]
    assert made["no_cost"] == {"helper": 1}
    said = fleet(tmp_path, "cost", "@last").stdout
    assert ": at least $0.75, 1.5k tokens, 1 tool call\n" in said
    assert "1 task passed, at $0.75 each, failures included" in said
    assert "sums are without it: helper (1 of them)." in said
    fleet(tmp_path, "run", spec)
    every = answer(fleet(tmp_path, "cost", "--json"))
    assert (every["runs"], every["total"]["cost_usd"]) == (2, 1.5)
    assert len(every["by_run"]) == 2
    one = answer(fleet(tmp_path, "cost", "@last/good", "--json"))
    assert one["total"]["cost_usd"] == 0.25


def test_commands_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[[tasks]]\nid = "a"\ncommand = "true"\n')
    fleet(tmp_path, "run", "s.toml")
    assert "no agent has reported any usage" in fleet(tmp_path, "cost").stdout
    assert answer(fleet(tmp_path, "cost", "@last", "--json"))["total"]["tokens"] == 0


def test_an_agent_that_lies_about_its_exit_has_failed(tmp_path: Path) -> None:
    agents(tmp_path)
    made = answer(fleet(tmp_path, "run", written(tmp_path, a="@lie overloaded\n"), "--json"))
    assert made["failed"][0]["reason"] == "overloaded"
    assert made["sources"] == {"task": 1}
