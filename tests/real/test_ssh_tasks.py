"""What tasks on another machine say while they run: they call `fleet`, which nobody installed.

The same tasks here and over there leave the same receipts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.pythons import path_with
from tests.real.typed import Row, Typed, ended, typed_in

pytestmark = pytest.mark.slow

PYTHONS = ("", "3.9")
FENCED = {"worker": {"role": "read-only"}}
CALLS: list[Row] = [
    {"id": "hand", "command": "echo x > r.md; fleet artifact add report r.md"},
    {"id": "use", "command": "fleet usage add --tokens-in 100 --tokens-out 20 --cost-usd 0.5"},
    {
        "id": "again",
        "command": 'if test -n "$FLEET_CHECKPOINT"; then cat "$FLEET_CHECKPOINT"; '
        "else fleet checkpoint 'step 3'; exit 1; fi",
        "retry_policy": {"max_attempts": 2, "initial_backoff_seconds": 0},
    },
    {
        "id": "data",
        "command": "fleet data put v 1.4 --tags a=b && fleet data query a=b && fleet data get v"
        " && echo blob | fleet data put w - && fleet data delete v && fleet data list --json",
    },
    {"id": "secret", "command": 'test "$(fleet secret get KEY)" = value-of-it && fleet progress 40',
     "secrets": ["KEY"]},
    {"id": "late", "command": "fleet ask Which? --timeout 0.2; test $? -eq 3"},
    {"id": "fenced", "command": "fleet progress 10 in && fleet data put z 1", **FENCED},
    {"id": "tools", "command": "fleet progress 10 in", "worker": {"tools": ["ls"]}},
    {"id": "outside", "command": "fleet artifact add report /etc/passwd"},
    {"id": "wrong", "command": "fleet usage add --words 3"},
]  # fmt: skip


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Typed]:
    with typed_in(tmp_path) as made:
        yield made


def told(hosts: Typed) -> dict[str, Row]:
    """Task -> what its receipt says, but for times."""
    kept = ("result", "source", "reason", "attempt")
    return {task: {key: one[key] for key in kept} for task, one in hosts.receipts().items()}


@pytest.mark.parametrize("version", PYTHONS)
def test_tasks_there_call_fleet_as_here(
    hosts: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("KEY", "value-of-it")
    path = path_with(tmp_path, version) if version else "/usr/local/bin:/usr/bin:/bin"
    hosts.serve("there", path=path)
    hosts.spec(CALLS, security_policy={"default_trust_level": "local", "allowed_secrets": ["KEY"]})
    seen = []
    for words in (("--on", "local"), ("--on", "there")):
        ended(hosts.running("run", "spec.json", *words), 1)
        assert hosts.answer("data", "list", "--run", "@last")["data"][0]["name"] == "w"
        assert "tokens" in hosts.fleet("cost", "@last").stdout
        assert hosts.fleet("logs", "@last/again").stdout == "step 3"
        artifacts = hosts.answer("artifacts", "@last")["artifacts"]
        assert [one["path"] for one in artifacts if one["task_id"] == "hand"] == ["r.md"]
        seen.append(told(hosts))
    assert seen[0] == seen[1]
    assert {id for id, one in seen[0].items() if one["result"] != "pass"} == {"outside", "wrong"}


def test_there_the_rest_of_fleet_is_a_sentence(hosts: Typed) -> None:
    hosts.serve("there")
    script = (
        "fleet --version; fleet ask --help\n"
        "for w in run 'usage add --x' 'data list --run other'; do fleet $w 2>&1; echo = $?; done\n"
        "fleet | grep -c 'fleet '; env -i \"$(command -v fleet)\" data list"
    )
    hosts.spec([{"id": "a", "command": script}])
    ended(hosts.running("run", "spec.json"), 1)
    lines = hosts.fleet("logs", "@last/a").stdout
    assert lines.count("= 2\n") == 3 and "Traceback" not in lines
    assert "fleet ask QUESTION [--choices A,B] [--timeout SECONDS]" in lines
    assert '"run" is no command of theirs' in lines and lines.endswith("11\n")
    assert "is for tasks" in hosts.fleet("logs", "@last/a").stderr


def test_values_that_one_machine_puts_are_there_on_another(hosts: Typed) -> None:
    """Also where the other is only being connected meanwhile."""
    hosts.serve("one")
    hosts.serve("two")
    loop = "for i in $(seq 100); do fleet data get v && exit; sleep 0.1; done; exit 1"
    hosts.spec(
        [
            {"id": "put", "command": "fleet data put v 1.4", "requires": {"target": "one"}},
            {"id": "get", "command": loop, "requires": {"target": "two"}},
        ]
    )
    ended(hosts.running("run", "spec.json"), 0)
    assert hosts.fleet("logs", "@last/get").stdout == "1.4"


def test_a_person_answers_what_is_asked_there_also_after_the_connection_broke(
    hosts: Typed,
) -> None:
    server = hosts.serve("there")
    hosts.spec([{"id": "ship", "command": "echo to $(fleet ask Where? --choices eu,us)"}])
    run = hosts.running("run", "spec.json")
    hosts.until("question.asked")
    server.stop()
    hosts.until("worker.unreachable")
    assert hosts.fleet("answer", "@last/ship", "eu").returncode == 0
    server.start()
    ended(run, 0)
    assert hosts.fleet("logs", "@last/ship").stdout == "to eu\n"
