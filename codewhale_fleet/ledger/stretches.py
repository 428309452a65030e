"""Stretches of attempts in a block of lines, decoded for `core.replay` where that is possible.

Most blocks of a long ledger are one stretch. Whatever the slim decoding does not fit (another
payload version, a damaged payload) comes back undecoded, so that the usual way names its trouble.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from msgspec import Struct, json

from ..core.events import Envelope, Event
from ..core.evolve import evolve
from ..core.replay import WORDS, Line, Record, replay
from ..core.state import State
from .record import decode_head, payload_of

LEAST = 32
"""From so many lines of attempts on end they are taken at once."""
PAIRED = tuple(b'{"k":"%b"' % word.encode() for word in WORDS)


class Way(Struct, frozen=True):
    """How records get into a state: single ones, and stretches of attempts."""

    evolve: Callable[[State, Envelope, Event], None]
    decode: Callable[[bytes], Sequence[Any]]
    """Lines of attempts as `replay` wants them; ValueError where they are anything else."""
    replay: Callable[[State, Sequence[Any], Record], None]

    def whole(self, data: bytes, lines: list[bytes]) -> Sequence[Any]:
        """What replay takes of a block that is one stretch, as most are; else nothing."""
        if len(lines) < LEAST or not (lines[0].startswith(PAIRED) and lines[-1].startswith(PAIRED)):
            return ()
        return self._slim(data)

    def stretches(self, lines: list[bytes]) -> Iterator[tuple[int, list[bytes], Sequence[Any]]]:
        """Lines that belong together: index of the first, the lines, and what replay takes if it
        does."""
        if len(lines) < LEAST:
            yield 0, lines, ()
            return
        first = 0
        for are_attempts, stretch in groupby(lines, lambda line: line.startswith(PAIRED)):
            part = list(stretch)
            simple = are_attempts and len(part) >= LEAST
            yield first, part, self._slim(b"\n".join(part)) if simple else ()
            first += len(part)

    def _slim(self, data: bytes) -> Sequence[Any]:
        try:
            return self.decode(data)
        except ValueError:  # another word, another version, or not what its word says
            return ()

    def take(self, state: State, lines: list[bytes], slim: Sequence[Any]) -> None:
        """Take a stretch into the state; LookupError and ValueError as in `replay`."""

        def record(index: int) -> tuple[Envelope, Event]:
            head = decode_head(lines[index])
            return head, payload_of(head)

        self.replay(state, slim, record)


WHOLE = Way(evolve, json.Decoder(Line).decode_lines, replay)
"""All that is known."""
