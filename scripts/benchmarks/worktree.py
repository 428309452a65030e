"""What a worktree of its own costs an attempt, against `git worktree add` and `remove` themselves.

Promises that both work on the same repository, one after the other and in turns; that the fleet's
time counts until the last directory is gone, and without what the same run takes in no directory of
its own. Its patch is made within it, of an attempt that changes one file and takes a good second
(git reads again what is not older than its index by one). Knows nothing of aims.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from contenders import ENTRY
from measure import LIMIT, end_leftovers
from peers import Unable

FILES, FOLDERS = 5_000, 50
"""A repository of middling size: 20 MB in files of 4 kB."""
TICK = 0.002
START = (sys.executable, "-I", "-c", ENTRY)


def git(where: Path, *words: str | Path) -> None:
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "-C", where, *who, *words], check=True, stdout=subprocess.DEVNULL)


def repository(at: Path) -> Path:
    """One commit of many files."""
    for folder in range(FOLDERS):
        (at / f"d{folder}").mkdir(parents=True)
        for file in range(FILES // FOLDERS):
            lines = "".join(f"{folder} {file} {line} {'x' * 24}\n" for line in range(110))
            (at / f"d{folder}" / f"f{file}.txt").write_text(lines)
    git(at, "init", "-q")
    git(at, "add", "-A")
    git(at, "commit", "-q", "-m", "base")
    return at


def by_git(repository: Path, count: int) -> float:
    """Seconds of git alone, a worktree."""
    began = time.perf_counter()
    for number in range(count):
        place = repository.parent / f"alone-{number}"
        git(repository, "worktree", "add", "-q", "--detach", place)
        git(repository, "worktree", "remove", "--force", place)
    return (time.perf_counter() - began) / count


def by_fleet(repository: Path, count: int) -> float:
    """Seconds by which an attempt takes longer with a worktree than without."""
    return (_run(repository, count, "worktree") - _run(repository, count, "none")) / count


def _run(repository: Path, count: int, isolation: str) -> float:
    change = "echo changed >> d0/f0.txt; " if isolation != "none" else ""
    command = ["sh", "-c", f"{change}sleep 1.1"]
    tasks = [
        {"id": f"t{number}", "command": command, "workspace": {"isolation": isolation}}
        for number in range(count)
    ]
    (repository / ".git" / "spec.json").write_text(json.dumps({"name": "bench", "tasks": tasks}))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    line = [*START, "run", ".git/spec.json", "--max-workers", "1", "--dir", str(repository), "-q"]
    began = time.perf_counter()
    done = subprocess.run(
        line, cwd=repository, env=environment, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False
    )
    while (repository / ".fleet" / "worktrees").exists():
        if time.perf_counter() - began > LIMIT:
            raise Unable(f"worktrees stay in {repository}")
        time.sleep(TICK)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise Unable(f"the run in {repository} ended with {done.returncode}")
    return seconds


def pairs(at: Path, turns: int, count: int) -> list[tuple[float, float]]:
    """(git, fleet) in seconds a worktree, a turn each; the first turn does not count."""
    place = repository(at / "repository")
    found = []
    for turn in range(turns + 1):
        both = [by_git, by_fleet] if turn % 2 else [by_fleet, by_git]
        taken = {measure: measure(place, count) for measure in both}
        if turn:
            found.append((taken[by_git], taken[by_fleet]))
    end_leftovers(place)
    return found
