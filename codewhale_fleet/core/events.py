"""What can have happened: every word that may stand in the ledger, with its payload.

Each class is the payload `d` of one record; `word` is the record's `k`. Payloads are immutable and
leave defaults out, so that a line stays short. The order of records is `Envelope.seq`; timestamps
never order anything. This file knows nothing of files, locks or processes.
"""

from typing import ClassVar

from msgspec import Raw, Struct


class Envelope(Struct, gc=False):
    """A ledger line as read: header fields, and the payload still undecoded."""

    k: str
    seq: int
    ts: str
    d: Raw
    v: int = 1
    run: str = ""
    by: str = ""
    id: str = ""
    c: str = ""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all payloads."""

    word: ClassVar[str]
    payload_version: ClassVar[int] = 1


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The judgement of one attempt: `result`, whose fault a failure was, and on what it rests.

    `result` is pass, fail, partial, skip or timeout; `source` is transport, task, verifier, budget,
    policy or human and stands beside every result but pass; `scorer` names what judged.
    """

    result: str
    source: str = ""
    scorer: str = ""
    reason: str = ""


class Log(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A log stream: path below the fleet directory, bytes written, bytes punched out."""

    path: str
    size: int
    dropped: int = 0
    sha256: str = ""


class Artifact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that an attempt promised: path below the workspace root, size in bytes."""

    kind: str
    path: str
    sha256: str = ""
    mime: str = ""
    size: int = 0


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that a scorer asked for: kept by digest, or why it could not be."""

    sha256: str = ""
    size: int = 0
    error: str = ""


class FleetInitialized(Event, frozen=True, kw_only=True):
    """A ledger begins. `format` is the version of the file format."""

    word = "fleet.initialized"
    fleet: str
    format: int = 1


class FleetCopied(Event, frozen=True, kw_only=True):
    """The fleet's directory is a copy, or was restored: it goes on as another fleet."""

    word = "fleet.copied"
    fleet: str
    was: str


class ManagerElected(Event, frozen=True, kw_only=True):
    """A manager took over; `epoch` fences every earlier one.

    `device` and `inode` are those of `.fleet`, `root` is the path of the directory it lies in.
    """

    word = "manager.elected"
    epoch: int
    pid: int
    host: str
    boot: str
    version: str
    device: int
    inode: int
    root: str = ""


class ManagerLeft(Event, frozen=True, kw_only=True):
    """A manager went in order."""

    word = "manager.left"
    epoch: int


class RunCreated(Event, frozen=True, kw_only=True):
    """A run without its tasks. It is a draft until `run.started`.

    `environment` holds names only: which variables of the asker the run may see.
    """

    word = "run.created"
    name: str
    digest: str
    max_workers: int
    workspace: str
    labels: dict[str, str] = {}
    max_failures: int = 0
    environment: list[str] = []
    waived: list[str] = []
    spec: str = ""


class TasksAdded(Event, frozen=True, kw_only=True):
    """Tasks of a run, each as its own sparse JSON object."""

    word = "tasks.added"
    tasks: list[Raw]


class RunStarted(Event, frozen=True, kw_only=True):
    """The commit point of a run: from here its tasks may be placed."""

    word = "run.started"
    count: int
    digest: str = ""


class WorkerEnrolled(Event, frozen=True, kw_only=True):
    """The local slots of a run, `RUN-local-1` … `RUN-local-N`, in one line."""

    word = "worker.enrolled"
    slots: int
    host: str
    boot: str
    cores: int
    platform: str = "linux"


class WorkerHeartbeat(Event, frozen=True, kw_only=True):
    """All workers that have work and were heard of, at most once in `heartbeat_record_seconds`."""

    word = "worker.heartbeat"
    workers: list[str]


class WorkerStale(Event, frozen=True, kw_only=True):
    """What a worker runs does nothing: no output and no processor time for `quiet` seconds."""

    word = "worker.stale"
    worker: str
    attempt: str
    quiet: float
    src: tuple[str, int]


class WorkerRecovered(Event, frozen=True, kw_only=True):
    """What a worker runs does something again, after `quiet` seconds."""

    word = "worker.recovered"
    worker: str
    attempt: str
    quiet: float
    src: tuple[str, int]


class AttemptDispatched(Event, frozen=True, kw_only=True):
    """An attempt has a place; durable before the host is told. `why` is the placement's reason."""

    word = "attempt.dispatched"
    attempt: str
    worker: str
    boot: str
    why: str = ""


class AttemptStarted(Event, frozen=True, kw_only=True):
    """The host's journal says that it runs; only of attempts that outlive about a second."""

    word = "attempt.started"
    attempt: str
    worker: str
    pid: int
    src: tuple[str, int]
    since: float = 0.0


class AttemptEnded(Event, frozen=True, kw_only=True):
    """An attempt's end, with its evidence and its receipt.

    Exactly one of `exit`, `signal`, `unknown` and `unstarted` tells how. `oom`: it was killed, by
    nobody here, while the kernel's memory killer was at work. `retry_after` (seconds)
    says that the task is queued again; absent, the receipt decides the task.
    """

    word = "attempt.ended"
    attempt: str
    worker: str
    src: tuple[str, int]
    seconds: float
    receipt: Receipt
    exit: int | None = None
    signal: int | None = None
    unknown: bool = False
    unstarted: str = ""
    why: str = ""
    cpu: float | None = None
    rss_kb: int | None = None
    logs: dict[str, Log] = {}
    artifacts: list[Artifact] = []
    missing: list[str] = []
    artifact_errors: list[str] = []
    evidence: dict[str, Evidence] = {}
    stragglers: int = 0
    oom: bool = False
    late: bool = False
    retry_after: float | None = None


class AttemptLost(Event, frozen=True, kw_only=True):
    """An attempt that will not be heard of again, and why."""

    word = "attempt.lost"
    attempt: str
    why: str
    receipt: Receipt
    retry_after: float | None = None


class TaskQueued(Event, frozen=True, kw_only=True):
    """Tasks back in the queue because somebody asked: restart."""

    word = "task.queued"
    tasks: list[str]
    why: str


class TaskCancelled(Event, frozen=True, kw_only=True):
    """Tasks that will not run, because somebody asked."""

    word = "task.cancelled"
    tasks: list[str]
    why: str


class ControlRequested(Event, frozen=True, kw_only=True):
    """Running attempts that are to end: `verb` is interrupt or restart."""

    word = "control.requested"
    verb: str
    attempts: list[str]
    reason: str = ""


class RunStopped(Event, frozen=True, kw_only=True):
    """No new placements; what is queued is cancelled; running attempts end when `interrupt`.

    `source` is human or policy: whose decision it was.
    """

    word = "run.stopped"
    reason: str
    source: str = "human"
    interrupt: bool = True


class RunPaused(Event, frozen=True, kw_only=True):
    """No new placements until the run is resumed; running attempts go on."""

    word = "run.paused"
    reason: str


class RunResumed(Event, frozen=True, kw_only=True):
    """Placements go on; cancelled tasks, and failed ones when `failed`, are queued again."""

    word = "run.resumed"
    failed: bool = False
    max_workers: int = 0


class RunFinished(Event, frozen=True, kw_only=True):
    """Every task of the run has its deciding receipt. `seconds` is wall time since its start.

    `counts`, `sources` (failures) and `restarted` sum the run up, so that a long ledger is read
    without the detail of what is over.
    """

    word = "run.finished"
    status: str
    counts: dict[str, int]
    seconds: float
    sources: dict[str, int] = {}
    restarted: int = 0


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
    These lines bear the number of the `run.finished` that they stand before. `on` is when.
    """

    word = "run.summarized"
    on: str
    tasks: list[Raw]
    part: int = 0


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


EVENTS: dict[str, type[Event]] = {
    kind.word: kind
    for kind in (
        FleetInitialized, FleetCopied, ManagerElected, ManagerLeft, RunCreated, TasksAdded,
        RunStarted, WorkerEnrolled, WorkerHeartbeat, WorkerStale, WorkerRecovered,
        AttemptDispatched, AttemptStarted, AttemptEnded, AttemptLost, TaskQueued, TaskCancelled,
        ControlRequested, RunStopped, RunPaused, RunResumed, RunFinished, RunSummarized,
        LedgerSealed, LedgerCompacted, LedgerRepaired,
    )
}  # fmt: skip
"""Every word, by its name in the ledger."""
