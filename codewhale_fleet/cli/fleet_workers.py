"""What the commands about workers share: which there are, what is known of each, and in what words.

A worker's state is what was last learnt, with its age: whether a machine answers at this moment
only `fleet worker test` finds out. Nothing here records or connects.
"""

import os
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from ..core.fleet_words import LOCAL
from ..core.spec_hosts import LocalHost, SshHost, Worker, decode_worker
from ..core.state import State
from ..ledger.store import Ledger
from ..views import workers as views
from ..wire import fleetfile
from ..wire.inventory import Inventory, Known
from .common import Context, fleet_dir_of, not_ours, refuse_unwritable

SHADES = {"online": "green", "busy": "", "offline": "red", "draining": "yellow", "unknown": "dim",
          "retired": "dim"}  # fmt: skip


class Workers(Struct):
    """The workers of a fleet, and the state that says how they are."""

    root: Path
    known: dict[str, Known]
    state: State

    @property
    def definitions(self) -> dict[str, Worker]:
        """Worker by id."""
        return {id: one.worker for id, one in self.known.items()}

    def chosen(self, selector: str) -> list[str]:
        """Ids that a selector means; BadSelector where it means nothing.

        A whole id means that worker alone, though it may be a host or group of others, too.
        """
        if selector in self.known:
            return [selector]
        from ..core.selectors import parse

        return parse(selector, self._resolved, field="SELECTOR").choose(
            self.definitions, self.state.workers
        )

    def _resolved(self, word: str, rest: str) -> list[str]:
        from ..errors import FleetError

        raise FleetError(
            f'"@{word}:{rest}" is for fleet exec and fleet run.',
            "Here, name the workers, or their labels or states.",
        )


def opened(ctx: Context, *, discover: bool = False) -> Workers:
    """The workers of the fleet; of none, and a state without anything, where there is no fleet.

    With `discover` the commands of fleet.toml are asked where their last answers are too old.
    """
    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    ledger = None
    if (Path(fleet_dir_of(str(root))) / "fleet.jsonl").exists():
        ledger = ctx.ledger()
    file = fleetfile.read(root)
    if discover and file.inventory:
        from ..engine import inventory

        known = inventory.known(root, ledger, file)
    else:
        known = Inventory.load(root, file, ledger.state if ledger else None)
    return Workers(root, known.workers, ledger.state if ledger else State())


def retired(workers: Workers, id: str) -> Worker | None:
    """The definition of a worker that was retired: that of fleet.toml, else the registered one."""
    row = workers.state.workers.get(id)
    if row is None or not row.retired:
        return None
    written = Inventory.load(workers.root, fleetfile.read(workers.root)).workers.get(id)
    if written is not None:
        return written.worker
    return decode_worker(row.definition) if row.definition else None


def to_write(ctx: Context) -> Ledger:
    """The fleet's ledger, made where there is none yet."""
    root = ctx.find_root() or ctx.cwd or str(Path.cwd())
    fleet_dir = fleet_dir_of(root)
    if Path(fleet_dir).exists() and Path(fleet_dir).stat().st_uid != os.geteuid():
        raise not_ours(fleet_dir)
    refuse_unwritable(fleet_dir)
    return Ledger.open(Path(fleet_dir), create=True)


# One worker, in plain values ------------------------------------------------------------------


def condition(state: State, id: str, slots: int) -> str:
    """How a worker is, in a word; this machine is always there."""
    row = state.workers.get(id)
    if id != LOCAL:
        return views.condition(row, slots)
    if row is not None and row.draining:
        return "draining"
    return "busy" if busy_here(state) >= slots else "online"


def busy_here(state: State) -> int:
    """Slots of this machine that hold an attempt, over all runs."""
    from ..core.load import place_of

    return sum(
        place_of(run.id, slot) == LOCAL for run in state.open_runs.values() for slot in run.load
    )


def told(workers: Workers, id: str, worker: Worker, origin: str, now: float) -> dict[str, Any]:
    """One worker as an answer."""
    row = workers.state.workers.get(id)
    slots = worker.max_concurrent_tasks or (_slots_here(workers) if id == LOCAL else 1)
    made: dict[str, Any] = {
        "worker": id,
        "name": worker.name,
        "host": where(worker),
        "state": condition(workers.state, id, slots),
        "slots": slots,
        "busy": busy_here(workers.state) if id == LOCAL else row.busy if row else 0,
        "load": row.load if row else 0,
        **facts(workers, id, worker, now),
        "labels": worker.labels,
        "groups": worker.groups,
        "trust_level": worker.trust_level,
        "origin": origin,
        "draining": bool(row and row.draining),
        "unreachable": row.unreachable if row else "",
        "problem": lacking(worker),
    }
    if row and row.unreachable:
        made["unreachable_seconds"] = age(row.unreachable_ts, now)
    for key, why in (("drain_reason", "draining"), ("retire_reason", "retired")):
        if row and getattr(row, why) and getattr(row, key):
            made[key] = getattr(row, key)
    return made


def facts(workers: Workers, id: str, worker: Worker, now: float) -> dict[str, Any]:
    """What its machine is; what its definition says of that counts before what the machine says."""
    row = workers.state.workers.get(id)
    if id == LOCAL:
        from ..worker import machine

        found = {**machine.facts(), "seen_at": None, "seen_seconds": 0.0}
        found["hostname"] = found.pop("host")
    else:
        names = ("boot", "platform", "python", "cores", "memory_mb", "gpus")
        found = {name: getattr(row, name) if row else "" for name in names}
        found["hostname"] = row.host if row else ""
        found["seen_at"] = (row.seen_ts or None) if row else None
        found["seen_seconds"] = age(row.seen_ts, now) if row and row.seen_ts else None
    for name in ("cores", "memory_mb", "gpus"):
        written = getattr(worker, name)
        found[name] = written if written is not None else found[name] or 0
    return found


def lacking(worker: Worker) -> str:
    """Which of this machine's files that it is reached with is not there; mostly nothing."""
    from ..wire.workers import missing_files

    return next((one.message for one in missing_files(worker)), "")


def _slots_here(workers: Workers) -> int:
    """What a run without a number of its own has here."""
    from .run import workers as of_run

    return of_run(None, 0, workers.root, lines=False)


def where(worker: Worker) -> str:
    """Its host as a person would write it."""
    if isinstance(worker.host, LocalHost):
        return "this machine"
    if isinstance(worker.host, SshHost):
        from ..hosts.refusals import title

        return title(worker.host)
    return type(worker.host).__name__


def age(ts: str, now: float) -> float:
    """Seconds since then."""
    from datetime import datetime

    return round(max(0.0, now - datetime.fromisoformat(ts).timestamp()), 3)


def machine_words(row: dict[str, Any]) -> str:
    """What a machine is, on one line."""
    from ..views.units import many
    from .words import size

    parts = [row["platform"], f"Python {row['python']}" if row["python"] else ""]
    parts.append(many(row["cores"], "core") if row["cores"] else "")
    parts.append(size(row["memory_mb"] << 20) if row["memory_mb"] else "")
    parts.append(many(row["gpus"], "GPU") if row["gpus"] else "")
    return ", ".join(part for part in parts if part)


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many are in each state."""
    states = [one["state"] for one in rows]
    return {word: n for word in views.CONDITIONS if (n := states.count(word))}


def now() -> float:
    """The clock."""
    return time.time()
