"""Every test of the command line begins outside any fleet, with a plain environment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .scene import Scene, a_scene


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEET_DIR", "FLEET_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as made:
        yield made
