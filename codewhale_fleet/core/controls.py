"""What a control is aimed at, as the tasks of a run that it means: for interrupt and restart.

A person names a run, a task, an attempt or a worker slot; the answer depends on what is running
there at that moment, so it is asked for under the append lock. Promises a sentence (`Refused`)
where there is nothing to do. It records nothing.
"""

from msgspec import Struct

from ..errors import Refused
from .state import RESULT_STATUS, Run, Task

FLYING = ("leased", "running")
"""Statuses of a task whose latest attempt has not ended."""

_SAID = {"completed": "passed", "partial": "waits for a person", "leased": "starting"}


class Aim(Struct, frozen=True):
    """A run; or a task of it, perhaps one attempt (`number`); or one of its worker slots."""

    run: str
    task: str = ""
    number: int = 0
    worker: str = ""


class Meant(Struct):
    """Tasks of one run that a control means, by what has to be done about them."""

    flying: list[str] = []
    """Their latest attempt runs, or is about to."""
    resting: list[str] = []
    """They are queued, or (restart only) have ended."""

    def add(self, task: Task) -> None:
        """Count a task in, once."""
        group = self.flying if task.status in FLYING else self.resting
        if task.id not in group:
            group.append(task.id)


def aim_interrupt(run: Run, aim: Aim, meant: Meant) -> None:
    """Add what interrupting `aim` means."""
    refuse_draft(run)
    if aim.worker:
        _add_worker(run, aim, meant)
        return
    if not aim.task:
        if not run.flights:
            raise Refused(f"nothing of {run.id} is running.", _instead_of_nothing(run))
        for flight in run.flights.values():
            meant.add(run.tasks[flight.task])
        return
    task = run.tasks[aim.task]
    name = f"{run.id}/{task.id}"
    if aim.number and (aim.number < task.attempt or task.status not in FLYING):
        over = task.status in RESULT_STATUS.values()
        hint = f"To run its task again: fleet restart {name}" if over else ""
        hint = hint or f"To interrupt its task: fleet interrupt {name}"
        raise Refused(f"{name}@{aim.number} has ended; there is nothing to interrupt.", hint)
    if task.status not in (*FLYING, "queued"):
        said = _SAID.get(task.status, task.status)
        raise Refused(
            f"{name} has ended ({said}); there is nothing to interrupt.",
            f"To run it again: fleet restart {name}",
        )
    meant.add(task)


def aim_restart(run: Run, aim: Aim, meant: Meant) -> None:
    """Add what restarting `aim` means."""
    refuse_restart(run)
    if aim.worker:
        _add_worker(run, aim, meant)
        return
    if not aim.task:
        for task in run.order:
            meant.add(task)
        return
    task = run.tasks[aim.task]
    if aim.number and aim.number < task.attempt:
        name = f"{run.id}/{task.id}"
        raise Refused(
            f"{name}@{aim.number} is not the latest attempt; that is {name}@{task.attempt}.",
            f"To make a new one: fleet restart {name}",
        )
    meant.add(task)


def refuse_draft(run: Run) -> None:
    """No control reaches what was never started."""
    if run.status == "draft":
        raise Refused(f'"{run.id}" was never started.', "fleet run SPEC makes it anew.")


def refuse_compacted(run: Run) -> None:
    """What was asked of a run's tasks is gone with its detail."""
    if run.compacted:
        raise Refused(
            f"{run.id} can't go on: its detail was dropped by compaction on {run.compacted[:10]}.",
            f"fleet run SPEC runs it anew. What is kept: fleet receipts {run.id}",
        )


def refuse_restart(run: Run) -> None:
    """No task gets another attempt where its run has no more placements."""
    refuse_draft(run)
    refuse_compacted(run)
    if run.status == "stopping":
        raise Refused(
            f"{run.id} is stopping; nothing of it can be restarted.",
            f"Go on with all of it: fleet resume {run.id}",
        )


def _add_worker(run: Run, aim: Aim, meant: Meant) -> None:
    """What runs on a slot; of what is only leased ahead there, nothing while something runs."""
    held = [flight for flight in run.flights.values() if _slot(run, flight.task) == aim.worker]
    started = [flight for flight in held if flight.started]
    if not held:
        raise Refused(
            f"{aim.worker} is idle; nothing runs there.", f"What runs: fleet inspect {run.id}"
        )
    for flight in started or held:
        meant.add(run.tasks[flight.task])


def _slot(run: Run, task: str) -> str:
    """Where the latest attempt of a task is; the host may have moved it to another free slot."""
    return run.tasks[task].worker


def _instead_of_nothing(run: Run) -> str:
    if run.status == "finished":
        return f"It has finished. What became of it: fleet receipts {run.id}"
    return f"To cancel what is queued: fleet stop {run.id}"
