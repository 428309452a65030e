"""Whom `fleet exec` means, and the task that each of them gets.

Targets are what a selector means in the inventory; `@failed:RUN` are those on which a task of that
run failed, whether or not it ran there. Nothing here records, runs or prints.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, json

from ..core.state import OPEN, Run, State, Task
from ..errors import FleetError
from ..views.folding import natural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from ..core.spec_hosts import Worker
    from ..ledger.store import Ledger
    from ..wire.fleetfile import FleetFile

MOST_TARGETS = 10_000
"""Most targets of one call."""


class Wish(Struct, kw_only=True):
    """What is to be done on each target."""

    command: str | list[str]
    timeout: float | None = None
    environment: list[str] = []
    script: str = ""
    """Digest of the script that the command's words are arguments of."""


def selected(
    root: "Path", file: "FleetFile", ledger: "Ledger | None", on: str
) -> "dict[str, Worker]":
    """The targets, in the order of the inventory; FleetError where there is none."""
    from ..core.selectors import parse
    from ..core.spec_hosts import THIS_MACHINE

    state = ledger.state if ledger is not None else State()
    if file.inventory:
        from ..engine import inventory

        workers = inventory.known(root, ledger, file).definitions
    else:
        from ..wire.inventory import Inventory

        workers = Inventory.load(root, file, state).definitions
    chosen = parse(on, lambda word, rest: failed(ledger, word, rest)).choose(workers, state.workers)
    if len(chosen) > MOST_TARGETS:
        raise FleetError(
            f"{on} means {len(chosen):,} workers; at most {MOST_TARGETS:,} at a time.",
            "Name fewer: a range, a group, a label.",
            field="--on",
        )
    return {id: workers.get(id, THIS_MACHINE) for id in chosen}


def failed(ledger: "Ledger | None", word: str, rest: str) -> "Iterable[str]":
    """Workers that `@failed:RUN` stands for."""
    from . import names

    if word != "failed":
        raise FleetError(
            f'"@{word}:{rest}" is nothing that can be selected.',
            "Such a selection is @failed:RUN.",
            field="--on",
        )
    if ledger is None:
        raise FleetError("no run here yet.", "fleet run SPEC makes one.", code="not_found")
    run = names.run_of(ledger, rest)
    found = [target_of(run, task) for task in run.order if task.status == "failed"]
    if not found:
        raise FleetError(f"no task of {run.id} has failed.", f"fleet status {run.id}", field="--on")
    return found


def target_of(run: "Run", task: "Task") -> str:
    """The worker that a task was for, or went to."""
    from ..core.load import place_of
    from ..core.tasks import decode_task

    requires = decode_task(task.raw).requires
    if requires is not None and requires.target:
        return requires.target
    return place_of(run.id, task.worker) if task.worker else task.id


def tasks_of(wish: Wish, targets: "Iterable[str]", *, targeted: bool) -> "Iterator[bytes]":
    """Sparse JSON of one task a target; `targeted`: each may run there only."""
    made: dict[str, Any] = {"command": wish.command}
    if wish.timeout is not None:
        made["timeout_seconds"] = wish.timeout
    if wish.environment:
        made["workspace"] = {"environment": {"required": wish.environment}}
    rest = json.encode(made)[1:]
    for id in targets:
        name = id.encode()
        if targeted:
            yield b'{"id":"%b","requires":{"target":"%b"},%b' % (name, name, rest)
        else:
            yield b'{"id":"%b",%b' % (name, rest)


def refuse_untaken(names: list[str], workers: "dict[str, Worker]") -> None:
    """A variable goes only where the host's own allowlist has it: say who would not get it."""
    from ..core.spec_hosts import SshHost
    from ..views.folding import folded

    for name in names:
        lacking = [
            id
            for id, worker in workers.items()
            if isinstance(worker.host, SshHost) and name not in worker.host.env_allowlist
        ]
        if lacking:
            raise FleetError(
                f'--env "{name}" is not for {folded(lacking)}: its host.env_allowlist lacks it.',
                f'Where the worker is written: env_allowlist = ["{name}"]',
                field="--env",
            )


def is_this_machine(workers: "dict[str, Worker]") -> bool:
    """Whether it is the machine itself that is meant, and nothing is said of it."""
    from ..core.fleet_words import LOCAL
    from ..core.spec_hosts import THIS_MACHINE

    return workers.get(LOCAL) == THIS_MACHINE


def least_loaded(state: "State", workers: "Iterable[str]") -> str:
    """The target with the least in flight or waiting for it, one that can be reached if there is.

    Of several, the first by its id as people count.
    """
    waiting: dict[str, int] = {}
    for run in state.open_runs.values():
        if len(run.workers) == 1 and run.order and run.order[0].status in OPEN:
            id = next(iter(run.workers))
            waiting[id] = waiting.get(id, 0) + run.open

    def burden(id: str) -> tuple[bool, float, object]:
        row = state.workers.get(id)
        if row is None:
            return False, waiting.get(id, 0), natural(id)
        shut = bool(row.unreachable or row.draining)
        return shut, max(row.load, waiting.get(id, 0)) / max(row.slots, 1), natural(id)

    return min(workers, key=burden)
