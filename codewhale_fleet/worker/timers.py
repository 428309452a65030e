"""One heap for everything that is due at a time. A key has at most one time.

Promises: setting again replaces; what was cleared or replaced costs memory only until the heap
is rebuilt, so 100,000 short attempts with long timeouts leave nothing behind. It has no clock.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Timers:
    """Times (seconds on any one clock) by key."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._live: dict[str, float] = {}

    def set(self, key: str, when: float) -> None:
        """`key` is due at `when`, and at no other time."""
        live = self._live
        live[key] = when
        heap = self._heap
        heappush(heap, (when, key))
        if len(heap) > 64 + 4 * len(live):
            self._heap = [(when, key) for key, when in live.items()]
            heapify(self._heap)

    def clear(self, key: str) -> None:
        """`key` is no longer due."""
        self._live.pop(key, None)

    def next(self) -> float | None:
        """The earliest time, or None."""
        heap = self._heap
        while heap:
            when, key = heap[0]
            if self._live.get(key) == when:
                return when
            heappop(heap)
        return None

    def due(self, now: float) -> list[str]:
        """Takes out and answers the keys whose time has come, earliest first."""
        found: list[str] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, key = heappop(heap)
            if self._live.get(key) == when:
                del self._live[key]
                found.append(key)
        return found
