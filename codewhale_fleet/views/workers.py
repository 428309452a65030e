"""What is said of workers: a record about one in one sentence.

Pure; loaded only where a record speaks of a worker.
"""

from typing import assert_never

from ..core import events as e
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


def _because(reason: str) -> str:
    return f": {one_line(reason)}" if reason else ""
