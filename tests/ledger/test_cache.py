import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from codewhale_fleet.ledger import cache
from codewhale_fleet.ledger.cache import Turn, identity, now, read_cached, write_cached
from codewhale_fleet.ledger.store import Ledger

from .builders import a_ledger, beat


def test_an_answer_is_kept_until_the_ledger_grows(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    assert ledger.identity() == identity(ledger.dir)
    assert read_cached(ledger.dir, "status") is None
    assert write_cached(ledger.dir, "status", b"answer\nof two lines", ledger.identity())
    assert read_cached(ledger.dir, "status") == b"answer\nof two lines"
    assert read_cached(ledger.dir, "status r0") is None
    beat(ledger)
    assert read_cached(ledger.dir, "status") is None


def test_an_answer_from_before_the_newest_record_is_never_read(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reader = Ledger.open(ledger.dir)
    beat(ledger)
    write_cached(ledger.dir, "status", b"old", reader.identity())
    assert read_cached(ledger.dir, "status") is None
    write_cached(ledger.dir, "status", b"new", ledger.identity())
    assert read_cached(ledger.dir, "status") == b"new"


def test_keys_have_their_own_answers_even_when_their_files_have_one_name(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    assert write_cached(ledger.dir, "run/a", b"A", ledger.identity())
    assert read_cached(ledger.dir, "run/a") == b"A"
    assert read_cached(ledger.dir, "run:a") is None


def test_whatever_is_wrong_with_the_cache_there_is_no_answer_and_no_error(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    write_cached(ledger.dir, "status", b"a longer answer", ledger.identity())
    path = ledger.dir / "cache" / "status.json"
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        assert read_cached(ledger.dir, "status") is None
    path.unlink()
    path.mkdir()
    assert read_cached(ledger.dir, "status") is None
    assert not write_cached(ledger.dir, "status", b"x", ledger.identity())
    assert read_cached(tmp_path / "nowhere", "status") is None


def test_reading_the_cache_imports_next_to_nothing(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import codewhale_fleet.ledger.cache;"
    code += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} == {"codewhale_fleet"}


def test_opening_the_ledger_imports_no_network_no_asyncio_and_no_watcher() -> None:
    code = "import sys, codewhale_fleet.ledger.store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    unwanted = {"socket", "asyncio", "watchfiles", "subprocess", "hashlib", "threading", "typer"}
    assert not loaded & unwanted


# One computes, the others wait ----------------------------------------------------------------


def test_whoever_waited_takes_what_was_begun_since_it_asked_and_nothing_older(
    tmp_path: Path,
) -> None:
    ledger = a_ledger(tmp_path)
    before = Turn(str(ledger.dir))
    write_cached(ledger.dir, "status", b"an answer", ledger.identity(), now())
    after = Turn(str(ledger.dir))
    beat(ledger)
    assert read_cached(ledger.dir, "status") is None
    assert read_cached(ledger.dir, "status", before.asked) == b"an answer"
    assert read_cached(ledger.dir, "status", after.asked) is None
    assert read_cached(ledger.dir, "status", ("another boot", 0)) is None


def test_a_turn_is_had_by_one_at_a_time_and_free_when_its_holder_dies(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    code = (
        "import sys, os, signal; from codewhale_fleet.ledger.cache import Turn\n"
        "turn = Turn(sys.argv[1]); turn.take(); print(flush=True); sys.stdin.read(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, ledger.dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin and holder.stdout and holder.stdout.readline()
    turn = Turn(str(ledger.dir))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_when_waited_for, ledger.dir / "cache" / "turn.lock", holder.stdin)
        assert turn.take()
    assert holder.wait() == -signal.SIGKILL
    turn.done()
    other = Turn(str(ledger.dir))
    assert not other.take()
    other.done()


def _when_waited_for(lock: Path, release: IO[bytes]) -> None:
    """Let the holder go once somebody waits for the lock, as the kernel says."""
    waits = re.compile(rf"-> FLOCK .*:{lock.stat().st_ino} ")
    while not waits.search(Path("/proc/locks").read_text()):
        pass
    release.write(b"x")
    release.flush()


def test_a_stopped_holder_is_not_waited_for(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    code = (
        "import sys, os, signal; from codewhale_fleet.ledger.cache import Turn\n"
        "turn = Turn(sys.argv[1]); turn.take(); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, ledger.dir])
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    began = time.monotonic()
    turn = Turn(str(ledger.dir))
    turn.take()
    turn.done()
    holder.kill()
    holder.wait()
    assert time.monotonic() - began < cache.PATIENCE_SECONDS / 2


def test_where_no_turn_can_be_had_nobody_waits_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in its way")
    for place in (tmp_path, tmp_path / "nowhere"):
        turn = Turn(str(place))
        assert not turn.take()
        turn.done()
