"""From what a person types to the run, task, attempt or worker that is meant.

An id may be cut to any prefix that only one thing has; `@last` is the newest run; a task of the
newest run may be named alone. What does not exist is answered with the nearest that does.
"""

from msgspec import Struct

from ..core.state import Run, State, Task
from ..errors import FleetError
from ..ledger.store import Ledger
from .common import nearest

SHOWN = 5
"""Ids that a message names when a prefix fits several."""


class Target(Struct):
    """What is meant: always a run; a task, an attempt (`number`) or a worker of it, if named."""

    run: Run
    task: Task | None = None
    number: int = 0
    worker: str = ""

    @property
    def id(self) -> str:
        """Its full id."""
        if self.worker:
            return self.worker
        if self.task is None:
            return self.run.id
        name = f"{self.run.id}/{self.task.id}"
        return f"{name}@{self.number}" if self.number else name


def resolve(ledger: Ledger, text: str) -> Target:
    """What `text` names; FleetError with the nearest names when it names nothing, or several."""
    head, slash, rest = text.partition("/")
    if slash:
        return _task_of(ledger.hydrate(run_id(ledger.state, head)), rest)
    state = ledger.state
    found = _matching(state, text)
    if not found:
        worker = _worker(ledger, text)
        if worker is not None:
            return worker
        newest = _newest(state)
        name = text.rpartition("@")[0] or text
        if newest is not None and name in ledger.hydrate(newest.id).tasks:
            return _task_of(ledger.hydrate(newest.id), text)
    return Target(ledger.hydrate(run_id(state, text)))


def run_of(ledger: Ledger, text: str) -> Run:
    """The run that `text` names, with its rows."""
    if "/" in text:
        raise FleetError(
            f'"{text}" names a task, and this needs a run.', f"The run is {text.partition('/')[0]}."
        )
    return ledger.hydrate(run_id(ledger.state, text))


def run_id(state: State, text: str) -> str:
    """The id of the one run that `text` names."""
    if not state.runs:
        raise FleetError("no run here yet.", "fleet run SPEC makes one.", code="not_found")
    found = _matching(state, text)
    if len(found) == 1:
        return found[0]
    if found:
        raise _several(text, found, "runs")
    near = nearest(text, reversed(state.runs))
    hint = "fleet status lists the runs."
    told = f" Nearest: {', '.join(near)}." if near else ""
    raise FleetError(f'"{text}" is no run.{told}', hint, code="not_found")


def _matching(state: State, text: str) -> list[str]:
    if text == "@last":
        newest = _newest(state)
        return [newest.id] if newest else []
    if text in state.runs:
        return [text]
    return [one for one in state.runs if one.startswith(text)] if text else []


def _newest(state: State) -> Run | None:
    started = [run for run in state.runs.values() if run.status != "draft"]
    return max(started or state.runs.values(), key=lambda run: run.seq, default=None)


def _worker(ledger: Ledger, text: str) -> Target | None:
    name, dash, number = text.rpartition("-local-")
    if not dash or not number.isdigit():
        return _elsewhere(ledger, text)
    found = _matching(ledger.state, name)
    if len(found) != 1:
        return None
    run = ledger.hydrate(found[0])
    if not 1 <= int(number) <= max(run.slots, 1):
        have = f"{run.id}-local-1 to {run.id}-local-{run.slots}" if run.slots else "none yet"
        raise FleetError(
            f'"{text}" is no worker of {run.id}.', f"Its workers: {have}", code="not_found"
        )
    return Target(run, worker=f"{run.id}-local-{int(number)}")


def _elsewhere(ledger: Ledger, text: str) -> Target | None:
    """A slot of another machine, `RUN-WORKER-N`, in a run that may use that worker."""
    head, _, number = text.rpartition("-")
    cut = head.find("-") if number.isdigit() else -1
    while cut > 0:
        found, place = _matching(ledger.state, head[:cut]), head[cut + 1 :]
        if len(found) == 1 and place in ledger.state.runs[found[0]].workers:
            run = ledger.hydrate(found[0])
            return Target(run, worker=f"{run.id}-{place}-{int(number)}")
        cut = head.find("-", cut + 1)
    return None


def _task_of(run: Run, text: str) -> Target:
    name, at, number = text.rpartition("@")
    if not at or not number.isdigit():
        name, number = text, ""
    task = _task(run, name)
    if not number:
        return Target(run, task)
    if not 1 <= int(number) <= task.attempt:
        had = f"attempts 1 to {task.attempt}" if task.attempt else "no attempt yet"
        raise FleetError(
            f'"{run.id}/{task.id}@{number}" is no attempt.',
            f"{run.id}/{task.id} has had {had}.",
            code="not_found",
        )
    return Target(run, task, int(number))


def _task(run: Run, name: str) -> Task:
    if name in run.tasks:
        return run.tasks[name]
    found = [one for one in run.tasks if one.startswith(name)] if name else []
    if len(found) == 1:
        return run.tasks[found[0]]
    if found:
        raise _several(f"{run.id}/{name}", [f"{run.id}/{one}" for one in found], "tasks")
    near = [f"{run.id}/{one}" for one in nearest(name, run.tasks)]
    told = f" Nearest: {', '.join(near)}." if near else ""
    raise FleetError(
        f'{run.id} has no task "{name}".{told}',
        f"fleet inspect {run.id} lists its tasks.",
        code="not_found",
    )


def _several(text: str, found: list[str], what: str) -> FleetError:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    listed = ", ".join(found[:SHOWN])
    return FleetError(
        f'"{text}" fits {len(found)} {what}.', f"Which one: {listed}{more}?", code="ambiguous"
    )
