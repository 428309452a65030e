"""Roles of the reference: which of them may write, and which tool profile a task asks for.

A name that is no role of the list is a role of the writing kind, as in the reference (section 10).
"""

from ..core.spec import TaskWorker
from .definition import Profile

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
