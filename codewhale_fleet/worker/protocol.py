"""The conversation with one manager as an object: bytes in, messages out. No input or output.

Promises: the first message is a `hello` of a protocol that this runtime speaks; every message
after it is a dict with a known word and the fields of that word, of the right type. Anything
else raises `Broken` with a sentence, after which the connection is to be closed. It knows
nothing of epochs being high or low, of attempts, or of sockets.
"""

from __future__ import annotations

from codewhale_fleet.worker import codec, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 1

_FIELDS: dict[str, tuple[tuple[str, type], ...]] = {
    "hello": (("protocol", int), ("epoch", int), ("cursors", dict)),
    "environment": (("run", str), ("values", dict)),
    "start": (("attempt", str), ("slot", str), ("slots", int), ("plan", dict)),
    "interrupt": (("attempt", str), ("why", str)),
    "answer": (("attempt", str), ("number", int), ("text", str)),
    "data": (("run", str), ("entries", list)),
    "put": (("run", str), ("entry", dict)),
    "drop": (("attempt", str), ("directory", str)),
    "cut-off": (("attempt", str), ("slot", str), ("plan", dict)),
    "values": (("run", str),),
    "ack": (("n", int),),
    "ping": (),
    "leave": (),
}
"""The words that a manager may say, and what each must carry."""


class Broken(Exception):
    """The peer does not speak the protocol; the sentence says how."""


class Conversation:
    """One peer. `epoch` is None until its hello was read."""

    __slots__ = ("_held", "_parts", "epoch")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self.epoch: int | None = None

    def receive(self, data: bytes) -> list[dict[str, Any]]:
        """The complete messages in `data` and what was left over before; raises Broken."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts = []
            self._held = 0
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
            if self._held > limits.LINE_BYTES:
                raise Broken(f"a message is longer than {limits.LINE_BYTES} bytes")
        return [self._message(line) for line in lines]

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = codec.decode(line)
        except ValueError as error:
            raise Broken(f"a line is not JSON: {error}") from None
        if type(message) is not dict:
            raise Broken("a message is not an object")
        word = message.get("m")
        fields = _FIELDS.get(word) if type(word) is str else None
        if fields is None:
            raise Broken(f"no message is called {word!r}")
        for name, kind in fields:
            if type(message.get(name)) is not kind:
                raise Broken(f"{word}: the field {name!r} must be of type {kind.__name__}")
        if self.epoch is None:
            if word != "hello":
                raise Broken("the first message must be hello")
            if message["protocol"] != PROTOCOL:
                raise Broken(f"this runtime speaks protocol {PROTOCOL}, not {message['protocol']}")
            self.epoch = message["epoch"]
        return message


def refused(attempt: str, why: str, sentence: str, **more: Any) -> bytes:
    """The line that says why something asked for will not happen."""
    answer = {"m": "refused", "attempt": attempt, "why": why, "sentence": sentence}
    return codec.encode_strictly({**answer, **more})


PONG = codec.encode({"m": "pong"})
