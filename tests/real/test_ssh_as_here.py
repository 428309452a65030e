"""What agents and policy have brought, on another machine as on this one: the same tasks leave the
same receipts, whichever ssh client leads there, and what is to be confined never runs otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.typed import Row, Typed, ended, typed_in

pytestmark = pytest.mark.slow

FLEET_TOML = r"""
[agents.scribe]
command = ["sh", "-c", '''
cat > "$FLEET_TASK_ID.prompt"
for part in 1 2 3 4 5; do
  echo "{\"in\": 380, \"out\": 20, \"usd\": 0.02, \"does\": \"part $part\"}"
done
grep -c . "$FLEET_TASK_ID.prompt" > lines
''']

[agents.scribe.usage]
tokens_in = [{ path = "in" }]
tokens_out = [{ path = "out" }]
cost_usd = [{ path = "usd" }]
note = [{ path = "does" }]

[agents.looping]
command = ["sh", "-c", "while echo '{\"in\": 400, \"out\": 1}'; do sleep 0.2; done"]
usage = { tokens_in = [{ path = "in" }], tokens_out = [{ path = "out" }] }

[agents.judge]
command = ["sh", "-c", '''
cat > asked
echo '{"verdict": "pass", "reason": "it is kind", "quotes": ["all is well"]}'
''']
usage = "none"

[agents.resting]
command = ["sh", "-c", "cat > /dev/null; echo 'limit reached, try again in 2 h' >&2; exit 1"]
quota = { patterns = ["limit reached, try again (?P<until>.+)"] }
"""
AGAIN = {"max_attempts": 3, "initial_backoff_seconds": 0}
TASKS: list[Row] = [
    {"id": "agent", "agent": "scribe", "instructions": "x", "artifacts": {"report": "lines"},
     "scorer": {"kind": "file_exists", "path": "lines"}},
    {"id": "capped", "agent": "looping", "instructions": "x", "budget": {"max_tokens": 1000},
     "scorer": {"kind": "exit_code"}},
    {"id": "judged", "command": "echo all is well", "verify": {"steps": [
        {"kind": "exit_code"}, {"kind": "command", "command": "true"},
        {"kind": "code_whale_verifier_prompt", "agent": "judge", "prompt": "Is it friendly?"}]}},
    {"id": "told", "command": "cat ${FLEET_FEEDBACK_FILE:-/dev/null} >> t; echo line >> t",
     "retry_policy": AGAIN, "verify": {"on_fail": "retry_with_feedback", "steps": [
         {"kind": "command", "command": "test $(wc -l < t) -ge 3 || { echo short; exit 1; }"}]}},
    {"id": "match", "command": "echo 1.2 > v; echo '{\"a\": false}' > j", "verify": {"steps": [
        {"kind": "regex_match", "path": "v", "pattern": "1[.]2"},
        {"kind": "json_path", "path": "j", "expression": "$.a"}]}},
    {"id": "person", "command": "true", "scorer": {"kind": "manual"}},
    {"id": "late", "command": "sleep 60", "timeout_seconds": 1},
    {"id": "spent", "command": "sleep 0.6; exit 1", "retry_policy": AGAIN | {"max_attempts": 9},
     "budget": {"max_seconds": 1}},
    {"id": "reads", "command": "touch new; test ! -e new", "worker": {"role": "reviewer"}},
    {"id": "writes", "command": "echo x > out/x && ! touch elsewhere && test -d $FLEET_SCRATCH",
     "workspace": {"writable_paths": ["out"]}},
    {"id": "fenced", "command": "! touch base && ! touch /usr/x",
     "worker": {"role": "read-only"}},
    {"id": "patched", "command": "echo more >> base", "workspace": {"isolation": "copy"}},
    {"id": "tool", "command": "git --version", "worker": {"tools": ["ls"]}},
]  # fmt: skip


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Typed]:
    with typed_in(tmp_path) as made:
        (made.place / "fleet.toml").write_text(FLEET_TOML)
        (made.place / "base").write_text("base\n")
        yield made


def told(hosts: Typed) -> dict[str, Any]:
    """Task -> what its receipt says, and what it left; but for times and digests."""
    kept = ("result", "source", "reason", "attempt")
    found: dict[str, Any] = {
        task: [one[key] for key in kept] for task, one in hosts.receipts().items()
    }
    found["capped"][2] = found["capped"][2].partition(" (")[0]
    for one in hosts.answer("artifacts", "@last")["artifacts"]:
        found[one["task_id"]].append(one["kind"])
    costs = hosts.answer("cost", "@last")["by_task"]
    (agent,) = [row for row in costs if row["task"].endswith("/agent")]
    found["agent"] += [agent["tokens"], agent["cost_usd"]]
    return found


@pytest.mark.parametrize("transport", ["asyncssh", "openssh"])
def test_the_same_tasks_leave_the_same_receipts(hosts: Typed, transport: str) -> None:
    server = hosts.serve("there")
    (server.work / "base").write_text("base\n")
    hosts.spec(TASKS, {"there": {"slots": 4, "transport": transport}})
    ended(hosts.running("run", "spec.json"), 1)
    far = told(hosts)
    hosts.spec(TASKS, {})
    ended(hosts.running("run", "spec.json", "--max-workers", "4"), 1)
    assert far == told(hosts)
    assert far["agent"][-2:] == [2000, 0.1]
    wrong = {task for task, one in far.items() if one[0] not in ("pass", "partial")}
    assert wrong == {"capped", "match", "late", "spent", "tool"}
    assert hosts.fleet("apply", "@last/patched").returncode == 0
    assert (hosts.place / "base").read_text() == "base\nmore\n"


def test_a_usage_limit_that_is_met_there_has_the_agent_rest(hosts: Typed) -> None:
    hosts.serve("there")
    hosts.spec([{"id": "a", "agent": "resting", "instructions": "x",
                 "scorer": {"kind": "exit_code"}}])  # fmt: skip
    assert hosts.fleet("run", "spec.json", "--detach").returncode == 0
    hosts.until("attempt.ended")
    assert "resting rests until" in hosts.fleet("status").stdout
    assert hosts.fleet("stop", "@last").returncode == 0


def test_without_bubblewrap_there_nothing_runs_that_is_to_be_confined(hosts: Typed) -> None:
    (hosts.folder / "none").write_text("")
    hide = f'mount --bind {hosts.folder}/none "$(readlink -f "$(command -v bwrap)")" && exec "$@"'
    server = hosts.serve("there")
    server.stop()
    server.before = ["unshare", "-m", "sh", "-c", hide, "sh"]
    server.start()
    policy = {"security_policy": {"default_trust_level": "sandbox"}}
    hosts.spec([{"id": "a", "command": "touch ran"}], **policy)
    ended(hosts.running("run", "spec.json"), 1)
    receipt = hosts.receipts()["a"]
    assert receipt["source"] == "policy" and "apt-get install bubblewrap" in receipt["reason"]
    assert not (server.work / "ran").exists()
    waived = ("--allow-unenforced", "security_policy.default_trust_level")
    ended(hosts.running("run", "spec.json", *waived), 1)  # it counts for what is lacking here
    assert hosts.receipts()["a"]["source"] == "policy" and not (server.work / "ran").exists()
