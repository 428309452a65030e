"""The real agents in a sandbox: their configuration is read-only, and their sessions are kept.

Each is driven twice by a real runtime, with its preset's `reads` and `keeps`, against the scripted
API: the second attempt, in a sandbox of its own, goes on with the session of the first.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.agents.presets import PRESETS
from tests.agents.api import Api
from tests.agents.clis import CLIS, NODE, Cli, missing
from tests.sandbox.conftest import Confiner
from tests.worker.driver import RUN, Message

pytestmark = [pytest.mark.slow, pytest.mark.agents, pytest.mark.timeout(240)]
_SESSION = re.compile(r'"(?:session_id|thread_id|sessionID)":"([^"]+)"')


@pytest.fixture(params=sorted(CLIS))
def cli(request: pytest.FixtureRequest) -> Cli:
    assert not missing(), missing()
    return CLIS[request.param]


def attempt(manager: Confiner, cli: Cli, name: str, home: str, session: str = "") -> Message:
    preset = PRESETS[cli.name]
    box: dict[str, Any] = {
        "level": "sandbox" if home == "hidden" else "local",
        "network": "host",
        "workspace": "write",
        "home": home,
        "read": preset.reads,
        "keep": preset.keeps,
    }
    prompt = {"text": "Do it.\n", "path": f"prompts/{RUN}/{name}.md", "stdin": True}
    said = manager.start(name, cli.argv(session), sandbox=box, prompt=prompt)
    return manager.line.hear(lambda m: m.get("f") == "ended" and m["attempt"] == said, 100)


@pytest.mark.parametrize("mode", ["hidden", "read"])
def test_an_agent_works_and_resumes_in_a_sandbox(
    manager: Confiner, cli: Cli, mode: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "unseen").write_text("not for agents\n")
    with Api() as api:
        values = cli.environment(home, api.url("success"))
        path = f"{NODE}:{os.environ['PATH']}"
        manager.environ({"PATH": path, "HOME": str(home), **values})
        before = {one: one.read_bytes() for one in home.rglob("*") if one.is_file()}
        first = attempt(manager, cli, "first", mode)
        assert first.get("exit") == 0, str(first)
        found = _SESSION.search(manager.out(first))
        assert found, manager.out(first)
        made = len(api.requests)
        again = attempt(manager, cli, "again", mode, found[1])
        assert again.get("exit") == 0 and found[1] in manager.out(again), str(again)
        assert len(api.requests) > made > 0
    assert {one: one.read_bytes() for one in before} == before
