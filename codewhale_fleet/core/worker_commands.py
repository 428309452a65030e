"""What can be asked, or reported, about workers; `commands.py` hands these names on.

A module of its own, because only fleets with workers need it.
"""

from .commands import OfWorkers
from .events import Receipt, WorkerEnrolled


class AddWorkers(OfWorkers, frozen=True, kw_only=True):
    """Add workers, each definition as JSON, to a draft."""

    run: str
    workers: dict[str, bytes]


class Register(OfWorkers, frozen=True, kw_only=True):
    """Make a worker known to the fleet; `definition` is a `spec_hosts.Worker` as JSON."""

    worker: str
    definition: bytes
    origin: str = ""


class Drain(OfWorkers, frozen=True, kw_only=True):
    """Give a worker nothing new; or, without `on`, give it work again."""

    worker: str
    on: bool = True
    reason: str = ""


class Retire(OfWorkers, frozen=True, kw_only=True):
    """Take a worker out of the fleet."""

    worker: str
    reason: str = ""


class ReportUnreachable(OfWorkers, frozen=True, kw_only=True):
    """Nobody can reach a worker, and why; `final`: trying again cannot help."""

    worker: str
    why: str
    final: bool = False


class EnrolWorker(OfWorkers, frozen=True, kw_only=True):
    """A worker runtime greeted: these are the facts of its host. Known while they are the same,
    younger than a day, and the worker was not unreachable."""

    enrolled: WorkerEnrolled


class Discovered(OfWorkers, frozen=True, kw_only=True):
    """A discovery command answered; see `events.InventoryDiscovered`."""

    name: str
    digest: str
    workers: dict[str, bytes]
    part: int = 0


class Unplaced(OfWorkers, frozen=True, kw_only=True):
    """End queued tasks that no worker can run, with this receipt."""

    run: str
    tasks: tuple[str, ...]
    receipt: Receipt
