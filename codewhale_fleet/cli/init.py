"""`fleet init`: a fleet.toml with comments, and `.fleet` with an empty ledger.

Twice is harmless: what is there already is left as it is and said.
"""

import os
from pathlib import Path

from ..agents.presets import PRESETS, TRIED
from ..engine import disk
from ..errors import FleetError
from ..wire import fleetfile
from .agents import on_path
from .common import EXIT_LEDGER, Context, fleet_dir_of, print_json

TEMPLATE = """\
# What holds for every run of this fleet. A name that means nothing is refused, not passed over.

[fleet]

# Most tasks at once, where neither the spec nor --max-workers says. Found here: {cores} cores.
# Without this line: 4, and for fleet run --each the cores.
# max_workers = {cores}

# Who does a task that has instructions and no command. Found here: {found}.
{default}default_agent = "{first}"

# How many days a finished run keeps more than its summary and its receipts: logs, evidence and
# scratch files; and its records in the ledger. Without these lines: for ever.
[retention]
# files_days = 30
# detail_days = 90

# The room that this file system must have, in megabytes of 1,000,000 bytes. Without these lines: so
# much, and less on a small one ({warn} and {stop} percent of it at most). 0 turns a limit off.
[disk]
# warn_below_mb = {warn_mb}
# stop_below_mb = {stop_mb}
"""

AGENT = """
# {about}. What is written here is added to its preset: fleet doctor, docs/how-to/agents.md
[agents.{name}]
# model = "NAME"
# args = []
# environment = {{ allowlist = [] }}
"""


def init(ctx: Context) -> int:
    """Begin a fleet in `--dir`, FLEET_DIR or the working directory."""
    root = Path(_root(ctx))
    if not root.is_dir():
        raise FleetError(f"there is no directory {root}.", f"Make it first: mkdir {root}")
    made: list[str] = []
    kept: list[str] = []
    (made if _write_fleet_toml(root, ctx.environ.get("PATH", "")) else kept).append(fleetfile.NAME)
    fleet_dir = Path(fleet_dir_of(str(root)))
    there = (fleet_dir / "fleet.jsonl").exists()
    from ..ledger.store import Ledger

    ledger = Ledger.open(fleet_dir, create=True)
    fleet = ledger.state.fleet
    ledger.close()
    (kept if there else made).append(".fleet")
    fleetfile.read(root)
    if ctx.json:
        print_json({"fleet": fleet, "root": str(root), "made": made, "kept": kept})
        return 0
    if ctx.quiet:
        return 0
    if made:
        print(f"Made {' and '.join(made)} in {root}." + (_left(kept) if kept else ""))
    else:
        print(f"{root} is a fleet already ({fleet}); nothing was changed.")
    print("To run a command for each line of a list: ls | fleet run --each - -- wc -c {}")
    print("To tell agents how it is run: fleet skill --write")
    return 0


def _left(kept: list[str]) -> str:
    return f" {' and '.join(kept)} was there already and is as it was."


def _root(ctx: Context) -> str:
    """Here, not the nearest parent: init is asked for a fleet in this place."""
    named = ctx.directory or ctx.environ.get("FLEET_DIR")
    here = ctx.cwd or str(Path.cwd())
    if not named:
        return here
    found = ctx.find_root()
    return found if found is not None else here


def _write_fleet_toml(root: Path, path: str) -> bool:
    """Whether it was written; never over one that is there."""
    found = on_path(path)
    text = TEMPLATE.format(
        found=", ".join(found) or "none that has a preset",
        default="" if found else "# ",
        first=found[0] if found else next(iter(PRESETS)),
        cores=min(128, len(os.sched_getaffinity(0))),
        warn=disk.WARN_SHARE,
        stop=disk.STOP_SHARE,
        warn_mb=disk.WARN_BELOW // disk.MEGABYTE,
        stop_mb=disk.STOP_BELOW // disk.MEGABYTE,
    )
    for name in found:
        tried = "" if name in TRIED else " (untried)"
        text += AGENT.format(name=name, about=f"{PRESETS[name].description}{tried}")
    file_name = root / fleetfile.NAME
    made = False
    try:
        with file_name.open("x", encoding="utf-8") as file:
            made = True
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        if made:
            file_name.unlink()
        raise FleetError(
            f"{file_name} cannot be written: {(error.strerror or str(error)).lower()}.",
            f"Look at the directory's mode and free space: ls -ld {root}; df {root}",
            exit_code=EXIT_LEDGER if made else None,
        ) from None
    return True
