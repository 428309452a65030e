"""The indexes of a state made anew from its rows, after a snapshot was read."""

from heapq import heappush

from .load import occupy
from .state import Run, State, Task
from .tasks import claims_of, decode_task


def rebuild(state: State) -> None:
    """Make the indexes anew from the rows, after a snapshot was read."""
    state.open_runs = {
        run.id: run
        for run in state.runs.values()
        if run.status in ("running", "paused", "stopping")
    }
    state.moved, state.moves = {}, 0
    for run in state.runs.values():
        run.board = None
        run.order = sorted(run.tasks.values(), key=lambda task: task.index)
        run.ready, run.timers, run.parked, run.behind, run.claims = [], [], {}, {}, {}
        run.load, run.crowd = {}, []
        for flight in run.flights.values():
            occupy(run, flight.worker)
            task = run.tasks[flight.task]
            if task.has_claims:
                for claim in claims_of(decode_task(task.raw)):
                    run.claims[claim] = task.id
        for task in run.order:
            if task.status == "queued":
                _index(run, task)
    if state.workers:
        from .workers import recount

        recount(state)


def _index(run: Run, task: Task) -> None:
    if task.not_before:
        heappush(run.timers, (task.not_before, task.index))
    else:
        heappush(run.ready, (task.priority, task.index))
