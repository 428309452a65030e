import subprocess
import sys
from pathlib import Path

from codewhale_fleet.ledger.cache import identity, read_cached, write_cached
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
