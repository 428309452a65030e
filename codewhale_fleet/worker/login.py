"""What tasks on another machine have of the login there: its safe variables, and a `fleet` to call.

Promises: a `fleet` that is on the PATH there stays the one that is called; where there is none, one
for tasks is written beside what was copied, for the python that runs it, and is last on the PATH.
"""

from __future__ import annotations

import os
import sys

from codewhale_fleet.worker.launch import DEFAULT_PATH

BASE_NAMES = (
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER",
)  # fmt: skip
"""Variables of this login that every task here sees; so it does every `LC_…`."""

_TASKS = (
    "import sys;sys.path.insert(0,sys.argv.pop(1));"
    "from codewhale_fleet.cli.there import start;sys.exit(start())"
)


def base() -> dict[str, str]:
    """The safe variables of this login; on its PATH, last, is a `fleet` for tasks."""
    names = os.environ.items()
    found = {name: value for name, value in names if name in BASE_NAMES or name[:3] == "LC_"}
    path = found.get("PATH") or DEFAULT_PATH
    if not any(os.access(f"{one}/fleet", os.X_OK) for one in path.split(":") if one):
        ours = _tasks_fleet()
        found["PATH"] = f"{path}:{ours}" if ours else path
    return found


def _tasks_fleet() -> str:
    """The directory of a program `fleet` that speaks to the runtime; empty where there is none.

    What was copied here has it beside it, one for each python that it was started by: a task may
    see no other program.
    """
    installed = os.path.dirname(sys.executable)
    if os.access(f"{installed}/fleet", os.X_OK):
        return installed
    packages = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    python = os.path.realpath(sys.executable)
    place = f"{packages}/tasks{python}"
    if not os.access(f"{place}/fleet", os.X_OK):
        from shlex import quote

        words = " ".join(map(quote, (python, "-I", "-S", "-c", _TASKS, packages)))
        try:
            os.makedirs(place, exist_ok=True)
            temporary = f"{place}/{os.getpid()}"
            with open(temporary, "w", opener=_for_all) as file:
                file.write(f'#!/bin/sh\nexec {words} "$@"\n')
            os.rename(temporary, f"{place}/fleet")
        except OSError:  # nothing can be kept there: tasks do without
            return ""
    return "" if ":" in place else place


def _for_all(path: str, flags: int) -> int:
    return os.open(path, flags, 0o755)
