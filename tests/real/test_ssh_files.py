"""Whole runs over ssh: files that travel, programs that are there, and roads that break."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.driver import fleet
from tests.engine.remote import Hosts, hosts_in
from tests.real.wire import Wire

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_in(tmp_path) as made:
        yield made


def run_there(hosts: Hosts, task: dict[str, Any], code: int = 0, **more: Any) -> None:
    """One task on the worker `there`, to its end; `host`: other fields of its host."""
    host = hosts.servers["there"].host(**more.pop("host", {}))
    run = hosts.begin([{"id": "a", **task}], {"there": hosts.worker("there", host=host)}, **more)
    hosts.wait(run, code)


def test_a_bundle_goes_there_and_its_artifacts_come_back(hosts: Hosts) -> None:
    hosts.serve("there")
    (hosts.place / "src").mkdir()
    (hosts.place / "src/tool.sh").write_text("mkdir out; echo made > out/report.md; ls\n")
    (hosts.place / "other").write_text("stays here")
    task = {
        "command": "sh src/tool.sh",
        "artifacts": {"report": "out/*.md"},
        "expected_artifacts": ["report"],
        "workspace": {"include": ["src"]},
    }
    run_there(hosts, task)
    assert fleet(hosts.place, "logs", "@last/a").stdout == "out\nsrc\n"
    copied = fleet(hosts.place, "artifacts", "@last", "--copy-to", "got")
    assert copied.returncode == 0, copied.stderr
    (report,) = (hosts.place / "got").rglob("report.md")
    assert report.read_text() == "made\n"
    assert not list(hosts.servers["there"].work.iterdir())


@pytest.mark.parametrize("kind", ["worktree", "copy", "bundle"])
def test_what_was_changed_there_can_be_applied_here(hosts: Hosts, kind: str) -> None:
    hosts.serve("there")
    place: dict[str, Any] = {"isolation": kind}
    if kind == "bundle":
        place = {"isolation": "copy", "include": ["file"]}
    for root in (hosts.place, hosts.servers["there"].work):
        (root / "file").write_text("one\n")
        for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
            who = ["-c", "user.name=n", "-c", "user.email=e"]
            subprocess.run(["git", *who, *words], cwd=root, check=True)
    run_there(hosts, {"command": "echo two > file; echo new > added", "workspace": place})
    applied = fleet(hosts.place, "apply", "@last/a")
    assert applied.returncode == 0, applied.stderr
    assert (hosts.place / "file").read_text() == "two\n"
    assert (hosts.place / "added").read_text() == "new\n"
    assert (hosts.servers["there"].work / "file").read_text() == "one\n"


def test_a_retry_that_continues_goes_on_there_from_what_was_changed(hosts: Hosts) -> None:
    hosts.serve("there")
    (hosts.place / "file").write_text("one\n")
    task = {
        "command": "cat file; echo two >> file; test $(wc -l < file) = 4",
        "workspace": {"isolation": "copy", "include": ["file"]},
        "retry_policy": {"max_attempts": 5, "initial_backoff_seconds": 0, "continue": True},
    }
    run_there(hosts, task)
    assert len(hosts.ends()["a"]) == 3
    assert fleet(hosts.place, "logs", "@last/a").stdout == "one\ntwo\ntwo\n"


def test_an_agent_there_gets_its_prompt_and_where_no_workspace_is_its_input_files(
    hosts: Hosts,
) -> None:
    hosts.serve("there")
    (hosts.place / "notes.md").write_text("of this side\n")
    agent = {"command": ["/bin/sh", "-c", "cat; cat notes.md; pwd"], "prompt": "stdin"}
    task = {"agent": "mine", "instructions": "Look at the notes.", "input_files": ["notes.md"]}
    agents = {"mine": json.dumps(agent).encode()}
    run_there(hosts, task, 3, agents=agents, host={"working_directory": None})
    said = fleet(hosts.place, "logs", "@last/a").stdout
    assert "Look at the notes." in said and "of this side" in said
    assert "/worktrees/" in said.splitlines()[-1]


def test_the_agent_program_of_a_host_is_taken_there(hosts: Hosts) -> None:
    program = hosts.serve("there").home / "whale"
    program.write_text("#!/bin/sh\necho it is $0\n")
    program.chmod(0o755)
    agents = {"codewhale": json.dumps({"command": ["codewhale"], "prompt": "argument"}).encode()}
    task = {"agent": "codewhale", "instructions": "Do it."}
    run_there(hosts, task, 3, agents=agents, host={"codewhale_binary": str(program)})
    assert fleet(hosts.place, "logs", "@last/a").stdout == f"it is {program}\n"


def test_a_bundle_whose_files_are_gone_says_so(hosts: Hosts) -> None:
    hosts.serve("there")
    run_there(hosts, {"command": "true", "workspace": {"include": ["gone"]}}, 1)
    (end,) = hosts.ends()["a"]
    assert "gone matches no file" in end["receipt"]["reason"]


# ---- roads that break


def test_a_server_that_dies_and_comes_again_costs_a_run_nothing(hosts: Hosts) -> None:
    server = hosts.serve("there")
    tasks = [{"id": f"t{n}", "command": f"echo {n} >> done; sleep 0.2"} for n in range(20)]
    run = hosts.begin(tasks, {"there": hosts.worker("there", slots=4)})
    hosts.until("attempt.ended", 4)
    server.stop()
    server.start()
    hosts.wait(run)
    done = (server.work / "done").read_text().split()
    assert sorted(map(int, done)) == list(range(20))
    assert all(len(found) == 1 for found in hosts.ends().values())


def test_a_partition_in_the_middle_of_a_run_is_only_a_delay(tmp_path: Path) -> None:
    wire = Wire()
    try:
        with wire.inside(wire.here), hosts_in(tmp_path) as hosts:
            server = hosts.serve("there", wire=wire)
            wire.set(delay=0.02, loss=0.02)
            tasks = [{"id": f"t{n}", "command": f"echo {n} >> done; sleep 0.3"} for n in range(20)]
            run = hosts.begin(tasks, {"there": hosts.worker("there", slots=4)})
            hosts.until("attempt.ended", 4)
            wire.cut()
            subprocess.run(["sleep", "5"], check=True)
            wire.set(delay=0.02)
            hosts.wait(run)
            done = (server.work / "done").read_text().split()
            assert sorted(map(int, done)) == list(range(20))
            assert all(len(found) == 1 for found in hosts.ends().values())
    finally:
        wire.close()


def of_the_road(hosts: Hosts, words: str) -> None:
    """The one task was never placed, for a reason that says these words."""
    (told,) = hosts.payloads("task.unplaced")
    assert told["tasks"] == ["a"] and told["receipt"]["source"] == "transport"
    assert words in told["receipt"]["reason"]
    assert not hosts.payloads("attempt.dispatched")


def test_a_changed_host_key_ends_a_run_as_a_fault_of_the_road(hosts: Hosts) -> None:
    server = hosts.serve("there")
    stranger = (server.folder / "stranger.pub").read_text()
    (server.folder / "known").write_text(f"[127.0.0.1]:{server.port} {stranger}")
    run_there(hosts, {"command": "touch began"}, 6)
    of_the_road(hosts, "the host key of")


def test_a_host_without_python_is_a_fault_of_the_road(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    hosts.serve("there", path=str(tmp_path / "bin"))
    run_there(hosts, {"command": "true"}, 6)
    of_the_road(hosts, "python3")
