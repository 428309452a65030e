"""`fleet` on a machine that is reached by ssh: the commands of tasks, and a sentence for the rest.

It is copied there with the worker runtime (hosts/bundle.py) and lies last on the PATH of what runs
there, so it needs nothing but python3 of version 3.9 or newer: it reads and carries out as `fleet`
does here, and it leaves out the declarations of the command line, with their help.
"""

from .. import __version__
from ..errors import FleetError
from . import hot, main, perform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .hot import Call

USAGE = {
    "artifact add": "KIND PATH",
    "ask": "QUESTION [--choices A,B] [--timeout SECONDS]",
    "checkpoint": "PATH|TEXT",
    "data delete": "NAME",
    "data get": "NAME [--version N]",
    "data list": "",
    "data put": "NAME [VALUE|-] [--file PATH] [--tags K=V]",
    "data query": "TAGEXPR",
    "progress": "[PERCENT] TEXT",
    "secret get": "KEY",
    "usage add": "[--tokens-in N] [--tokens-out N] [--tokens-cached N] [--tool-calls N] "
    "[--cost-usd X]",
}
"""What a task can call, and how."""


def carry_out(words: "list[str]") -> int:
    """The command of a task; help, where that is asked for or something is not understood."""
    if words == ["--version"]:
        print(f"fleet {__version__}")
        return 0
    named = [name for name in USAGE if words[: len(name.split())] == name.split()]
    before = words[: words.index("--")] if "--" in words else words
    if not words or {"--help", "-h"}.intersection(before):
        print(_help(named or [name for name in USAGE if words[:1] == name.split()[:1]]))
        return 0
    if not named:
        raise FleetError(
            f'fleet serves tasks here, and "{words[0]}" is no command of theirs.',
            "What it is for: fleet --help. The rest is for the machine that runs the fleet.",
        )
    call = hot.read(words)
    if call is None:
        raise FleetError(f"fleet {named[0]} is not called like that.", _usage(named[0]))
    _refuse_other_runs(call)
    return perform(call)


def _refuse_other_runs(call: "Call") -> None:
    import os

    run = call.params.get("run")
    if run is not None and run != os.environ.get("FLEET_RUN_ID"):
        raise FleetError(
            f"a task on another machine sees the data of its own run only, and not of {run}.",
            "Leave --run out.",
        )
    if call.name.startswith("data ") and not os.environ.get("FLEET_TOKEN"):
        raise FleetError(f"fleet {call.name} is for tasks, and this shell is part of none.")


def _usage(name: str) -> str:
    return f"fleet {name} {USAGE[name]}".rstrip()


def _help(names: "list[str]") -> str:
    lines = ["What a task can say while it runs, on this machine as on any other:", ""]
    lines += ["  " + _usage(name) for name in names or USAGE]
    return "\n".join([*lines, "", "All of them take --json."])


def start() -> int:
    """The whole command; the answer is its exit code."""
    return main(carry_out=carry_out)
