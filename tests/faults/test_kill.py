"""SIGKILL at every boundary of a run of forty tasks, for every victim, and at random instants."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from . import campaign, forty
from .experiment import CONTROLS
from .report import LONGEST, PROPERTY, Row

Record = Callable[[str, object], None]

PARTS = {
    "manager": 3,
    "detached manager": 3,
    "runtime": 4,
    "keeper": 4,
    "keeper, its own": 1,
    "runtime + keeper": 4,
    "run --detach": 1,
    "stop": 1,
    "stop, no manager": 1,
    "interrupt": 1,
    "interrupt, no manager": 1,
}
"""Victims, and into how many tests the boundaries of each are dealt (for two cores)."""

INSTANTS = int(os.environ.get("FLEET_FAULTS_INSTANTS", "35"))
"""Random deaths; `scripts/test faults` asks for a thousand."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where experiments live; those that went wrong stay."""
    yield tmp_path
    for kept in tmp_path.iterdir():
        if not any(kept.iterdir()):
            shutil.rmtree(kept)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize(
    ("victim", "part"), [(victim, part) for victim, parts in PARTS.items() for part in range(parts)]
)
def test_killed_at_every_boundary_nothing_is_lost_and_nothing_starts_twice(
    place: Path, victim: str, part: int, record_property: Record
) -> None:
    parts = PARTS[victim]
    sweep = campaign.Sweep(victim, place, part=part, parts=parts)
    row = sweep.perform()
    record_property(PROPERTY, {"rows": [asdict(row)]})
    assert not sweep.failures, campaign.told(sweep.failures)
    assert (row.lost, row.twice, row.unlocks) == (0, 0, 0)
    recorded = RECORDED_BY.get(victim, 1 if victim in CONTROLS else row.records)
    assert len(sweep.boundaries) >= recorded, "fewer boundaries than recorded events"
    # A run that gathers its facts into fewer wake-ups has fewer boundaries than the counted one:
    # it ends before the last numbers come. It never has fewer than it records.
    least = min(recorded // parts, row.boundaries * 0.9)
    assert row.kills >= least, f"{row.kills} of {row.boundaries} boundaries came"


RECORDED_BY = {"keeper, its own": 0, "run --detach": 4}
"""Records that a victim itself writes, where it is not the one who runs the tasks."""


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_killed_at_random_instants_nothing_is_lost_and_nothing_starts_twice(
    place: Path, record_property: Record
) -> None:
    seed = int(os.environ.get("FLEET_FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    victims = [victim for victim in PARTS if "own" not in victim and victim not in CONTROLS]
    instants = campaign.Instants(victims, place, count=INSTANTS, seed=seed)
    rows: list[Row] = instants.perform()
    figures = {"seed of the random instants": seed}
    record_property(PROPERTY, {"rows": [asdict(row) for row in rows], "figures": figures})
    assert not instants.failures, f"FLEET_FAULTS_SEED={seed}\n" + campaign.told(instants.failures)


def test_the_run_that_is_killed_has_forty_tasks() -> None:
    assert len(forty.tasks()) == len(forty.EXPECTED) == 40
