"""A host whose disk is full: what is told of it, and that the work goes on when there is room.

The disk is real and small: the host's home and its workspace lie on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.disk_small import fill, small_disk
from tests.real.typed import Typed, ended, typed_in

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20


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
