"""Placement for runs with workers: which task goes where now, and which can go nowhere.

The best task that some worker can take goes to the least loaded one of those, the first by id among
equals. Slots, cores, memory and GPUs of a worker are shared by all runs; a run holds no more slots
than its `max_workers`. Attempts are leased ahead only where no other run has any, or waits. A task
too large for what is left keeps one worker free of later tasks until it fits. Who is connected is
told; nothing here knows of connections.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from .board import NOWHERE, Board, Place, Seat, Shelf, board_of
from .commands import Place as PlaceTask
from .fleet_words import WorkerRow
from .load import place_of
from .matching import holds
from .placement import AHEAD_BELOW_SECONDS, NONE
from .reach import is_hopeless, stranded, wanted
from .state import Breaker, Run, State, Task, claim_conflict
from .tasks import claims_of, decode_task
from .usage import limit_of

__all__ = ["NOWHERE", "Place", "in_turn", "is_hopeless", "place", "stranded", "wanted"]


class Placing:
    """One call: what is free shrinks as the caller takes each command."""

    def __init__(self, run: Run, state: State, places: Mapping[str, Place]) -> None:
        self.run, self.state = run, state
        self.board = board_of(run, state)
        self.board.offer(places)
        self.held = 0
        """The seat that is kept for a task that does not fit yet."""
        self.waited_for: list[tuple[Board, int]] | None = None
        self.follow()

    def follow(self) -> None:
        """See what has changed, and where there is a free slot, or room ahead."""
        board, run = self.board, self.run
        board.follow(run, self.state)
        able = board.up & board.open
        self.room = able & board.free if len(run.load) < run.max_workers else 0
        is_short = 0 < run.mean < AHEAD_BELOW_SECONDS and not run.claims
        self.ahead = able & board.ahead if is_short else 0

    def find(self, shelf: Shelf) -> tuple[Seat, str, list[int]] | None:
        """A seat for the first task of a shelf, its slot there, and GPUs; None where there is none
        now."""
        board, load = self.board, self.run.load
        for seat in board.least_first(shelf.matches & self.room & ~self.held & ~shelf.misfit):
            gpus = fits(shelf, seat, self.state.workers.get(seat.worker.id))
            if gpus is not None:
                return seat, next(slot for slot in seat.slots if slot not in load), gpus
            if not shelf.narrow:
                shelf.misfit |= 1 << seat.number
        if shelf.need.takes:
            return None
        for seat in board.least_first(shelf.matches & self.ahead & ~self.held):
            if not self.is_waited_for(seat):
                slots = [slot for slot in seat.slots if slot in load]
                return seat, min(slots, key=load.__getitem__), []
        return None

    def is_waited_for(self, seat: Seat) -> bool:
        """Whether another run has tasks that wait for this worker."""
        if self.waited_for is None:
            boards = [
                one.board
                for one in self.state.open_runs.values()
                if one is not self.run and one.status == "running" and one.board is not None
            ]
            self.waited_for = [(board, hungry) for board in boards if (hungry := board.hungry())]
        worker = seat.worker.id
        return any(
            hungry >> board.numbers[worker] & 1
            for board, hungry in self.waited_for
            if worker in board.numbers
        )

    def reserve(self, shelf: Shelf) -> None:
        """Keep a worker free of later tasks, until the first task of this shelf fits there.

        One at most, and one where only this run's own attempts stand in its way.
        """
        board = self.board
        if self.held:
            return
        able = shelf.matches & board.up & board.open
        own: dict[str, WorkerRow] = {}
        for seat in (*board.seats_in(shelf.reserved & able), *board.least_first(able)):
            if seat.number not in board.alone:
                own = own or held_by(self.run)
                held = self.state.workers.get(seat.worker.id)
                if fits(shelf, seat, held, own.get(seat.worker.id)) is None:
                    continue
            self.held = shelf.reserved = 1 << seat.number
            return


def held_by(run: Run) -> dict[str, WorkerRow]:
    """What a run itself holds of each worker."""
    own: dict[str, WorkerRow] = {}
    for flight in run.flights.values():
        row = own.setdefault(place_of(run.id, flight.worker), WorkerRow())
        row.cores_taken += flight.cores
        row.memory_taken += flight.memory_mb
        row.gpus_taken |= sum(1 << gpu for gpu in flight.gpus)
    return own


def fits(
    shelf: Shelf, seat: Seat, row: WorkerRow | None, freed: WorkerRow | None = None
) -> list[int] | None:
    """The GPUs that a task gets there; None where too little of anything is left.

    `freed`: what would be there again.
    """
    need = shelf.need
    if not need.takes:
        return []
    facts, held, back = seat.facts, row or WorkerRow(), freed or WorkerRow()
    if not holds(facts.cores, held.cores_taken - back.cores_taken, need.cores):
        return None
    if not holds(facts.memory_mb, held.memory_taken - back.memory_taken, need.memory_mb):
        return None
    taken = held.gpus_taken & ~back.gpus_taken
    free = [gpu for gpu in range(facts.gpus or 0) if not taken >> gpu & 1]
    return free[: need.gpus] if len(free) >= need.gpus else None


def place(
    run: Run,
    state: State,
    now: float,
    places: Mapping[str, Place] = NOWHERE,
    breakers: dict[str, Breaker] = NONE,
) -> Iterator[PlaceTask]:
    """What may be placed now, the best first; the caller takes each command before the next."""
    one = Placing(run, state, places)
    board = one.board
    board.take_in(run)
    shelves = board.shelves_for(one.room | one.ahead)
    heads = [(*shelf.heap[0], at) for at, shelf in enumerate(shelves)]
    heapify(heads)
    while heads and (one.room or one.ahead):
        priority, index, at = heappop(heads)
        shelf, task = shelves[at], run.order[index]
        if shelf.heap[0] == (priority, index) and is_ready(run, task, now, breakers):
            found = one.find(shelf) if shelf.matches & (one.room | one.ahead) else None
            if found is None:
                if shelf.need.takes:
                    one.reserve(shelf)
                continue
            if not is_parked(run, task):
                yield _command(run, task, one, shelf, found)
                if task.status == "queued":  # nobody took it
                    return
                shelf.reserved = 0
                board.served = state.moves
                one.follow()
        heappop(shelf.heap)
        if shelf.heap:
            heappush(heads, (*shelf.heap[0], at))


def is_ready(run: Run, task: Task, now: float, breakers: dict[str, Breaker]) -> bool:
    """Whether nothing but a place is wanting; what waits for a moment goes to the timers."""
    if task.status != "queued":
        return False
    if task.not_before > now:
        heappush(run.timers, (task.not_before, task.index))
        return False
    if limit := limit_of(breakers, task, now):
        heappush(run.timers, (limit[1].until, task.index))
        return False
    return True


def is_parked(run: Run, task: Task) -> bool:
    """Whether it waits for a claim from here on, as somebody holds what it claims."""
    if not task.has_claims:
        return False
    holder = claim_conflict(run, claims_of(decode_task(task.raw)))
    if holder is None:
        return False
    run.parked.setdefault(holder, []).append(task.index)
    return True


def _command(
    run: Run, task: Task, one: Placing, shelf: Shelf, found: tuple[Seat, str, list[int]]
) -> PlaceTask:
    seat, slot, gpus = found
    offer = one.board.place_of(seat)
    assert offer is not None
    why = "leased ahead: tasks here are short" if slot in run.load else _why(one, shelf)
    return PlaceTask(
        run=run.id,
        task=task.id,
        worker=slot,
        boot=offer.boot,
        why=why,
        cores=shelf.need.cores,
        memory_mb=shelf.need.memory_mb,
        gpus=tuple(gpus),
    )


def _why(one: Placing, shelf: Shelf) -> str:
    """What spoke for the worker that was found, and how many others of those that match did not
    come into question, as this is known at this moment only."""
    board, matches = one.board, shelf.matches
    if shelf.need.keeps:
        return "its agent's conversation is there"
    if matches.bit_count() == 1:
        return "the only worker that matches"
    idle = matches & one.room
    free = (idle & ~one.held & ~shelf.misfit).bit_count()
    there = matches & board.up & board.open
    why = (
        f"least loaded of {free:,} with a free slot"
        if free > 1
        else "the only one with a free slot"
    )
    rest = []
    for mask, what in (
        (there & ~idle, "busy"),
        (idle & shelf.misfit, "with too little left"),
        (idle & one.held & ~shelf.misfit, "kept for a larger task"),
        (matches & board.open & ~board.up, "not connected"),
        (matches & ~board.open, "out of use"),
    ):
        if mask:
            rest.append(f"{mask.bit_count():,} {what}")
    return f"{why}; {', '.join(rest)}" if rest else why


def in_turn(runs: Iterable[Run]) -> list[Run]:
    """The order in which to ask runs what may be placed: who placed something last comes last, so
    that runs share the slots of workers. Without workers the order is as it was."""
    every = list(runs)
    if any(run.workers for run in every):
        every.sort(key=_served)
    return every


def _served(run: Run) -> int:
    board: Board | None = run.board
    return board.served if board is not None else 0
