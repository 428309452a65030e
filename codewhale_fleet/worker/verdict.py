"""Where the verdict stands in what a verifier has written: a JSON object with a key `verdict`.

Promises: never an exception, whatever the text, and time that grows with its length. Whether the
verdict is a good one is for others (`scoring/verdict.py`); nothing here knows who wrote the text.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAST_WORDS = "(these were its last words)"
"""Ends what is kept of a command that failed without a verdict: nothing in it looks like one."""
_FENCE = "```"
_END_CHARACTERS = 16 * 1024
"""An object that stands in the middle of a text is looked for in this much of its end."""
_TRIES = 200
"""Opening braces of it that are tried."""


def at_the_end(text: str) -> str | None:
    """The object that the text is, or its last line; None where that is none with a verdict."""
    whole = text.strip()
    for part in (whole, whole.rpartition("\n")[2].strip()):
        if _object(part) is not None:
            return part
    return None


def anywhere(text: str) -> str | None:
    """The same, or in its last fence that holds one, or the last one that stands in the text."""
    return at_the_end(text) or _fenced(text) or _last(text[-_END_CHARACTERS:])


def word_of(found: str | None) -> str:
    """What an object that was found says; empty where it says nothing."""
    known = _object(found) if found else None
    word = known.get("verdict") if known else None
    return word if isinstance(word, str) else ""


def _object(text: str) -> dict[str, Any] | None:
    if not (text.startswith("{") and text.endswith("}")):
        return None
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "verdict" in found else None


def _fenced(text: str) -> str | None:
    for part in reversed(text.split(_FENCE)[1::2]):
        start = part.find("{")
        inner = part[start:].strip() if start >= 0 else ""
        if _object(inner) is not None:
            return inner
    return None


def _last(text: str) -> str | None:
    import json

    decoder = json.JSONDecoder()
    best: str | None = None
    at = text.find("{")
    for _ in range(_TRIES):
        if at < 0:
            break
        end = at + 1
        try:
            found, end = decoder.raw_decode(text, at)
            if isinstance(found, dict) and "verdict" in found:
                best = text[at:end]
        except (ValueError, RecursionError):
            pass
        at = text.find("{", end)
    return best
