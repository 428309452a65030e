"""What is copied to a host: kept while it is used, removed when newer ones have come."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from codewhale_fleet.hosts import bundle


def put(home: Path, digest: str) -> None:
    """As `command` does it for a host that has not got the bundle; its relay finds no root."""
    data = bundle.bundle()
    code = f"exec({bundle._ENTRY!r})"
    words = [sys.executable, "-I", "-S", "-c", code, digest, str(home / "state"), "/no/such/root"]
    done = subprocess.run(
        words,
        input=b"%012d" % len(data) + data,
        env={"HOME": str(home)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"/no/such/root does not exist" in done.stdout


def test_the_three_used_last_stay_and_what_something_runs_from(tmp_path: Path) -> None:
    cache = tmp_path / ".cache/codewhale-fleet"
    for number, name in enumerate(("a", "b", "c", "d")):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (number + 1, number + 1))
    words = [sys.executable, "-c", "input()", str(cache / "a")]
    user = subprocess.Popen(words, stdin=subprocess.PIPE)
    try:
        put(tmp_path, "e" * 64)
        assert sorted(path.name for path in cache.iterdir()) == ["a", "c", "d", "e" * 64]
    finally:
        user.communicate(b"\n")


def test_many_at_the_same_time_leave_one_whole_copy(tmp_path: Path) -> None:
    for number in range(4):  # so many old ones that some are removed
        (tmp_path / ".cache/codewhale-fleet" / str(number)).mkdir(parents=True)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: put(tmp_path, "e" * 64), range(12)))
    names = sorted(path.name for path in (tmp_path / ".cache/codewhale-fleet").iterdir())
    assert "e" * 64 in names and not [name for name in names if "." in name]
