"""Signals as something that can be read: a pipe that becomes readable, and counts.

While a run is managed or waited for: INT and TERM ask for an orderly stop, a second one for a
kill, HUP (a closed terminal) detaches. Handlers do nothing but count; the loop decides.
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any


class Signals:
    """Context in which signals wake a loop through `descriptor` instead of raising."""

    def __init__(self) -> None:
        self.stops = 0
        """How often INT or TERM came."""
        self.hangups = 0
        """How often HUP came."""
        self.descriptor, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> "Signals":
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN or number == signal.SIGINT:
                self._before[number] = signal.signal(number, self._count)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.descriptor)
        os.close(self._writer)

    def _count(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.hangups += 1
        else:
            self.stops += 1

    def drain(self) -> None:
        """Empty the pipe."""
        try:
            os.read(self.descriptor, 4096)
        except BlockingIOError:
            pass
