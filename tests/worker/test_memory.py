"""A task that the kernel's memory killer ended is told from one that somebody killed.

Needs root and a memory cgroup (version 1 or 2) that may be written to: both are real.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codewhale_fleet.worker.memory import _of_cgroup
from tests.worker.driver import Manager

LIMIT = 64 * 1024 * 1024
HOG = "k=[];\nwhile True: k.append(bytearray(b'x') * (1<<20))"


@pytest.fixture
def narrow() -> Iterator[Path]:
    """A cgroup with little memory; a process goes into it by its `cgroup.procs`."""
    (counter,) = [Path(path) for path in _of_cgroup()[:1]]
    made = counter.parent / f"fleet-test-{os.getpid()}"
    made.mkdir()
    for name in ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        if (made / name).exists():
            (made / name).write_text(str(LIMIT))
    yield made
    made.rmdir()


def test_a_task_that_took_too_much_memory_is_told_as_such(manager: Manager, narrow: Path) -> None:
    enter = f"echo $$ > {narrow}/cgroup.procs; "
    alone = manager.run("alone", ["sh", "-c", enter + 'exec python3 -c "$0"', HOG])
    assert alone["signal"] == 9 and alone["oom"] is True and "why" not in alone
    child = manager.run("child", ["sh", "-c", enter + 'python3 -c "$0"; exit $?', HOG])
    assert child["exit"] == 137 and child["oom"] is True


def test_a_task_that_somebody_killed_is_not(manager: Manager) -> None:
    end = manager.run("a", ["sh", "-c", "kill -9 $$"])
    assert end["signal"] == 9 and "oom" not in end


def test_a_killed_task_is_not_when_the_memory_killer_came_before_it_began(
    manager: Manager, narrow: Path
) -> None:
    enter = f"echo $$ > {narrow}/cgroup.procs; "
    manager.run("first", ["sh", "-c", enter + 'exec python3 -c "$0"', HOG])
    later = manager.run("later", ["sh", "-c", "sleep 1.2; kill -9 $$"])
    assert later["signal"] == 9 and "oom" not in later
