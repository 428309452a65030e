"""Brings a task that has no problems to its one form, the form that the ledger keeps."""

from msgspec.structs import replace

from ..core.spec import FileExists, JsonPath, RegexMatch, Scorer, Task, Workspace, clean_path


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
