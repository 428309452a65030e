"""What placement knows of a run with workers, kept so that each step costs what has changed.

A board has a seat for each worker that the run may use, numbered in the order of their ids, and a
shelf for each need that its tasks have. Sets of seats are whole numbers, seat n as bit n, so that a
thousand of them cost little more than one. It follows the rows of workers by `State.moved`, whoever
changed them; a property test holds it equal to a look at everything. Nothing here places.
"""

from collections.abc import Iterator, Mapping
from heapq import heappush

from msgspec import Struct, structs

from .fleet_words import LOCAL
from .matching import (
    Facts,
    Need,
    facts_of,
    is_here,
    mismatch,
    need_in,
    parts_of,
    row_of,
    workers_of,
)
from .posture import decode_policy
from .spec_hosts import Worker
from .state import Run, State, Task
from .usage import conversation_at

NARROW = 4
"""A shelf that only so many seats match is found by those seats; others are looked at each time."""


class Place(Struct, frozen=True):
    """What the engine offers of a worker that is connected and has greeted.

    `ahead`: attempts that each of its slots may hold beyond the one that runs, while tasks are
    short: as many as keep it busy for the time that an answer takes.
    """

    boot: str
    ahead: int = 0


NOWHERE: Mapping[str, Place] = {}


class Seat(Struct, eq=False):
    """A worker, as the run sees it."""

    number: int
    worker: Worker
    facts: Facts
    told: tuple[str, str, int, int, int]
    """What those rest on."""
    slots: list[str]
    """Names of its slots."""
    shared: bool = True
    """Its slots are those of all runs; else each run has its own, as on this machine."""
    load: int = 0
    open: bool = True
    """It is neither drained nor retired."""
    shelves: list["Shelf"] = []
    """Narrow shelves that it matches; some may be empty."""
    named: list["Shelf"] = []
    """Shelves of tasks that name it."""


class Shelf(Struct, eq=False):
    """Queued tasks with one need."""

    need: Need
    matches: int = 0
    """Seats that may run them."""
    heap: list[tuple[int, int]] = []
    """(priority, index) of its tasks; some may not be queued any more."""
    misfit: int = 0
    """Seats that had too little left for one of them when last looked at."""
    reserved: int = 0
    """The seat that is kept free for its first task until that fits, as its bit."""

    @property
    def narrow(self) -> bool:
        """Whether few seats match it."""
        return self.matches.bit_count() <= NARROW


class Board(Struct, eq=False):
    """The seats and shelves of a run."""

    seats: list[Seat]
    numbers: dict[str, int]
    titles: dict[str, set[int]]
    """Id or name -> seats."""
    most: int
    """`max_workers` of the run."""
    shelves: dict[Need, Shelf] = {}
    known: dict[tuple[bytes, bytes], Shelf] = {}
    """A task's parts that its need is made of -> its shelf."""
    anyone: list[Shelf] = []
    """Shelves of tasks that name no worker."""
    wide: list[Shelf] = []
    sought: int = 0
    """Seats that tasks on narrow shelves may wait for."""
    hopeless: bool = False
    """There may be tasks that no seat matches any more."""
    rest: bytes = b""
    shelf: Shelf | None = None
    """The shelf of the task that was put away last, and its spec: the next is often alike."""
    moves: int = -1
    """`State.moves` when it was last looked at."""
    offered: dict[str, Place] = {}
    up: int = 0
    """Seats that are connected."""
    open: int = 0
    """Seats that are neither drained nor retired."""
    free: int = 0
    """Seats with a slot that nothing holds."""
    alone: dict[int, int] = {}
    """Seats where only this run has attempts -> how many its slot with the fewest holds."""
    ahead: int = 0
    """Those of them where another may be leased ahead."""
    crowd: list[int] = []
    """`crowd[n]`: the seats with more than `n` attempts in flight."""
    served: int = 0
    """`State.moves` when it last placed something."""

    # Seats ------------------------------------------------------------------------------------

    def offer(self, places: Mapping[str, Place]) -> None:
        """These workers are connected."""
        if self.offered != places:
            self.offered = dict(places)
            up = [1 << seat.number for seat in self.seats if self.place_of(seat) is not None]
            self.up = sum(up)
            for number in self.alone:
                self.stack(self.seats[number])

    def follow(self, run: Run, state: State) -> None:
        """See what has changed of workers since."""
        if self.moves == state.moves:
            return
        here = False
        for worker in reversed(state.moved):
            if state.moved[worker] <= self.moves:
                break
            here = here or worker == LOCAL
            number = self.numbers.get(worker)
            if number is not None:
                self.refresh(run, state, self.seats[number])
        if here:
            for seat in self.seats:
                if is_here(seat.worker):
                    self.refresh(run, state, seat)
        self.moves = state.moves

    def place_of(self, seat: Seat) -> Place | None:
        """What is offered of a seat."""
        offer = self.offered.get(seat.worker.id)
        return self.offered.get(LOCAL) if offer is None and is_here(seat.worker) else offer

    def refresh(self, run: Run, state: State, seat: Seat) -> None:
        """Look at one seat anew."""
        row, bit = state.workers.get(seat.worker.id), 1 << seat.number
        if row is None:
            return
        known = row_of(state.workers, seat.worker) or row
        told = known.boot, known.platform, known.cores, known.memory_mb, known.gpus
        if told != seat.told:
            seat.told = told
            seat.facts = facts_of(seat.worker, known, decode_policy(run.policy))
            self.rematch(seat)
        seat.open = not (row.draining or row.retired)
        self.open = self.open | bit if seat.open else self.open & ~bit
        loads = [run.load.get(slot, 0) for slot in seat.slots]
        own = sum(loads)
        busy = row.busy if seat.shared else len(loads) - loads.count(0)
        has_free = busy < len(seat.slots) and 0 in loads
        self.free = self.free | bit if has_free else self.free & ~bit
        if own and row.load == own:
            self.alone[seat.number] = min(load for load in loads if load)
        else:
            self.alone.pop(seat.number, None)
        self.stack(seat)
        while len(self.crowd) < max(row.load, seat.load):
            self.crowd.append(0)
        for level in range(seat.load, row.load):
            self.crowd[level] |= bit
        for level in range(row.load, seat.load):
            self.crowd[level] &= ~bit
        seat.load = row.load
        for shelf in self.wide:
            shelf.misfit &= ~bit

    def stack(self, seat: Seat) -> None:
        """See whether an attempt may be leased ahead there."""
        offer, bit = self.place_of(seat), 1 << seat.number
        least = self.alone.get(seat.number, 0)
        may = offer is not None and 0 < least <= offer.ahead
        self.ahead = self.ahead | bit if may else self.ahead & ~bit

    def rematch(self, seat: Seat) -> None:
        """Its facts have changed, and so may what it can run."""
        bit = 1 << seat.number
        for shelf in (*self.anyone, *seat.named):
            before, was_narrow = shelf.matches, shelf.narrow
            if mismatch(shelf.need, seat.facts):
                shelf.matches &= ~bit
            else:
                shelf.matches |= bit
            self.hopeless = self.hopeless or not shelf.matches
            if shelf.matches != before:
                self.register(shelf, was_narrow=was_narrow)

    def least_first(self, mask: int) -> Iterator[Seat]:
        """Seats of a set, the least loaded first, then in the order of their ids."""
        for crowded in [*self.crowd, 0]:
            level = mask & ~crowded
            mask &= crowded
            while level:
                yield self.seats[(level & -level).bit_length() - 1]
                level &= level - 1
            if not mask:
                return

    # Shelves ----------------------------------------------------------------------------------

    def register(self, shelf: Shelf, *, was_narrow: bool | None = None) -> None:
        """Make a shelf found by its seats, or looked at each time."""
        if not shelf.narrow:
            if was_narrow is not False:
                self.wide.append(shelf)
            return
        if was_narrow is False:
            self.wide.remove(shelf)
        if shelf.heap:
            self.sought |= shelf.matches
        for seat in self.seats_in(shelf.matches):
            if shelf not in seat.shelves:
                seat.shelves.append(shelf)

    def seats_in(self, mask: int) -> Iterator[Seat]:
        """The seats of a set, in the order of their ids."""
        while mask:
            yield self.seats[(mask & -mask).bit_length() - 1]
            mask &= mask - 1

    def take_in(self, run: Run) -> None:
        """Put what is ready on its shelves."""
        if not run.ready:
            return
        ready = sorted(run.ready)
        run.ready.clear()
        order = run.order
        for entry in ready:
            task = order[entry[1]]
            if task.status == "queued":
                if task.more is not None and (kept := self.kept_shelf(run, task)):
                    self.put(kept, entry)
                    continue
                shelf = self.shelf
                if shelf is None or task.rest is not self.rest:
                    shelf = self.shelf_of(run, task.raw)
                    self.rest, self.shelf = task.rest, shelf
                self.put(shelf, entry)

    def hungry(self) -> int:
        """Seats that tasks on its shelves wait for."""
        mask = 0
        for shelf in self.shelves.values():
            if shelf.heap:
                mask |= shelf.matches
        return mask

    def put(self, shelf: Shelf, entry: tuple[int, int]) -> None:
        """Put a task on its shelf."""
        heappush(shelf.heap, entry)
        self.hopeless = self.hopeless or not shelf.matches
        if len(shelf.heap) == 1 and shelf.narrow:
            self.sought |= shelf.matches

    def shelf_of(self, run: Run, raw: bytes) -> Shelf:
        """The shelf for a task."""
        parts = parts_of(raw)
        key = bytes(parts.requires), bytes(parts.worker)
        shelf = self.known.get(key)
        if shelf is None:
            need = need_in(run, raw)
            shelf = self.shelves.get(need)
            if shelf is None:
                shelf = self.shelves[need] = self.new_shelf(need)
            self.known[key] = shelf
        return shelf

    def kept_shelf(self, run: Run, task: Task) -> Shelf | None:
        """The shelf of a task whose agent goes on with a conversation: only one worker has that."""
        place = conversation_at(task)
        number = self.numbers.get(place) if place else None
        if number is None or not self.seats[number].open:
            return None
        need = need_in(run, task.raw)
        if mismatch(need, self.seats[number].facts):
            return None
        need = structs.replace(need, targets=(place, *need.targets), keeps=True)
        shelf = self.shelves.get(need)
        if shelf is None:
            shelf = self.shelves[need] = self.new_shelf(need)
        return shelf

    def let_go(self, run: Run, shelf: Shelf) -> None:
        """Its worker is lost to it: its tasks may go anywhere, and their agents begin anew."""
        for entry in shelf.heap:
            self.put(self.shelf_of(run, run.order[entry[1]].raw), entry)
        shelf.heap.clear()

    def new_shelf(self, need: Need) -> Shelf:
        """A shelf, and where it matches; tasks that name a worker are asked of that one only."""
        shelf, seats = Shelf(need), self.seats
        if need.targets:
            seats = [self.seats[number] for number in sorted(self.titles.get(need.targets[0], ()))]
            for seat in seats:
                seat.named.append(shelf)
        else:
            self.anyone.append(shelf)
        for seat in seats:
            if not mismatch(need, seat.facts):
                shelf.matches |= 1 << seat.number
        self.hopeless = self.hopeless or not shelf.matches
        self.register(shelf)
        return shelf

    def shelves_for(self, mask: int) -> list[Shelf]:
        """Shelves with tasks that one of these seats matches."""
        found = [shelf for shelf in self.wide if shelf.heap and shelf.matches & mask]
        narrow: dict[int, Shelf] = {}
        for seat in self.seats_in(mask & self.sought):
            bit = 1 << seat.number
            here = [shelf for shelf in seat.shelves if shelf.heap and shelf.matches & bit]
            narrow.update({id(shelf): shelf for shelf in here})
            if not here:
                self.sought &= ~bit
        return [*found, *narrow.values()]


def board_of(run: Run, state: State) -> Board:
    """The board of a run; a new one where it has none, or not for so many at once."""
    known: Board | None = run.board
    if known is not None and known.most == run.max_workers:
        return known
    if known is not None:
        run.ready += [entry for shelf in known.shelves.values() for entry in shelf.heap]
    policy = decode_policy(run.policy)
    seats = [
        _seat(run, number, worker, facts_of(worker, None, policy))
        for number, (_, worker) in enumerate(workers_of(run))
    ]
    numbers = {seat.worker.id: seat.number for seat in seats}
    titles: dict[str, set[int]] = {}
    for seat in seats:
        for title in (seat.worker.id, seat.worker.name):
            titles.setdefault(title, set()).add(seat.number)
    run.board = board = Board(seats, numbers, titles, run.max_workers, open=(1 << len(seats)) - 1)
    for seat in seats:
        board.free |= 1 << seat.number
        board.refresh(run, state, seat)
    board.moves = state.moves
    return board


def _seat(run: Run, number: int, worker: Worker, facts: Facts) -> Seat:
    """A worker has as many slots as it says, or one; this machine as many as the run."""
    most = worker.max_concurrent_tasks
    ours = most is None and worker.id == LOCAL
    count = most or (run.max_workers if ours else 1)
    slots = [f"{run.id}-{worker.id}-{slot}" for slot in range(1, count + 1)]
    return Seat(number, worker, facts, ("", "", 0, 0, 0), slots, shared=not ours)
