"""Directories that attempts had for themselves: which of them may go, and what they take.

Promises: nothing outside `worktrees/` of the fleet goes, and no link is followed; a worktree goes
with what git keeps about it. What passed goes at once, at the word of a manager to the runtime, and
after a crash at the word of the next one; what a person passes later goes by whoever records that;
all others with the files of their run.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..core.state import split_attempt
from ..errors import FleetError
from ..ledger.store import Ledger
from ..worker.git import Refusal
from ..worker.removing import PLACE, remove, set_aside
from ..worker.workspace import RECORD, read_record


def leftovers(ledger: Ledger) -> dict[str, str]:
    """Attempt -> directory below the fleet's, of what passed: its manager died too soon."""
    found: dict[str, str] = {}
    for run_id, name in _directories(ledger.dir):
        record = read_record(str(ledger.dir / PLACE / run_id / name))
        run = ledger.state.runs.get(run_id)
        if run is None or "patch" not in record or record.get("unsaved"):
            continue
        try:
            of_run, task, number = split_attempt(record["attempt"])
        except (KeyError, ValueError, AttributeError):
            continue
        row = ledger.hydrate(run_id).tasks.get(task)
        if of_run == run_id and row and row.attempt == number and row.result == "pass":
            found[record["attempt"]] = f"{PLACE}/{run_id}/{name}"
    return found


def free(ledger: Ledger, attempt: str) -> None:
    """Remove the directory of an attempt that was just passed, if it is that attempt's still.

    It gets out of the way under the lock, before another attempt of its task can be placed that
    would go on in it. Where it cannot be removed here the next manager does it.
    """
    with suppress(OSError, Refusal, FleetError):
        with ledger.transaction(""):
            found = leftovers(ledger).get(attempt)
            aside = set_aside(os.path.realpath(ledger.dir / found)) if found else ""
        if aside:
            remove(aside)


def _directories(fleet_dir: Path) -> Iterator[tuple[str, str]]:
    """(run, name) of every directory that is known."""
    try:
        runs = sorted(path.name for path in (fleet_dir / PLACE).iterdir())
    except OSError:
        return
    for run in runs:
        yield from ((run, name) for name in of_run(fleet_dir, run))


def of_run(fleet_dir: Path, run: str) -> list[str]:
    """Names of the directories of one run, and of what is left of them."""
    folder = fleet_dir / PLACE / run
    if folder.is_symlink() or folder.parent.is_symlink() or not folder.is_dir():
        return []
    entries = sorted(path.name for path in folder.iterdir())
    ends = (RECORD, ".entering")
    names = {one.removesuffix(end) for end in ends for one in entries if one.endswith(end)}
    beside = (".git", ".objects", ".commits")
    names |= {one for one in entries if (folder / one).is_dir() and not one.endswith(beside)}
    return sorted(names)


def size_of(directory: Path) -> tuple[int, int]:
    """Files, and bytes that the disk gets back, of a directory and what lies beside it."""
    files = size = 0
    for path in directory.parent.glob(f"{directory.name}*"):
        if path.name != directory.name and not path.name.startswith(directory.name + "."):
            continue
        for one in (path, *_below(path)):
            status = one.lstat()
            files += not one.is_dir() or one.is_symlink()
            size += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return files, size


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            for name in (*files, *(one for one in folders if Path(folder, one).is_symlink())):
                yield Path(folder, name)


__all__ = ["PLACE", "Refusal", "leftovers", "of_run", "remove", "size_of"]
