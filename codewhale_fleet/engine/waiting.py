"""Waiting for a run that somebody else manages.

A `Waiter` hands its run's values over, follows the live manager's announcements, and returns when
the run is over or the manager is gone; what a person presses meanwhile is recorded by the waiter
itself, like by any other asker.
"""

import random
import select
import socket
import time

from ..core import events as e
from ..ledger.store import Ledger
from .manager import Observer
from .signals import Signals

PONG_SECONDS = 30.0
"""A manager that does not answer for so long has stalled, and is replaced."""

PING_SECONDS = 10.0
"""Quiet time after which the manager is asked whether it lives."""

TAKEOVER_SPREAD_SECONDS = 0.03
"""Waiting candidates spread their takeover over this time, by chance."""


class Waiter:
    """One run, waited for at the socket of the live manager."""

    def __init__(
        self, caller: socket.socket, ledger: Ledger, run_id: str, observer: Observer
    ) -> None:
        self.caller = caller
        self.ledger = ledger
        self.run_id = run_id
        self.observer = observer
        self._heard = time.monotonic()
        self._records: list[tuple[e.Envelope, e.Event]] = []

    def follow(self, signals: Signals) -> bool:
        """True when a signal came; False when the run is over or the manager is gone."""
        ledger = self.ledger
        ledger.listener = lambda head, event: self._records.append((head, event))
        try:
            self.caller.sendall(b'{"m":"watch"}\n{"m":"poke","run":"%s"}\n' % self.run_id.encode())
            while is_open(ledger, self.run_id):
                quiet = 0.1 if self.observer.wants_ticks else PING_SECONDS
                watched = [self.caller.fileno(), signals.descriptor]
                ready = select.select(watched, [], [], quiet)[0]
                if signals.descriptor in ready:
                    return True
                if not self._listen(bool(ready)):
                    break
                self._show()
        except OSError:
            pass
        finally:
            ledger.listener = None
        time.sleep(random.random() * TAKEOVER_SPREAD_SECONDS)
        ledger.refresh()
        return False

    def tell(self, kind: str) -> None:
        """Say that the ledger has news (poke), or that the run is not to be waited for (kill)."""
        run = self.run_id if kind == "kill" else ""
        self.caller.sendall(b'{"m":"%s","run":"%s"}\n' % (kind.encode(), run.encode()))

    def _listen(self, ready: bool) -> bool:
        """Take what the manager said; False when it is gone or has stalled."""
        now = time.monotonic()
        if ready:
            self._heard = now
            return bool(self.caller.recv(65536))
        if now - self._heard > PING_SECONDS:
            self.caller.sendall(b'{"m":"ping"}\n')
        return now - self._heard < PONG_SECONDS

    def _show(self) -> None:
        self.ledger.refresh()
        if self._records:
            records, self._records = self._records, []
            self.observer.changed(self.ledger.state, records)
        if self.observer.wants_ticks:
            self.observer.tick(self.ledger.state)


def is_open(ledger: Ledger, run_id: str) -> bool:
    """Whether a run still goes on by itself: a paused one with nothing in flight does not."""
    run = ledger.state.runs[run_id]
    if run.status == "paused":
        return bool(run.flights)
    return run.status != "finished"
