"""Runs on hosts that are reached by ssh, typed as a person types them, and what came of them.

Private servers stand in for the hosts. A spec names its workers, and so does a fleet.toml.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from tests.cli.driver import environment, fleet
from tests.engine.remote import Hosts

Done = subprocess.CompletedProcess[str]
Row = dict[str, Any]

SHORT = (
    "import sys, codewhale_fleet.cli as cli, codewhale_fleet.cli.run as run; "
    "import codewhale_fleet.engine.remotes as remotes; "
    "run.PATIENCE, remotes.LOSE_SECONDS = {0}, {1}; sys.exit(cli.main())"
)
"""The command line, whose runs wait so many seconds for hosts that are away, before and after
something began there."""


class Typed(Hosts):
    """The same hosts, for commands that are typed in the workspace."""

    def spec(self, tasks: list[Row], hosts: dict[str, Row] | None = None, **more: Any) -> None:
        """Write `spec.json`: these tasks, on workers of these names.

        `hosts`: what is written otherwise than the worker's server is reached.
        """
        named = hosts if hosts is not None else {one: {} for one in self.servers}
        workers = [self.written(worker, **fields) for worker, fields in named.items()]
        text = {"name": "r", "tasks": tasks, "workers": workers, **more}
        (self.place / "spec.json").write_text(json.dumps(text))

    def written(self, worker: str, slots: int = 1, **fields: Any) -> Row:
        """A worker's definition; a field that is None is left out."""
        known = {"kind": "ssh", **to_builtins(self.servers[worker].host()), **fields}
        host = {key: value for key, value in known.items() if value is not None}
        return {"id": worker, "name": worker, "host": host, "max_concurrent_tasks": slots}

    def inventory(self, **fields: Any) -> None:
        """Write a fleet.toml with a worker for each server."""
        text = ""
        for worker in self.servers:
            host = self.written(worker, **fields)["host"]
            inner = ", ".join(f"{key} = {json.dumps(value)}" for key, value in host.items())
            text += f'[[workers]]\nid = "{worker}"\nname = "{worker}"\nhost = {{ {inner} }}\n'
        (self.place / "fleet.toml").write_text(text)

    def until(self, word: str, count: int = 1) -> list[Row]:
        from watchfiles import watch

        looks = watch(self.place, step=5, debounce=10, rust_timeout=100, yield_on_timeout=True)
        for tries, _ in enumerate(looks):
            if (self.place / ".fleet/fleet.jsonl").exists():
                return super().until(word, count)
            assert tries < 300
        raise AssertionError

    def fleet(self, *words: str) -> Done:
        return fleet(self.place, *words)

    def answer(self, *words: str, code: int = 0) -> Row:
        """What a command answers in JSON."""
        done = self.fleet(*words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        found: Row = json.loads(done.stdout)
        return found

    def receipts(self) -> dict[str, Row]:
        """Task -> receipt of the last run, with its `source` and `reason`."""
        found: dict[str, Row] = {}
        for one in self.answer("receipts", "@last")["receipts"]:
            reason = (one["score"] or {}).get("notes") or one.get("reason", "")
            kind = one.get("failure_kind", "")
            found[one["task_id"]] = {**one, "source": kind, "reason": reason}
        return found

    def running(
        self, *words: str, patience: float = 60.0, lose: float = 60.0
    ) -> subprocess.Popen[str]:
        """A command that goes on; `patience`: how long its run waits for hosts that are away;
        `lose`: for what is to end there."""
        return subprocess.Popen(
            [sys.executable, "-c", SHORT.format(patience, lose), *words],
            cwd=self.place,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self, name: str = "ran") -> Counter[str]:
        """What tasks have written into a file, on whatever host."""
        places = [one.work / name for one in self.servers.values()]
        return Counter(
            line for path in places if path.exists() for line in path.read_text().split()
        )


def ended(process: subprocess.Popen[str], code: int) -> str:
    """What a command said until its end, of which the code is asserted."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err, err
    return out + err


def typed_in(folder: Path) -> contextlib.closing[Typed]:
    """Hosts that are gone at the end of the block."""
    return contextlib.closing(Typed(folder))
