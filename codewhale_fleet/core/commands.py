"""What can be asked: by people, by agents, by the passing of time, and by hosts that report.

A command says what somebody wants or saw; `decide` answers with the one event that records it.
Anything that depends on chance or on the outside (ids, jitter, host facts) is a field here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .events import (
    AgentFacts,
    AttemptEnded,
    Evidence,
    ManagerElected,
    Receipt,
    RunCreated,
    WorkerEnrolled,
)

if TYPE_CHECKING:
    from .worker_commands import AddWorkers as AddWorkers
    from .worker_commands import Discovered as Discovered
    from .worker_commands import Drain as Drain
    from .worker_commands import EnrolWorker as EnrolWorker
    from .worker_commands import Register as Register
    from .worker_commands import ReportUnreachable as ReportUnreachable
    from .worker_commands import Retire as Retire
    from .worker_commands import Unplaced as Unplaced


class Command(Struct, frozen=True, kw_only=True):
    """Base of all commands."""


class Initialize(Command, frozen=True, kw_only=True):
    """Begin a ledger under a new fleet id."""

    fleet: str


class Elect(Command, frozen=True, kw_only=True):
    """Take over as manager; `elected.epoch` is what the asker believes comes next."""

    elected: ManagerElected


class Copied(Command, frozen=True, kw_only=True):
    """The directory is a copy: go on as the fleet `fleet`."""

    fleet: str


class Leave(Command, frozen=True, kw_only=True):
    """Go in order, as the manager of this epoch."""

    epoch: int


class CreateRun(Command, frozen=True, kw_only=True):
    """Draft a run."""

    run: str
    created: RunCreated


class AddTasks(Command, frozen=True, kw_only=True):
    """Add tasks, each a sparse JSON object, to a draft."""

    run: str
    tasks: tuple[bytes, ...]


class StartRun(Command, frozen=True, kw_only=True):
    """Commit a draft of `count` tasks."""

    run: str
    count: int


class Enrol(Command, frozen=True, kw_only=True):
    """Make a run's local worker slots known."""

    run: str
    enrolled: WorkerEnrolled


class Place(Command, frozen=True, kw_only=True):
    """Give the next attempt of a task to a worker slot."""

    run: str
    task: str
    worker: str
    boot: str
    why: str
    cores: int = 0
    memory_mb: int = 0
    gpus: tuple[int, ...] = ()


class ReportStarted(Command, frozen=True, kw_only=True):
    """A host says that an attempt runs."""

    attempt: str
    worker: str
    pid: int
    since: float
    src: tuple[str, int]


class ReportQuiet(Command, frozen=True, kw_only=True):
    """A host says that an attempt does nothing for `quiet` seconds, or `moves` again after them."""

    attempt: str
    worker: str
    quiet: float
    src: tuple[str, int]
    moves: bool = False


class ReportProgress(Command, frozen=True, kw_only=True):
    """A host says what an agent has used and said so far."""

    attempt: str
    worker: str
    src: tuple[str, int]
    agent: AgentFacts = AgentFacts()
    warn: tuple[str, ...] = ()
    step: int = 0
    percent: float | None = None
    note: str = ""
    checkpoint: Evidence | None = None


class ReportAsked(Command, frozen=True, kw_only=True):
    """A host says that a task asks a person."""

    attempt: str
    worker: str
    src: tuple[str, int]
    number: int
    text: str
    choices: tuple[str, ...] = ()


class ReportData(Command, frozen=True, kw_only=True):
    """A host says that a value was put, or `deleted` up to `version`.

    `attempt` is the bare run where a person did it through the host.
    """

    attempt: str
    src: tuple[str, int]
    name: str
    version: int
    sha256: str = ""
    size: int = 0
    tags: dict[str, str] = {}
    deleted: bool = False


class ReportSecrets(Command, frozen=True, kw_only=True):
    """A host says which secrets a process of an attempt got, by name."""

    attempt: str
    worker: str
    src: tuple[str, int]
    secrets: dict[str, str]
    step: int = 0


class ReportEnded(Command, frozen=True, kw_only=True):
    """A host says that an attempt ended, and a scorer has judged it.

    `ended` is complete but for what only the state knows: lateness and the next attempt. `jitter`
    is a number in [0, 1), from outside.
    """

    ended: AttemptEnded
    jitter: float = 0.0


class ReportLost(Command, frozen=True, kw_only=True):
    """An attempt will not be heard of again; `open`: it may run on, so it is not made anew."""

    attempt: str
    why: str
    receipt: Receipt
    jitter: float = 0.0
    open: bool = False


class ReportBeat(Command, frozen=True, kw_only=True):
    """These workers were heard of."""

    workers: tuple[str, ...]


class Interrupt(Command, frozen=True, kw_only=True):
    """End running attempts, or cancel queued tasks (`RUN/TASK`), of one run."""

    run: str
    tasks: tuple[str, ...]
    reason: str


class Restart(Command, frozen=True, kw_only=True):
    """Make new attempts of tasks of one run now, from any end."""

    run: str
    tasks: tuple[str, ...]
    reason: str


class Answer(Command, frozen=True, kw_only=True):
    """Answer question `number` of the attempt `asker`; of a task (0), the only one that waits."""

    run: str
    asker: str
    answer: str
    number: int = 0


class PutData(Command, frozen=True, kw_only=True):
    """Put a value under the next version of its name, while nothing of the run is in flight."""

    run: str
    name: str
    sha256: str
    size: int
    tags: dict[str, str] = {}


class DeleteData(Command, frozen=True, kw_only=True):
    """Show no version of a name any more, while nothing of the run is in flight."""

    run: str
    name: str


class Judge(Command, frozen=True, kw_only=True):
    """Decide an attempt that waits for somebody's verdict."""

    run: str
    attempt: str
    receipt: Receipt
    evidence: Evidence | None = None


class StopRun(Command, frozen=True, kw_only=True):
    """No new placements; cancel what is queued; end what runs when `interrupt`."""

    run: str
    reason: str
    source: str = "human"
    interrupt: bool = True


class PauseRun(Command, frozen=True, kw_only=True):
    """No new placements for now."""

    run: str
    reason: str


class ResumeRun(Command, frozen=True, kw_only=True):
    """Go on; queue again what was cancelled, and what failed when `failed`."""

    run: str
    failed: bool = False
    max_workers: int = 0


class FinishRun(Command, frozen=True, kw_only=True):
    """Close a run whose tasks have all ended. `seconds` is its wall time."""

    run: str
    seconds: float


class AlertCommand(Command, frozen=True, kw_only=True):
    """About the message `key` of one topic of a run: of one class, for one adapter."""

    run: str
    cls: str
    adapter: str
    key: str


class ReportAlert(AlertCommand, frozen=True, kw_only=True):
    """What came of sending it.

    `state` is sent, retry, failed, or stuck: values that it needs are not here. `after` is how many
    seconds its receiver asked to be left alone, `jitter` a number in [0, 1), from outside.
    """

    state: str
    words: str = ""
    digest: str = ""
    after: float | None = None
    dry: bool = False
    jitter: float = 0.0


class GroupAlerts(AlertCommand, frozen=True, kw_only=True):
    """It has gathered long enough, and is the topic's next message."""


class CarryAlerts(AlertCommand, frozen=True, kw_only=True):
    """It goes out as `into`, for `count` occasions of other topics too."""

    into: str
    count: int
    names: tuple[str, ...]


class FoldAlerts(AlertCommand, frozen=True, kw_only=True):
    """It goes out as part of another one."""

    into: str


class ReportStill(Command, frozen=True, kw_only=True):
    """The manager says that an attempt does nothing, or that nobody has heard of it, for `quiet`
    seconds by now; or that it is heard of again (`moves`)."""

    attempt: str
    worker: str
    quiet: float
    moves: bool = False


class OfWorkers(Command, frozen=True, kw_only=True):
    """Base of all commands of worker_commands.py, which only fleets with workers load."""


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    from . import worker_commands

    return getattr(worker_commands, name)


def run_of(command: Command) -> str:
    """The run that a command is about; empty for the fleet's own."""
    find = _RUN_OF.get(type(command))
    return find(command) if find else getattr(command, "run", "")


def _no_run(command: Any) -> str:
    return ""


def _run_of_attempt(command: Any) -> str:
    attempt: str = command.attempt
    return attempt.partition("/")[0]


def _run_of_end(command: Any) -> str:
    ended: AttemptEnded = command.ended
    return ended.attempt.partition("/")[0]


_RUN_OF: dict[type[Command], Callable[[Any], str]] = {
    **dict.fromkeys((Initialize, Copied, Elect, Leave, ReportBeat), _no_run),
    **dict.fromkeys(
        (
            ReportStarted,
            ReportQuiet,
            ReportProgress,
            ReportLost,
            ReportAsked,
            ReportData,
            ReportSecrets,
            ReportStill,
        ),
        _run_of_attempt,
    ),
    ReportEnded: _run_of_end,
}
"""Commands that do not say their run in a field of that name."""
