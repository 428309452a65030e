"""Drives the real command line, in a directory of its own.

What starts, ends or waits for something is a process of its own, and so is whatever needs a
wrapper or a stdin. A command that only looks is called in this process: its answer costs less
than a start, and that a start works is seen everywhere else.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..surroundings import NOBODY, fleet_for_others
from .scene import told

REPOSITORY = Path(__file__).resolve().parents[2]
FLEET: Sequence[str] = [sys.executable, "-m", "codewhale_fleet"]


LOOKS = {"artifacts", "check", "doctor", "explain", "init", "inspect", "ledger", "logs", "receipts",
         "schema", "status"}  # fmt: skip
"""First words of commands that answer and are done, unless asked to stay."""
STAYS = {"-f", "--follow", "--watch", "-w"}


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
    if words[:1] and words[0] in LOOKS and not (STAYS.intersection(words) or given or before):
        return look(where, *words, **more)
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
    heard = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
    assert "Traceback" not in heard.stdout + heard.stderr, heard.stderr
    return heard


def look(where: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, of a command that only looks."""
    with placed(where, environment(**more)):
        made = told(*words)
    return subprocess.CompletedProcess(["fleet", *words], made.code, made.out, made.err)


@contextmanager
def placed(where: Path, variables: dict[str, str]) -> Iterator[None]:
    """This process, for a while, in another directory and with other variables."""
    before, home = dict(os.environ), os.open(".", os.O_PATH)
    try:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.fchdir(home)
        os.close(home)


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
