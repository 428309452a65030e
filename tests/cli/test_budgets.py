"""Budgets end to end: what agents use while they work and while they judge, and what follows."""

import json
import subprocess
from pathlib import Path

import pytest

from .driver import fleet, spec

pytestmark = pytest.mark.slow

AGENTS = """
[agents.scribe]
command = ["sh", "-c", "echo '{\\"in\\": 60}'; echo done > report.md"]
[agents.scribe.usage]
tokens_in = [{ path = "in", take = "sum" }]
tokens_out = [{ path = "out", take = "sum" }]

[agents.judge]
command = ["./judge"]
[agents.judge.usage]
tokens_in = [{ path = "in", take = "sum" }]
tokens_out = [{ path = "out", take = "sum" }]
answer = [{ path = "text" }]
"""
JUDGE = """#!/bin/sh
cat > /dev/null
echo '{"in": 30}'
sleep 0.6
echo '{"in": 30}'
sleep 600
"""
TASK = """
[[tasks]]
id = "write"
agent = "scribe"
instructions = "Write it."
artifacts = { report = "report.md" }
"""
SCORER = 'scorer = { kind = "code_whale_verifier_prompt", agent = "judge", prompt = "Is it?" }\n'


def judged(where: Path, document: str) -> "subprocess.CompletedProcess[str]":
    (where / "fleet.toml").write_text(AGENTS)
    (where / "judge").write_text(JUDGE)
    (where / "judge").chmod(0o755)
    spec(where, document)
    return fleet(where, "run", "tasks.toml")


@pytest.mark.parametrize("whose", ["task", "run"])
def test_work_whose_verifier_crosses_a_cap_is_kept_and_waits_for_a_person(
    tmp_path: Path, whose: str
) -> None:
    budget = "budget = { max_tokens = 100 }\n"
    document = TASK + budget + SCORER if whose == "task" else budget + TASK + SCORER
    done = judged(tmp_path, document)
    assert done.returncode == 3, done.stdout + done.stderr
    receipt = json.loads(fleet(tmp_path, "receipts", "@last", "--json").stdout)["receipts"][0]
    assert (receipt["result"], receipt["exit"]) == ("partial", 0)
    of_the_run = "the tasks of its run used more than the run's budget.max_tokens = 100"
    words = {
        "task": "with its verifier it used more than budget.max_tokens = 100 (120 in all attempts)",
        "run": f"{of_the_run} (120 recorded)",
    }[whose]
    assert receipt["score"]["notes"] == f"not verified: {words}"
    assert [one["kind"] for one in receipt["artifacts"] if one["kind"] == "report"]
    told = fleet(tmp_path, "explain", "@last/write").stdout
    name = "the run's budget" if whose == "run" else "budget"
    assert f"and its verifier have used 80 % of {name}.max_tokens" in told
    assert "verification 1 (agent): was ended (budget)" in told
    assert f"attempt 1 waits for a person (budget): not verified: {words}" in told
    used = json.loads(fleet(tmp_path, "cost", "@last", "--json").stdout)
    assert used["total"]["tokens"] == 120
    assert fleet(tmp_path, "verify", "@last/write", "--pass").returncode == 0
    assert fleet(tmp_path, "wait", "@last").returncode == 0


def test_a_cap_that_its_verifier_does_not_report_is_refused_by_name(tmp_path: Path) -> None:
    budget = "budget = { max_cost_usd = 1 }\n"
    (tmp_path / "fleet.toml").write_text(AGENTS.replace('take = "sum" }]', 'take = "sum" }]\n'
        'cost_usd = [{ path = "usd" }]', 1))  # fmt: skip
    spec(tmp_path, TASK + budget + SCORER)
    told = fleet(tmp_path, "check", "tasks.toml")
    assert told.returncode == 2
    assert 'agent "judge" does not report its cost, so this cannot be held' in told.stdout
    assert "--allow-unenforced budget.max_cost_usd" in told.stdout
    allowed = ("--allow-unenforced", "budget.max_cost_usd")
    assert fleet(tmp_path, "check", "tasks.toml", *allowed).returncode == 0
