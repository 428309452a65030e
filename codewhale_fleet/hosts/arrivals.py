"""What a host sends beside its facts, on its way into the fleet's directory: files, pieces of logs.

Promises: nothing is written but logs, and evidence under its true digest; a file has its name only
when it is whole, and half a file is none. It knows frames, not the road they come on.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import json

from ..worker import frames
from ..worker.protocol import Broken
from ..worker.relay import evidence_path, log_path


class Arrivals:
    """Of one stream, whose frames come one after the other."""

    def __init__(self, fleet_dir: Path) -> None:
        self._fleet_dir = fleet_dir
        self._file = -1
        self._path = ""
        self._parts: list[tuple[int, int]] = []

    def close(self) -> None:
        """Nothing more comes."""
        if self._file >= 0:
            os.close(self._file)

    def file(self, frame: frames.Frame, piece: bytes) -> None:
        """A file of a fact that follows; its parts come in order."""
        if not piece:
            self._path = _checked(frame.fields.get("path"))
            self._parts = frames.parts_of(frame.fields)
            self._file = _opened(self._fleet_dir / f"{self._path}.coming", os.O_TRUNC)
            os.ftruncate(self._file, int(frame.fields["size"]))
        self._write(self._file, piece)
        if not frame.left:
            os.close(self._file)
            self._file = -1
            self._name()
            _state_hole(self._fleet_dir / self._path, frame.fields)

    def tail(self, frame: frames.Frame, piece: bytes) -> bytes | None:
        """A piece of a log that is still being written; what is to be said when it has come.

        That is the question for the next piece, or the line for the manager that this was all.
        """
        fields = frame.fields
        path = self._fleet_dir / log_path(fields.get("path"))
        if not piece:
            self._parts = frames.parts_of(fields)
            if self._parts:
                _state_hole(path, fields)
        else:
            fd = _opened(path)
            try:
                self._write(fd, piece)
            finally:
                os.close(fd)
        if frame.left:
            return None
        offset, count = int(fields.get("offset", 0)), int(fields.get("count", 0))
        if count and offset + count < int(fields["size"]):
            told = {name: fields[name] for name in ("attempt", "path", "last")}
            return tail_of({**told, "offset": offset + count})
        if fields.get("last"):
            return json.encode({"m": "tailed", "attempt": fields["attempt"]}) + b"\n"
        return None

    def _write(self, fd: int, piece: bytes) -> None:
        while piece:
            offset, count = self._parts[0]
            written = os.pwrite(fd, piece[:count], offset)
            piece = piece[written:]
            self._parts[0] = (offset + written, count - written)
            if written == count:
                self._parts.pop(0)

    def _name(self) -> None:
        path = self._fleet_dir / self._path
        coming = Path(f"{path}.coming")
        if self._path.startswith("evidence/"):
            with coming.open("rb") as file:
                state = sha256()
                while chunk := file.read(frames.CHUNK):
                    state.update(chunk)
            if state.hexdigest() != path.name:
                coming.unlink()
                raise Broken("a file is not what its digest says")
        coming.rename(path)


def tail_of(fields: dict[str, Any]) -> bytes:
    """The question for the next piece of a log."""
    return frames.line_of("tail", {**fields, "count": frames.CHUNK})


def _checked(path: object) -> str:
    if isinstance(path, str) and path.startswith("evidence/"):
        return evidence_path(path[len("evidence/") :])
    return log_path(path)


def _opened(path: Path, more: int = 0) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | more, 0o600)


def _state_hole(path: Path, fields: dict[str, Any]) -> None:
    """What was dropped from the middle of a log, where `worker/logs.py` looks for it."""
    if isinstance(hole := fields.get("hole"), list):
        path.with_name(path.name + ".hole").write_bytes(json.encode({"hole": hole}))
