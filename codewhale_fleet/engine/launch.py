"""From a task's spec to the one LaunchPlan that a worker runtime starts an attempt from.

Pure: a plan says everything (argv, working directory, names of variables, files, limits, what to
collect) and holds no value of an allowlisted variable, so that it may be shown and logged.
"""

from pathlib import Path
from typing import Any

from ..core.spec import Task
from ..core.state import Run, attempt_id
from ..core.state import Task as TaskRow
from ..core.tasks import decode_task
from ..scoring import wanted

LOG_LIMIT_BYTES = 8 * 1024 * 1024
"""Bytes kept of each stream: its head and its tail."""

LOG_CEILING_BYTES = 64 * 1024 * 1024 * 1024
"""Bytes written to one stream after which an attempt is ended as a flood."""

GRACE_SECONDS = 10.0
"""Between INT, TERM and KILL."""

STEM_LENGTH = 120
"""Characters of a task id in the names of its log files; longer ones are cut with a digest."""


def plan(run: Run, row: TaskRow, fleet: str, fleet_dir: Path) -> dict[str, Any]:
    """The LaunchPlan of a task's latest attempt."""
    task = decode_task(row.raw)
    attempt = attempt_id(run.id, row.id, row.attempt)
    stem = f"logs/{run.id}/{_stem(row.id)}.{row.attempt}"
    made: dict[str, Any] = {
        "argv": _argv(task),
        "cwd": run.workspace,
        "root": run.workspace,
        "env": {
            "FLEET_ATTEMPT_ID": attempt,
            "FLEET_RUN_ID": run.id,
            "FLEET_TASK_ID": row.id,
            "FLEET_ID": fleet,
            "FLEET_DIR": str(fleet_dir.parent if fleet_dir.name == ".fleet" else fleet_dir),
        },
        "out": stem + ".out",
        "err": stem + ".err",
        "log_limit": LOG_LIMIT_BYTES,
        "log_ceiling": LOG_CEILING_BYTES,
        "grace": GRACE_SECONDS,
    }
    if task.stall_seconds is not None:
        made["stall"] = task.stall_seconds
        made["stall_ends"] = task.retry_policy is not None
    if task.timeout_seconds is not None:
        made["timeout"] = task.timeout_seconds
    if task.budget and task.budget.max_seconds is not None:
        made["budget"] = max(0.001, task.budget.max_seconds - row.spent)
    if task.artifacts or task.expected_artifacts:
        made["artifacts"] = {
            kind: [globs] if isinstance(globs, str) else list(globs)
            for kind, globs in task.artifacts.items()
        }
        made["expected"] = [
            kind for kind in task.expected_artifacts if kind not in ("log", "receipt")
        ]
    if task.scorer is not None:
        made["evidence"] = wanted(task)
    if task.workspace is not None:
        _place(task, run, made)
    return made


def _place(task: Task, run: Run, made: dict[str, Any]) -> None:
    place = task.workspace
    assert place is not None
    if place.root != ".":
        made["cwd"] = str(Path(run.workspace, place.root))
    made["required_files"] = place.required_files
    made["writable"] = [str(Path(place.root, path)) for path in place.writable_paths]
    if place.environment is not None:
        made["allow"] = sorted({*place.environment.required, *place.environment.allowlist})


def _argv(task: Task) -> list[str]:
    if isinstance(task.command, str):
        return ["/bin/sh", "-c", task.command]
    return task.command or []


def _stem(task: str) -> str:
    if len(task) <= STEM_LENGTH:
        return task
    from hashlib import sha256

    return f"{task[:100]}-{sha256(task.encode()).hexdigest()[:16]}"
