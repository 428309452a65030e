"""A verdict in JSON, as commands and agents that verify give it: read, checked, made a receipt.

Promises that whatever stands in the text becomes a receipt and never an exception: one that cannot
be read is the verifier's failure, not the task's, and says what was wrong with it. What a verifier
was shown, and how it was run, is not known here.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import DecodeError, Struct, json

from ..core.events import Receipt
from . import QUOTES
from .reading import EXCERPT, fail, quote

FEEDBACK_BYTES = 4_096
"""Most bytes of a verifier's words that reach the next attempt."""


class Verdict(Struct, frozen=True):
    """What a verifier answers; other keys are not looked at."""

    verdict: Literal["pass", "fail", "partial"]
    reason: str = ""
    feedback: str = ""
    quotes: list[str] = []


_decode = json.Decoder(Verdict).decode


class Unreadable(Exception):
    """Why a text is no verdict."""


def read(text: str) -> Verdict:
    """The verdict that a text is; Unreadable with what is wrong with it."""
    try:
        return _decode(text.encode("utf-8", "replace"))
    except (DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(quote(str(error))) from None
    except RecursionError:
        raise Unreadable("nested too deeply") from None


def receipt(scorer: str, given: Verdict, *, quotes: Iterable[str] = ()) -> Receipt:
    """What a verdict makes of an attempt."""
    reason = quote(given.reason, 2 * EXCERPT) or f"its verifier says {given.verdict}"
    shown = [quote(one, EXCERPT) for one in quotes][:QUOTES]
    if given.verdict == "pass":
        return Receipt(result="pass", scorer=scorer, reason=reason, quotes=shown)
    words = feedback(given.feedback.strip() or given.reason)
    source = "task" if given.verdict == "fail" else "verifier"
    result = given.verdict
    return Receipt(
        result=result, source=source, scorer=scorer, reason=reason, feedback=words, quotes=shown
    )


def unreadable(scorer: str, why: str) -> Receipt:
    """The receipt of an attempt whose verifier said nothing that can be used."""
    return fail(scorer, "verifier", f"its verdict cannot be used: {why}")


def feedback(text: str) -> str:
    """Words for the next attempt: their beginning, without what no prompt may hold."""
    clean = "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in text)
    return clean.strip().encode("utf-8", "replace")[:FEEDBACK_BYTES].decode("utf-8", "ignore")
