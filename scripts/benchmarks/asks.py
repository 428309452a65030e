"""How long a command of tasks takes, called by a running task, against a Python that does nothing.

    python asks.py TIMES     inside a task: seconds by command, as JSON

Promises that a real attempt of a real run calls them, each a process of its own, in turns with
`python -c pass`; that each command did what it says (its exit code is 0). Knows nothing of aims.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from contenders import ENTRY
from peers import Unable

PASS = (sys.executable, "-I", "-c", "pass")
PEER = "python -c pass"
COMMANDS = {
    "progress": ("progress", "40", "linking"),
    "usage add": ("usage", "add", "--tokens-in", "1"),
    "data put": ("data", "put", "x", "1"),
    "data get": ("data", "get", "x"),
    "artifact add": ("artifact", "add", "note", "note.md"),
}


def inside(times: int) -> dict[str, list[float]]:
    """Seconds of each command, and of the peer, in turns."""
    Path("note.md").write_text("note")
    those = {name: (sys.executable, "-I", "-c", ENTRY, *words) for name, words in COMMANDS.items()}
    found: dict[str, list[float]] = {name: [] for name in (PEER, *those)}
    subprocess.run(those["data put"], check=True, stdout=subprocess.DEVNULL)
    for _ in range(times):
        for name, command in {PEER: PASS, **those}.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - began)
    return found


def asked(place: Path, times: int) -> dict[str, list[float]]:
    """The same from outside: a run of one task that measures."""
    place.mkdir(parents=True)
    command = json.dumps([sys.executable, __file__, str(times)])
    (place / "tasks.toml").write_text(f'[[tasks]]\nid = "a"\ncommand = {command}\n')
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEET")}
    start = [sys.executable, "-I", "-c", ENTRY]
    for words in (["run", "tasks.toml", "--quiet"], ["logs", "@last/a"]):
        done = subprocess.run(
            [*start, *words],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unable(f"fleet {' '.join(words)}: {done.stderr[-400:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(inside(int(sys.argv[1]))))
