"""The stream between a connector and a relay: a runtime's lines as they are, and files between.

A line that begins with `!` belongs to the two themselves: a word, a JSON object, and where the
object has `parts`, that many raw bytes behind it. Everything else is passed on and not read.
Promises: bytes may arrive in any pieces; a file's holes are not sent; a frame that is too long
or no JSON is `Broken`. It opens nothing by itself but what `extents` is given.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import codec, limits
from codewhale_fleet.worker.protocol import Broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MARK = b"!"
CHUNK = 256 * 1024
"""Bytes of a file that are in memory at once."""


class Frame:
    """A word of the two, and as many raw bytes as `left` says behind it."""

    __slots__ = ("fields", "left", "word")

    def __init__(self, word: str, fields: dict[str, Any]) -> None:
        self.word = word
        self.fields = fields
        self.left = sum(count for _, count in parts_of(fields))


def parts_of(fields: dict[str, Any]) -> list[tuple[int, int]]:
    """(offset, count) of the pieces of a file that follow."""
    found = []
    for part in fields.get("parts") or ():
        offset, count = part
        if type(offset) is not int or type(count) is not int or offset < 0 or count < 0:
            raise Broken("a part of a file is an offset and a count")
        found.append((offset, count))
    return found


class Lines:
    """Whole lines out of pieces; however long one is, each byte of it is moved once."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def receive(self, data: bytes) -> bytes:
        """All that is whole by now, with its last line end; empty where nothing is."""
        at = data.rfind(b"\n") + 1
        if not at:
            self._hold(data)
            return b""
        whole = data[:at]
        if self._held:
            self._held += whole
            whole = bytes(self._held)
            self._held.clear()
        self._hold(data[at:])
        return whole

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > limits.LINE_BYTES:
            raise Broken(f"a message is longer than {limits.LINE_BYTES} bytes")


class Reader:
    """One direction of the stream. What is held is the beginning of a line, never its end."""

    __slots__ = ("_frame", "_held")

    def __init__(self) -> None:
        self._held = bytearray()
        self._frame: Frame | None = None

    def receive(self, data: bytes) -> Iterator[tuple[Frame | None, bytes]]:
        """(None, whole lines that are not ours) or (frame, a piece of what follows it).

        A frame comes once with an empty piece, before its first byte.
        """
        if self._held and b"\n" in data:
            self._held += data
            data = bytes(self._held)
            self._held.clear()
        while data and not self._held:
            frame = self._frame
            if frame is not None:
                piece, data = data[: frame.left], data[frame.left :]
                frame.left -= len(piece)
                if not frame.left:
                    self._frame = None
                yield frame, piece
                continue
            if data.startswith(MARK):
                line, newline, rest = data.partition(b"\n")
                if not newline:
                    break
                data = rest
                frame = frame_of(line)
                if frame.left:
                    self._frame = frame
                yield frame, b""
                continue
            at = data.find(b"\n!")
            at = at if at >= 0 else data.rfind(b"\n")
            if at < 0:
                break
            yield None, data[: at + 1]
            data = data[at + 1 :]
        self._held += data
        if len(self._held) > limits.LINE_BYTES:
            raise Broken(f"a message is longer than {limits.LINE_BYTES} bytes")


def frame_of(line: bytes) -> Frame:
    """One line of the two."""
    word, _, text = line[1:].partition(b" ")
    try:
        fields = codec.decode(text)
    except ValueError as error:
        raise Broken(f"a frame is not JSON: {error}") from None
    if type(fields) is not dict or not word.isalpha():
        raise Broken("a frame is a word and an object")
    try:
        return Frame(word.decode(), fields)
    except (TypeError, ValueError):
        raise Broken("a part of a file is an offset and a count") from None


def line_of(word: str, fields: dict[str, Any]) -> bytes:
    """The line that begins a frame."""
    return MARK + word.encode() + b" " + codec.encode(fields)


def extents(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, count) of what a file holds between its holes."""
    found = []
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, at, os.SEEK_HOLE)
        except OSError:  # nothing but a hole up to its end
            break
        end = min(end, size)
        if end > at:
            found.append((at, end - at))
        at = end
    return found


def pieces(fd: int, parts: list[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of these parts; what has gone from the file meanwhile reads as zeros."""
    for offset, count in parts:
        at, end = offset, offset + count
        while at < end:
            data = os.pread(fd, min(end - at, CHUNK), at) or bytes(min(end - at, CHUNK))
            yield data
            at += len(data)
