"""Waiting for something that somebody else's manager brings about.

A `Waiter` follows the live manager's announcements and returns when what it waits for is so, when
the manager is gone or answers no more, or when a signal came. What a person presses meanwhile is
recorded by whoever waits, like by any other asker; nothing is decided here.
"""

import random
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from ..core import events as e
from ..core.duties import needs_manager
from ..core.state import State
from ..ledger.store import Ledger
from .signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .manager import Observer

PONG_SECONDS = 30.0
"""A manager that does not answer for so long has stalled, and is replaced."""

PING_SECONDS = 10.0
"""Quiet time after which the manager is asked whether it lives."""

TAKEOVER_SPREAD_SECONDS = 0.03
"""Waiting candidates spread their takeover over this time, by chance."""


class Heard(Enum):
    """Why following came to an end."""

    OVER = "what was waited for is so"
    SIGNAL = "a signal came"
    GONE = "the manager is gone"
    STALLED = "the manager does not answer"


class Waiter:
    """Somebody who waits at the socket of the live manager until `over` holds.

    A candidate waits for a run (`run`) and would manage it; others only want to know.
    """

    def __init__(
        self,
        caller: socket.socket,
        ledger: Ledger,
        observer: "Observer",
        over: Callable[[State], bool],
        *,
        run: str = "",
    ) -> None:
        self.caller = caller
        self.ledger = ledger
        self.observer = observer
        self.over = over
        self.run = run
        self._heard = self._asked = time.monotonic()
        self._records: list[tuple[e.Envelope, e.Event]] = []

    def follow(self, signals: Signals) -> Heard:
        """Return when there is a reason to."""
        ledger = self.ledger
        ledger.listener = lambda head, event: self._records.append((head, event))
        heard = Heard.GONE
        try:
            word, run = b"watch" if self.run else b"listen", self.run.encode()
            for kind in (word, b"poke", b"ping"):  # what happened before it heard us: its pong
                self.caller.sendall(b'{"m":"%s","run":"%s"}\n' % (kind, run))
            heard = self._follow(signals)
        except OSError:
            pass
        finally:
            ledger.listener = None
        if heard is not Heard.SIGNAL:
            if heard is not Heard.OVER:
                time.sleep(random.random() * TAKEOVER_SPREAD_SECONDS)
            ledger.refresh()
        return heard

    def _follow(self, signals: Signals) -> Heard:
        while not self.over(self.ledger.state):
            quiet = self.observer.ticks or PING_SECONDS
            watched = [self.caller.fileno(), signals.descriptor]
            ready = select.select(watched, [], [], quiet)[0]
            if signals.descriptor in ready:
                return Heard.SIGNAL
            if ready and not self._listen():
                return Heard.GONE
            if not ready and self._is_stalled():
                return Heard.STALLED
            self._show()
        return Heard.OVER

    def tell(self, kind: str) -> None:
        """Say that the ledger has news (poke), or that the run is not to be waited for (kill)."""
        run = self.run if kind == "kill" else ""
        with suppress(OSError):  # it is gone: the next look says so
            self.caller.sendall(b'{"m":"%s","run":"%s"}\n' % (kind.encode(), run.encode()))

    def _listen(self) -> bool:
        """Take what the manager said; False when it hung up."""
        self._heard = time.monotonic()
        return bool(self.caller.recv(65536))

    def _is_stalled(self) -> bool:
        """Ask a quiet manager now and then whether it lives; True when it never answered."""
        now = time.monotonic()
        if now - max(self._heard, self._asked) >= PING_SECONDS:
            self._asked = now
            self.caller.sendall(b'{"m":"ping"}\n')
        return now - self._heard >= PONG_SECONDS

    def _show(self) -> None:
        self.ledger.refresh()
        if self._records:
            records, self._records = self._records, []
            self.observer.changed(self.ledger.state, records)
        if self.observer.ticks:
            self.observer.tick(self.ledger.state)


def is_open(ledger: Ledger, run_id: str) -> bool:
    """Whether a run still goes on by itself."""
    return needs_manager(ledger.state.runs[run_id])
