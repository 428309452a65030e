"""JSON without the `json` package, which costs 8 ms of a start-up that takes 12.

The C scanner and encoder beneath `json` are used directly; where an interpreter lacks them,
`json` itself steps in. Promises: `decode` raises nothing but ValueError, `encode` answers one
line of ASCII bytes with its newline. It knows nothing of what the messages mean.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _no_constant(name: str) -> Any:
    raise ValueError("the number " + name + " is not JSON")


def _unknown(value: object) -> Any:
    raise TypeError("not JSON: " + type(value).__name__)


class _Context:
    """What the C scanner reads its settings from."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


def _fast() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any, int], Any]]:
    import _json

    scan = _json.make_scanner(_Context)  # type: ignore[arg-type]
    encoder = _json.make_encoder(
        None,
        _unknown,
        _json.encode_basestring_ascii,
        None,
        ":",
        ",",
        False,
        False,
        False,
    )
    if scan('{"a":[1.5]}', 0) != ({"a": [1.5]}, 11) or "".join(encoder([None], 0)) != "[null]":
        raise ImportError("the C codec answers differently")
    return scan, encoder


def _plain() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any, int], Any]]:
    import json

    decoder = json.JSONDecoder(parse_constant=_no_constant)
    encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
    return decoder.raw_decode, lambda value, _indent: (encoder.encode(value),)


try:
    _scan, _chunks = _fast()
except Exception:  # another interpreter: whatever it lacks, `json` has it
    _scan, _chunks = _plain()


def decode(line: bytes) -> Any:
    """The value of one JSON line; ValueError with a reason if it is none."""
    try:
        text = line.decode().strip(" \t\r\n")
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON value") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # the scanner wanted to say it in a word of `json`, which is not imported
        raise ValueError("malformed") from None
    if end != len(text):
        raise ValueError("text after the JSON value")
    return value


def encode_strictly(value: Any) -> bytes:
    """`value` as one line for readers who take valid Unicode only: `?` stands for what is none."""
    line = encode(value)
    return encode(_plain_text(value)) if b"\\ud" in line else line


def _plain_text(value: Any) -> Any:
    if type(value) is str:
        return value.encode("utf-8", "replace").decode()
    if type(value) is dict:
        return {_plain_text(name): _plain_text(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return [_plain_text(one) for one in value]
    return value


def encode(value: Any) -> bytes:
    """`value` as one line; text that is not valid Unicode (file names) survives as escapes."""
    return "".join(_chunks(value, 0)).encode("ascii") + b"\n"
