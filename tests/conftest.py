"""What concerns all tests, whoever started them.

A shell without job control starts what it puts in the background with SIGINT ignored, nohup does it
with SIGHUP, and children inherit that: then no Ctrl-C and no closed terminal could be tested.
Ledgers that a test leaves open are closed after it, because a thousand of them are more descriptors
than a process has. How long a generated example takes says only how busy the machine is. And the
table of the fault campaign is printed at the end.
"""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from codewhale_fleet.ledger.store import Ledger
from tests.faults.report import pytest_terminal_summary
from tests.turns import pytest_configure

__all__ = ["pytest_configure", "pytest_terminal_summary"]

settings.register_profile("fleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleet")

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_ledger_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what the test opened and did not close."""
    opened: list[Ledger] = []
    begin = Ledger.__init__

    def remember(ledger: Ledger, *args: Any, **more: Any) -> None:
        begin(ledger, *args, **more)
        opened.append(ledger)

    monkeypatch.setattr(Ledger, "__init__", remember)
    yield
    for ledger in opened:
        if ledger._descriptor >= 0:
            ledger.close()
