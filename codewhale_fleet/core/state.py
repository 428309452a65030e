"""Everything that is known, folded from the ledger, with the indexes that keep deciding cheap.

One `State` is owned and mutated by `evolve` alone. A task is a slim row (its spec stays encoded, as
it stands in the ledger), so that a hundred thousand of them fit in a few tens of megabytes; equal
texts in rows are one object wherever that is cheap to see. The
indexes (ready heap, timer heap, flights, claims) hold only what is open; a scan of all tasks for
one event would be quadratic. No I/O, no clock.
"""

from typing import Any

from msgspec import Struct

from .alert_words import RunAlerts
from .fleet_words import Discovered, WorkerRow
from .parts import Evidence, SecretName, Usage

OPEN = frozenset(("queued", "leased", "running"))
"""Task statuses that still need something to happen."""

RESULT_STATUS = {
    "pass": "completed",
    "partial": "partial",
    "fail": "failed",
    "timeout": "failed",
    "skip": "cancelled",
}
"""What a deciding receipt makes of its task."""


def attempt_id(run: str, task: str, number: int) -> str:
    """`RUN/TASK@N`, the one name of an attempt, everywhere."""
    return f"{run}/{task}@{number}"


def split_attempt(attempt: str) -> tuple[str, str, int]:
    """`RUN/TASK@N` as (run, task, number); ValueError where it is none."""
    run, _, rest = attempt.partition("/")
    task, at, number = rest.rpartition("@")
    if not (run and task and at):
        raise ValueError(attempt)
    return run, task, int(number)


class TaskMore(Struct):
    """What few tasks have: usage over all attempts, and what the next attempt is told."""

    usage: Usage = Usage()
    session: str = ""
    """The agent's own name of its latest conversation."""
    session_at: str = ""
    """The worker that has it: nobody else can go on with it."""
    session_in: str = ""
    """The directory of its own, below the fleet's, in which that goes on; empty: it has none."""
    feedback: str = ""
    """What the verifier of the latest attempt said."""
    warned: list[str] = []
    """Caps of which the latest attempt had used 80 %."""
    patch: str = ""
    """SHA-256 of what the latest attempt had changed, kept as evidence."""
    patch_of: int = 0
    """Number of that attempt."""
    base: str = ""
    """What it began with."""
    checkpoint: Evidence | None = None
    """What the task left for its next attempt."""


class Task(Struct, gc=False, array_like=True):
    """A task's row; times are seconds."""

    index: int
    id: str
    rest: bytes
    """Its spec as JSON, after the id: tasks that differ in nothing else share one object."""
    priority: int = 0
    status: str = "queued"
    attempt: int = 0
    """Number of the latest attempt; 0 before the first."""
    failures: int = 0
    """Failed attempts that count against the retry policy."""
    spent: float = 0.0
    """Seconds over all attempts, for budgets."""
    seconds: float = 0.0
    """Seconds of the latest attempt."""
    not_before: float = 0.0
    """Wall-clock second before which the next attempt may not be placed."""
    result: str = ""
    source: str = ""
    reason: str = ""
    """Why the receipt says so; empty for a plain pass."""
    seq: int = 0
    """Record that last changed this row."""
    worker: str = ""
    restarts: int = 0
    has_claims: bool = False
    more: TaskMore | None = None

    @property
    def raw(self) -> bytes:
        """Its spec as JSON, byte for byte as it stands in the ledger."""
        if self.rest.startswith(b"{"):
            return self.rest
        return b'{"id":"%b"%b' % (self.id.encode(), self.rest)


def rest_of(id: str, raw: bytes) -> bytes:
    """What a row keeps of a task's JSON: what follows the id, or all where it is not first."""
    start = b'{"id":"%b"' % id.encode()
    return raw[len(start) :] if raw.startswith(start) else raw


class Flight(Struct):
    """An attempt between its dispatch and its end."""

    task: str
    worker: str
    boot: str
    ts: str
    started: bool = False
    pid: int = 0
    stale: str = ""
    """Since when (the record's timestamp) it is known to do nothing, or empty."""
    stale_seq: int = 0
    """The record that says so."""
    silent: bool = False
    """Whether it is known to do nothing only because nobody has heard of it."""
    end: str = ""
    """Why it is to end (interrupted, restart, stopped), or empty."""
    step: int = 0
    """Its process is over, and this step of its verification runs; 0: not that one knows."""
    percent: float | None = None
    """How far it says that it is."""
    note: str = ""
    """The last line that it, or its agent, told."""
    cores: int = 0
    memory_mb: int = 0
    gpus: list[int] = []
    """What it has of its worker for itself."""


class Question(Struct):
    """A task asks a person: `key` is its attempt, with `:2` and so on for all but the first."""

    key: str
    task: str
    attempt: str
    text: str
    choices: list[str]
    ts: str
    seq: int
    number: int = 1
    answer: str | None = None
    by: str = ""


class Datum(Struct):
    """One version of a value of a run; `attempt` is empty where a person put it."""

    name: str
    version: int
    sha256: str
    size: int
    ts: str
    tags: dict[str, str] = {}
    attempt: str = ""
    deleted: bool = False


class Run(Struct):
    """A run: what was asked, its tasks, and indexes over the open ones."""

    id: str
    name: str
    seq: int
    ts: str
    max_workers: int
    workspace: str
    digest: str = ""
    max_failures: int = 0
    deadline_seconds: float = 0.0
    until: float = 0.0
    """The second at which its deadline passes; 0: it has none."""
    labels: dict[str, str] = {}
    environment: list[str] = []
    waived: list[str] = []
    spec: str = ""
    agents: dict[str, bytes] = {}
    """Definitions of the agents that its tasks use."""
    budget: bytes = b"{}"
    """Limits over all tasks together, as JSON."""
    policy: bytes = b"null"
    """Trust and grants that hold for its tasks, as JSON."""
    roles: dict[str, bytes] = {}
    """Definitions of the roles that its tasks name."""
    secrets: list[SecretName] = []
    """Secrets that its tasks may get, by name."""
    usage: Usage = Usage()
    """What the agents of all attempts used."""
    spent: float = 0.0
    """Seconds of all attempts of all tasks."""
    status: str = "draft"
    """draft, running, paused, stopping, finished."""
    result: str = ""
    """How it finished: completed, partial, failed or cancelled."""
    reason: str = ""
    """Why it is paused or was stopped."""
    stop_source: str = ""
    forgiven: int = 0
    """Failed tasks that stood when a person last had it go on: they do not count against
    `max_failures` any more."""
    forgiven_seq: int = 0
    """The record that said so."""
    started_ts: str = ""
    asked_ts: str = ""
    """When somebody last had it begin, or go on; empty once it is finished."""
    finished_ts: str = ""
    seconds: float = 0.0
    slots: int = 0
    tasks: dict[str, Task] = {}
    counts: dict[str, int] = {}
    sources: dict[str, int] = {}
    """Deciding receipts that did not pass, by failure source."""
    restarted: int = 0
    open: int = 0
    mean: float = 0.0
    """Running mean of attempt seconds; 0 before the first end."""
    order: list[Task] = []
    ready: list[tuple[int, int]] = []
    """Heap of (priority, index) that may be placed now."""
    timers: list[tuple[float, int]] = []
    """Heap of (not_before, index)."""
    flights: dict[str, Flight] = {}
    load: dict[str, int] = {}
    """Worker slot -> attempts in flight."""
    crowd: list[int] = []
    """`crowd[n]`: the slots with more than `n` attempts in flight, slot k as bit k - 1."""
    claims: dict[str, str] = {}
    """Claimed path or contract -> task that holds it."""
    parked: dict[str, list[int]] = {}
    """Task in flight -> indexes of tasks that wait for its claims."""
    behind: dict[str, list[int]] = {}
    """Task -> indexes of tasks that claim the same and come after it, the next one last."""
    questions: dict[str, Question] = {}
    """What its tasks have asked people, answered or not, by key."""
    data: dict[str, list[Datum]] = {}
    """Name -> its versions, oldest first."""
    opened_at: tuple[int, int] = (0, 0)
    """(segment, offset) of its first record."""
    closed_at: tuple[int, int] = (0, 0)
    """(segment, offset) after the latest record that finished it."""
    compacted: str = ""
    """When its detail was dropped from the ledger, or empty."""
    alerts: RunAlerts | None = None
    """What people are to be told of it; None where nobody is to be told anything."""
    workers: dict[str, bytes] = {}
    """Definitions of the workers that it may use; empty: only its local slots."""
    spread: bool = False
    """Tasks that ask for no worker go to any of them."""
    patience: float = 0.0
    """Seconds that tasks wait for workers that nobody can reach."""
    script: str = ""
    """SHA-256 of the kept script that every command's words are the name and arguments of."""
    board: Any = None
    """What core/spread.py knows of a run with workers; made anew whenever it is needed."""


class Manager(Struct):
    """The latest manager: `left` when it went in order."""

    epoch: int
    pid: int
    host: str
    boot: str
    device: int
    inode: int
    ts: str
    root: str = ""
    left: bool = False


class Breaker(Struct):
    """An agent that reached a usage limit: not asked before `until` (wall-clock second).

    It stands until an attempt of that agent ends without one; `trips` counts limits in a row.
    """

    until: float
    seq: int
    attempt: str
    words: str = ""
    trips: int = 1


class State(Struct):
    """The whole fleet."""

    fleet: str = ""
    seq: int = 0
    ts: str = ""
    latest: str = ""
    """The latest timestamp since the last election, for a clock that was set back."""
    manager: Manager | None = None
    runs: dict[str, Run] = {}
    open_runs: dict[str, Run] = {}
    """Runs that are started and not finished."""
    cursors: dict[str, int] = {}
    """Runtime id -> number of the last journalled fact that is in the ledger."""
    beats: dict[str, str] = {}
    """Worker slot -> timestamp of its latest recorded heartbeat."""
    boot: str = ""
    """Boot id of the host that last enrolled workers here."""
    breakers: dict[str, Breaker] = {}
    """Agent -> the usage limit that it reached."""
    alerts: bool = False
    """Whether any run has somebody told of anything."""
    owing: dict[str, int] = {}
    """Runs that owe people a message, now or later, finished ones too."""
    pace: dict[str, list[float]] = {}
    """Adapter -> when it got its latest messages (seconds since the epoch)."""
    workers: dict[str, WorkerRow] = {}
    """What is known of workers, by id; empty where no run and nobody named any."""
    inventories: dict[str, Discovered] = {}
    """Discovery command -> its latest answer."""
    moved: dict[str, int] = {}
    """Worker -> when its row was last changed, counted in `moves`; the latest stands last."""
    moves: int = 0

    @property
    def epoch(self) -> int:
        """The highest epoch, 0 before the first manager."""
        return self.manager.epoch if self.manager else 0


def claim_conflict(run: Run, wanted: tuple[str, ...]) -> str | None:
    """The task in flight whose claim overlaps one of `wanted`, or None.

    Paths overlap when equal or when one lies below the other; `.` overlaps every path. Contracts
    (`contract:NAME`) overlap only when equal.
    """
    for claim in wanted:
        for held, holder in run.claims.items():
            if overlaps(claim, held):
                return holder
    return None


def overlaps(one: str, other: str) -> bool:
    """Whether two claims exclude each other."""
    if one == other:
        return True
    if one.startswith("contract:") or other.startswith("contract:"):
        return False
    if "." in (one, other):
        return True
    return one.startswith(other + "/") or other.startswith(one + "/")
