"""Power is lost at every point of what real writers did, and whatever the disk kept, it goes on."""

import os
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from . import disk_writers as writers
from .disk_loss import Played, Player
from .disk_model import Disk
from .report import FULL, LONGEST, PROPERTY, Row

Record = Callable[[str, object], None]

BOUND = 4096 if FULL else 10
"""States of one prefix up to which all are opened; beyond, so many are drawn."""


def _played(
    trace: writers.Trace, start: Disk | None = None, required: int = 0
) -> tuple[Played, int]:
    seed = int(os.environ.get("FLEET_FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    room = writers.room()
    player = Player(room / "fleet", bound=BOUND, seed=seed, start=start)
    player.truth.required = required
    played = player.play(trace)
    writers.tidy(room, bool(played.wrong))
    return played, seed


def _judge(name: str, played: Played, seed: int, record: Record) -> None:
    print(f"{name}, bound {BOUND}, seed {seed}: {played.told()}")
    row = Row(
        f"power, {name}",
        "every operation",
        boundaries=played.operations,
        kills=played.states,
        lost=played.lost,
        unlocks=played.unlocks,
        failed=len(played.wrong),
        seconds=played.seconds,
    )
    figures = {f"power loss, {name}": f"{played.told()} (bound {BOUND}, seed {seed})"}
    record(PROPERTY, {"rows": [asdict(row)], "figures": figures})
    assert not played.wrong, f"FLEET_FAULTS_SEED={seed}\n" + "\n".join(played.wrong)
    assert played.prefixes == played.operations >= 40
    assert played.states >= 4 * played.operations / 2, "too few states were told apart"
    assert played.healed > 0, "no loss left anything to heal"
    assert (played.lost, played.unlocks) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_power_lost_in_a_run_loses_nothing_that_was_acknowledged(
    tmp_path: Path, record_property: Record
) -> None:
    played, seed = _played(writers.a_run(tmp_path))
    _judge("a run", played, seed, record_property)
    assert played.behind_a_gap > 0, "no loss left whole records behind a gap"


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_power_lost_while_segments_are_sealed_loses_nothing_that_was_acknowledged(
    tmp_path: Path, record_property: Record
) -> None:
    played, seed = _played(writers.a_rotation(tmp_path))
    _judge("rotation", played, seed, record_property)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_power_lost_again_while_a_loss_is_healed_loses_nothing_that_was_acknowledged(
    tmp_path: Path, record_property: Record
) -> None:
    trace, start, required = writers.a_healing(tmp_path, writers.a_run(tmp_path))
    played, seed = _played(trace, start, required)
    _judge("healing", played, seed, record_property)
