"""Roles: what a name in `worker.role` stands for, and what a person may define under [roles.NAME].

A role is a preset, one of fleet.toml, or a name of the reference's list, which only says whether
it may write. Any other name is a role of the writing kind, as in the reference (section 10). Pure;
`wire/roles.py` resolves names and says what is wrong with them.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from typing import Literal

from msgspec import json

from .spec import TaskWorker
from .spec_hosts import Limit, TrustLevel, Written

Profile = Literal["read-only", "read-write"]

SPELLED = {"oracle": "consultant", "advisor": "consultant"}
"""Other names of a role."""

READERS = frozenset(
    (
        "scout", "read-only", "explorer", "explore", "exploration",
        "reviewer", "review", "code-review",
        "planner", "synthesizer", "summarizer", "reducer", "plan", "planning", "awaiter",
        "verifier", "tester", "smoke-runner", "verify", "verification", "validator",
        "consultant", "oracle", "advisor",
    )
)  # fmt: skip
"""Roles that read and report, and change nothing."""

WRITERS = frozenset(
    (
        "general", "manager", "coordinator", "operator", "worker", "general-purpose", "default",
        "unknown", "none", "builder", "implementer", "implement", "implementation", "custom",
    )
)  # fmt: skip
"""Roles that may write."""


class Role(Written, frozen=True, kw_only=True):
    """[roles.NAME]: what holds for the tasks of a role, as far as they do not say it themselves."""

    description: str | None = None
    """For people."""
    tool_profile: Profile | None = None
    """read-only or read-write."""
    tools: list[str] = []
    """Programs of a command; tools of an agent."""
    capabilities: list[str] = []
    """What the worker must be able to do, besides what the task asks for."""
    timeout_seconds: Limit | None = None
    """Wall time of one attempt, in seconds."""
    trust_level: TrustLevel | None = None
    """Trust of its tasks; never above the policy's."""
    model: str | None = None
    """Model of its agents."""
    instructions: str | None = None
    """What its agents are told besides the task's own instructions."""


PRESETS: dict[str, Role] = {
    "smoke-runner": Role(
        description="runs quick checks, and changes nothing",
        tool_profile="read-only",
        timeout_seconds=300,
        trust_level="local",
    ),
    "reviewer": Role(
        description="reads and reports, and changes nothing",
        tool_profile="read-only",
        timeout_seconds=600,
    ),
    "builder": Role(
        description="builds and changes files",
        tool_profile="read-write",
        timeout_seconds=1800,
        trust_level="local",
    ),
    "read-only": Role(
        description="reads, in the sandbox",
        tool_profile="read-only",
        timeout_seconds=300,
        trust_level="sandbox",
    ),
}
"""Roles that are there without a fleet.toml; one that defines them again is laid over them."""

_decoder = json.Decoder(Role)


def decode_role(raw: bytes) -> Role:
    """A resolved role, from the JSON that a run keeps."""
    return _decoder.decode(raw)


def encode_role(role: Role) -> bytes:
    """The JSON of a resolved role."""
    return json.encode(role)


def is_known(role: str) -> bool:
    """Whether the reference has a role of that name, in any spelling."""
    name = role.strip().lower()
    return name in READERS or name in WRITERS


def only_reads(role: str | None) -> bool:
    """Whether a role changes nothing in the workspace."""
    return role is not None and role.strip().lower() in READERS


def profile_of(worker: TaskWorker | None) -> Profile:
    """The profile that a task asks for: what it says, else what its role does, else writing."""
    if worker is None:
        return "read-write"
    if worker.tool_profile == "read-only":
        return "read-only"
    if worker.tool_profile is None and only_reads(worker.role):
        return "read-only"
    return "read-write"
