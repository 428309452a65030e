"""What is decided and learnt about workers: `decide` and `evolve` for the words of fleet_words.py.

Loaded by fleets with workers only. `take` and `give_back` keep what a worker holds, over all runs;
a property test holds that equal to a count of all flights. Nothing here places, or knows hosts.
"""

from collections.abc import Iterator, Mapping
from typing import assert_never

from msgspec import Raw

from ..errors import Refused
from . import events as e
from . import worker_commands as w
from .commands import OfWorkers
from .fleet_words import LOCAL, Discovered, WorkerRow
from .liveness import seconds_of
from .load import place_of
from .state import Flight, Run, State

FACTS_SECONDS = 86_400.0
"""Facts of a host that are older are recorded anew when it greets."""

LINE_BYTES = 128 * 1024
"""Most bytes of definitions, or of ids, in one line."""

_FACTS = ("boot", "host", "cores", "memory_mb", "gpus", "platform", "python", "slots")


# Deciding -------------------------------------------------------------------------------------


def decide_worker(state: State, command: OfWorkers, now: float) -> e.Event | None:
    """The event that records a command about workers; None where it is already so."""
    match command:
        case w.EnrolWorker(enrolled=enrolled):
            return None if _is_known(state, enrolled, now) else enrolled
        case w.ReportUnreachable(worker=worker, why=why, final=final):
            row = state.workers.get(worker)
            if row and row.unreachable and (row.unreachable == why or not final):
                return None
            return e.WorkerUnreachable(worker=worker, why=why)
        case w.Drain(worker=worker, on=on, reason=reason):
            row = state.workers.get(worker)
            if (row is not None and row.draining) == on:
                return None
            return e.WorkerDraining(worker=worker, on=on, reason=reason)
        case w.Retire(worker=worker, reason=reason):
            row = state.workers.get(worker)
            return None if row and row.retired else e.WorkerRetired(worker=worker, reason=reason)
        case w.Register(worker=worker, definition=definition, origin=origin):
            row = state.workers.get(worker)
            known = row is not None and row.registered and not row.retired
            if row is not None and known and (row.definition, row.origin) == (definition, origin):
                return None
            return e.WorkerRegistered(worker=worker, definition=Raw(definition), origin=origin)
        case w.Discovered():
            return e.InventoryDiscovered(
                name=command.name,
                digest=command.digest,
                workers={name: Raw(raw) for name, raw in command.workers.items()},
                part=command.part,
            )
        case w.AddWorkers() | w.Unplaced():
            return _decide_of_run(state, command)
        case _:
            return assert_never(command)  # type: ignore[arg-type]


def _decide_of_run(state: State, command: w.AddWorkers | w.Unplaced) -> e.Event | None:
    run = state.runs[command.run]
    if isinstance(command, w.AddWorkers):
        if run.status != "draft":
            raise Refused(f'"{run.id}" is started: its workers stand.', "Make a new run.")
        return e.WorkersAdded(workers={name: Raw(raw) for name, raw in command.workers.items()})
    queued = [name for name in command.tasks if run.tasks[name].status == "queued"]
    return e.TaskUnplaced(tasks=queued, receipt=command.receipt) if queued else None


def _is_known(state: State, enrolled: e.WorkerEnrolled, now: float) -> bool:
    row = state.workers.get(enrolled.worker)
    if row is None or row.unreachable or not row.enrolled:
        return False
    same = all(getattr(row, name) == getattr(enrolled, name) for name in _FACTS)
    return same and now - seconds_of(row.seen_ts) < FACTS_SECONDS


def in_lines(workers: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Definitions as many a ledger line as it takes; one empty part where there are none."""
    part: dict[str, bytes] = {}
    size = 0
    for name, raw in workers.items():
        size += len(name) + len(raw) + 8
        if part and size > LINE_BYTES:
            yield part
            part, size = {}, len(name) + len(raw) + 8
        part[name] = raw
    yield part


# Learning -------------------------------------------------------------------------------------


def row_of(state: State, worker: str) -> WorkerRow:
    """What is known of a worker, from here on to be changed; the boards of runs see that it was."""
    row = state.workers.get(worker)
    if row is None:
        row = state.workers[worker] = WorkerRow()
    state.moved.pop(worker, None)
    state.moves += 1
    state.moved[worker] = state.moves
    return row


def defined(state: State, run: Run, workers: Mapping[str, Raw]) -> None:
    """A run may use these workers. Equal definitions of many runs are one object.

    Rows are made here, and not when an attempt comes: not every reader hears of those.
    """
    state.workers.get(LOCAL) or row_of(state, LOCAL)
    for worker, raw in workers.items():
        data = bytes(raw)
        row = state.workers.get(worker) or row_of(state, worker)
        if row.definition == data:
            data = row.definition
        elif not row.registered:
            row.definition = data
        run.workers[worker] = data
    run.board = None


def enrolled(state: State, head: e.Envelope, event: e.WorkerEnrolled, worker: str) -> None:
    """The facts of a host; it was reached."""
    row = row_of(state, worker)
    for name in _FACTS:
        setattr(row, name, getattr(event, name))
    row.seen_ts = head.ts
    row.unreachable = row.unreachable_ts = ""
    row.unreachable_seq = 0


def learn(state: State, head: e.Envelope, event: e.Event) -> None:
    """What a record says of a worker."""
    match event:
        case e.WorkersAdded():
            defined(state, state.runs[head.run], event.workers)
        case e.WorkerRegistered():
            row = row_of(state, event.worker)
            row.definition, row.origin = bytes(event.definition), event.origin
            row.registered, row.retired, row.retire_reason, row.retire_seq = True, False, "", 0
        case e.WorkerDraining():
            row = row_of(state, event.worker)
            row.draining, row.drain_reason = event.on, event.reason if event.on else ""
            row.drain_seq = head.seq if event.on else 0
        case e.WorkerRetired():
            row = row_of(state, event.worker)
            row.registered, row.draining, row.drain_reason, row.drain_seq = False, False, "", 0
            row.retired, row.retire_reason, row.retire_seq = True, event.reason, head.seq
        case e.WorkerUnreachable():
            row = row_of(state, event.worker)
            row.unreachable, row.unreachable_seq = event.why, head.seq
            row.unreachable_ts = row.unreachable_ts or head.ts
        case e.InventoryDiscovered():
            known = state.inventories.get(event.name)
            if event.part == 0 or known is None:
                known = state.inventories[event.name] = Discovered(event.digest, head.ts)
            known.workers |= {name: bytes(raw) for name, raw in event.workers.items()}


# What it holds --------------------------------------------------------------------------------


def take(state: State, run: Run, flight: Flight) -> None:
    """An attempt of a run with workers has come to a worker; `run.load` knows it already."""
    row = row_of(state, place_of(run.id, flight.worker))
    row.load += 1
    row.busy += run.load[flight.worker] == 1
    row.cores_taken += flight.cores
    row.memory_taken += flight.memory_mb
    for gpu in flight.gpus:
        row.gpus_taken |= 1 << gpu


def give_back(state: State, run: Run, flight: Flight) -> None:
    """It is gone from there; `run.load` knows it already."""
    row = row_of(state, place_of(run.id, flight.worker))
    row.load -= 1
    row.busy -= flight.worker not in run.load
    row.cores_taken -= flight.cores
    row.memory_taken -= flight.memory_mb
    for gpu in flight.gpus:
        row.gpus_taken &= ~(1 << gpu)


def recount(state: State) -> None:
    """What all workers hold, counted anew from the flights, after a snapshot was read."""
    for row in state.workers.values():
        row.load = row.busy = row.cores_taken = row.memory_taken = row.gpus_taken = 0
    for run in state.runs.values():
        if run.workers and run.flights:
            load: dict[str, int] = run.load
            run.load = {}
            for flight in run.flights.values():
                run.load[flight.worker] = run.load.get(flight.worker, 0) + 1
                take(state, run, flight)
            assert run.load == load


def let_go(state: State, run: Run) -> None:
    """A run lost all that it had in flight without a word: its detail is gone from the ledger."""
    load: dict[str, int] = run.load
    for flight in run.flights.values():
        load[flight.worker] -= 1
        if not load[flight.worker]:
            del load[flight.worker]
        give_back(state, run, flight)


def forget_beats(state: State, run: Run) -> None:
    """Beats of the run's slots on its workers; its end."""
    ours = {run.id + "-" + worker: None for worker in run.workers}
    gone = [slot for slot in state.beats if slot.rpartition("-")[0] in ours]
    for slot in gone:
        del state.beats[slot]
