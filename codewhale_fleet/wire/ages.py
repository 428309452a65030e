"""How old something is, as a person writes it: `30d`, `12h`."""

import re

from ..errors import FleetError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])")
MOST_SECONDS = 36_500 * 86_400.0


def seconds_of_age(text: str) -> float:
    """An age in seconds; FleetError where it is none."""
    found = _AGE.fullmatch(text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else -1.0
    if not 0.0 <= seconds <= MOST_SECONDS:
        raise FleetError(
            f'"{text}" is no age.', "A number and s, m, h, d or w: --older-than 30d", code="usage"
        )
    return seconds


def days(seconds: float) -> str:
    """An age in words: `30 days`, `1 day`, else in the unit that fits."""
    if seconds >= 86_400 and seconds % 86_400 == 0:
        count = int(seconds // 86_400)
        return "1 day" if count == 1 else f"{count:,} days"
    from ..views.units import duration

    return duration(seconds)
