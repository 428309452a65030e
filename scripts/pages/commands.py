"""Every command with its options and its example, from the Typer declarations in cli/app.py.

Promises that what `--help` shows is here, and nothing else: hidden commands are left out.
"""

from typing import Any

from tables import table

from codewhale_fleet.cli import app, common
from codewhale_fleet.cli.hot import COMMON
from codewhale_fleet.cli.runbook import first_line, visible
from codewhale_fleet.cli.wait import EXIT_TIMEOUT as TIMEOUT

PASSED, FAILED, WRONG, PERSON = (
    common.EXIT_PASSED,
    common.EXIT_FAILED,
    common.EXIT_WRONG,
    common.EXIT_PERSON,
)
REFUSED, LEDGER, UNPLACED = common.EXIT_REFUSED, common.EXIT_LEDGER, common.EXIT_UNPLACED
INTERRUPTED = common.EXIT_INTERRUPTED

RUNS = f"{PASSED}, {FAILED}, {PERSON}, {UNPLACED} and {INTERRUPTED} by what became of the run"
HAD = f"{PASSED} with `--detach` once a manager has it"
NOT_WAITED = f"{INTERRUPTED} when you did not wait for it"

ENDS: dict[str, str] = {
    "run": f"{RUNS}; {HAD}",
    "resume": f"as for `fleet run`; {REFUSED} where there is nothing to go on with",
    "wait": f"the worst of what it waited for; {PERSON} with `--asked` once a task asks; "
    f"{TIMEOUT} when `--timeout` was reached",
    "interrupt": f"{PASSED}; {REFUSED} where there is nothing to end; {NOT_WAITED}",
    "restart": f"{PASSED}; {PERSON} where its run is paused; {REFUSED} where it can't be "
    f"restarted; {NOT_WAITED}",
    "stop": f"{PASSED}, also where `--all` finds nothing open; {REFUSED} where the run has "
    f"finished; {NOT_WAITED}",
    "pause": f"{PASSED}, also where it was paused; {REFUSED} where the run does not run",
    "answer": f"{PASSED}; {REFUSED} where nothing waits for it, or a task of this fleet calls it",
    "ask": f"{PASSED} with an answer; {PERSON} when `--timeout` was reached",
    "check": f"{PASSED} when the spec may be run, {WRONG} when it may not",
    "doctor": f"{PASSED}, or {FAILED} when something is to be done",
    "ledger verify": f"{PASSED}, or {LEDGER} when the ledger is damaged",
    "ledger repair": f"{PASSED} once it is done; {LEDGER} when it was only shown; {REFUSED} where "
    "nothing is damaged, or a manager is at work",
    "ledger export": f"{PASSED}; {WRONG} where the target exists, or DuckDB is missing",
    "ledger query": f"{PASSED}; {WRONG} where the query was refused, or DuckDB is missing",
}
"""What a command's own exit codes are; all others end with 0, or as every command may."""


def blocks() -> dict[str, str]:
    """The tables of docs/reference/commands.md."""
    found = list(visible())
    if gone := set(ENDS) - {name for name, _ in found}:
        raise SystemExit(f"scripts/pages/commands.py: no command {', '.join(sorted(gone))}")
    listed = [(f"[`fleet {name}`](#fleet-{_anchor(name)})", first_line(one)) for name, one in found]
    return {
        "list": table(("command", "does"), listed),
        "common": _options(found[0][1], common=True),
        "commands": "\n".join(_section(name, one) for name, one in found),
    }


def example_of(command: Any) -> str:
    """The example that help shows."""
    return str(command.epilog).partition("\n")[0].removeprefix("Example: ")


def _section(name: str, command: Any) -> str:
    words = [_shown(one) for one in command.params if one.param_type_name == "argument"]
    parts = [
        f"### fleet {name}\n",
        f"{first_line(command)}\n",
        f"```console\nfleet {' '.join([name, *words, '[OPTION…]'])}\n```\n",
    ]
    if arguments := [one for one in command.params if one.param_type_name == "argument"]:
        rows = [(f"`{one.metavar}`", str(one.help or "")) for one in arguments]
        parts.append(table(("argument", "means"), rows))
    if options := _options(command, common=False):
        parts.append(options)
    if ends := ENDS.get(name):
        parts.append(f"Ends with: {ends}.\n")
    if typed := app.REACHES[name].use_instead:
        calls = " or ".join(f"`{call}`" for call in typed.split(", or: "))
        parts.append(f"For many at once: {calls}\n")
    parts.append(f"Example: `{example_of(command)}`\n")
    return "\n".join(parts)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _shown(argument: Any) -> str:
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def _options(command: Any, *, common: bool) -> str:
    rows = []
    for one in command.params:
        if one.param_type_name != "option" or (one.name in COMMON) is not common:
            continue
        if getattr(one, "hidden", False):
            continue
        names = ", ".join(f"`{name}`" for name in sorted(one.opts, key=len, reverse=True))
        value = f" `{one.metavar}`" if one.metavar and not one.is_flag else ""
        rows.append((names + value, f"{one.help}{_more(one)}"))
    return table(("option", "means"), rows) if rows else ""


def _more(option: Any) -> str:
    """Bounds, default, and whether it may be given again."""
    low, high = option.min, option.max
    said = ""
    if low is not None and high is not None:
        said = f" From {low} to {high}."
    elif low is not None:
        said = f" At least {low}."
    if option.multiple:
        said += " May be given again."
    if option.default not in (None, False, (), []) and not callable(option.default):
        said += f" Absent: {option.default}."
    return said
