"""How many attempts each worker slot of a run holds, and which slot holds the fewest.

`occupy` and `vacate` keep `run.load` and the index `run.crowd` together; `least_loaded` answers
from the index alone. Slots are bits of whole numbers, so that a thousand of them cost no more than
a few; a property test holds the answer equal to a look at every slot. Nothing here places.
"""

from collections.abc import Container

from .fleet_words import LOCAL
from .state import Run


def place_of(run: str, slot: str) -> str:
    """The id of the worker whose slot it is: `RUN-WORKER-N`."""
    return slot[len(run) + 1 :].rpartition("-")[0]


def is_here_in(run: Run, worker: str) -> bool:
    """Whether a worker of a run is this machine."""
    if worker == LOCAL or not run.workers:
        return True
    raw = run.workers.get(worker)
    if raw is None:
        return False
    from .matching import is_here
    from .spec_hosts import decode_worker

    return is_here(decode_worker(raw))


def run_of(slot: str, runs: Container[str]) -> str:
    """Which of these runs a slot is of, or nothing; the longest name where several fit."""
    name = slot.rpartition("-")[0]
    while name := name.rpartition("-")[0]:
        if name in runs:
            return name
    return ""


def worker_of(run: Run, slot: int) -> str:
    """The name of the run's local slot, counted from 1."""
    return f"{run.id}-local-{slot}"


def slot_of(run: Run, worker: str) -> int:
    """The number of a worker slot, or 0 where it is none of the run's own."""
    head, _, number = worker.rpartition("-")
    if head != f"{run.id}-local" or not number.isdecimal():
        return 0
    return int(number)


def occupy(run: Run, worker: str) -> None:
    """One more attempt is in flight there."""
    load = run.load.get(worker, 0)
    run.load[worker] = load + 1
    if slot := slot_of(run, worker):
        if load == len(run.crowd):
            run.crowd.append(0)
        run.crowd[load] |= 1 << (slot - 1)


def vacate(run: Run, worker: str) -> None:
    """One attempt less is in flight there."""
    load = run.load[worker] - 1
    if load:
        run.load[worker] = load
    else:
        del run.load[worker]
    if slot := slot_of(run, worker):
        run.crowd[load] &= ~(1 << (slot - 1))


def least_loaded(run: Run) -> tuple[str, int]:
    """The slot with the fewest attempts in flight, and how many; the lowest number wins a tie."""
    every = (1 << run.slots) - 1
    for load, crowded in enumerate(run.crowd):
        if free := every & ~crowded:
            return worker_of(run, (free & -free).bit_length()), load
    return worker_of(run, 1), len(run.crowd)
