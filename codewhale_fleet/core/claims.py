"""Who waits for claims, and who is next when they are free.

Tasks that claim the same wait in one line: only its first is asked whether it can be placed, the
others stand behind it, so that ten thousand tasks that take turns cost no more each than ten do.
Tasks that claim different things never stand behind each other. Nothing here decides a placement.
"""

from heapq import heappush

from .state import Run, Task
from .tasks import claims_of, decode_task


def release(run: Run, task: Task) -> None:
    """Free what a task in flight claimed, and ask again whoever is first of each line for it."""
    for claim in [claim for claim, holder in run.claims.items() if holder == task.id]:
        del run.claims[claim]
    step_up(run, run.behind.pop(task.id, []))
    lines: dict[tuple[str, ...], list[int]] = {}
    for index in run.parked.pop(task.id, ()):
        lines.setdefault(claims_of(decode_task(run.order[index].raw)), []).append(index)
    for line in lines.values():
        step_up(run, sorted(line, key=lambda index: (-run.order[index].priority, -index)))


def step_up(run: Run, line: list[int]) -> None:
    """Put the first of a line (at the list's end) into the queue, and the others behind it."""
    while line:
        first = run.order[line.pop()]
        if first.status == "queued":
            heappush(run.ready, (first.priority, first.index))
            if line:
                run.behind[first.id] = line + run.behind.get(first.id, [])
            return
