"""Small words that several commands say alike: durations, sizes, statuses, colours.

Colour is for state only and never the only carrier of meaning. No imports, because the hottest
commands say these words.
"""

SHOWN_AS = {
    "queued": ("queued", "dim"),
    "leased": ("queued", "dim"),
    "running": ("running", ""),
    "completed": ("passed", "green"),
    "partial": ("waits", "yellow"),
    "failed": ("failed", "red"),
    "cancelled": ("cancelled", "red"),
    "skipped": ("skipped", "dim"),
    "retry": ("retry", "yellow"),
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


def paint(text: str, shade: str, on: bool) -> str:
    """`text` in a colour, where colours are on."""
    return f"\x1b[{_CODES[shade]}m{text}\x1b[0m" if on and shade else text


def plain(text: str) -> str:
    """`text` on one line, without control characters."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def counted(counts: dict[str, int]) -> list[tuple[str, str]]:
    """(status, word) of every status that was counted, what matters first."""
    return [(status, word) for status, word in _COUNTED if counts.get(status)]


def duration(seconds: float, *, exact: bool = False) -> str:
    """Seconds as people say them: `40 ms`, `4.2 s`, `3 min`, `2 h 10 min`; exact: `9 min 12 s`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if exact and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def size(count: float) -> str:
    """Bytes as people say them: `812 bytes`, `4.2 MiB`."""
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"
