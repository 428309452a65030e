"""The fixture of the worker's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.driver import Manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    root = tmp_path / "work"
    root.mkdir()
    found = Manager(root)
    yield found
    found.finish()
