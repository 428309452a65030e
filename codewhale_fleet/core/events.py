"""What can have happened: every word that may stand in the ledger, with its payload.

Each class is the payload `d` of one record; `word` is the record's `k`. Payloads are immutable and
leave defaults out, so that a line stays short. The order of records is `Envelope.seq`; timestamps
never order anything. This file knows nothing of files, locks or processes.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from msgspec import Raw

from .alert_words import AlertDelayed as AlertDelayed
from .alert_words import AlertFailed as AlertFailed
from .alert_words import AlertSent as AlertSent
from .alert_words import AlertSuppressed as AlertSuppressed
from .alert_words import Batch as Batch
from .alert_words import Occasion as Occasion
from .alert_words import Topic as Topic
from .fleet_words import InventoryDiscovered as InventoryDiscovered
from .fleet_words import LedgerCompacted as LedgerCompacted
from .fleet_words import LedgerRepaired as LedgerRepaired
from .fleet_words import LedgerSealed as LedgerSealed
from .fleet_words import RunSummarized as RunSummarized
from .fleet_words import TaskUnplaced as TaskUnplaced
from .fleet_words import WorkerDraining as WorkerDraining
from .fleet_words import WorkerRegistered as WorkerRegistered
from .fleet_words import WorkerRetired as WorkerRetired
from .fleet_words import WorkersAdded as WorkersAdded
from .fleet_words import WorkerUnreachable as WorkerUnreachable
from .parts import AgentFacts as AgentFacts
from .parts import Artifact as Artifact
from .parts import Envelope as Envelope
from .parts import Event as Event
from .parts import Evidence as Evidence
from .parts import Log as Log
from .parts import Quota as Quota
from .parts import Receipt as Receipt
from .parts import SecretName as SecretName
from .parts import Step as Step
from .parts import Usage as Usage
from .task_words import DataDeleted as DataDeleted
from .task_words import DataPut as DataPut
from .task_words import QuestionAnswered as QuestionAnswered
from .task_words import QuestionAsked as QuestionAsked
from .task_words import SecretsUsed as SecretsUsed

NO_POLICY = Raw(b"null")
NO_BUDGET = NO_ALERTS = Raw(b"{}")


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
    deadline_seconds: float = 0.0
    environment: list[str] = []
    waived: list[str] = []
    spec: str = ""
    agents: dict[str, Raw] = {}
    """Definitions of the agents that its tasks and verifiers use, as they were then."""
    budget: Raw = NO_BUDGET
    """Limits over all tasks together, as in the spec."""
    policy: Raw = NO_POLICY
    """Trust and grants that hold for its tasks: the spec's and fleet.toml's together; or null."""
    roles: dict[str, Raw] = {}
    """Definitions of the roles that its tasks name, as they were then."""
    secrets: list[SecretName] = []
    """Every secret that its tasks and their agents may get, by name."""
    alerts: Raw = NO_ALERTS
    """Who is told of what: the names of variables, no values. Absent: nobody."""
    alert_policies: bool = False
    """Whether some of its tasks have an alert_policy."""
    workers: dict[str, Raw] = {}
    """Definitions of the workers that it may use, by id; absent: only the slots of this machine."""
    spread: bool = False
    """Tasks that ask for no worker go to any of them, not only to this machine."""
    patience: float = 0.0
    """Seconds that tasks wait for workers that nobody can reach."""
    script: str = ""
    """SHA-256 of the kept script that every command's words are the name and arguments of."""


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
    """The local slots of a run, `RUN-local-1` … `RUN-local-N`, in one line; or, with `worker`, the
    facts of the host of another worker, for all runs."""

    word = "worker.enrolled"
    slots: int
    host: str
    boot: str
    cores: int
    platform: str = "linux"
    worker: str = ""
    memory_mb: int = 0
    gpus: int = 0
    python: str = ""


class WorkerHeartbeat(Event, frozen=True, kw_only=True):
    """All workers that have work and were heard of, at most once in 30 s."""

    word = "worker.heartbeat"
    workers: list[str]


class WorkerStale(Event, frozen=True, kw_only=True):
    """What a worker runs does nothing: no output and no processor time for `quiet` seconds.

    Without `src` it is the manager who says so: it still is, or nobody was heard of for so long.
    """

    word = "worker.stale"
    worker: str
    attempt: str
    quiet: float
    src: tuple[str, int] | None = None


class WorkerRecovered(Event, frozen=True, kw_only=True):
    """What a worker runs does something again, after `quiet` seconds."""

    word = "worker.recovered"
    worker: str
    attempt: str
    quiet: float
    src: tuple[str, int] | None = None


class AttemptDispatched(Event, frozen=True, kw_only=True):
    """An attempt has a place; durable before the host is told. `why` is the placement's reason.

    `cores`, `memory_mb` and `gpus` (which ones) are its own there until it ends.
    """

    word = "attempt.dispatched"
    attempt: str
    worker: str
    boot: str
    why: str = ""
    cores: int = 0
    memory_mb: int = 0
    gpus: list[int] = []


class AttemptStarted(Event, frozen=True, kw_only=True):
    """The host's journal says that it runs; only of attempts that outlive about a second."""

    word = "attempt.started"
    attempt: str
    worker: str
    pid: int
    src: tuple[str, int]
    since: float = 0.0


class AttemptProgressed(Event, frozen=True, kw_only=True):
    """What an agent has used and said so far; at most every few seconds, and not of the last ones.

    `warn` names the caps of which 80 % are used up, each once. `step`: the attempt itself is over,
    and this step of its verification has run for about a second, or its agent has come so near.
    `percent` and `note` are what the task itself says, `checkpoint` what it leaves for its next
    attempt.
    """

    word = "attempt.progressed"
    attempt: str
    worker: str
    src: tuple[str, int]
    agent: AgentFacts = AgentFacts()
    warn: list[str] = []
    step: int = 0
    percent: float | None = None
    note: str = ""
    checkpoint: Evidence | None = None


class AttemptEnded(Event, frozen=True, kw_only=True):
    """An attempt's end, with its evidence and its receipt.

    Exactly one of `exit`, `signal`, `unknown` and `unstarted` tells how. `oom`: it was killed, by
    nobody here, while the kernel's memory killer was at work. `cap`: which limit ended it, where
    `why` is budget. `quota`: its agent had reached a usage limit. `isolated` is the directory that
    it had for itself, below the fleet directory, `base` the commit (of a copy: the tree) that it
    began with, `unsaved` why its patch does not hold all that it changed. `retry_after` (seconds)
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
    agent: AgentFacts | None = None
    cap: str = ""
    steps: list[Step] = []
    quota: Quota | None = None
    base: str = ""
    isolated: str = ""
    unsaved: str = ""
    notes: list[str] = []
    """What a person should know of its directory."""
    late: bool = False
    retry_after: float | None = None


class AttemptLost(Event, frozen=True, kw_only=True):
    """An attempt that will not be heard of again, and why."""

    word = "attempt.lost"
    attempt: str
    why: str
    receipt: Receipt
    retry_after: float | None = None


class ReceiptRecorded(Event, frozen=True, kw_only=True):
    """A later judgement of an attempt, by a person or by another agent; it decides the task."""

    word = "receipt.recorded"
    attempt: str
    receipt: Receipt
    evidence: Evidence | None = None


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

    `counts`, `sources` (failures), `restarted`, `spent` (seconds of all attempts) and `usage` sum
    the run up, so that a long ledger is read without the detail of what is over. `alerts` is what
    people are still to be told, or have open; `known`: that it came out like this they were told.
    """

    word = "run.finished"
    status: str
    counts: dict[str, int]
    seconds: float
    sources: dict[str, int] = {}
    restarted: int = 0
    spent: float = 0.0
    usage: Usage | None = None
    alerts: list[Topic] = []
    known: bool = False


EVENTS: dict[str, type[Event]] = {
    kind.word: kind
    for kind in (
        FleetInitialized, FleetCopied, ManagerElected, ManagerLeft, RunCreated, TasksAdded,
        RunStarted, WorkerEnrolled, WorkerHeartbeat, WorkerStale, WorkerRecovered,
        AttemptDispatched, AttemptStarted, AttemptProgressed, AttemptEnded, AttemptLost,
        ReceiptRecorded, TaskQueued, TaskCancelled, ControlRequested, RunStopped, RunPaused,
        RunResumed, RunFinished, RunSummarized, LedgerSealed, LedgerCompacted, LedgerRepaired,
        QuestionAsked, QuestionAnswered, DataPut, DataDeleted, SecretsUsed, AlertSent, AlertDelayed,
        AlertFailed, AlertSuppressed, WorkersAdded, WorkerRegistered, WorkerDraining, WorkerRetired,
        WorkerUnreachable, InventoryDiscovered, TaskUnplaced,
    )
}  # fmt: skip
"""Every word, by its name in the ledger."""
