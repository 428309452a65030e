"""Which workers a run may use: those of the fleet, and those that `--on` chooses.

Promises that commands which discover workers run only where a run may leave this machine. Knows
nothing of how tasks are spread.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ..core import posture
from ..core.fleet_words import LOCAL
from ..core.selectors import parse
from ..core.spec import Task
from ..core.spec_hosts import Worker
from ..core.state import State
from ..engine import inventory
from ..ledger.store import Ledger
from ..wire import fleetfile
from ..wire.inventory import Inventory
from ..wire.placing import Facts, Fleet, Places, Source
from .common import fleet_dir_of, refuse_unwritable
from .exec_targets import failed

MIB = 1 << 20


def source(root: Path, on: str | None, *, slots_here: int, recording: bool) -> Source:
    """The workers of the fleet in `root`, and those of them that `on` means; BadSelector.

    `recording`: a ledger may be begun for what a command tells, so that it runs once for all who
    ask at once.
    """
    state = State()

    def fleet(discover: bool) -> Fleet:
        nonlocal state
        file = fleetfile.read(root)
        asks = discover and bool(file.inventory)
        with _ledger(root, begin=asks and recording) as ledger:
            if asks:
                known = inventory.known(root, ledger, file)
            else:
                known = Inventory.load(root, file, ledger.state if ledger is not None else None, {})
            state = ledger.state if ledger is not None else state
        can = file.fleet.capabilities
        return Fleet(
            workers=known.definitions,
            facts={**_facts(state), LOCAL: _here()},
            slots_here=slots_here,
            capabilities_here=None if can is None else tuple(can),
        )

    if on is None:
        return Source(fleet)

    def resolve(word: str, rest: str) -> Iterable[str]:
        with _ledger(root) as ledger:
            return failed(ledger, word, rest)

    selector = parse(on, resolve)

    def chosen(workers: Mapping[str, Worker]) -> list[str]:
        return selector.choose(workers, state.workers)

    return Source(fleet, chosen)


def _ledger(root: Path, *, begin: bool = False) -> AbstractContextManager[Ledger | None]:
    """The ledger of the fleet in `root`, if there is one or it may `begin`."""
    folder = fleet_dir_of(str(root))
    if not (Path(folder) / "fleet.jsonl").exists():
        if not begin:
            return nullcontext()
        refuse_unwritable(folder)
    return Ledger.open(Path(folder), create=begin)


def of_lines(source: Source, policy: bytes) -> Places:
    """Where commands for lines may go: they ask for nothing."""
    made = Places({}, source.chosen, source.fleet, posture.decode_policy(policy))
    level, _ = posture.level_of(posture.decode_policy(policy), ())
    for found in made.problems(Task(id="a"), level):
        from ..errors import FleetError

        raise FleetError(f"--on: each task {found.message}.", found.hint, field="--on")
    return made


def _facts(state: State) -> dict[str, Facts]:
    return {
        id: Facts(row.platform, row.cores, row.memory_mb, row.gpus)
        for id, row in state.workers.items()
        if row.enrolled
    }


def _here() -> Facts:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Facts(sys.platform, len(os.sched_getaffinity(0)), pages // MIB, 0)
