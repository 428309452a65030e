"""Which workers a run needs now, and which of its tasks none of them can take any more.

The engine connects to those that are `wanted`, keeps trying, and says in the end who is dead to it;
`stranded` ends the tasks that only the dead could run. Who is drained may come back, and who was
never tried may be there, so tasks wait for both; a run without patience waits for nobody who is
drained. Nothing here connects.
"""

from collections.abc import Iterator, Mapping
from heapq import heappop

from .board import Board, Seat, Shelf, board_of
from .events import Receipt
from .load import is_here_in, place_of
from .matching import is_here, listed, mismatch
from .state import Run, State
from .worker_commands import Unplaced

MANY = 1000
"""Tasks that one record ends at most, so that its line stays short."""


def wanted(state: State, run: Run) -> frozenset[str]:
    """The remote workers that have attempts of the run, or that a queued task could use now.

    No more than the tasks fill, not counting what fits here: who is connected comes first,
    then who was heard of, and who could not be reached last.
    """
    found = {place_of(run.id, slot) for slot in run.load}
    if run.status == "running" and any(shelf.heap for shelf in _shelves(state, run)):
        board = board_of(run, state)
        left = {seat.number: len(seat.slots) for seat in board.seats}
        most = run.max_workers
        for shelf in board.shelves.values():
            if shelf.heap:
                found.update(_enough(board, state, shelf, left, most))
    return frozenset(worker for worker in found if not is_here_in(run, worker))


def _shelves(state: State, run: Run) -> list[Shelf]:
    board = board_of(run, state)
    board.follow(run, state)
    board.take_in(run)
    for shelf in board.shelves.values():
        while shelf.heap and run.order[shelf.heap[0][1]].status != "queued":
            heappop(shelf.heap)
    return list(board.shelves.values())


def _enough(
    board: Board, state: State, shelf: Shelf, left: dict[int, int], most: int
) -> Iterator[str]:
    """Workers with as many slots as a shelf has tasks; of those that are left."""
    tasks = min(len(shelf.heap), most)
    able = shelf.matches & board.open
    met = gone = 0
    for seat in board.seats_in(able):
        row = state.workers.get(seat.worker.id)
        if row is not None and row.unreachable:
            gone |= 1 << seat.number
        elif row is not None and row.enrolled:
            met |= 1 << seat.number
    met |= able & board.up & ~gone
    for mask in (met & board.up, met & ~board.up, able & ~met & ~gone, gone):
        for seat in board.least_first(mask):
            if tasks <= 0:
                return
            if not left[seat.number] or is_here(seat.worker):
                continue
            yield seat.worker.id
            taken = min(tasks, left[seat.number])
            left[seat.number] -= taken
            tasks -= taken


def is_hopeless(state: State, run: Run) -> bool:
    """Whether the hosts' own facts, as known now, have left tasks of the run without any worker, so
    that `stranded` is to be asked though nobody is dead."""
    if run.status != "running":
        return False
    board = board_of(run, state)
    board.follow(run, state)
    board.take_in(run)
    return board.hopeless


def stranded(state: State, run: Run, dead: Mapping[str, str]) -> Iterator[Unplaced]:
    """What ends the queued tasks that no worker can take any more.

    `dead`: the workers that can't be reached, each with the sentence that says why. A retired one
    is dead, too, and to a run without patience a drained one.
    """
    if run.status != "running":
        return
    shelves, board = _shelves(state, run), board_of(run, state)
    for shelf in [one for one in shelves if one.need.keeps and one.heap]:
        seats = list(board.seats_in(shelf.matches))
        if not any(one.open and not _why_dead(state, run, one, dead) for one in seats):
            board.let_go(run, shelf)
    shelves = list(board.shelves.values())
    board.hopeless = False
    for shelf in shelves:
        if not shelf.heap:
            continue
        able = list(board.seats_in(shelf.matches))
        lost = [
            (seat.worker.id, why) for seat in able if (why := _why_dead(state, run, seat, dead))
        ]
        if len(lost) < len(able):
            continue
        receipt = Receipt(result="fail", source="transport", reason=_reason(board, shelf, lost))
        rows = [run.order[index] for _, index in sorted(shelf.heap)]
        tasks = list(dict.fromkeys(row.id for row in rows if row.status == "queued"))
        for first in range(0, len(tasks), MANY):
            yield Unplaced(run=run.id, tasks=tuple(tasks[first : first + MANY]), receipt=receipt)


def _why_dead(state: State, run: Run, seat: Seat, dead: Mapping[str, str]) -> str:
    worker = seat.worker.id
    row = state.workers.get(worker)
    if row is not None and row.retired:
        return f"it was retired: {row.retire_reason}" if row.retire_reason else "it was retired"
    if row is not None and row.draining and not run.patience:
        return "it is drained" + (f": {row.drain_reason}" if row.drain_reason else "")
    return dead.get(worker, "") if not is_here(seat.worker) else ""


def _reason(board: Board, shelf: Shelf, lost: list[tuple[str, str]]) -> str:
    if len(lost) == 1:
        return f"{lost[0][0]}: {lost[0][1]}"
    if lost:
        return f"none of the {len(lost):,} workers that match can be reached: {listed(lost)}"
    named = {number for one in shelf.need.targets[:1] for number in board.titles.get(one, ())}
    seats = [board.seats[number] for number in sorted(named)] or board.seats
    others = ((seat.worker.id, mismatch(shelf.need, seat.facts)) for seat in seats)
    return f"no worker matches: {listed(others)}"
