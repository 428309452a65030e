"""A flipped bit and a truncation at every byte of a ledger of 200 records that a real run made."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.cli.driver import fleet

from .disk_damage import Bench
from .disk_writers import _leave, room, tidy
from .report import FULL, LONGEST, PROPERTY, Row

Record = Callable[[str, object], None]

PARTS = 2
"""Tests that the bytes are dealt to."""
RECORDS = 200
UNSYNCED = 8
"""Records above the watermark, where another boot allows a writer to heal."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fleet directory of a real run."""
    place = tmp_path_factory.mktemp("kept")
    tasks = [{"id": f"t{number}", "command": "true"} for number in range(96)]
    (place / "t.json").write_text(json.dumps({"name": "r", "max_workers": 2, "tasks": tasks}))
    done = fleet(place, "run", "t.json")
    assert done.returncode == 0, done.stderr
    _leave(place)
    return place / ".fleet"


@pytest.fixture
def bench(kept: Path) -> Iterator[Bench]:
    where = room()
    made = Bench(kept, where)
    assert made.records >= RECORDS
    yield made
    tidy(where, False)


def _judge(bench: Bench, name: str, begun: float, record: Record) -> None:
    came = bench.came
    print(f"{name}, {len(bench.data):,} bytes, {bench.records} records: {came.told()}")
    row = Row(
        name,
        "every byte",
        boundaries=came.refused + came.whole + came.healed,
        kills=came.damages,
        failed=len(came.wrong),
        seconds=round(time.monotonic() - begun, 1),
    )
    record(PROPERTY, {"rows": [asdict(row)]})
    assert not came.wrong, f"{len(came.wrong)} went wrong\n" + "\n".join(came.wrong[:3])


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_flipped_bit_is_refused_with_its_place_or_healed_where_nobody_relied_on_it(
    bench: Bench, part: int, record_property: Record
) -> None:
    begun = time.monotonic()
    bench.mark(bench.records - UNSYNCED, another_boot=True)
    places = range(part, len(bench.data), PARTS)
    for at in places:
        for bit in range(8) if FULL else (at * 5 % 8,):
            bench.flip(at, bit)
    assert bench.came.damages == len(places) * (8 if FULL else 1)
    assert bench.came.refused > bench.came.healed > 500
    bench.mark(bench.records, another_boot=False)  # and where all of it was acknowledged
    before = bench.came.refused
    most = range(part, len(bench.data), PARTS if FULL else 37 * PARTS)
    for at in most:
        bench.flip(at, at % 8)
    assert bench.came.refused - before == len(most)
    _judge(bench, "flipped bit", begun, record_property)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_truncation_is_refused_with_its_place_or_healed_where_nobody_relied_on_it(
    bench: Bench, part: int, record_property: Record
) -> None:
    begun = time.monotonic()
    bench.mark(bench.records - UNSYNCED, another_boot=bool(part))  # a torn line heals in any boot
    places = range(part, len(bench.data), PARTS)
    for size in places:
        bench.truncate(size)
    assert bench.came.damages == len(places)
    assert bench.came.refused > bench.came.healed > 500
    _judge(bench, "truncation", begun, record_property)
