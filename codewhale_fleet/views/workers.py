"""What is said of workers: a record about one in one sentence, how they are, what ran where.

Pure; loaded only where there are workers.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, assert_never

from ..core import events as e
from ..core.fleet_words import LOCAL, WorkerRow
from ..core.liveness import seconds_of, to_the_second
from ..core.load import place_of
from ..core.state import Run, State
from .units import many, one_line

OfWorkers = (
    e.WorkerEnrolled
    | e.WorkerRegistered
    | e.WorkerDraining
    | e.WorkerRetired
    | e.WorkerUnreachable
    | e.InventoryDiscovered
)


def say(event: OfWorkers) -> str:
    """One record in one sentence, without its number and time."""
    match event:
        case e.WorkerEnrolled():
            parts = [event.platform, many(event.cores, "core")]
            if event.memory_mb:
                parts.append(f"{event.memory_mb:,} MiB")
            if event.gpus:
                parts.append(many(event.gpus, "GPU"))
            return f"{event.worker} is {event.host}: {', '.join(parts)}"
        case e.WorkerRegistered():
            origin = f" ({one_line(event.origin)})" if event.origin else ""
            return f"{event.worker} is a worker of this fleet{origin}"
        case e.WorkerDraining(on=True):
            return f"{event.worker} gets nothing new{_because(event.reason)}"
        case e.WorkerDraining():
            return f"{event.worker} gets work again{_because(event.reason)}"
        case e.WorkerRetired():
            return f"{event.worker} was retired{_because(event.reason)}"
        case e.WorkerUnreachable():
            return f"{event.worker} can't be reached: {one_line(event.why)}"
        case e.InventoryDiscovered():
            what = many(len(event.workers), "more worker" if event.part else "worker")
            return f"the inventory {event.name} has {what}"
        case _:
            assert_never(event)


def standing(worker: str, row: WorkerRow | None) -> list[tuple[str, int]]:
    """How a worker stands with the fleet: sentences, each with the record it rests on."""
    if row is None:
        return []
    told = []
    if row.enrolled:
        size = f"{many(row.cores, 'core')}, seen {to_the_second(row.seen_ts)}"
        told.append((f"{worker} is {row.host}: {row.platform}, {size}", 0))
    if row.unreachable:
        since = f"since {to_the_second(row.unreachable_ts)}: {one_line(row.unreachable)}"
        told.append((f"{worker} can't be reached {since}", row.unreachable_seq))
    if row.draining:
        told.append((f"{worker} gets nothing new{_because(row.drain_reason)}", row.drain_seq))
    if row.retired:
        told.append((f"{worker} was retired{_because(row.retire_reason)}", row.retire_seq))
    return told


def per_worker(state: State, run: Run) -> list[dict[str, Any]]:
    """What each worker of a run has done for it, and how it stands."""
    counts: dict[str, Counter[str]] = {}
    for task in run.order:
        if task.worker:
            place = place_of(run.id, task.worker)
            counts.setdefault(place, Counter())[task.status] += 1
    made = []
    for worker in sorted({*run.workers, *counts}):
        row = state.workers.get(worker)
        one: dict[str, Any] = {"worker": worker, "tasks": dict(counts.get(worker, {}))}
        if row is not None and row.host:
            one["host"] = row.host
        for word in ("unreachable", "draining", "retired"):
            if row is not None and getattr(row, word):
                one[word] = getattr(row, word)
        made.append(one)
    return made


def host_of(state: State, run: Run, slot: str) -> str | None:
    """The host of a slot that is not of this machine."""
    place = place_of(run.id, slot)
    row = state.workers.get(place) if place and place != LOCAL else None
    return (row.host or None) if row else None


def _because(reason: str) -> str:
    return f": {one_line(reason)}" if reason else ""


CONDITIONS = ("online", "busy", "draining", "offline", "unknown", "retired")
"""How a worker can be, in the order in which they are counted out."""


def condition(row: WorkerRow | None, slots: int = 0) -> str:
    """How a worker is, in a word, as far as the ledger knows; `slots` where more is known."""
    if row is None:
        return "unknown"
    if row.retired:
        return "retired"
    if row.draining:
        return "draining"
    if row.unreachable:
        return "offline"
    if not row.enrolled:
        return "unknown"
    return "busy" if row.busy >= (slots or row.slots) else "online"


def counted(state: State) -> dict[str, int]:
    """How many other machines are in each condition; those that were retired are not counted."""
    found = [condition(row) for id, row in state.workers.items() if id != LOCAL]
    return {word: n for word in CONDITIONS[:-1] if (n := found.count(word))}


def where(run: Run) -> dict[str, int]:
    """How many tasks of a run had their latest attempt on each worker, the busiest first."""
    found: dict[str, int] = {}
    for task in run.order:
        if task.worker:
            place = place_of(run.id, task.worker)
            found[place] = found.get(place, 0) + 1
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


AWAY_SECONDS = 30.0
"""A worker that could not be reached for so long is no blip: what runs there needs a person."""


def away(state: State, runs: Iterable[Run], now: float) -> list[dict[str, Any]]:
    """Workers out of reach on which something of these runs is in flight, longest away first."""
    gone = {id: row for id, row in state.workers.items() if row.unreachable}
    counts: Counter[str] = Counter()
    for run in runs if gone else ():
        if run.workers:
            counts.update(place_of(run.id, flight.worker) for flight in run.flights.values())
    found = [(row.unreachable_ts, id) for id, row in gone.items() if counts[id]]
    return [
        {
            "id": id,
            "why": f"{id} cannot be reached; {_run_there(counts[id])}",
            "next": f"fleet worker test {id}",
            "since": since,
        }
        for since, id in sorted(found)
        if seconds_of(since) + AWAY_SECONDS <= now
    ]


def _run_there(count: int) -> str:
    return "1 attempt runs there" if count == 1 else f"{count:,} attempts run there"


def away_from(state: State) -> list[float]:
    """The seconds from which workers that cannot be reached are away."""
    return [
        seconds_of(row.unreachable_ts) + AWAY_SECONDS
        for row in state.workers.values()
        if row.unreachable
    ]
