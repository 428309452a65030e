"""What a spec without problems comes to: tasks in the form that the ledger keeps, and the whole."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..core.parts import SecretName
from ..core.spec import (
    Document,
    FileExists,
    JsonPath,
    RegexMatch,
    Scorer,
    Task,
    Workspace,
    clean_path,
)


class LoadedSpec(Struct, frozen=True, kw_only=True):
    """A spec that may be run."""

    file: str
    name: str
    """As written, else the file's stem, else fleet-run."""
    labels: dict[str, str]
    max_workers: int | None
    max_failures: int | None
    tasks: list[bytes]
    """Sparse JSON of each task, in the order of the file."""
    spec: Document
    """Everything but the tasks."""
    digest: str
    """SHA-256, in hex, of what the spec says."""
    waived: list[str]
    """Fields that this spec uses, that are not held, and that were waived; sorted."""
    environment: list[str]
    """Names of all variables that tasks and their agents require or are passed; sorted."""
    agents: dict[str, bytes] = {}
    """Definitions of the agents that tasks use, resolved, as JSON."""
    secrets: list[SecretName] = []
    """Every secret that tasks, their agents and their verifiers get, by name; sorted."""
    policy: bytes = b"null"
    """Trust and grants that hold, the spec's and fleet.toml's together, as JSON."""
    roles: dict[str, bytes] = {}
    """Definitions of the roles that tasks name, resolved, as JSON."""
    workers: dict[str, bytes] = {}
    """Definitions of the workers that its tasks may use, as JSON; empty: this machine only."""
    spread: bool = False
    """Tasks that ask for no worker go to any of them."""
    places: Any = None
    """Where its tasks may go, where some may leave this machine: a `placing.Places`."""


def settled(task: Task) -> Task:
    """The task with clean paths, and with the priority of its metadata."""
    if task.workspace is not None:
        task = _with_clean_workspace(task, task.workspace)
    if task.scorer is not None and (clean := _clean_scorer(task.scorer)) != task.scorer:
        task = replace(task, scorer=clean)
    if task.verify is not None:
        steps = [_clean_scorer(step) for step in task.verify.steps]
        if steps != task.verify.steps:
            task = replace(task, verify=replace(task.verify, steps=steps))
    if task.artifacts:
        artifacts: dict[str, str | list[str]] = {
            kind: clean_path(globs) if isinstance(globs, str) else _clean(globs)
            for kind, globs in task.artifacts.items()
        }
        if artifacts != task.artifacts:
            task = replace(task, artifacts=artifacts)
    if task.metadata and (priority := task.metadata.get("priority")):
        task = replace(task, priority=priority)
    return task


def _clean_scorer(scorer: Scorer) -> Scorer:
    if isinstance(scorer, (FileExists, RegexMatch, JsonPath)):
        return replace(scorer, path=clean_path(scorer.path))
    return scorer


def _with_clean_workspace(task: Task, workspace: Workspace) -> Task:
    clean = replace(
        workspace,
        root=clean_path(workspace.root),
        required_files=_clean(workspace.required_files),
        writable_paths=_clean(workspace.writable_paths),
        include=_clean(workspace.include),
    )
    return task if clean == workspace else replace(task, workspace=clean)


def _clean(paths: list[str]) -> list[str]:
    return list(dict.fromkeys(map(clean_path, paths)))
