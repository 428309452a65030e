import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codewhale_fleet.ledger import fold, reader, snapshot
from codewhale_fleet.ledger.store import Ledger

from .builders import a_ledger, beat, canonical, random_history

SNAPSHOT = Path(".fleet/cache/snapshot")


@given(seed=st.integers(0, 2**32), before=st.integers(1, 60), after=st.integers(0, 40))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_snapshot_and_tail_fold_to_what_the_whole_ledger_folds_to(
    tmp_path_factory: pytest.TempPathFactory, seed: int, before: int, after: int
) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    dice = random.Random(seed)
    ledger = Ledger.open(folder / ".fleet", create=True)
    random_history(ledger, dice, before)
    ledger.sync()
    assert ledger.snapshot()
    random_history(ledger, dice, after)
    ledger.sync()
    short = Ledger.open(folder / ".fleet")
    assert snapshot.load(folder / ".fleet", short._files) is not None
    (folder / SNAPSHOT).unlink()
    whole = Ledger.open(folder / ".fleet")
    assert canonical(short) == canonical(whole) == canonical(ledger)


def test_a_reader_that_folds_much_leaves_a_snapshot_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SNAPSHOT_AFTER", 5)
    a_ledger(tmp_path)
    Ledger.open(tmp_path / ".fleet")
    assert (tmp_path / SNAPSHOT).exists()
    monkeypatch.setattr(fold, "fold", None)
    Ledger.open(tmp_path / ".fleet")


def test_whatever_is_wrong_with_the_snapshot_the_answer_is_the_same(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, runs=2)
    wanted = canonical(ledger)
    assert ledger.snapshot()
    path = tmp_path / SNAPSHOT
    good = path.read_bytes()
    damages = [good[:size] for size in range(0, len(good), 37)]
    damages += [
        good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :]
        for place in range(0, len(good), 11)
    ]
    for bad in damages:
        path.write_bytes(bad)
        assert snapshot.load(tmp_path / ".fleet", ledger._files) is None
    for bad in damages[:: len(damages) // 10]:
        path.write_bytes(bad)
        assert canonical(Ledger.open(tmp_path / ".fleet")) == wanted
    path.unlink()
    path.mkdir()
    assert canonical(Ledger.open(tmp_path / ".fleet")) == wanted
    assert not ledger.snapshot()


def test_the_snapshot_of_another_ledger_is_ignored(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert a_ledger(tmp_path / name).snapshot()
    (tmp_path / "one" / SNAPSHOT).replace(tmp_path / "two" / SNAPSHOT)
    one, two = (Ledger.open(tmp_path / name / ".fleet") for name in ("one", "two"))
    assert snapshot.load(tmp_path / "two" / ".fleet", two._files) is None
    assert one.state.fleet != two.state.fleet


def test_a_snapshot_that_is_ahead_of_the_file_is_ignored(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    path = tmp_path / ".fleet" / "fleet.jsonl"
    before = path.read_bytes()
    beat(ledger, 3)
    ledger.sync()
    assert ledger.snapshot()
    with path.open("r+b") as file:
        file.truncate(len(before))
    assert snapshot.load(tmp_path / ".fleet", ledger._files) is None


def test_no_snapshot_is_made_of_what_is_not_durable(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    beat(ledger)
    assert not ledger.snapshot()
    ledger.sync()
    assert ledger.snapshot()
