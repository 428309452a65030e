"""`fleet describe`: what this fleet can do, in one answer that fits where agents read.

Promises at most 8 KB of JSON whatever the fleet holds: it counts, and names examples, never lists.
Everything is taken from what is declared (commands, selectors, exit codes) or there (workers,
agents, limits). Works without a fleet too. Looks only; contacts nobody.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..agents.roster import Roster
from ..core.spec import MAX_WORKERS
from ..wire import fleetfile
from .agents import on_path
from .common import Context, fleet_dir_of, print_json
from .faces import Page, Span
from .run import DEFAULT_WORKERS
from .runbook import EXITS, HOW_TO, RULE, commands

MAX_BYTES = 8192
"""Most bytes of the answer as JSON."""

NAMED = 5
"""Examples of each kind."""

AGENTS_NAMED = 8

NAME_BYTES = 40
"""Longest name that serves as an example."""

KINDS = ("local", "ssh")
"""Kinds of hosts that workers may have."""


def describe(*, ctx: Context) -> int:
    """Gather it and show it."""
    made = answer(ctx)
    if ctx.json:
        print_json(made)
    else:
        draw(made).show(ctx)
    return 0


def answer(ctx: Context) -> dict[str, Any]:
    """What this fleet can do."""
    root = ctx.find_root()
    place = Path(root or ctx.cwd or Path.cwd())
    file = fleetfile.read(place)
    return {
        "version": __version__,
        "fleet": _fleet(ctx, root),
        "rule": f"{RULE} fan_out marks it, use_instead is how it is typed.",
        "commands": {one.name: _command(one.reach) for one in commands()},
        "workers": _workers(),
        "agents": _agents(file.roster, ctx.environ),
        "limits": _limits(file),
        "how_to": {
            what: [f"{step.call}: {step.does}" for step in steps] for what, steps in HOW_TO.items()
        },
        "exit_codes": {str(code): words for code, words in EXITS.items()},
        "more": "fleet COMMAND --help; fleet skill prints the whole runbook",
    }


def _command(reach: Any) -> dict[str, Any]:
    told = {"fleet_aware": reach.fleet_aware, "fan_out": reach.fan_out}
    return {**told, "use_instead": reach.use_instead} if reach.use_instead else told


def _fleet(ctx: Context, root: str | None) -> dict[str, Any] | None:
    """Where it is; None where there is none yet."""
    if root is None or not (Path(fleet_dir_of(root)) / "fleet.jsonl").exists():
        return None
    state = ctx.glance().state
    return {"id": state.fleet, "root": root}


def _workers() -> dict[str, Any]:
    return {"kinds": {"local": _kind(1)}, "this_machine": {"id": "local", "cores": _cores()}}


def _kind(count: int) -> dict[str, Any]:
    return {"count": count, "fleet_aware": True, "fan_out": True}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _agents(roster: Roster, environ: Mapping[str, str]) -> dict[str, Any]:
    """Agents that tasks may name: those of fleet.toml, and presets whose program is here."""
    here = on_path(environ.get("PATH", ""))
    names = dict.fromkeys((*roster.written, *here))
    told: dict[str, Any] = {"count": len(names)}
    if roster.default is not None:
        told["default"] = roster.default
        names = {roster.default: None, **names}
    told["examples"] = [
        {"name": name, "fleet_aware": True, "fan_out": True} for name in short(names, AGENTS_NAMED)
    ]
    told["fans_out"] = "as tasks of one run: agent = NAME and instructions for each"
    return told


def _limits(file: fleetfile.FleetFile) -> dict[str, Any]:
    """How much runs at once where nobody says, and at most."""
    count = file.fleet.max_workers
    return {
        "max_workers": count or DEFAULT_WORKERS,
        "max_workers_of_each": count or min(MAX_WORKERS, _cores()),
        "most": MAX_WORKERS,
        "set_by": "--max-workers N",
    }


def short(names: Iterable[str], most: int = NAMED) -> list[str]:
    """The first names that are short enough for examples."""
    return [name for name in names if len(name.encode()) <= NAME_BYTES][:most]


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes, the frequent ones, and how many more there are."""
    found = Counter(names)
    shown = dict.fromkeys(short([name for name, _ in found.most_common()]))
    made = {name: found[name] for name in shown}
    return {**made, "…": len(found) - len(made)} if len(found) > len(made) else made


# The face -------------------------------------------------------------------------------------


def draw(made: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    fleet = made["fleet"]
    where = f"{fleet['id']} in {fleet['root']}" if fleet else "no fleet here yet: fleet init"
    page.line(("fleet ", "bold"), (made["version"], "bold"), f"   {where}")
    page.line()
    page.rows(
        [
            [("workers", "dim"), _of_workers(made["workers"])],
            [("agents", "dim"), _of_agents(made["agents"])],
            [("at once", "dim"), _of_limits(made["limits"])],
        ],
        prose=1,
    )
    page.line()
    page.line("Instead of a loop:")
    page.rows(
        [
            [name, one["use_instead"]]
            for name, one in made["commands"].items()
            if "use_instead" in one
        ],
        prose=1,
    )
    for what, steps in made["how_to"].items():
        page.line()
        page.line(f"To {what}:")
        rows: list[list[Span]] = [[*step.split(": ", 1)] for step in steps]
        page.rows(rows, prose=1)
    page.line()
    page.line(("fleet skill prints this as a runbook for agents · fleet --help", "dim"))
    return page


def _of_workers(workers: dict[str, Any]) -> str:
    return f"this machine ({workers['this_machine']['cores']} cores)"


def _of_agents(agents: dict[str, Any]) -> str:
    names = [
        name["name"] + (" (default)" if name["name"] == agents.get("default") else "")
        for name in agents["examples"]
    ]
    more = agents["count"] - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "") or "none here"


def _of_limits(limits: dict[str, Any]) -> str:
    return (
        f"{limits['max_workers']} tasks of a run, {limits['max_workers_of_each']} of --each; "
        f"at most {limits['most']}: {limits['set_by']}"
    )
