"""What the keeper has seen end: runtime/exits.jsonl, written by the keeper, read by the runtime.

A note is {"pid", "exit" or "signal", "session", "start" (boot clock), "cpu", "t" (boot clock)}.
Promises: a note is in the file before the process is reaped, so a pid that is gone either has
its note or was not the keeper's. It knows nothing of attempts.
"""

from __future__ import annotations

import os
import time

from codewhale_fleet.worker import codec, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def open_notes(directory: str) -> int:
    """The descriptor of the file, for writing and reading."""
    return os.open(os.path.join(directory, "exits.jsonl"), _FLAGS, 0o600)


def note_of(pid: int, code: int, status: int) -> bytes:
    """The line about a zombie, from what waitid(2) says and /proc still knows of it."""
    note: dict[str, Any] = {"pid": pid, ("exit" if code == os.CLD_EXITED else "signal"): status}
    facts = processes.facts_of(pid)
    if facts:
        note.update({"session": facts.session, "start": facts.start, "cpu": facts.cpu})
        if processes.is_inside(pid):
            note["inside"] = True
    note["t"] = time.clock_gettime(time.CLOCK_BOOTTIME)
    return codec.encode(note)


class Notes:
    """Reads the file from where it was left."""

    __slots__ = ("_at", "_fd")

    def __init__(self, directory: str) -> None:
        self._fd = open_notes(directory)
        self._at = 0

    def new(self) -> list[dict[str, Any]]:
        """The notes since the last call."""
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, max(size - self._at, 0), self._at)
        data = data[: data.rfind(b"\n") + 1]
        self._at += len(data)
        found: list[dict[str, Any]] = []
        for line in data.splitlines():
            try:
                note = codec.decode(line)
                found.append({"session": 0, "start": 0.0, **note})
            except (ValueError, TypeError):  # torn by a full disk
                continue
        return found

    def clear(self) -> None:
        """Nobody needs the notes so far."""
        os.ftruncate(self._fd, 0)
        self._at = 0
