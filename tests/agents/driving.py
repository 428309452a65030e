"""A fleet inside a namespace whose agents are the real programs, with the presets as shipped.

`Drive` types `fleet` as a person would, and reads the ledger. What an account would supply (a base
URL, a key, a model) comes from `clis.py`; fleet.toml names the default agent and nothing else, but
for codex, whose configuration of the scripted API asks for one more variable.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.ledger.follow import Watch
from tests.agents.api import Api
from tests.agents.clis import CLIS, INSTALLED, NODE, ROOT, missing
from tests.agents.namespace import Namespace

MORE = {
    "codex": """
[agents.codex]
model = "gpt-5.5"
environment = { allowlist = ["SCRIPTED_KEY"] }
"""
}


class Drive:
    """One fleet, one agent, one scenario at a time."""

    def __init__(self, inside: Namespace, api: Api, work: Path, name: str, bodies: Path) -> None:
        self.inside = inside
        self.api = api
        self.work = work
        self.cli = CLIS[name]
        self.bodies = bodies
        self.more: dict[str, str] = {}
        """Variables that the agent sees besides."""
        self.env: dict[str, str] = {}
        self.settle("success")
        (work / "fleet.toml").write_text(
            f'[fleet]\ndefault_agent = "{name}"\n{MORE.get(name, "")}', "utf-8"
        )

    def settle(self, scenario: str) -> None:
        """What the agent asks from now on is answered by this scenario."""
        self.env = {
            **self.cli.settle(self.inside.home, self.api.url(scenario)),
            "PATH": f"{INSTALLED}:{NODE}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **self.more,
        }

    def fleet(
        self, *words: str, code: int | None = 0, timeout: float = 100
    ) -> "subprocess.CompletedProcess[str]":
        """Type `fleet WORDS` inside; the exit code must be `code`."""
        argv = [sys.executable, "-m", "codewhale_fleet", *words]
        done = self.inside.run(argv, cwd=self.work, env=self.env, timeout=timeout)
        assert code in (None, done.returncode), done.stdout + done.stderr + self.errors()
        return done

    def task(self, **fields: Any) -> dict[str, Any]:
        """A task for the agent, with the model that it is tested with."""
        worker = {"model": self.cli.model, **fields.pop("worker", {})}
        return {
            "id": "notes", "instructions": "Write the notes.", "timeout_seconds": 90,
            "scorer": {"kind": "exit_code"}, "worker": worker, **fields,
        }  # fmt: skip

    def run(
        self,
        *tasks: dict[str, Any],
        scenario: str,
        code: int = 0,
        detach: bool = False,
        **fields: Any,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a spec of these tasks, to its end or in the background."""
        self.settle(scenario)
        (self.work / "spec.json").write_text(json.dumps({**fields, "tasks": tasks}))
        return self.fleet("run", "spec.json", *(["--detach"] if detach else []), code=code)

    def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Return once it holds; it is asked again whenever a record was written."""
        watch = Watch(self.work / ".fleet")
        while not holds():
            assert watch.wait(seconds), f"nothing was written for {seconds} s"
        watch.close()

    # ---- what there is to see

    def records(self, word: str) -> list[dict[str, Any]]:
        """Payloads of the ledger's records of one word, in order."""
        lines = (self.work / ".fleet" / "fleet.jsonl").read_text().splitlines()
        return [one["d"] for line in lines if (one := json.loads(line))["k"] == word]

    def ended(self) -> list[dict[str, Any]]:
        """The ends of all attempts."""
        return self.records("attempt.ended")

    def steps(self) -> list[str]:
        """What the agent's work was answered with."""
        return [request.step for request in self.api.requests if request.main]

    def body(self, index: int) -> dict[str, Any]:
        """One request of the agent's work."""
        numbers = [at for at, one in enumerate(self.api.requests, 1) if one.main]
        found: dict[str, Any] = json.loads((self.bodies / f"{numbers[index]:03}.json").read_bytes())
        return found

    def errors(self) -> str:
        """The ends of what agents wrote to their standard error, for a test that fails."""
        return "\n".join(
            path.read_text(errors="replace")[-1500:]
            for path in sorted(self.work.glob(".fleet/logs/*/*.err"))
        )


@contextmanager
def driving(place: Path, name: str, resets_at: int | None = None) -> Iterator[Drive]:
    """A fleet with this default agent, as long as the block lasts."""
    if told := missing():
        pytest.fail(told)
    work, bodies = place / "work", place / "bodies"
    work.mkdir(parents=True)
    bodies.mkdir()
    with (
        Namespace(place / "home") as inside,
        Api(inside.listen(), resets_at=resets_at, bodies=bodies) as api,
    ):
        yield Drive(inside, api, work, name, bodies)
