"""Says what is wrong with a pattern or a JSON path before any work is done for it.

The scorers compile the same text the same way, after the work; `tests/wire/test_patterns.py` holds
both answers equal. The libraries are imported at first use: most specs need neither.
"""

import re
from functools import lru_cache

_KEYS_ONLY = re.compile(r"""\$?(?:\.[^\s.,:*?@$()\[\]'"]+)+""")
"""`$.a.b` or `.a.b`, the form that other fleets write, with any keys."""


@lru_cache(maxsize=256)
def pattern_flaw(pattern: str) -> str:
    """Why RE2 can't use a pattern; empty when it can."""
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else "not an RE2 pattern"
        return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return ""


@lru_cache(maxsize=256)
def expression_flaw(expression: str) -> str:
    """Why a JSON path (RFC 9535, or keys only) can't be used; empty when it can."""
    if _KEYS_ONLY.fullmatch(expression):
        return ""
    if expression[:1] not in ("$", "."):
        return "it starts with $, or with . in its short form"
    import jsonpath_rfc9535

    try:
        jsonpath_rfc9535.compile(expression if expression[0] == "$" else f"${expression}")
    except jsonpath_rfc9535.JSONPathError as error:
        return str(error).split("\n", 1)[0]
    except RecursionError:
        return "nested too deeply"
    return ""
