import os
import signal
import threading
from pathlib import Path

import pytest

from codewhale_fleet.errors import Damaged
from codewhale_fleet.ledger import lock
from codewhale_fleet.ledger.store import Ledger

from .builders import a_ledger, beat, kill, python

HOLD = """
    import sys, fcntl, os
    descriptor = os.open(sys.argv[1] + "/fleet.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_waiter_names_the_stopped_process_that_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.2)
    writer = python(HOLD, str(ledger.dir))
    assert writer.stdout
    writer.stdout.readline()
    kill(writer, signal.SIGSTOP)
    with pytest.raises(Damaged) as found:
        beat(ledger)
    assert f"by process {writer.pid} (" in found.value.sentence
    assert "which is stopped" in found.value.sentence
    assert f"kill -CONT {writer.pid}" in found.value.hint
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    kill(writer)
    beat(ledger)


def test_a_waiter_goes_on_waiting_for_a_holder_that_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path)
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)
    writer = python(HOLD, str(ledger.dir))
    assert writer.stdout
    assert writer.stdin
    writer.stdout.readline()
    threading.Timer(0.4, writer.stdin.close).start()
    before = ledger.seq
    beat(ledger)
    assert ledger.seq == before + 1
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.3)
    writer = python(HOLD, str(ledger.dir))
    assert writer.stdout
    writer.stdout.readline()
    with pytest.raises(Damaged, match="has been locked for"):
        beat(ledger)
    kill(writer)


def test_a_thread_that_is_not_the_main_one_can_wait_too(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    writer = python(HOLD, str(ledger.dir))
    assert writer.stdout
    assert writer.stdin
    writer.stdout.readline()
    done: list[int] = []

    def append() -> None:
        own = Ledger.open(tmp_path / ".fleet")
        beat(own)
        done.append(own.seq)

    thread = threading.Thread(target=append)
    thread.start()
    writer.stdin.close()
    thread.join(20)
    assert done == [ledger.seq + 1]


def test_an_alarm_that_was_set_before_still_rings(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    writer = python(HOLD, str(ledger.dir))
    assert writer.stdout
    assert writer.stdin
    writer.stdout.readline()
    threading.Timer(0.1, writer.stdin.close).start()
    rung = threading.Event()
    handler = signal.signal(signal.SIGALRM, lambda number, frame: rung.set())
    before = signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        beat(ledger)
        assert rung.wait(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_the_holder_is_found_in_the_kernels_list() -> None:
    text = (
        "1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE {os.getpid()} fe:00:77 0 EOF\n"
        "2: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n"
    )
    assert lock.holder(77, text) == (os.getpid(), False)
    assert lock.holder(78, text) == (0, False)
