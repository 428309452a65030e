"""Placement on many workers costs what changes, not what there is: decisions a second, held.

The floors are a quarter of what was measured (10,000 to 18,000 a second), by processor time, so
that what else runs does not count.
"""

import time
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.decide import decide
from codewhale_fleet.core.evolve import evolve
from codewhale_fleet.core.placement import due
from codewhale_fleet.core.spread import stranded, wanted

from .crew import Crew, tasks, worker
from .playbook import PASS

pytestmark = pytest.mark.slow

LEAST = 2500
"""Decisions a second."""


def take(crew: Crew, command: c.Command) -> str:
    event = decide(crew.state, command, crew.now)
    assert isinstance(event, e.AttemptDispatched | e.AttemptEnded)
    head = e.Envelope(k=event.word, seq=crew.state.seq + 1, ts=crew.ts(), d=Raw(b"{}"), run="r")
    evolve(crew.state, head, event)
    return event.attempt


def all_of_it(crew: Crew, most: int) -> float:
    """Place and end attempts one by one, as a busy manager wakes; decisions a second."""
    run, fact, done, spent = crew.state.runs["r"], 0, 0, 0.0
    flying: list[str] = []
    while True:
        begun = time.process_time()
        found = due(run, "b", crew.now, places=crew.places, state=crew.state)
        flying += [take(crew, command) for command in found]
        spent += time.process_time() - begun
        if not flying or done == most:
            return done / spent
        attempt, done, fact = flying.pop(0), done + 1, fact + 1
        slot = run.flights[attempt].worker
        ended = e.AttemptEnded(
            attempt=attempt, worker=slot, src=("rt", fact), seconds=0.01, receipt=PASS, exit=0
        )
        take(crew, c.ReportEnded(ended=ended))


def a_crew(count: int, slots: int, made: Iterable[dict[str, Any]], ahead: int = 0) -> Crew:
    crew = Crew()
    names = [f"w{number:04}" for number in range(count)]
    crew.crew(*made, workers={name: worker(name, slots) for name in names}, most=5000)
    crew.up(*names, ahead=ahead, cores=8, memory_mb=2000)
    return crew


def test_a_task_for_each_of_a_thousand_targets() -> None:
    targets = [f"w{number:04}" for number in range(1000)]
    made = [
        {"id": f"t{name}-{n}", "requires": {"target": name}} for n in range(5) for name in targets
    ]
    crew = a_crew(1000, 1, made)
    run = crew.state.runs["r"]
    begun = time.process_time()
    assert len(wanted(crew.state, run)) == 1000
    assert len(list(stranded(crew.state, run, dict.fromkeys(targets[:500], "no route")))) == 500
    assert time.process_time() - begun < 1.0
    assert all_of_it(crew, 5000) > LEAST


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_hundred_thousand_tasks_that_are_alike_on_fifty_workers(ahead: int) -> None:
    assert all_of_it(a_crew(50, 4, tasks(100_000), ahead), 20_000) > LEAST


def test_tasks_of_many_sizes_that_are_packed() -> None:
    made = [
        {"id": f"t{n}", "requires": {"cores": 1 + n % 4, "memory_mb": 100 * (n % 7) + 1}}
        for n in range(5000)
    ]
    assert all_of_it(a_crew(50, 8, made), 5000) > LEAST / 3
