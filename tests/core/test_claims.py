"""Tasks that claim the same take turns, in order, and nobody else waits for them."""

import random
from typing import Any

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core.state import OPEN, overlaps
from codewhale_fleet.core.tasks import claims_of, decode_task

from .playbook import FAIL, PASS, Playbook


def claiming(name: str, *paths: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "workspace": {"writable_paths": list(paths)}, **fields}


def test_a_line_of_tasks_is_asked_for_one_at_a_time() -> None:
    book = Playbook()
    run = book.run(*(claiming(f"t{n}", "out") for n in range(200)), workers=4)
    assert book.place() == ["r/t0@1"]
    for number in range(199):
        book.ended(f"r/t{number}@1")
        assert len(run.ready) == 1
        assert book.place() == [f"r/t{number + 1}@1"]
    book.ended("r/t199@1")
    assert run.open == 0


def test_who_claims_something_else_does_not_stand_in_that_line() -> None:
    book = Playbook()
    wide = claiming("wide", "a", "b")
    book.run(wide, *(claiming(f"{p}{n}", p) for p in "ab" for n in range(3)), workers=4)
    assert book.place() == ["r/wide@1"]
    book.ended("r/wide@1")
    assert book.place() == ["r/a0@1", "r/b0@1"]
    book.ended("r/a0@1")
    assert book.place() == ["r/a1@1"]


def test_the_next_one_steps_up_when_the_first_of_a_line_is_cancelled() -> None:
    book = Playbook()
    book.run(*(claiming(f"t{n}", "out") for n in range(4)), claiming("x", "out/x"), workers=4)
    book.place()
    book.ended("r/t0@1")
    assert book.task("t1").status == "queued"
    book.ask(c.Interrupt(run="r", tasks=("t1",), reason="not needed"))
    assert book.place() == ["r/t2@1"]
    book.ended("r/t2@1")
    assert book.place() == ["r/t3@1"]


def test_the_best_priority_of_a_line_comes_first() -> None:
    book = Playbook()
    tasks = [claiming("t0", "out", priority=-1)]
    tasks += [claiming(f"t{n}", "out", priority=-n % 3) for n in range(1, 7)]
    book.run(*tasks, workers=4)
    order = []
    while placed := book.place():
        order += placed
        book.ended(placed[0])
    assert [name[2:4] for name in order] == ["t0", "t3", "t6", "t2", "t5", "t1", "t4"]


@pytest.mark.parametrize("seed", range(30))
def test_every_task_gets_its_turn_and_no_two_hold_the_same(seed: int) -> None:
    chance = random.Random(seed)
    book = Playbook()
    paths = ("a", "a/b", "a/c", "d", "e")
    retry = {"max_attempts": 2, "initial_backoff_seconds": 1, "jitter": 0, "retry_on": ["task"]}
    tasks = [
        claiming(f"t{n}", *chance.sample(paths, chance.randrange(3)), retry_policy=retry)
        for n in range(40)
    ]
    run = book.run(*tasks, workers=3)
    for _ in range(2000):
        book.later(chance.random() * 2).place()
        held = [claims_of(decode_task(run.tasks[f.task].raw)) for f in run.flights.values()]
        for index, one in enumerate(held):
            for other in held[index + 1 :]:
                assert not any(overlaps(mine, its) for mine in one for its in other)
        if run.flights:
            book.ended(chance.choice(list(run.flights)), chance.choice([PASS, PASS, FAIL]))
        queued = [task.id for task in run.order if task.status == "queued"]
        if queued and chance.random() < 0.1:
            book.ask(c.Interrupt(run="r", tasks=(chance.choice(queued),), reason="no"))
        if run.open == 0:
            break
    assert not [task.id for task in run.order if task.status in OPEN]
