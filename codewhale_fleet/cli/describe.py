"""`fleet describe`: what this fleet can do, in one answer that fits where agents read.

Promises at most 8 KB of JSON whatever the fleet holds: it counts, and names examples, never lists.
Everything is taken from what is declared (commands, selectors, exit codes) or there (workers,
agents, limits). Works without a fleet too. Looks only; contacts nobody.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import json

from .. import __version__
from ..agents.roster import Roster
from ..core import selectors
from ..core.fleet_words import LOCAL, WorkerRow
from ..core.spec import MAX_WORKERS
from ..core.spec_hosts import Worker
from ..core.state import State
from ..errors import FleetError
from ..wire import fleetfile
from ..wire.inventory import Inventory
from .agents import on_path
from .common import Context, fleet_dir_of, print_json
from .faces import Page, Span
from .run import DEFAULT_WORKERS
from .runbook import EXITS, HOW_TO, RULE, commands

MAX_BYTES = 8192
"""Most bytes of the answer as JSON."""

NAMED = 5
"""Examples of each kind."""

SPARED = (
    ("workers", "labels"), ("workers", "inventories"), ("agents", "examples"), ("fleet", "root"),
    ("workers", "groups"), ("selectors", "examples_here"), ("agents", "default"),
)  # fmt: skip
"""What is left out, in this order, where the answer would be too long otherwise."""

AGENTS_NAMED = 8

NAME_BYTES = 40
"""Longest name that serves as an example."""


def describe(*, ctx: Context) -> int:
    """Gather it and show it."""
    made = fitting(answer(ctx))
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
    state = _state(ctx, root)
    rows = state.workers if state is not None else {}
    workers = Inventory.load(place, file, state).definitions
    return {
        "version": __version__,
        "fleet": {"id": state.fleet, "root": root} if state is not None else None,
        "rule": f"{RULE} fan_out marks it, use_instead is how it is typed.",
        "commands": {one.name: _command(one.reach) for one in commands()},
        "selectors": _selectors(workers),
        "workers": _workers(workers, rows, file),
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


def _state(ctx: Context, root: str | None) -> State | None:
    """What the ledger says; None where there is no fleet yet."""
    if root is None or not (Path(fleet_dir_of(root)) / "fleet.jsonl").exists():
        return None
    return ctx.ledger().state


def _selectors(workers: Mapping[str, Worker]) -> dict[str, Any]:
    """How workers are meant, and words that mean some of them here."""
    lines = [
        line.split("  ") for line in (selectors.__doc__ or "").splitlines() if line[:4] == "    "
    ]
    parts = [[part.strip() for part in line if part.strip()] for line in lines]
    grammar = [f"{' '.join(words)}: {says}" for *words, says in parts]
    return {"grammar": grammar, "examples_here": examples(workers)}


def examples(workers: Mapping[str, Worker]) -> list[str]:
    """Selectors, each of which means somebody in this fleet."""
    if not workers:
        return [LOCAL]
    made = ["all"]
    ids = short(workers, 1)
    if ids and (number := re.search(r"[0-9]+", ids[0])):
        made.append(f"{ids[0][: number.start()]}*")
    made += ids
    made += short(dict.fromkeys(group for one in workers.values() for group in one.groups), 1)
    labels = (f"{k}={v}" for one in workers.values() for k, v in one.labels.items())
    for label in short(dict.fromkeys(labels), 1):
        made += [label, f"{label} and not draining"]
    return [text for text in dict.fromkeys(made) if _means_some(text, workers)]


def _means_some(text: str, workers: Mapping[str, Worker]) -> bool:
    try:
        return bool(selectors.parse(text).choose(workers))
    except FleetError:
        return False


def _workers(
    workers: Mapping[str, Worker], rows: Mapping[str, WorkerRow], file: fleetfile.FleetFile
) -> dict[str, Any]:
    """How many there are, of which kinds, in which groups and states; no list of them."""
    kinds = Counter(_kind(one) for one in workers.values())
    kinds.setdefault(LOCAL, 1)
    told: dict[str, Any] = {
        "count": len(workers),
        "examples": short(workers),
        "kinds": {
            kind: {"count": count, "fleet_aware": True, "fan_out": True}
            for kind, count in kinds.items()
        },
        "this_machine": {"id": LOCAL, "cores": _cores()},
    }
    if not workers:
        return told
    held: dict[str, list[str]] = {}
    for one in workers.values():
        for key, value in one.labels.items():
            held.setdefault(key, []).append(value)
    return told | {
        "states": Counter(_standing(rows.get(id)) for id in workers),
        "groups": counted(group for one in workers.values() for group in one.groups),
        "labels": {key: counted(held[key]) for key in short(held)},
        "labels_in_all": len(held),
        "inventories": short(file.inventory),
    }


def _kind(worker: Worker) -> str:
    return str(type(worker.host).__struct_config__.tag)


def _standing(row: WorkerRow | None) -> str:
    if row is None:
        return "never_used"
    if row.unreachable:
        return "unreachable"
    return "draining" if row.draining else "ready"


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


def fitting(made: dict[str, Any]) -> dict[str, Any]:
    """The answer, without what can best be spared of it where names are many and long."""
    left_out: list[str] = []
    for part, key in SPARED:
        if len(json.encode(made)) + 1 <= MAX_BYTES:
            break
        if made[part] and made[part].pop(key, None) is not None:
            left_out.append(f"{part}.{key}")
            made["left_out"] = left_out
    return made


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
            [("selectors", "dim"), " · ".join(made["selectors"]["examples_here"])],
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
    here = f"this machine ({workers['this_machine']['cores']} cores)"
    if not workers["count"]:
        return here
    states = ", ".join(
        f"{count} {what.replace('_', ' ')}" for what, count in workers["states"].items()
    )
    groups = ", ".join(workers["groups"])
    within = f"; groups {groups}" if groups else ""
    return f"{workers['count']:,} ({states}){within}; and {here}"


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
