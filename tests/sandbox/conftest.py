"""The fixture of the sandbox's tests: a real runtime, and real bubblewrap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.driver import Manager, Message

SANDBOX: dict[str, Any] = {
    "level": "sandbox",
    "network": "none",
    "workspace": "read",
    "write": [],
    "read": [],
    "keep": [],
    "home": "hidden",
}


class Confiner(Manager):
    """A manager that confines what it starts."""

    def confine(self, task: str, text: str, **more: Any) -> str:
        box = {**SANDBOX, **more.pop("box", {})}
        return self.start(task, ["/bin/sh", "-c", text], sandbox=box, **more)

    def confined(self, task: str, text: str, **more: Any) -> Message:
        return self.end_of(self.confine(task, text, **more))

    def left(self) -> list[Path]:
        """The directories of attempts, once those that are over have been tidied away."""
        for _ in range(2):  # in the turn after the one that told of the end
            self.line.say({"m": "ping"})
            self.line.hear(lambda m: m.get("m") == "pong")
        return sorted((self.fleet / "attempts").glob("*/*"))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Confiner]:
    root = tmp_path / "work"
    root.mkdir()
    (tmp_path / "home").mkdir()
    found = Confiner(root)
    found.environ({"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path / "home")})
    yield found
    found.finish()
