"""Scorer `json_path`: an expression finds something that is neither null nor false.

Promises: `$.a.b` and `.a.b` are walked through object keys, any other expression is RFC 9535. An
expression that finds several values passes only when none of them is null or false. Zero, an empty
text and an empty list pass. Knows the file's kept copy only.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import DecodeError, json

from ..core.events import AttemptEnded, Evidence, Receipt
from ..core.spec import JsonPath
from .reading import bytes_of, fail, passed, quote

if TYPE_CHECKING:
    from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathQuery

KIND = "json_path"
MOST_VALUES = 100_000
"""An expression that finds more is not judged: it would hold up every other run."""

_SIMPLE = re.compile(r"""\$?(?:\.[^\s.,:*?@$()\[\]'"]+)+""")
_SHOWN = 80
"""Most characters of an expression or of a value in a receipt."""

Found = list[tuple[str, Any]]
"""Where a value was found, and the value."""


class Unusable(Exception):
    """An expression or a document that cannot be judged, in words."""


def judge(scorer: JsonPath, ended: AttemptEnded, read: Callable[[Evidence], bytes]) -> Receipt:
    """Pass when the expression finds at least one value, and none that is null or false."""
    path, expression = scorer.path, scorer.expression
    shown = quote(expression, _SHOWN)
    try:
        if not _SIMPLE.fullmatch(expression):
            _query(expression)
    except Unusable as error:
        return fail(KIND, "verifier", f"expression {shown}: {quote(str(error))}")
    data = bytes_of(KIND, path, ended, read)
    if isinstance(data, Receipt):
        return data
    try:
        found = _find(expression, json.decode(data))
    except (DecodeError, UnicodeDecodeError) as error:
        return fail(KIND, "task", f"{path} is not JSON: {quote(str(error))}")
    except RecursionError:
        return fail(KIND, "verifier", f"{path} is nested too deeply to be judged")
    except Unusable as error:
        return fail(KIND, "verifier", f"{path}, {shown}: {quote(str(error))}")
    if not found:
        return fail(KIND, "task", f"{path} has no {shown}")
    for place, value in found:
        if value is None or value is False:
            return fail(KIND, "task", f"{path}: {quote(place)} is {_word(value)}")
    if len(found) > 1:
        return passed(KIND, f"{path}: {shown} found {len(found):,} values, none null or false")
    return passed(KIND, f"{path}: {shown} is {_word(found[0][1])}")


def _find(expression: str, document: Any) -> Found:
    if not _SIMPLE.fullmatch(expression):
        return _find_by_standard(expression, document)
    value = document
    for key in expression.removeprefix("$")[1:].split("."):
        if not isinstance(value, dict) or key not in value:
            return []
        value = value[key]
    return [(expression, value)]


def _find_by_standard(expression: str, document: Any) -> Found:
    from jsonpath_rfc9535.exceptions import JSONPathError, JSONPathRecursionError

    try:
        nodes = list(islice(_query(expression).finditer(document), MOST_VALUES + 1))
    except JSONPathRecursionError:
        raise Unusable("the document is nested too deeply to be judged") from None
    except JSONPathError as error:
        raise Unusable(str(error)) from None
    if len(nodes) > MOST_VALUES:
        raise Unusable(f"finds more than {MOST_VALUES:,} values")
    bad = (node for node in nodes if node.value is None or node.value is False)
    first = next(bad, None)
    return [(first.path(), first.value)] if first else [(expression, node.value) for node in nodes]


@lru_cache(maxsize=64)
def _query(expression: str) -> "JSONPathQuery":
    from jsonpath_rfc9535.exceptions import JSONPathError

    if expression[:1] not in ("$", "."):
        raise Unusable("a JSON path starts with $, or with . in its short form")
    try:
        return _environment().compile(expression if expression[0] == "$" else f"${expression}")
    except JSONPathError as error:
        raise Unusable(f"no JSON path: {error}") from None
    except RecursionError:
        raise Unusable("no JSON path: nested too deeply") from None


@lru_cache(maxsize=1)
def _environment() -> "JSONPathEnvironment":
    """RFC 9535 with `match` and `search` in linear time, as every pattern of a spec is."""
    import jsonpath_rfc9535
    from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction

    from .regex_match import compiled

    class LinearPattern(FilterFunction):
        arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - the base's shape
        return_type = ExpressionType.LOGICAL

        def __init__(self, whole: bool) -> None:
            self.whole = whole

        def __call__(self, text: object, pattern: object) -> bool:
            if not isinstance(text, str) or not isinstance(pattern, str):
                return False
            ready = _linear(pattern, compiled)
            if ready is None:
                return False
            return bool(ready.fullmatch(text) if self.whole else ready.search(text))

    environment = jsonpath_rfc9535.JSONPathEnvironment()
    environment.function_extensions["match"] = LinearPattern(whole=True)
    environment.function_extensions["search"] = LinearPattern(whole=False)
    return environment


def _linear(pattern: str, compiled: Callable[[str], Any]) -> Any:
    """An I-Regexp (RFC 9485) for RE2, None where it is none: its `.` matches no line end at all."""
    parts: list[str] = []
    escaped = inside = False
    for letter in pattern:
        parts.append(r"[^\n\r]" if letter == "." and not (escaped or inside) else letter)
        if not escaped and letter in "[]":
            inside = letter == "["
        escaped = letter == "\\" and not escaped
    try:
        return compiled("".join(parts))
    except ValueError:
        return None


def _word(value: Any) -> str:
    return quote(json.encode(value).decode(), _SHOWN)
