"""Which workers a fleet knows: those of fleet.toml, registered ones, and discovered ones.

Promises one definition for each id, with the place that it comes from: what a person wrote in
fleet.toml counts before what was registered, and that before what a command told. What was retired
is not there until it is registered again. Reads what the ledger's state holds; runs nothing.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, json

from ..core.spec_hosts import Worker, decode_worker
from ..core.state import State
from .fleetfile import NAME, FleetFile


class Known(Struct, frozen=True):
    """A worker of the fleet."""

    worker: Worker
    origin: str
    """Where it is defined: `fleet.toml:12`, `inventory cloud`, or what registered it."""
    hidden: tuple[str, ...] = ()
    """Where else it is defined, which does not count."""


_encoder = json.Encoder(order="deterministic")


def encode_worker(worker: Worker) -> bytes:
    """A definition as the ledger keeps it: sparse JSON."""
    return _encoder.encode(worker)


class Inventory:
    """All workers that a fleet knows, by id: fleet.toml's first, in the order written."""

    def __init__(self, workers: Mapping[str, Known]) -> None:
        self.workers = dict(workers)

    @property
    def definitions(self) -> dict[str, Worker]:
        """What selectors read, by id."""
        return {id: one.worker for id, one in self.workers.items()}

    @classmethod
    def load(
        cls,
        root: Path,
        file: FleetFile,
        state: State | None = None,
        found: Mapping[str, Iterable[Worker]] | None = None,
    ) -> "Inventory":
        """What the fleet in `root` knows.

        `found` are answers of discovery commands, by name; without it, those that the state keeps
        of commands which fleet.toml still has, however old.
        """
        known: dict[str, Known] = {}
        name = str(root / NAME)
        for worker, line in zip(file.workers, file.worker_lines, strict=True):
            known[worker.id] = Known(worker, f"{name}:{line}")
        rows = state.workers if state is not None else {}
        for row in rows.values():
            if row.registered:
                _add(known, decode_worker(row.definition), row.origin or "fleet worker add")
        if found is None:
            kept = state.inventories if state is not None else {}
            found = {
                name: map(decode_worker, kept[name].workers.values())
                for name in file.inventory
                if name in kept
            }
        for name, workers in found.items():
            for worker in workers:
                _add(known, worker, f"inventory {name}")
        return cls({id: one for id, one in known.items() if id not in rows or not rows[id].retired})


def _add(known: dict[str, Known], worker: Worker, origin: str) -> None:
    first = known.get(worker.id)
    if first is None:
        known[worker.id] = Known(worker, origin)
    else:
        known[worker.id] = Known(first.worker, first.origin, (*first.hidden, origin))
