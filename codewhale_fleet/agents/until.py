"""When a usage limit ends, out of an agent's words: `3pm`, `Nov 24, 7:38pm (UTC)`, `in 2 h 10 min`.

Promises an instant after now and within a year or so, or None: what cannot be read, what lies in
the past, and a zone that nobody knows are all the same. A time without a zone is local time.
"""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

FARTHEST_SECONDS = 400 * 86400.0
JUST_PAST_SECONDS = 3600.0
"""A time of day that has passed by no more than so much was today's; else it is tomorrow's."""

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SPAN = re.compile(
    r"(\d+(?:\.\d+)?)\s*(d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)"
    r"(?![a-z])",
    re.I,
)
_ZONE = re.compile(r"\s*(?:\(([^()]*)\)|\b(UTC|GMT)\b)\s*$|(?<=\d)(Z)$", re.I)
_TIME = re.compile(
    r"\b(\d{1,2})(?::(\d\d))?(?::(\d\d))?\s*([ap])\.?m\b\.?|\b(\d{1,2}):(\d\d)(?::(\d\d))?", re.I
)
_DAY = re.compile(
    r"\b(\d{4})-(\d\d)-(\d\d)"
    r"|\b([A-Z][a-z]{2})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?\b(?:,? (\d{4})\b)?"
)


def until(words: str, now: float) -> float | None:
    """The instant (seconds since the epoch) that the words name; None where they name none."""
    words = words.strip().removeprefix("at ").strip()
    try:
        found = _epoch(words) or _span(words, now) or _iso(words) or _clock(words, now)
    except (ValueError, OverflowError, OSError, LookupError):
        return None
    if found is None or not now < found <= now + FARTHEST_SECONDS:
        return None
    return found


def _epoch(words: str) -> float | None:
    if re.fullmatch(r"\d{10}(?:\.\d+)?", words):
        return float(words)
    return int(words) / 1000 if re.fullmatch(r"\d{13}", words) else None


def _span(words: str, now: float) -> float | None:
    rest = _SPAN.sub("", words.removeprefix("in ")).replace("and", "")
    if rest.strip(" ,.") or not words[:1]:
        return None
    parts = _SPAN.findall(words)
    return now + sum(float(n) * _UNITS[unit[0].lower()] for n, unit in parts) if parts else None


def _iso(words: str) -> float | None:
    if not re.match(r"\d{4}-\d\d-\d\dT", words):
        return None
    return datetime.fromisoformat(words).timestamp()


def _clock(words: str, now: float) -> float | None:
    """A time of day, perhaps with a date and a zone."""
    zone = None
    if match := _ZONE.search(words):
        zone = ZoneInfo("UTC" if match[2] or match[3] else match[1])
        words = words[: match.start()]
    match = _TIME.search(words)
    if match is None:
        return None
    here = datetime.fromtimestamp(now, zone)
    hour, minute, second, half = match[1], match[2], match[3], match[4]
    if half:
        hours = int(hour) % 12 + (12 if half in "pP" else 0)
        if not 1 <= int(hour) <= 12:
            return None
    else:
        hours, minute, second = int(match[5]), match[6], match[7]
    words = words[: match.start()] + words[match.end() :]
    when = here.replace(hour=hours, minute=int(minute or 0), second=int(second or 0), microsecond=0)
    day = _DAY.search(words)
    if day is None:
        if re.search(r"\d", words):
            return None
        if now - when.timestamp() > JUST_PAST_SECONDS:
            when += timedelta(days=1)
        return when.timestamp()
    if day[1]:
        return when.replace(year=int(day[1]), month=int(day[2]), day=int(day[3])).timestamp()
    month = _MONTHS.index(day[4].lower()) + 1
    year = int(day[6]) if day[6] else here.year + (month < here.month - 6)
    return when.replace(year=year, month=month, day=int(day[5])).timestamp()
