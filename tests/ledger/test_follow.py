import threading
import time
from pathlib import Path

from codewhale_fleet.ledger.follow import Watch, follow
from codewhale_fleet.ledger.store import Ledger

from .builders import a_ledger, beat


def test_a_follower_sees_each_record_once_and_soon(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    began = reader.seq

    def write() -> None:
        own = Ledger.open(ledger.dir)
        for _ in range(5):
            beat(own)
            own.sync()
            time.sleep(0.03)

    thread = threading.Thread(target=write)
    seen: list[int] = []
    thread.start()
    for records in follow(reader, until=time.monotonic() + 20):
        seen += [head.seq for head, _ in records]
        if len(seen) == 5:
            break
    thread.join()
    assert seen == list(range(began + 1, began + 6))
    assert reader.listener is None


def test_a_follower_is_told_of_a_record_whose_writer_never_synced(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    beat(ledger)
    first = next(iter(follow(reader, until=time.monotonic() + 5)))
    assert [head.seq for head, _ in first] == [ledger.seq]
    assert reader.seq == ledger.seq


def test_following_ends_in_time_and_ticks_meanwhile(tmp_path: Path) -> None:
    reader = a_ledger(tmp_path)
    began = time.monotonic()
    assert list(follow(reader, until=began + 0.2)) == [[]]
    assert 0.15 < time.monotonic() - began < 3
    ticks = list(follow(reader, until=time.monotonic() + 0.3, tick=0.1))
    assert len(ticks) >= 2


def test_a_watch_hears_only_of_the_ledger(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    watch = Watch(ledger.dir)
    (ledger.dir / "other").write_text("x")
    assert not watch.wait(0.1)
    beat(ledger)
    assert watch.wait(5)
    watch.close()
