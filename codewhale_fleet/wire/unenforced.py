"""The fields that are not held, each refused at load unless waived by name.

`NOT_YET` is the whole list of those that this version cannot hold: an entry goes when its field is
enforced. `OF_AGENTS` mean nothing to a command; `OF_MACHINES` need what not every machine has.
Promises that no field of a spec is parsed and then ignored without a person's word.
"""

from collections.abc import Iterable, Iterator, Set
from typing import Any

from msgspec import Struct

from ..core.spec import (
    Budget,
    Document,
    Requires,
    Spec,
    Task,
    TaskWorker,
    Workspace,
)
from ..core.spec_hosts import Worker
from ..errors import FleetError
from .problems import Found, Path

_AGENTS = "it is for agents, and this task has a command"
_OTHER_ROADS = "what a worker sees of the asker is what env_allowlist names, so far"
_INSTANCES = "worker types come later"

NOT_YET: dict[str, str] = {
    "inputs": "inputs and ${{ … }} come later",
    "worker_types": _INSTANCES,
    "workers.env": _OTHER_ROADS,
    "tasks.concurrency": "fan-out with for_each comes later",
    "tasks.expressions": "nothing fills in ${{ … }} yet",
    "tasks.for_each": "fan-out with for_each comes later",
    "tasks.inputs_digest": "reuse of earlier passes comes later",
    "tasks.lease_seconds": "leases of remote workers come later",
    "tasks.max_parallel_per": "groups come later",
    "tasks.needs": "tasks that wait for tasks come later",
    "tasks.outputs": "outputs for later tasks come later",
    "tasks.reuse": "reuse of earlier passes comes later",
    "tasks.when": "tasks that wait for tasks come later",
    "tasks.worker.args": _INSTANCES,
    "tasks.worker.type": _INSTANCES,
}
"""Field, without indexes -> why it is not held. A waiver leaves out `tasks.`"""

OF_AGENTS: dict[str, str] = {
    "tasks.budget.max_cost_usd": "nothing reports the cost of a command",
    "tasks.budget.max_tokens": "nothing reports the tokens of a command",
    "tasks.budget.max_tool_calls": "nothing reports the tool calls of a command",
    "tasks.context": _AGENTS,
    "tasks.input_files": _AGENTS,
    "tasks.worker.loadout": _AGENTS,
    "tasks.worker.model": _AGENTS,
    "tasks.worker.model_class": _AGENTS,
}
"""Field that means nothing to a command -> why; for an agent `wire/agents.py` says what holds."""

OF_MACHINES: dict[str, str] = {
    "security_policy.default_trust_level": "sandbox needs bubblewrap",
    "tasks.worker.role": "a role of the trust sandbox needs bubblewrap",
    "tasks.worker.tool_profile": "read-only needs bubblewrap, or flags of the agent's own",
    "tasks.worker.tools": "an agent needs flags of its own",
    "tasks.workspace.writable_paths": "confinement needs bubblewrap",
}
"""Field that is held where the machine and the agent can -> what that takes (`wire/trust.py`)."""

_WAIVABLE = {**NOT_YET, **OF_AGENTS, **OF_MACHINES}

_Fields = tuple[tuple[str, str, Any], ...]


def _fields_below(prefix: str, blank: Struct) -> _Fields:
    """(field, entry, default) of the entries that are fields of `blank` itself."""
    found = []
    for entry in (*NOT_YET, *OF_AGENTS):
        name = entry.removeprefix(prefix)
        if entry.startswith(prefix) and hasattr(blank, name):
            found.append((name, entry, getattr(blank, name)))
    return tuple(found)


_DOCUMENT = _fields_below("", Document())
_TASK = _fields_below("tasks.", Task(id="a"))
_PARTS = tuple(
    (part, _fields_below(f"tasks.{part}.", blank))
    for part, blank in (
        ("worker", TaskWorker()),
        ("workspace", Workspace()),
        ("budget", Budget()),
        ("requires", Requires()),
    )
)


def waiver_name(entry: str) -> str:
    """The name by which a person waives an entry of the tables above."""
    return entry.removeprefix("tasks.")


class Waivers:
    """What a person allowed unheld; `used` says which of it a spec needed."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.entries = frozenset(entry for name in names for entry in _entries_of(name))
        self._used: set[str] = set()

    @property
    def used(self) -> list[str]:
        """The waivers that mattered, by their full names, sorted."""
        return sorted(map(waiver_name, self._used))

    def refusal(self, path: Path, entry: str, why: str = "", hint: str = "") -> Found | None:
        """The problem that `entry`, used at `path`, is; None where it is waived.

        `why` and `hint` say more of this case than the table does.
        """
        if entry in self.entries:
            self._used.add(entry)
            return None
        name = waiver_name(entry)
        return Found(
            path,
            why or OF_AGENTS.get(entry) or f"not enforced yet: {NOT_YET[entry]}",
            hint or f"remove it, or allow it unheld with --allow-unenforced {name}",
        )

    def of_document(self, document: Document) -> Iterator[Found]:
        """Refusals of everything outside the tasks; paths begin at the document."""
        yield from self._of(document, _DOCUMENT, ())

    def of_worker(self, worker: Worker) -> Iterator[Found]:
        """Refusals of what one worker says; paths begin at it."""
        if worker.env == "snapshot" and (found := self.refusal(("env",), "workers.env")):
            yield found

    def of_task(self, task: Task) -> Iterator[Found]:
        """Refusals of one task; paths begin at the task."""
        skipped = OF_AGENTS.keys() if task.command is None else frozenset[str]()
        yield from self._of(task, _TASK, (), skipped)
        for part, fields in _PARTS:
            value = getattr(task, part)
            if value is not None:
                yield from self._of(value, fields, (part,), skipped)

    def _of(
        self, value: Struct, fields: _Fields, path: Path, skipped: Set[str] = frozenset()
    ) -> Iterator[Found]:
        for name, entry, held in fields:
            now = getattr(value, name)
            if entry in skipped or now == held or now is None or now in ([], {}, ""):
                continue
            found = self.refusal((*path, name), entry)
            if found:
                yield found


def waived_by(names: Iterable[str]) -> set[str]:
    """The full names of all that these waive."""
    return {waiver_name(entry) for name in names for entry in _entries_of(name)}


def _entries_of(name: str) -> list[str]:
    """The entries that a waiver names, by full name or by last segment; [] where all is held."""
    plain = name.strip().removeprefix("tasks.")
    exact = [entry for entry in _WAIVABLE if waiver_name(entry) == plain]
    short = [entry for entry in _WAIVABLE if entry.rsplit(".", 1)[-1] == plain]
    if exact or short:
        return exact or short
    from .walker import is_field, nearest, shape_of

    if is_field(shape_of(Spec), name.split(".")) or is_field(shape_of(Task), plain.split(".")):
        return []
    known = tuple(map(waiver_name, _WAIVABLE))
    last = tuple(entry.rsplit(".", 1)[-1] for entry in known)
    near = nearest(plain, known) or nearest(plain.rsplit(".", 1)[-1], last)
    raise FleetError(
        f'"{name}" is no field that could be allowed unheld.',
        f"Nearest: --allow-unenforced {near}" if near else "fleet check SPEC names those that are",
        field="allow_unenforced",
    )
