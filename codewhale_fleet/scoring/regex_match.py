"""Scorer `regex_match`: a pattern is found anywhere in a file.

Promises: linear time whatever the pattern (RE2: no look-around, no back-references); `^` and `$`
are the ends of the whole text unless the pattern says `(?m)`. Knows the file's kept copy only.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]

from ..core.events import AttemptEnded, Evidence, Receipt
from ..core.spec import RegexMatch
from .reading import bytes_of, fail, passed, quote

KIND = "regex_match"
_SHOWN = 80
"""Most characters of a pattern in a receipt."""


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Any:
    """A pattern ready for bytes; ValueError with RE2's own words where it is none."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        words = error.args[0] if error.args else error
        raise ValueError(words.decode() if isinstance(words, bytes) else str(words)) from None


def judge(scorer: RegexMatch, ended: AttemptEnded, read: Callable[[Evidence], bytes]) -> Receipt:
    """Pass when the pattern is found; the receipt quotes what matched, else how the file ends."""
    shown = quote(scorer.pattern, _SHOWN)
    try:
        pattern = compiled(scorer.pattern)
    except ValueError as error:
        return fail(
            KIND, "verifier", f"pattern {shown} is no regular expression: {quote(str(error))}"
        )
    data = bytes_of(KIND, scorer.path, ended, read)
    if isinstance(data, Receipt):
        return data
    match = pattern.search(data)
    if match is not None:
        found = quote(match.group()[:1000].decode(errors="ignore"))
        return passed(KIND, f"{scorer.path} has “{found}”")
    tail = quote(data.decode(), end=True)
    ends = f"it ends “{tail}”" if tail else "it is empty"
    return fail(KIND, "task", f"{scorer.path} has no match for {shown}; {ends}")
