"""Agents that go on with a conversation, on machines that each have their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.typed import Row, ended, typed_in

pytestmark = pytest.mark.slow

TALKER = r"""
[agents.talker]
command = ["sh", "-c", '''
cat > /dev/null
if test "$1" = --go; then
  test -e "$HOME/talk-$2" && cat begun && echo went on >> "$HOME/ran"
  exit
fi
echo begun | tee "$HOME/talk-$FLEET_TASK_ID" > begun
echo "{\"session\": \"$FLEET_TASK_ID\", \"in\": 5}"
exit 1
''', "x"]
resume_flag = ["--go", "{session}"]
usage = { session = [{ path = "session" }], tokens_in = [{ path = "in" }] }
"""


def test_a_conversation_goes_on_where_it_began(tmp_path: Path) -> None:
    with typed_in(tmp_path) as hosts:
        hosts.serve("one")
        hosts.serve("two")
        (hosts.place / "fleet.toml").write_text(TALKER)
        policy = {"max_attempts": 2, "initial_backoff_seconds": 0, "resume_session": True}
        tasks: list[Row] = [
            {
                "id": f"t{n}",
                "agent": "talker",
                "instructions": "talk",
                "retry_policy": policy,
                "workspace": {"isolation": "copy"},
                "scorer": {"kind": "exit_code"},
            }
            for n in range(8)
        ]
        hosts.spec(tasks, {"one": {"slots": 2}, "two": {"slots": 2}})
        ended(hosts.running("run", "spec.json"), 0)
        went = [(one.home / "ran").read_text().count("went on") for one in hosts.servers.values()]
        assert sum(went) == 8 and min(went) > 0
        assert all(one["attempt"] == 2 for one in hosts.receipts().values())
