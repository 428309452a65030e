"""A host whose disk is full: what is told of it, and that the work goes on when there is room.

The disk is real and small: the host's home and its workspace lie on it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.disk_small import fill, small_disk
from tests.real.typed import Typed, ended, typed_in

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20
COUNT = 40
"""Tasks of a run: more than find room in what is left of a page."""


@contextmanager
def small_host(folder: Path, size: int = 16 * MEGABYTE, kind: str = "tmpfs") -> Iterator[Typed]:
    """A fleet with a worker `there`, of whose disk so much is free at first."""
    with small_disk(folder / "there", kind, size), typed_in(folder) as hosts:
        hosts.serve("there")
        yield hosts


def disk_of(hosts: Typed) -> Path:
    return hosts.servers["there"].folder


def test_a_disk_that_is_full_at_the_first_contact_is_told_and_room_is_all_it_needs(
    tmp_path: Path,
) -> None:
    with small_host(tmp_path) as hosts:
        ballast = fill(disk_of(hosts))
        hosts.spec([{"id": "a", "command": "echo a >> ran; echo said"}])
        hosts.inventory()
        told = ended(hosts.running("run", "spec.json", patience=1), 6)
        assert "No space left on device" in told
        receipt = hosts.receipts()["a"]
        assert receipt["source"] == "transport" and "No space left" in receipt["reason"]
        why = hosts.fleet("explain", "@last/a").stdout
        assert "No space left" in why
        tested = hosts.fleet("worker", "test", "there")
        assert tested.returncode == 6 and "No space left" in tested.stdout
        ballast.unlink()
        ended(hosts.running("resume", "@last", "--failed"), 0)
        assert hosts.lines() == {"a": 1}
        assert hosts.fleet("logs", "@last/a").stdout == "said\n"


def test_on_a_full_disk_nothing_new_starts_and_no_task_is_to_blame(tmp_path: Path) -> None:
    with small_host(tmp_path) as hosts:
        held, new, ballast = two_runs(hosts, patience=3)
        ended(new, 1)
        failed = {id: one for id, one in hosts.receipts().items() if one["result"] == "fail"}
        assert failed and {one["source"] for one in failed.values()} == {"environment"}
        assert all("is the disk full?" in one["reason"] for one in failed.values())
        why = hosts.fleet("explain", f"@last/{next(iter(failed))}").stdout
        assert "there: the journal of this host cannot be written" in why
        ballast.unlink()
        (hosts.servers["there"].work / "go").touch()
        assert "is the disk full?" in ended(held, 0)
        ended(hosts.running("resume", "@last", "--failed"), 0)
        all_ran_once(hosts)


def test_a_run_goes_on_by_itself_when_there_is_room_again(tmp_path: Path) -> None:
    with small_host(tmp_path) as hosts:
        held, new, ballast = two_runs(hosts, patience=60)
        assert held.stderr
        while "is the disk full?" not in (line := held.stderr.readline()):
            assert line, "it ended"
        ballast.unlink()
        ended(new, 0)
        (hosts.servers["there"].work / "go").touch()
        ended(held, 0)
        all_ran_once(hosts)
        assert all(len(each) == 1 for each in hosts.ends().values())


def test_a_bundle_that_finds_no_room_is_told_and_sent_again(tmp_path: Path) -> None:
    with small_host(tmp_path) as hosts:
        (hosts.place / "large").write_bytes(b"x" * (20 * MEGABYTE))
        hosts.spec([{"id": "a", "command": "wc -c < large", "workspace": {"include": ["large"]}}])
        told = ended(hosts.running("run", "spec.json", patience=3), 1)
        receipt = hosts.receipts()["a"]
        assert receipt["source"] == "environment", told
        assert "No space left on device" in receipt["reason"]
        (hosts.place / "large").write_bytes(b"x" * 1000)
        ended(hosts.running("run", "spec.json"), 0)
        assert hosts.fleet("logs", "@last/a").stdout.strip() == "1000"


def two_runs(
    hosts: Typed, patience: float
) -> tuple[subprocess.Popen[str], subprocess.Popen[str], Path]:
    """A run that waits for `go` there, one that comes when the disk is full, and what fills it."""
    server, there = hosts.servers["there"], {"there": {"slots": 2}}
    script = "echo held >> ran; until test -e go; do sleep 0.05; done"
    hosts.spec([{"id": "held", "command": script}], there)
    held = hosts.running("run", "spec.json")
    hosts.until("attempt.started")
    while not hosts.lines():
        assert held.poll() is None
    (reserve,) = server.home.rglob("reserve")
    assert reserve.stat().st_size >= 4096
    reserve.unlink()  # somebody had to take it
    ballast = fill(server.folder)
    hosts.spec([{"id": f"t{n}", "command": f"echo {n} >> ran"} for n in range(COUNT)], there)
    return held, hosts.running("run", "spec.json", patience=patience), ballast


def all_ran_once(hosts: Typed) -> None:
    assert hosts.lines() == {str(n): 1 for n in range(COUNT)} | {"held": 1}
