"""Tests that fill the machine run alone, although others run beside each other.

Promises that no other test of the same pytest is under way while one marked `alone` is, and that
waiting for a turn does not count as the time of a test. Knows nothing of what tests do.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Turns:
    """Of the processes of one pytest: most share the room, one that is alone has it to itself."""

    def __init__(self, run: str) -> None:
        folder = Path(tempfile.gettempdir())
        self._paths = [folder / f"fleet-tests-{run}.{name}" for name in ("gate", "room")]
        self._gate, self._room = (
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in self._paths
        )

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Who wants to be alone holds the gate while the room empties, so that none comes in."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """One test, with what prepares it and tidies up after it."""
        with self.turn(alone=item.get_closest_marker("alone") is not None):
            return (yield)

    def pytest_unconfigure(self) -> None:
        """The others have the files open already."""
        for path in self._paths:
            path.unlink(missing_ok=True)


def pytest_configure(config: pytest.Config) -> None:
    """Only where there are several processes."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.pluginmanager.register(Turns(worker["testrunuid"]))
