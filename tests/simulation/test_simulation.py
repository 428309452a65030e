"""Simulated fleets: whatever befalls them, what is promised holds, and a seed is a history."""

import subprocess
import sys
from collections import Counter

import pytest

from .run import Failed, simulate
from .world import Plan, World


@pytest.mark.parametrize("seed", range(12))
def test_every_promise_holds_in_a_fleet_that_much_befalls(seed: int) -> None:
    simulate(Plan(seed=seed))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 300, 20))
def test_every_promise_holds_in_many_fleets(first: int) -> None:
    befell: Counter[str] = Counter()
    for seed in range(first, first + 20):
        befell += simulate(Plan(seed=seed))
    for what in ("managers elected", "attempts lost", "power lost", "host rebooted", "stop asked"):
        assert befell[what], f"no seed had: {what}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=1, workers=1, tasks=40, hosts=1),
        Plan(seed=2, workers=200, tasks=100, hosts=7),
        Plan(seed=3, workers=300, tasks=3000, hosts=5),
        Plan(seed=4, workers=1000, tasks=5000, hosts=10),
    ],
    ids=lambda plan: f"{plan.workers}x{plan.tasks}",
)
def test_every_promise_holds_in_fleets_of_other_shapes(plan: Plan) -> None:
    simulate(plan)


def test_without_faults_one_manager_is_enough_and_nothing_is_lost() -> None:
    befell = simulate(Plan(seed=5, faults=False))
    assert befell["managers elected"] == 1
    assert befell["attempts lost"] == befell["late facts"] == befell["managers fenced"] == 0


def test_a_seed_gives_the_same_history_again() -> None:
    histories = []
    for _ in range(2):
        world = World(Plan(seed=3))
        world.run()
        histories.append((world.ledger.lines, world.counted, world.now))
    assert histories[0] == histories[1]


def test_a_seed_gives_the_same_history_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "4"]
    said = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.rpartition("\n1 of 1")[0]
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert "attempts started" in said[0]


def test_a_failing_seed_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.host.Host.knows", lambda host, attempt: False)
    plan = Plan(seed=1, workers=6, tasks=30, hosts=2)
    with pytest.raises(Failed) as failed:
        simulate(plan)
    line = "python -m tests.simulation --seed 1 --workers 6 --tasks 30 --hosts 2"
    assert f"\nreplay: {line}" in str(failed.value)
