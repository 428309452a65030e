"""One ledger line: how it is written, sealed, checked and read.

The header is formatted by hand in one fixed order, so that readers may filter lines by bytes before
they decode anything; the payload is msgspec JSON. Each line ends in `c`, the CRC32 of the line up
to it, seeded with the previous record's, so a missing, altered or moved line breaks the chain.
Nothing here knows files or locks.
"""

import time
from array import array
from collections.abc import Callable
from sys import byteorder
from zlib import crc32

from msgspec import Struct, json

from ..core.events import EVENTS, Envelope, Event
from ..errors import Damaged, FleetError

FORMAT = 1
"""Version of the file format that this code reads and writes."""
LIMIT = 256 * 1024
"""Bytes of the longest line, newline included."""
BLOCK = 1 << 20
"""Bytes read at once; a multiple of LIMIT, so that a block always holds a whole line."""
SEAL = len(',"c":"00000000"}')
"""Bytes after the part of a line that its CRC covers."""
REPAIR_HINT = "Nothing was written. To see what can be saved: fleet ledger repair"

_encode = json.Encoder().encode
_HEAD = json.Decoder(Envelope)
decode_head = _HEAD.decode
decode_heads = _HEAD.decode_lines
"""Both raise a ValueError for what is no record: bad JSON, another shape, or not UTF-8."""
_decoders: dict[tuple[str, int], Callable[[bytes], Event]] = {}
_quoted: dict[str, str] = {}
_WORDS = {word: word.encode() for word in EVENTS}


class Position(Struct):
    """Where a reader stands: after `seq` records, `offset` bytes into `segment`."""

    segment: int = 1
    offset: int = 0
    seq: int = 0
    chain: int = 0
    """CRC that seeds the next record's."""


class Stamp:
    """Writes seconds since the epoch as `2026-11-21T06:25:58.123456Z`; a second is formatted once.

    strftime costs 2 µs, which is more than the rest of a header.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._text}{int((now - second) * 1_000_000):06d}Z"


stamp = Stamp()


def _quote(text: str) -> str:
    """`text` as a JSON string; the few distinct ones of a process are kept."""
    found = _quoted.get(text)
    if found is None:
        if len(_quoted) > 1000:
            _quoted.clear()
        found = _quoted[text] = json.encode(text).decode()
    return found


def middle_of(ts: str, version: int, run: str, by: str, key: str) -> bytes:
    """The part of a line between its number and its payload."""
    of_run = f'"run":{_quote(run)},' if run else ""
    named = f'"id":{_quote(key)},' if key else ""
    return f',"ts":"{ts}","v":{version},{of_run}{named}"by":{_quote(by)},"d":'.encode()


def seal(event: Event, seq: int, middle: bytes, chain: int) -> tuple[bytes, int]:
    """The line of an event, with its newline, and the chain value after it.

    Raises FleetError where the line would be longer than LIMIT.
    """
    body = b'{"k":"%b","seq":%d%b%b' % (_WORDS[event.word], seq, middle, _encode(event))
    chain = crc32(body, chain)
    line = b'%b,"c":"%08x"}\n' % (body, chain)
    if len(line) > LIMIT:
        raise FleetError(
            f"a {event.word} record of {len(line):,} bytes is longer than the ledger's lines may "
            f"be ({LIMIT:,}).",
            "Make its texts shorter, or split its tasks.",
            code="too_large",
        )
    return line, chain


def follow_chain(lines: list[bytes], chain: int) -> tuple[int, int]:
    """How many of `lines` (without newlines) continue the chain, and the chain value after them.

    Each CRC is seeded with the one that the line before states: where all hold, the chain does. So
    nothing is done line by line in Python, and all seals are compared as one string.
    """
    seals = b"".join([line[-SEAL:] for line in lines])
    try:
        stated = array("I", bytes.fromhex(seals.decode().replace(',"c":"', "").replace('"}', "")))
    except ValueError:
        return _follow_slowly(lines, chain)
    if byteorder == "little":
        stated.byteswap()
    values = stated.tolist()
    bodies = [line[:-SEAL] for line in lines]
    if seals == _seals(stated) and values == list(map(crc32, bodies, [chain, *values])):
        return len(lines), values[-1] if values else chain
    return _follow_slowly(lines, chain)


def _follow_slowly(lines: list[bytes], chain: int) -> tuple[int, int]:
    """The same, line by line, up to the one that does not follow."""
    for good, line in enumerate(lines):
        value = crc32(line[:-SEAL], chain)
        if line[-SEAL:] != b',"c":"%08x"}' % value:
            return good, chain
        chain = value
    return len(lines), chain


def _seals(values: "array[int]") -> bytes:
    words = values[:]
    if byteorder == "little":
        words.byteswap()
    digits = words.tobytes().hex(" ", 4).encode()
    return b',"c":"' + digits.replace(b" ", b'"},"c":"') + b'"}' if values else b""


def stated_chain(line: bytes) -> int | None:
    """The CRC that a line states, or None where it has no seal."""
    if line[-SEAL : -SEAL + 6] != b',"c":"' or line[-2:] != b'"}':
        return None
    try:
        return int(line[-10:-2], 16)
    except ValueError:
        return None


def follows(line: bytes, before: bytes) -> bool:
    """Whether `line` is a whole record whose seal continues the one that `before` states."""
    seed = stated_chain(before)
    if seed is None or stated_chain(line) != crc32(line[:-SEAL], seed):
        return False
    try:
        decode_head(line)
    except ValueError:
        return False
    return True


def payload_of(head: Envelope) -> Event:
    """The event of a record; FleetError (exit 5) where a newer version wrote it."""
    decode = _decoders.get((head.k, head.v)) or _decoder(head)
    try:
        return decode(head.d)
    except ValueError as error:
        raise Damaged(
            f"record {head.seq:,} ({head.k}) has a payload that does not fit its word: {error}.",
            REPAIR_HINT,
        ) from error


def _decoder(head: Envelope) -> Callable[[bytes], Event]:
    kind = EVENTS.get(head.k)
    if kind is None:
        raise newer(f'record {head.seq:,} is a "{head.k}", which this version does not know')
    if head.v > kind.payload_version:
        raise newer(f"record {head.seq:,} is version {head.v} of {head.k}")
    decode = json.Decoder(kind).decode
    _decoders[head.k, head.v] = decode
    return decode


def newer(what: str) -> FleetError:
    """The refusal to read what a newer version wrote."""
    return FleetError(
        f"this ledger was made by a newer version of fleet: {what}.",
        "Nothing was written. Use that version here; fleet --version tells this one.",
        exit_code=5,
        code="ledger",
    )


def format_of(line: bytes) -> int:
    """The file format that a first line states; FORMAT where it states none that can be read."""

    class Body(Struct):
        format: int = FORMAT

    class First(Struct):
        k: str
        d: Body

    try:
        first = json.decode(line, type=First)
    except ValueError:
        return FORMAT
    return first.d.format if first.k == "fleet.initialized" else FORMAT
