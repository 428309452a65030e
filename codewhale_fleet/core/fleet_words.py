"""What can happen to workers, and what is known of them; what the ledger says of itself.

Words of `events.py`, rows of `state.py`. Of the ledger: segments, compaction, repair.

A worker is a place with an id where attempts may run; `local` is this machine. These records belong
to the fleet, not to a run, but for workers that a run brings and tasks that have none. Definitions
are `spec_hosts.Worker` as JSON, which only who needs them decodes.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from msgspec import Raw, Struct

from .parts import Event, Receipt

LOCAL = "local"
"""The id of this machine as a worker."""

MAY_RUN = "cannot be reached; it may still run there"
"""How the reason ends of an attempt on a worker that was given up unseen."""


# Workers --------------------------------------------------------------------------------------


class WorkersAdded(Event, frozen=True, kw_only=True):
    """More workers of a drafted run, where `run.created` would make too long a line."""

    word = "workers.added"
    workers: dict[str, Raw]


class WorkerRegistered(Event, frozen=True, kw_only=True):
    """The fleet knows a worker from here on, as `fleet worker add` or an import defined it.

    `origin` says where the definition comes from. It takes back that the worker was retired.
    """

    word = "worker.registered"
    worker: str
    definition: Raw
    origin: str = ""


class WorkerDraining(Event, frozen=True, kw_only=True):
    """A worker gets nothing new, what it runs goes on; or, without `on`, it gets work again."""

    word = "worker.draining"
    worker: str
    on: bool = True
    reason: str = ""


class WorkerRetired(Event, frozen=True, kw_only=True):
    """A worker is not of the fleet any more, until it is registered again."""

    word = "worker.retired"
    worker: str
    reason: str = ""


class WorkerUnreachable(Event, frozen=True, kw_only=True):
    """Nobody can reach a worker, and why; said once, until it enrols again or the reason becomes
    another one that only a person can change."""

    word = "worker.unreachable"
    worker: str
    why: str


class InventoryDiscovered(Event, frozen=True, kw_only=True):
    """What a discovery command answered: it holds as long as the inventory's ttl_seconds say.

    `digest` is that of what was asked. A long answer has several lines; `part` 0 begins anew.
    """

    word = "inventory.discovered"
    name: str
    digest: str
    workers: dict[str, Raw]
    part: int = 0


class TaskUnplaced(Event, frozen=True, kw_only=True):
    """Tasks that end without an attempt: no worker that could run them can be reached."""

    word = "task.unplaced"
    tasks: list[str]
    receipt: Receipt


# The ledger -----------------------------------------------------------------------------------


class LedgerSealed(Event, frozen=True, kw_only=True):
    """A segment begins; `segment` is the one before it, with its digest, size and records."""

    word = "ledger.sealed"
    segment: int
    sha256: str
    bytes: int
    first: int
    last: int


class RunSummarized(Event, frozen=True, kw_only=True):
    """What compaction left of a finished run's detail, in several lines before its last end.

    `tasks` are rows of core/summary.py: each task with its attempts, and how they were judged.
    These lines bear the number of the `run.finished` that they stand before. `on` is when. `reason`
    and `source` say why the run was stopped, if it was and did not go on.
    """

    word = "run.summarized"
    on: str
    tasks: list[Raw]
    part: int = 0
    reason: str = ""
    source: str = ""


class LedgerCompacted(Event, frozen=True, kw_only=True):
    """Segment `segment`, records `first` to `last`, lost the detail of `runs` finished runs.

    Those are all that had finished for good before `before`, and in a segment up to `through`. The
    same word heads the new file, without `sha256`: `original` is the digest of what was sealed,
    `chain` the chain value at its end, `dropped` counts records by word, `cursors` and `latest` are
    what those told the state.
    """

    word = "ledger.compacted"
    segment: int
    first: int
    last: int
    chain: str
    original: str
    before: str
    through: int
    runs: int
    sha256: str = ""
    bytes: int = 0
    dropped: dict[str, int] = {}
    cursors: dict[str, int] = {}
    latest: str = ""


class LedgerRepaired(Event, frozen=True, kw_only=True):
    """What could not stand went to `quarantine`: `bytes`, from `offset` of `segment` on.

    A writer does that only with a tail that was never acknowledged; `asked` says that a person
    asked for it, and `behind` how many records there still followed from each other.
    """

    word = "ledger.repaired"
    segment: int
    offset: int
    bytes: int
    quarantine: str = ""
    asked: bool = False
    behind: int = 0


# Rows -----------------------------------------------------------------------------------------


class WorkerRow(Struct):
    """A worker as the ledger knows it. Facts are empty, or 0, before it was heard of."""

    definition: bytes = b""
    """As it was registered, else as the latest run had it."""
    origin: str = ""
    registered: bool = False
    draining: bool = False
    drain_reason: str = ""
    drain_seq: int = 0
    """The record that said so."""
    retired: bool = False
    retire_reason: str = ""
    retire_seq: int = 0
    boot: str = ""
    host: str = ""
    cores: int = 0
    memory_mb: int = 0
    gpus: int = 0
    platform: str = ""
    python: str = ""
    slots: int = 0
    seen_ts: str = ""
    """When its facts were recorded."""
    unreachable: str = ""
    """Why it can't be reached, or empty."""
    unreachable_ts: str = ""
    unreachable_seq: int = 0
    load: int = 0
    """Attempts in flight there, over all runs that have workers."""
    busy: int = 0
    """Slots that they hold: attempts that were leased ahead share one."""
    cores_taken: int = 0
    memory_taken: int = 0
    gpus_taken: int = 0
    """GPU n as bit n."""

    @property
    def enrolled(self) -> bool:
        """Whether its facts are known."""
        return bool(self.boot)


class Discovered(Struct):
    """The latest answer of a discovery command: worker id -> definition."""

    digest: str
    ts: str
    workers: dict[str, bytes] = {}
