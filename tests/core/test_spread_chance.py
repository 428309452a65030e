"""Placement on several workers by chance: nothing is ever held twice, and nothing is forgotten.

Whatever order people, hosts and time choose, the board of each run is what a look at everything
says, no worker holds more than it has, and whatever a free worker could take was given to it.
"""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from codewhale_fleet.core import commands as c
from codewhale_fleet.core.board import Board, board_of
from codewhale_fleet.core.evolve import evolve
from codewhale_fleet.core.load import place_of
from codewhale_fleet.core.rebuild import rebuild
from codewhale_fleet.core.spread import fits, in_turn, stranded, wanted
from codewhale_fleet.core.state import Run, State
from codewhale_fleet.errors import Refused

from .crew import HERE, Crew, worker
from .playbook import FAIL, PASS

SLOTS = {"a": 1, "b": 2, "c": 3, "d": 2, "local": 2}
SIZES: dict[str, Any] = {"cores": 4, "memory_mb": 8000, "gpus": 3}
WORKERS: dict[str, Raw] = {
    name: worker(name, slots, labels={"role": "db" if name in "ab" else "web"})
    for name, slots in SLOTS.items()
    if name != "local"
}
WORKERS["local"] = HERE
NEEDS: list[dict[str, Any]] = [
    {},
    {},
    {"requires": {"target": "b"}},
    {"requires": {"labels": {"role": "db"}}},
    {"requires": {"cores": 2}},
    {"requires": {"cores": 4}},
    {"requires": {"memory_mb": 5000, "cores": 1}},
    {"requires": {"gpus": 2, "labels": {"role": "web"}}},
    {"workspace": {"writable_paths": ["out"]}},
    {"priority": -1, "retry_policy": {"initial_backoff_seconds": 3, "jitter": 0}},
]


def begin(dice: random.Random) -> Crew:
    crew = Crew()
    for name in ("r", "s"):
        ids = sorted(dice.sample(sorted(WORKERS), dice.randrange(1, 6)))
        made = [{"id": f"t{number}", **dice.choice(NEEDS)} for number in range(12)]
        crew.crew(
            *made, workers={one: WORKERS[one] for one in ids}, name=name,
            most=dice.choice((2, 5, 100)), spread=bool(dice.randrange(3)),
        )  # fmt: skip
    crew.up("local", **SIZES)
    return crew


def step(crew: Crew, dice: random.Random) -> None:
    """Anything that may happen."""
    name, run = dice.choice(sorted(SLOTS)), crew.state.runs[dice.choice("rs")]
    flying = list(run.flights)
    match dice.randrange(16):
        case 0:
            crew.ask(c.Drain(worker=name, on=bool(dice.randrange(2))))
        case 1 if not dice.randrange(3):
            crew.ask(c.Retire(worker=name))
        case 2:
            crew.ask(c.Register(worker=name, definition=bytes(WORKERS[name])))
        case 3 if name != "local":
            crew.down(name)
        case 4 | 5 | 6:
            crew.up(name, ahead=dice.randrange(3), **SIZES)
        case 7:
            rebuild(crew.state)
        case 8:
            crew.ask(c.Restart(run=run.id, tasks=(f"t{dice.randrange(12)}",), reason="again"))
        case 9:
            crew.ask(c.Interrupt(run=run.id, tasks=(f"t{dice.randrange(12)}",), reason="asked"))
        case 10 if not dice.randrange(4):
            crew.ask(dice.choice((c.PauseRun, c.StopRun))(run=run.id, reason="x"))
        case 11:
            crew.ask(c.ResumeRun(run=run.id, max_workers=dice.choice((0, 3))))
        case 12 if crew.state.workers.get(name) and crew.state.workers[name].unreachable:
            for command in list(stranded(crew.state, run, {name: "no route"})):
                crew.ask(command)
        case _ if flying:
            attempt = dice.choice(flying)
            receipt = dice.choice((PASS, PASS, FAIL))
            crew.ended(attempt, receipt, seconds=dice.choice((0.01, 9.0)))
    crew.later(dice.choice((0.0, 0.0, 1.0, 4.0)))


def held(state: State, worker: str) -> dict[str, int]:
    """What attempts in flight hold of a worker, by a look at all of them."""
    flights = [
        (run.id, flight)
        for run in state.runs.values()
        for flight in run.flights.values()
        if place_of(run.id, flight.worker) == worker
    ]
    gpus = [gpu for _, flight in flights for gpu in flight.gpus]
    assert len(gpus) == len(set(gpus))
    return {
        "load": len(flights),
        "busy": len({flight.worker for _, flight in flights}),
        "cores_taken": sum(flight.cores for _, flight in flights),
        "memory_taken": sum(flight.memory_mb for _, flight in flights),
        "gpus_taken": sum(1 << gpu for gpu in gpus),
    }


def no_worker_holds_more_than_it_has(crew: Crew) -> None:
    for name, row in crew.state.workers.items():
        found = held(crew.state, name)
        assert found == {key: getattr(row, key) for key in found}
        assert found["cores_taken"] <= SIZES["cores"]
        assert found["memory_taken"] <= SIZES["memory_mb"]
        assert found["gpus_taken"] < 1 << SIZES["gpus"]
        if name != "local":
            assert found["busy"] <= SLOTS[name]
    for run in crew.state.runs.values():
        assert all(load <= 3 for load in run.load.values())


def plain(board: Board) -> dict[str, Any]:
    """What a board says, but for what it has seen so far of needs."""
    crowd = [level for level in board.crowd if level]
    seats = [(seat.worker.id, seat.load, seat.facts) for seat in board.seats]
    return {
        "up": board.up, "open": board.open, "free": board.free, "ahead": board.ahead,
        "alone": board.alone, "crowd": crowd, "seats": seats,
        "matches": {need: shelf.matches for need, shelf in board.shelves.items()},
    }  # fmt: skip


def boards_are_what_a_look_at_everything_says(crew: Crew) -> None:
    for run in crew.state.open_runs.values():
        known: Board | None = run.board
        if known is None or known.most != run.max_workers:
            continue
        known.follow(run, crew.state)
        ready, run.board = list(run.ready), None
        fresh = board_of(run, crew.state)
        fresh.offer(known.offered)
        for need in known.shelves:
            fresh.shelves[need] = fresh.new_shelf(need)
        assert plain(fresh) == plain(known)
        run.board, run.ready = known, ready
        kept = {index for shelf in known.shelves.values() for _, index in shelf.heap}
        kept |= {index for _, index in (*run.ready, *run.timers)}
        kept |= {index for line in (*run.parked.values(), *run.behind.values()) for index in line}
        assert {task.index for task in run.order if task.status == "queued"} <= kept


def nothing_that_fits_waits(crew: Crew) -> None:
    """All runs were asked until nothing more came."""
    for run in crew.state.open_runs.values():
        board: Board | None = run.board
        if run.status != "running" or board is None or len(run.load) >= run.max_workers:
            continue
        waiting = [
            (shelf, entry)
            for shelf in board.shelves.values()
            for entry in shelf.heap
            if run.order[entry[1]].status == "queued"
        ]
        for shelf, entry in waiting:
            for seat in board.seats_in(shelf.matches & board.up & board.open & board.free):
                if fits(shelf, seat, crew.state.workers.get(seat.worker.id)) is None:
                    continue
                assert any(
                    other.need.takes and before <= entry and other.matches >> seat.number & 1
                    for other, before in waiting
                    if other is not shelf
                ), f"{run.order[entry[1]].id} waits, and {seat.worker.id} is free"


def rows(state: State) -> dict[str, Any]:
    """The state as it is recorded, without what is made anew when it is needed."""
    whole = structs.asdict(state)
    for index in ("moved", "moves", "open_runs"):
        del whole[index]
    whole["runs"] = {name: _run(run) for name, run in state.runs.items()}
    whole["workers"] = {name: structs.asdict(row) for name, row in state.workers.items()}
    return whole


def _run(run: Run) -> dict[str, Any]:
    made = structs.asdict(run)
    for index in ("board", "ready", "timers", "parked", "behind", "crowd"):
        del made[index]
    made["order"] = [structs.asdict(task) for task in run.order]
    made["tasks"] = list(run.tasks)
    made["flights"] = {name: structs.asdict(flight) for name, flight in run.flights.items()}
    return made


def whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    crew = begin(dice)
    for _ in range(40):
        try:
            step(crew, dice)
        except Refused:
            continue
        boards_are_what_a_look_at_everything_says(crew)
        if dice.randrange(4):
            while crew.everywhere():
                no_worker_holds_more_than_it_has(crew)
            nothing_that_fits_waits(crew)
            boards_are_what_a_look_at_everything_says(crew)
        for run in crew.state.runs.values():
            assert {place_of(run.id, slot) for slot in run.load} - {"local"} <= wanted(
                crew.state, run
            )
    replayed = State()
    for head, event in crew.records:
        evolve(replayed, head, event)
    assert rows(replayed) == rows(crew.state)


@pytest.mark.parametrize("seed", range(3))
def test_no_worker_holds_too_much_and_nothing_that_fits_waits(seed: int) -> None:
    whatever_happens(seed)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_in_many_more_histories_neither(seed: int) -> None:
    whatever_happens(seed)


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 150))]
)
def test_every_task_comes_to_its_turn_where_workers_stay(seed: int) -> None:
    dice = random.Random(seed)
    crew = begin(dice)
    crew.up(*SLOTS, ahead=dice.randrange(3), **SIZES)
    for _ in range(200):
        for run in in_turn(crew.state.open_runs.values()):
            crew.place(run.id)
            for command in list(stranded(crew.state, run, {})):
                crew.ask(command)
        flying = [name for run in crew.state.runs.values() for name in run.flights]
        if not flying:
            break
        crew.ended(dice.choice(flying), seconds=dice.choice((0.01, 9.0)))
    assert all(run.open == 0 for run in crew.state.runs.values())
