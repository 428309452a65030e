"""Variables that tasks require and that are not set, or would not reach the machine where a task
may go: told before anything is recorded."""

import os
from collections.abc import Iterable, Mapping

from ..errors import FleetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.placing import Places


def refuse_missing(
    tasks: Iterable[bytes],
    file: str,
    again: str,
    agents: Mapping[str, bytes] | None = None,
    places: "Places | None" = None,
) -> None:
    """Name every variable that a task or its agent requires and that is not set, all at once.

    `file` is where the tasks come from, `again` what to type once they are set; `places`: where the
    tasks may go, which is looked at once all are set.
    """
    from ..core.tasks import decode_task

    tasks = list(tasks)
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
        if places is not None and places.used():
            _refuse_unpassed(tasks, file, agents or {}, places)
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


def _refuse_unpassed(
    tasks: Iterable[bytes], file: str, agents: Mapping[str, bytes], places: "Places"
) -> None:
    """Refuse where a host that a task may go to does not take what the task requires."""
    from ..core.spec_hosts import SshHost
    from ..core.tasks import decode_task

    required = {agent: _required_by(raw) for agent, raw in agents.items()}
    known: set[tuple[str, ...]] = set()
    for raw in tasks:
        if b'"required":' not in raw and not any(required.values()):
            continue
        task = decode_task(raw)
        own = task.workspace.environment if task.workspace is not None else None
        names = [*(own.required if own is not None else ()), *required.get(task.agent or "", ())]
        for worker in places.of(task.id):
            host = places.candidates[worker].host
            if (worker, *names) in known or not isinstance(host, SshHost):
                continue
            known.add((worker, *names))
            lacking = [name for name in names if name not in host.env_allowlist]
            if lacking:
                listed = ", ".join(f'"{name}"' for name in lacking)
                raise FleetError(
                    f"{task.id} of {file} requires {' and '.join(lacking)}, and may go to "
                    f"{worker}, whose host.env_allowlist lacks it.",
                    f"Where the worker is written: env_allowlist = [{listed}]; or other machines: "
                    "--on SELECTOR",
                    field="workspace.environment.required",
                    file=file,
                )
