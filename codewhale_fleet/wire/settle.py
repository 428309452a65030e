"""Brings a task that has no problems to its one form, the form that the ledger keeps."""

from msgspec.structs import replace

from ..core.spec import FileExists, JsonPath, RegexMatch, Task, Workspace, clean_path


def settled(task: Task) -> Task:
    """The task with clean paths, and with the priority of its metadata."""
    if task.workspace is not None:
        task = _with_clean_workspace(task, task.workspace)
    if isinstance(task.scorer, (FileExists, RegexMatch, JsonPath)):
        path = clean_path(task.scorer.path)
        if path != task.scorer.path:
            task = replace(task, scorer=replace(task.scorer, path=path))
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
