"""Drives the real command line in a subprocess, in a directory of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..surroundings import NOBODY, fleet_for_others

REPOSITORY = Path(__file__).resolve().parents[2]
FLEET: Sequence[str] = [sys.executable, "-m", "codewhale_fleet"]


def environment(**more: str) -> dict[str, str]:
    """The environment of a plain shell: no fleet is named and no colour asked for."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLEET", "NO_COLOR", "PYTEST"))
    }
    return {**kept, "PYTHONPATH": str(REPOSITORY), "TERM": "dumb", **more}


def fleet(
    where: Path, *words: str, given: bytes = b"", before: tuple[str, ...] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `fleet WORDS` in a directory; `given` is its stdin, `before` a wrapper's argv."""
    argv = FLEET
    if before == NOBODY:
        argv, needed = fleet_for_others()
        more = {**needed, "HOME": "/", **more}
    done = subprocess.run(
        [*before, *argv, *words],
        cwd=where,
        input=given,
        capture_output=True,
        env=environment(**more),
        timeout=60,
    )
    told = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
    assert "Traceback" not in told.stdout + told.stderr, told.stderr
    return told


def spec(where: Path, text: str, name: str = "tasks.toml") -> str:
    """Write a spec and answer its name."""
    (where / name).write_text(text)
    return name


def tasks(*commands: str) -> str:
    """A spec of tasks t1, t2, … with these shell commands."""
    return "".join(
        f'[[tasks]]\nid = "t{number}"\ncommand = {command!r}\n'
        for number, command in enumerate(commands, 1)
    )


def words_of(where: Path) -> list[str]:
    """The words of the ledger, in order."""
    import json

    text = (where / ".fleet" / "fleet.jsonl").read_text()
    return [json.loads(line)["k"] for line in text.splitlines()]
