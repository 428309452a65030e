"""The real agents in a sandbox: with the files that their presets name they do their work, and
nothing but what the task may write is written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.driving import Drive, driving

pytestmark = [pytest.mark.slow, pytest.mark.agents]

DRIVEN = ("claude", "codex", "gemini", "opencode")
KEYS = ["*_API_KEY", "SCRIPTED_KEY", "ANTHROPIC_AUTH_TOKEN"]


@pytest.fixture
def drive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Drive]:
    with driving(tmp_path, request.param) as made:
        yield made


def agents(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("drive", names, indirect=True)


@agents(*DRIVEN)
def test_an_agent_works_where_it_may_write(drive: Drive) -> None:
    task = drive.task(workspace={"writable_paths": ["."]})
    assert "1 passed" in drive.run(task, scenario="edits").stdout
    assert (drive.work / "notes.txt").read_text() == "first line\nsecond line\n"


@agents(*DRIVEN)
def test_an_agent_writes_nowhere_else(drive: Drive) -> None:
    drive.run(drive.task(workspace={"writable_paths": ["out"]}), scenario="edits", code=None)
    assert drive.steps(), drive.errors()
    assert not (drive.work / "notes.txt").exists()


@agents(*DRIVEN)
def test_an_agent_that_only_reads_changes_nothing(drive: Drive) -> None:
    task = drive.task(worker={"tool_profile": "read-only"})
    drive.run(task, scenario="edits", code=None)
    assert drive.steps(), drive.errors()
    assert not (drive.work / "notes.txt").exists()


@agents(*DRIVEN)
def test_an_agent_works_in_the_sandbox_with_the_grants_that_it_needs(drive: Drive) -> None:
    policy = {
        "capability_grants": [{"capability": "network"}, {"capability": "provider-secrets"}],
        "allowed_secrets": KEYS,
    }
    task = drive.task(workspace={"writable_paths": ["."]})
    said = drive.run(task, scenario="edits", security_policy=policy).stdout
    assert "1 passed" in said, drive.errors()
    assert (drive.work / "notes.txt").read_text() == "first line\nsecond line\n"
