"""Small words that several commands say alike: durations, sizes, statuses, colours.

Colour is for state only and never the only carrier of meaning. Imports nothing but `views.units`,
which imports nothing: the hottest commands say these words.
"""

from ..views.units import duration, size
from ..views.units import one_line as plain

__all__ = ["SHOWN_AS", "clock_time", "counted", "duration", "paint", "plain", "size"]

SHOWN_AS = {
    "queued": ("queued", "dim"),
    "leased": ("queued", "dim"),
    "running": ("running", ""),
    "verifying": ("verifying", ""),
    "completed": ("passed", "green"),
    "partial": ("waits", "yellow"),
    "failed": ("failed", "red"),
    "cancelled": ("cancelled", "red"),
    "skipped": ("skipped", "dim"),
    "retry": ("retry", "yellow"),
    "progress": ("running", ""),
    "warned": ("warning", "yellow"),
    "asks": ("asks", "yellow"),
}
"""A task status as people read it, and its colour."""

_COUNTED = (
    ("completed", "passed"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
    ("partial", "waiting for a person"),
    ("skipped", "up to date"),
    ("running", "running"),
    ("leased", "starting"),
    ("queued", "queued"),
)

_CODES = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}


def clock_time(then: float, now: float) -> str:
    """A moment to come, and how far off it is: `15:00 (in 2 h 10 min)`; with its day, if later."""
    import time

    local = time.localtime(then)
    day = "" if local[:3] == time.localtime(now)[:3] else "%d %b "
    return f"{time.strftime(f'{day}%H:%M', local)} (in {duration(max(0.0, then - now))})"


def paint(text: str, shade: str, on: bool) -> str:
    """`text` in a colour, where colours are on."""
    return f"\x1b[{_CODES[shade]}m{text}\x1b[0m" if on and shade else text


def counted(counts: dict[str, int]) -> list[tuple[str, str]]:
    """(status, word) of every status that was counted, what matters first."""
    return [(status, word) for status, word in _COUNTED if counts.get(status)]
