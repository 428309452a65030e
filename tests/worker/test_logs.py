"""Logs are bounded by punching their middle, and read without taking zeros for output."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from codewhale_fleet.worker import logs
from codewhale_fleet.worker.logs import Log, read_log
from tests.worker.driver import Manager

LIMIT = 64 * 1024


def written(path: Path, size: int) -> bytes:
    """A file of numbered lines of 16 bytes."""
    text = b"".join(b"line %10d\n" % number for number in range(size // 16))
    path.write_bytes(text)
    return text


def test_a_log_below_twice_its_limit_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.out"
    text = written(path, 2 * LIMIT)
    log = Log(str(path), LIMIT)
    log.seal()
    assert log.dropped == 0 and read_log(path) == (text, 0)


def test_head_and_tail_stay_and_the_rest_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "a.out"
    text = written(path, 10 * LIMIT)
    log = Log(str(path), LIMIT)
    log.seal()

    kept, dropped = read_log(path, marker=False)
    assert len(kept) + dropped == len(text) and dropped == log.dropped
    assert LIMIT <= len(kept) <= LIMIT + 2 * 4096
    assert kept[: LIMIT // 2] == text[: LIMIT // 2] and kept[-LIMIT // 2 :] == text[-LIMIT // 2 :]
    assert b"\0" not in kept
    assert path.stat().st_size == len(text) and path.stat().st_blocks * 512 <= LIMIT + 16384
    with_marker, _ = read_log(path)
    assert b"\n[... %d bytes dropped ...]\n" % dropped in with_marker


def test_the_hole_grows_with_the_log(tmp_path: Path) -> None:
    path = tmp_path / "a.out"
    log = Log(str(path), LIMIT)
    for _ in range(20):
        with path.open("ab") as file:
            file.write(b"x" * LIMIT)
        log.look()
        assert path.stat().st_blocks * 512 <= 2 * LIMIT + 16384
    assert log.dropped >= 18 * LIMIT - 8192
    assert Log(str(path), LIMIT).hole == log.hole, "another runtime finds it again"


@pytest.mark.parametrize("tail", [True, False])
def test_a_part_is_taken_from_the_kept_bytes(tmp_path: Path, tail: bool) -> None:
    path = tmp_path / "a.out"
    text = written(path, 10 * LIMIT)
    Log(str(path), LIMIT).seal()
    part, dropped = read_log(path, 1000, tail=tail)
    assert part == (text[-1000:] if tail else text[:1000]) and dropped > 0
    across, _ = read_log(path, LIMIT // 2 + 8192, tail=tail)
    assert b"bytes dropped" in across


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none") == (b"", 0)


def test_without_punching_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_punch", lambda *_: False)
    path = tmp_path / "a.out"
    text = written(path, 10 * LIMIT)
    log = Log(str(path), LIMIT)
    log.seal()
    assert not log.punchable and read_log(path) == (text, 0)


def test_a_task_that_writes_much_is_bounded_and_its_digest_is_of_the_kept_bytes(
    manager: Manager,
) -> None:
    code = "import os\nfor _ in range(640): os.write(1, b'0123456789abcdef' * 1024)"
    end = manager.run_python("a", code, log_limit=LIMIT)

    stated = end["logs"]["out"]
    kept, dropped = read_log(manager.fleet / stated["path"], marker=False)
    assert stated["size"] == 640 * 16384 and stated["dropped"] == dropped > 9_000_000
    assert stated["sha256"] == hashlib.sha256(kept).hexdigest()
    assert stated["size"] - dropped <= LIMIT + 2 * 4096


def test_a_log_is_bounded_while_it_is_written(manager: Manager) -> None:
    manager.fifo("go")
    code = (
        "import os\nfor _ in range(64): os.write(1, b'x' * 65536)\n"
        "os.read(os.open('go', os.O_RDONLY), 1)"
    )
    attempt = manager.start_python("a", code, log_limit=LIMIT)
    manager.line.hear(lambda m: m.get("f") == "started")
    out = next(manager.fleet.glob("logs/*/a.1.out"))
    assert out.stat().st_size == 64 * 65536
    assert out.stat().st_blocks * 512 <= 2 * LIMIT + 16384
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["logs"]["out"]["dropped"] > 60 * 65536


def test_a_flood_is_killed_at_its_ceiling(manager: Manager) -> None:
    attempt = manager.start("a", ["yes"], log_limit=LIMIT, log_ceiling=1_000_000)
    end = manager.end_of(attempt)
    assert end["why"] == "flood" and end["signal"] == 9
    assert end["logs"]["out"]["size"] - end["logs"]["out"]["dropped"] <= LIMIT + 2 * 4096
