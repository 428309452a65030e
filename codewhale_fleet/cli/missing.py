"""Variables that tasks require and that are not set: told before anything is recorded."""

import os
from collections.abc import Iterable, Mapping

from ..errors import FleetError


def refuse_missing(
    tasks: Iterable[bytes], file: str, again: str, agents: Mapping[str, bytes] | None = None
) -> None:
    """Name every variable that a task or its agent requires and that is not set, all at once.

    `file` is where the tasks come from, `again` what to type once they are set.
    """
    from ..core.tasks import decode_task

    missing: dict[str, list[str]] = {}
    for agent, raw in (agents or {}).items():
        if b'"required":' in raw:
            for name in _required_by(raw):
                missing.setdefault(name, []).append(f"agent {agent}")
    for raw in tasks:
        if b'"required":' not in raw:
            continue
        task = decode_task(raw)
        if task.workspace is None or task.workspace.environment is None:
            continue
        for name in task.workspace.environment.required:
            missing.setdefault(name, []).append(task.id)
    missing = {name: ids for name, ids in missing.items() if name not in os.environ}
    if not missing:
        return
    said = []
    for name, ids in missing.items():
        others = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        said.append(f"{name} (required by {', '.join(ids[:3])}{others})")
    raise FleetError(
        f"{file} needs variables that are not set here: {'; '.join(said)}.",
        "Set them and run again: " + " ".join(f"{name}=…" for name in missing) + f" {again}",
        field="workspace.environment.required",
        file=file,
    )


def _required_by(agent: bytes) -> list[str]:
    from ..agents.definition import decode_agent

    environment = decode_agent(agent).environment
    return environment.required if environment is not None else []
