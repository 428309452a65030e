"""What a person may write in a task spec: every field, its type, its unit and its simple limits.

The types are the whole field list of the reference and what this project adds to it. They promise
that what they accept is well-formed by itself; whether fields agree with each other is for
`wire/validate.py`, whether this version holds a field for `wire/unenforced.py`. Nothing here knows
files, lines or TOML.

A task is kept and sent as sparse JSON: fields at their default are left out.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from .spec_hosts import (
    AlertPolicy,
    Amount,
    Count,
    Limit,
    Positive,
    Priority,
    Seconds,
    SecretRef,
    SecurityPolicy,
    Token,
    Worker,
    WorkerType,
    Written,
)

MAX_WORKERS = 128
"""Most leases at once in a run."""

Text = Annotated[str, Meta(min_length=1)]
Argv = Annotated[list[str], Meta(min_length=1)]
FailureSource = Literal["transport", "task", "verifier"]
"""Whose fault a failure may be that gets another attempt; budget, policy and human never are."""


class ExitCode(Written, frozen=True, kw_only=True, tag_field="kind", tag="exit_code"):
    """Pass when the command exits with 0."""


class FileExists(Written, frozen=True, kw_only=True, tag_field="kind", tag="file_exists"):
    """Pass when a regular file is there."""

    path: str
    """Below the workspace."""


class RegexMatch(Written, frozen=True, kw_only=True, tag_field="kind", tag="regex_match"):
    """Pass when a pattern is found anywhere in a file."""

    path: str
    """Below the workspace; UTF-8, at most 1,000,000 bytes."""
    pattern: str
    """RE2 syntax: linear time, no look-around, no back-references."""


class JsonPath(Written, frozen=True, kw_only=True, tag_field="kind", tag="json_path"):
    """Pass when an expression finds something that is neither null nor false."""

    path: str
    """Below the workspace; JSON, at most 1,000,000 bytes."""
    expression: str
    """RFC 9535, or the short form .a.b."""


class CommandScorer(Written, frozen=True, kw_only=True, tag_field="kind", tag="command"):
    """A command judges the result: pass for exit 0, or what its last line says in JSON."""

    command: Text
    """Program, if args are given; else text for sh -c. It runs where the task ran."""
    args: list[str] = []
    """Its arguments."""
    timeout_seconds: Limit = 600
    """It is ended after so long, and has judged nothing then."""


class VerifierPrompt(
    Written, frozen=True, kw_only=True, tag_field="kind", tag="code_whale_verifier_prompt"
):
    """An agent judges the result, by its output, artifacts and patch, and must quote them."""

    prompt: Text
    """What it is asked; how to answer is added."""
    agent: str | None = None
    """Which agent; absent: the task's own, or else the default agent."""
    timeout_seconds: Limit = 1800
    """It is ended after so long, and has judged nothing then."""


class Manual(Written, frozen=True, kw_only=True, tag_field="kind", tag="manual"):
    """A person judges: partial until then."""


Scorer = ExitCode | FileExists | RegexMatch | JsonPath | CommandScorer | VerifierPrompt | Manual


class Verify(Written, frozen=True, kw_only=True):
    """A chain of scorers: the first that does not pass decides, else the last."""

    steps: Annotated[list[Scorer], Meta(min_length=1, max_length=16)]
    """Judged in this order; manual can only be the last."""
    on_fail: Literal["stop", "retry_with_feedback"] = "stop"
    """When a step fails a task: nothing follows, or the next attempt of its retry_policy, which is
    told why."""


class TaskWorker(Written, frozen=True, kw_only=True):
    """Who should do a task, and with what."""

    role: str | None = None
    """What it may do, and how long, where the task does not say so: a preset or [roles.NAME]."""
    agent_profile: str | None = None
    """Another role to build on; `role` itself goes before it."""
    model: str | None = None
    """Model that is pinned; wins over the profile's."""
    loadout: str | None = None
    """Model class: inherit, fast or another name."""
    model_class: str | None = None
    """Older spelling of loadout; wins over it."""
    tool_profile: str | None = None
    """read-only or read-write."""
    tools: list[str] = []
    """Tools of an agent; of a command: the only programs on its PATH."""
    capabilities: list[str] = []
    """Capabilities that its worker needs; fleet.toml may say which this machine has."""
    type: str | None = None
    """Worker type of an ephemeral instance; not together with name."""
    args: dict[str, Any] = {}
    """Arguments of the type; equal type and args share an instance within a run."""
    name: str | None = None
    """A worker that exists; not together with type."""


class Environment(Written, frozen=True, kw_only=True):
    """Variables of the asker, by whole names. Names that look secret are refused."""

    required: list[str] = []
    """Passed to the task, which fails before it starts when they are not set."""
    allowlist: list[str] = []
    """Passed to the task when they are set."""


class Workspace(Written, frozen=True, kw_only=True):
    """Paths and environment of a task. Paths stay below the workspace, which is `.`."""

    root: str = "."
    """Working directory of the task."""
    required_files: list[str] = []
    """Must exist below root before the task starts; a worktree gets those that git has not."""
    writable_paths: Annotated[list[str], Meta(max_length=32)] = []
    """What the task may write, below root; tasks without isolation that overlap take turns."""
    environment: Environment | None = None
    """Variables that the task needs or sees."""
    isolation: Literal["none", "copy", "worktree"] = "none"
    """Whether each attempt gets a directory of its own: a copy, or a git worktree."""
    include: list[str] = []
    """Globs of what the task gets of the workspace, in a directory of its own, wherever it runs."""

    @property
    def own(self) -> bool:
        """Whether each attempt has a directory of its own."""
        return self.isolation != "none" or bool(self.include)


class Budget(Written, frozen=True, kw_only=True):
    """Limits over all attempts of a task."""

    max_tokens: Count | None = None
    """Tokens that its agent may use."""
    max_tool_calls: Count | None = None
    """Tool calls that its agent may make."""
    max_seconds: Limit | None = None
    """Wall time of all attempts together, in seconds."""
    max_cost_usd: Amount | None = None
    """Cost, in US dollars."""


class RetryPolicy(Written, frozen=True, kw_only=True):
    """Attempts and the waits between them. A task without one gets one attempt."""

    max_attempts: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    """The first attempt included."""
    initial_backoff_seconds: Seconds = 5
    """Wait before the second attempt."""
    max_backoff_seconds: Seconds = 300
    """No wait is longer."""
    backoff_multiplier: Annotated[float, Meta(ge=0, le=1000)] = 2
    """Each wait is this many times the one before."""
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """A wait is lengthened by chance by up to this share of itself."""
    retry_on: tuple[FailureSource, ...] = ("transport", "task")
    """Failures that get another attempt; timeouts count as task."""
    continue_: bool = field(name="continue", default=False)
    """The next attempt begins with what the last one had changed; needs workspace.isolation."""
    resume_session: bool = False
    """The next attempt goes on with its agent's own conversation, in the directory of that."""


class Requires(Written, frozen=True, kw_only=True):
    """What a worker must have to run a task."""

    target: str | None = None
    """A worker's id or name."""
    labels: dict[str, str] = {}
    """Labels that it must carry."""
    platform: str | None = None
    """linux, darwin, …"""
    cores: Positive | None = None
    """Processor cores that the task takes."""
    memory_mb: Positive | None = None
    """Memory that the task takes, in MiB."""
    gpus: Count | None = None
    """GPUs that the task takes."""


class Task(Written, frozen=True, kw_only=True):
    """One unit of work: a command, or an agent with instructions."""

    id: Token
    """Unique in the run."""
    name: str | None = None
    """One-line title, at most 256 bytes; absent: the id."""
    description: str | None = None
    """For people."""
    objective: str | None = None
    """Goal, shown by inspect."""
    instructions: str | None = None
    """What an agent is to do; beside a command: documentation."""
    command: Text | Argv | None = None
    """Text for sh -c, or a list of arguments that no shell reads."""
    agent: str | None = None
    """Agent that follows the instructions; not together with command."""
    worker: TaskWorker | None = None
    """Who should do it, and with what."""
    workspace: Workspace | None = None
    """Paths and environment."""
    input_files: list[str] = []
    """Files that are named to the agent."""
    context: list[str] = []
    """Further lines of the agent's prompt."""
    budget: Budget | None = None
    """Limits over all attempts."""
    timeout_seconds: Limit | None = None
    """Wall time of one attempt, in seconds; absent: no limit."""
    retry_policy: RetryPolicy | None = None
    """Attempts and waits; absent: one attempt."""
    expected_artifacts: list[str] = []
    """Kinds that must have appeared at the end; `artifacts` says where."""
    artifacts: dict[str, str | list[str]] = {}
    """Kind to a glob, or globs, below the workspace."""
    scorer: Scorer | None = None
    """How the result is judged; absent: a command by its exit code."""
    verify: Verify | None = None
    """A chain of scorers; not together with scorer."""
    alert_policy: AlertPolicy | None = None
    """Who is told what."""
    tags: list[str] = []
    """Search words."""
    metadata: dict[str, Any] = {}
    """Free; priority and coordination_contracts have a meaning."""
    priority: Priority = 0
    """Lower runs first; the same as metadata.priority."""
    needs: list[str] = []
    """Ids of tasks that come before."""
    when: Literal["success", "always", "failure"] = "success"
    """Which end of the needed tasks lets this one run."""
    for_each: list[Any] | str | dict[str, Any] | None = None
    """Items, each of which becomes a task; a list, an input, or an output of a task."""
    concurrency: Positive | None = None
    """Most items of for_each at once."""
    requires: Requires | None = None
    """What its worker must have."""
    stall_seconds: Limit | None = None
    """Without output or processor time for so long it is stale; a retry_policy ends it then."""
    lease_seconds: Seconds | None = None
    """How long a worker that cannot be reached may go on; 0: a person decides."""
    reuse: bool = False
    """Skip it when nothing changed since a pass."""
    inputs_digest: list[str] | str | None = None
    """What reuse compares besides the command: globs, or a digest."""
    outputs: dict[str, dict[str, Any]] = {}
    """Values that later tasks may use."""
    max_parallel_per: dict[str, Positive] = {}
    """Group to the most tasks of it at once."""
    secrets: list[str | SecretRef] = []
    """Secrets that the task gets, each by a variable."""


class Input(Written, frozen=True, kw_only=True):
    """A value that is given when the run is started."""

    type: Literal["string", "integer", "number", "boolean", "list"] = "string"
    """Type of the value."""
    default: Any = None
    """Value when none is given."""
    description: str | None = None
    """For people."""
    choices: list[Any] = []
    """The only values allowed."""


class Document(Written, frozen=True, kw_only=True):
    """A spec without its tasks: what holds for the whole run."""

    schema: str | None = field(name="$schema", default=None)
    """Where editors find the JSON Schema; the fleet does not read it."""
    name: str | None = None
    """Title of the run; absent: the file's stem."""
    labels: dict[str, str] = {}
    """Free tags."""
    max_workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] | None = None
    """Most attempts at once; --max-workers wins."""
    max_failures: Positive | None = None
    """The run stops after so many failed tasks since it was resumed; absent: never."""
    deadline_seconds: Limit | None = None
    """Wall time of the whole run, in seconds since it was started or last resumed."""
    budget: Budget | None = None
    """Limits over all tasks together."""
    inputs: dict[str, Input] = {}
    """Values that are given when the run is started."""
    security_policy: SecurityPolicy | None = None
    """Trust and secrets."""
    workers: list[Worker] = []
    """Who may run tasks, each of them any; empty: this machine, and whom tasks require."""
    worker_types: dict[str, WorkerType] = {}
    """Types of ephemeral workers."""


class Spec(Document, frozen=True, kw_only=True):
    """A task spec: a named list of tasks that one run carries out."""

    tasks: Annotated[list[Task], Meta(min_length=1)]
    """The work."""


@lru_cache(maxsize=4096)
def clean_path(path: str) -> str:
    """A path below the workspace in its one spelling; ValueError with the reason where it is none.

    `\\` becomes `/`, empty and `.` segments are dropped, nothing left is `.`.
    """
    if path.isascii() and path.isalnum():
        return path
    if any(sign in path for sign in "\0\r\n"):
        raise ValueError("a path is one line")
    path = path.replace("\\", "/")
    if path.startswith("/"):
        raise ValueError("an absolute path; paths start at the workspace")
    if path[1:2] == ":" and path[0].isalpha():
        raise ValueError("a drive letter; paths start at the workspace")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("'..' would leave the workspace")
    return "/".join(parts) or "."


def claims_of(task: Task) -> tuple[str, ...]:
    """What the task alone may write while it runs: paths below the workspace, and contracts.

    `root` joined with each writable path, unless each attempt has its own directory, and
    `contract:NAME` for each name in metadata.coordination_contracts; without duplicates, in the
    order written.
    """
    claims: dict[str, None] = {}
    place = task.workspace
    if place is not None and place.writable_paths and not place.own:
        root = clean_path(place.root)
        for path in place.writable_paths:
            claims[clean_path(f"{root}/{path}")] = None
    if task.metadata:
        for name in task.metadata.get("coordination_contracts") or ():
            claims[f"contract:{name.strip()}"] = None
    return tuple(claims)
