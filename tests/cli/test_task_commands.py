"""What running tasks call, what answers them, and what people see of it: real runs, real kills."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .driver import FLEET, environment, fleet, spec

pytestmark = pytest.mark.slow

SELF = f"{sys.executable} -m codewhale_fleet"
OUTSIDE = [
    "artifact add report x", "usage add --tokens-in 1", "progress 40 linking", "checkpoint x",
    "ask Which?", "data put x 1", "data get x", "data list", "data query a", "data delete x",
    "secret get KEY",
]  # fmt: skip


def task(name: str, script: str, more: str = "") -> str:
    """A task whose script calls `fleet` where it says FLEET."""
    text = script.replace("FLEET ", f"{SELF} ")
    return f'[[tasks]]\nid = "{name}"\ncommand = {json.dumps(text)}\n{more}\n'


@contextmanager
def begun(where: Path, text: str, **more: str) -> Iterator[str]:
    """A run that a detached manager has; it is stopped in the end."""
    made = fleet(where, "run", spec(where, text), "--detach", "--json", **more)
    assert made.returncode == 0, made.stderr
    run = json.loads(made.stdout)["run"]
    try:
        yield run
    finally:
        fleet(where, "stop", run)


def tail(where: Path, word: str, count: int = 1) -> None:
    """Return once the ledger has that many records of a word."""
    follow = subprocess.Popen(
        [*FLEET, "ledger", "tail", "--follow", "--only", word, "--lines", "100", "--json"],
        cwd=where, env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follow.stdout
    try:
        for _ in range(count):
            assert word in follow.stdout.readline()
    finally:
        follow.kill()
        follow.wait()
        follow.stdout.close()


def status(where: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(fleet(where, "status", "--json").stdout)
    return made


def output(where: Path, name: str) -> str:
    return fleet(where, "logs", name).stdout


@pytest.mark.parametrize("line", OUTSIDE)
def test_outside_a_task_there_is_one_sentence(tmp_path: Path, line: str) -> None:
    done = fleet(tmp_path, *line.split())
    assert done.returncode == 2 and done.stdout == ""
    sentence, _hint = done.stderr.splitlines()
    assert sentence.startswith("fleet: fleet " + line.split()[0])
    assert "where no task calls it" in sentence or "is for tasks" in sentence
    assert json.loads(fleet(tmp_path, *line.split(), "--json").stderr)["error"]["code"] == "outside"


def test_a_question_is_answered_once_and_by_a_person(tmp_path: Path) -> None:
    script = "FLEET answer @last/a x; FLEET ask 'Which site?' --choices eu,us; FLEET ask 'Sure?'"
    with begun(tmp_path, task("a", script)) as run:
        tail(tmp_path, "question.asked")
        asked = status(tmp_path)
        assert asked["needs"] == [
            {
                "id": f"{run}/a@1",
                "why": "needs_human: Which site? (eu, us)",
                "next": f'fleet answer {run}/a@1 "eu"',
            }
        ]
        assert asked["counts"]["escalated"] == 1
        assert "fleet answer" in fleet(tmp_path, "explain", f"{run}/a").stdout
        shown = json.loads(fleet(tmp_path, "inspect", f"{run}/a", "--json").stdout)
        assert shown["asks"][0]["question"] == "Which site?"
        wrong = fleet(tmp_path, "answer", f"{run}/a@1", "asia")
        assert (wrong.returncode, "none of the choices" in wrong.stderr) == (2, True)
        done = fleet(tmp_path, "answer", f"{run}/a@1", "us")
        assert done.stdout == f"answered {run}/a@1: us\n"
        twice = fleet(tmp_path, "answer", f"{run}/a@1", "eu")
        assert twice.returncode == 4 and "was answered by cli:user: us" in twice.stderr
        tail(tmp_path, "question.asked", 2)
        assert status(tmp_path)["needs"][0]["next"] == f'fleet answer {run}/a@1:2 "…"'
        assert fleet(tmp_path, "answer", f"{run}/a@1", "eu").returncode == 4
        assert fleet(tmp_path, "answer", f"{run}/a@1:2", "quite").returncode == 0
        assert fleet(tmp_path, "wait", run).returncode == 0
        assert output(tmp_path, "@last/a") == "us\nquite\n"
        errors = fleet(tmp_path, "logs", "@last/a", "--stderr").stdout
        assert "is a task of this fleet, and answers are for people" in errors
        late = fleet(tmp_path, "answer", f"{run}/a@1", "eu")
        assert late.returncode == 4 and "has finished" in late.stderr


def test_an_answer_finds_its_task_after_manager_and_runtime_died(tmp_path: Path) -> None:
    with begun(tmp_path, task("a", "FLEET ask 'Go on?'")) as run:
        tail(tmp_path, "question.asked")
        os.kill(int(status(tmp_path)["manager"]["pid"]), signal.SIGKILL)
        keeper = int((tmp_path / ".fleet/runtime/lock").read_text())
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        done = fleet(tmp_path, "answer", f"{run}/a", "yes, go on", "--json")
        assert json.loads(done.stdout) == {
            "attempt": f"{run}/a@1", "number": 1, "answer": "yes, go on", "waits": True,
        }  # fmt: skip
        assert fleet(tmp_path, "resume", run).returncode == 0
        assert output(tmp_path, "@last/a") == "yes, go on\n"


def test_the_next_attempt_has_the_answer_and_the_checkpoint(tmp_path: Path) -> None:
    script = (
        "FLEET ask 'Which?'; cat $FLEET_CHECKPOINT; FLEET checkpoint 'half done'; "
        'test -n "$FLEET_CHECKPOINT"'
    )
    retry = "retry_policy = { max_attempts = 2, initial_backoff_seconds = 0 }"
    with begun(tmp_path, task("a", script, retry)) as run:
        tail(tmp_path, "question.asked")
        fleet(tmp_path, "answer", f"{run}/a", "this")
        assert fleet(tmp_path, "wait", run).returncode == 0
        assert output(tmp_path, f"{run}/a@2") == "this\nhalf done"


def test_nobody_answers_in_time(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", spec(tmp_path, task("a", "FLEET ask 'Who?' --timeout 0.3")))
    assert done.returncode == 1
    assert "task: exit 3" in done.stdout + done.stderr
    assert "nobody answered within 0.3 s: Who?" in fleet(tmp_path, "logs", "@last/a").stderr


def test_data_is_shared_by_tasks_and_people(tmp_path: Path) -> None:
    text = task("a", "FLEET data put site eu --tags stage=live; FLEET ask 'Go on?'") + task(
        "b", "FLEET ask 'Ready?'; FLEET data get site; FLEET data get site --version 1"
    )
    with begun(tmp_path, text) as run:
        tail(tmp_path, "question.asked", 2)
        tail(tmp_path, "data.put")
        assert fleet(tmp_path, "data", "get", "site", "--run", "@last").stdout == "eu"
        done = fleet(tmp_path, "data", "put", "site", "-", "--run", run, given=b"us\n")
        assert done.stdout == "site version 2\n"
        listed = fleet(tmp_path, "data", "list", "--run", run).stdout
        assert listed == "site  version 2  3 bytes\n"
        assert fleet(tmp_path, "data", "query", "stage=live", "--run", run).stdout == ""
        fleet(tmp_path, "answer", f"{run}/b", "yes")
        fleet(tmp_path, "answer", f"{run}/a", "yes")
        assert fleet(tmp_path, "wait", run).returncode == 0
        assert output(tmp_path, f"{run}/b") == "yes\nus\neu"
        late = fleet(tmp_path, "data", "put", "site", "x", "--run", run)
        assert late.returncode == 4 and "its data stays as it is" in late.stderr
        assert fleet(tmp_path, "data", "get", "site", "--run", run).stdout == "us\n"
        gone = fleet(tmp_path, "data", "get", "other", "--run", run)
        assert gone.returncode == 2 and 'has no data "other"' in gone.stderr


def test_what_a_task_tells_is_shown_and_counted(tmp_path: Path) -> None:
    script = (
        "mkdir out; echo hi > out/r.md; FLEET artifact add report out/r.md; "
        "FLEET usage add --tokens-in 100 --tokens-out 20 --cost-usd 0.25; "
        "FLEET usage add --tokens-in 1; FLEET progress 71 linking; FLEET ask 'Enough?'"
    )
    with begun(tmp_path, task("a", script)) as run:
        tail(tmp_path, "question.asked")
        assert "[ 71 %] linking" in fleet(tmp_path, "status").stdout
        assert "[ 71 %] linking" in fleet(tmp_path, "inspect", f"{run}/a@1").stdout
        fleet(tmp_path, "answer", f"{run}/a", "yes")
        fleet(tmp_path, "wait", run)
        shown = json.loads(fleet(tmp_path, "inspect", f"{run}/a@1", "--json").stdout)
        assert [one["kind"] for one in shown["artifacts"] if one["kind"] == "report"] == ["report"]
        assert shown["told"]["usage"]["cost_usd"] == 0.25
        assert shown["told"]["usage"]["tokens_in"] == 101


def test_an_isolated_attempt_hands_over_files_of_its_own_directory(tmp_path: Path) -> None:
    script = "echo mine > r.md; FLEET artifact add report r.md; FLEET checkpoint r.md"
    text = task("a", script, 'workspace = { isolation = "copy" }')
    done = fleet(tmp_path, "run", spec(tmp_path, text))
    assert done.returncode == 0, fleet(tmp_path, "logs", "@last/a").stderr
    assert not (tmp_path / "r.md").exists()
    records = map(json.loads, (tmp_path / ".fleet/fleet.jsonl").read_text().splitlines())
    (end,) = [one["d"] for one in records if one["k"] == "attempt.ended"]
    (report,) = [one for one in end["artifacts"] if one["kind"] == "report"]
    assert report["path"] == "r.md"
    assert (tmp_path / ".fleet/evidence" / report["sha256"]).read_text() == "mine\n"


def test_the_prompt_of_an_agent_says_what_its_last_attempt_noted(tmp_path: Path) -> None:
    scribe = tmp_path / "scribe"
    scribe.write_text(f"#!/bin/sh\ncat\ntest $FLEET_CHECKPOINT || {SELF} checkpoint 'see part 3'\n"
                      "test $FLEET_CHECKPOINT\n")  # fmt: skip
    scribe.chmod(0o755)
    (tmp_path / "fleet.toml").write_text('[agents.scribe]\ncommand = ["./scribe"]\n')
    text = (
        '[[tasks]]\nid = "a"\nagent = "scribe"\ninstructions = "Write."\n'
        'scorer = { kind = "exit_code" }\n'
        "retry_policy = { max_attempts = 2, initial_backoff_seconds = 0 }\n"
    )
    done = fleet(tmp_path, "run", spec(tmp_path, text))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "see part 3" not in output(tmp_path, "@last/a@1")
    prompt = output(tmp_path, "@last/a@2")
    assert "see part 3" in prompt and "FLEET_CHECKPOINT" in prompt


def test_each_command_answers_in_json(tmp_path: Path) -> None:
    script = " && ".join(
        f"FLEET {line} --json"
        for line in (
            "artifact add note n.md", "usage add --tool-calls 3", "progress 50% half",
            "progress 60", "checkpoint n.md", "data put x 1 --tags a=b", "data get x", "data list",
            "data query a=b", "data delete x",
        )
    )  # fmt: skip
    (tmp_path / "n.md").write_text("note")
    done = fleet(tmp_path, "run", spec(tmp_path, task("a", script)))
    assert done.returncode == 0, fleet(tmp_path, "logs", "@last/a").stdout
    said = [json.loads(line) for line in output(tmp_path, "@last/a").splitlines()]
    assert said[0] == {"kind": "note", "path": "n.md", "size": 4}
    assert said[1] == {"usage": {"tool_calls": 3}}
    assert said[2:4] == [{}, {}]
    assert said[5]["version"] == 1 and said[6]["value"] == "1"
    assert said[7]["data"] == said[8]["data"] and said[7]["data"][0]["tags"] == {"a": "b"}
    assert said[9] == {"name": "x", "version": 1, "deleted": True}


def test_what_is_wrong_is_a_sentence_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * ((1 << 20) + 1))
    lines = (
        "artifact add report /etc/passwd", "progress 400 far", "usage add", "data put 'a b' x",
        "data put x", "data put x --file big", "data get nothing", "data query =", "checkpoint ''",
        "data put x 1 --run other", "progress '\t'",
    )  # fmt: skip
    script = "; ".join(f"FLEET {line}; echo $?" for line in lines)
    fleet(tmp_path, "run", spec(tmp_path, task("a", script)))
    assert output(tmp_path, "@last/a").split()[: len(lines)] == [
        "4", "2", "2", "2", "2", "2", "4", "2", "4", "2", "4",
    ]  # fmt: skip
    errors = fleet(tmp_path, "logs", "@last/a", "--stderr").stdout
    assert "Traceback" not in errors and errors.count("fleet: ") == len(lines)


def test_a_nested_fleet_has_its_own_door(tmp_path: Path) -> None:
    inner = task("in", "FLEET data put who inner; echo $FLEET_SOCKET")
    script = (
        "FLEET data put who outer; mkdir nested; cd nested; "
        "FLEET run --dir . ../inner.toml; FLEET data get who"
    )
    spec(tmp_path, inner, "inner.toml")
    done = fleet(tmp_path, "run", spec(tmp_path, task("out", script)))
    assert done.returncode == 0, fleet(tmp_path, "logs", "@last/out").stdout
    assert output(tmp_path, "@last/out").endswith("outer")
    nested = tmp_path / "nested"
    assert fleet(nested, "data", "get", "who", "--run", "@last").stdout == "inner"
    assert output(nested, "@last/in").splitlines()[-1] == f"{nested}/.fleet/runtime/tasks.sock"


def test_the_token_of_another_fleet_is_no_obstacle(tmp_path: Path) -> None:
    strange = {
        "FLEET_TOKEN": "fl-elsewhere.00", "FLEET_SOCKET": "/nowhere/tasks.sock",
        "FLEET_ATTEMPT_ID": "r/t@1", "FLEET_ID": "fl-elsewhere",
    }  # fmt: skip
    script = "FLEET data put x 1; FLEET ask 'Go on?'"
    with begun(tmp_path, task("a", script), **strange) as run:
        tail(tmp_path, "question.asked")
        done = fleet(tmp_path, "answer", f"{run}/a", "yes", **strange)
        assert done.returncode == 0, done.stderr
        assert fleet(tmp_path, "wait", run).returncode == 0


def test_a_deep_directory_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    done = fleet(deep, "run", spec(deep, task("a", "FLEET data put x 1; FLEET data get x")))
    assert done.returncode == 0
    assert output(deep, "@last/a") == "x version 1\n1"
