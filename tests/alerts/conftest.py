"""A receiver for whoever sends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .receiver import Receiver, a_receiver


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with a_receiver(tmp_path) as made:
        yield made
