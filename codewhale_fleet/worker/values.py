"""The values of runs' environments: in memory only, yet they outlive a killed runtime.

They stand as JSON lines in an anonymous memory file whose descriptor the keeper holds.
Promises: the last complete line of a run counts; nothing of it reaches a disk (but swap).
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import codec, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Values:
    """Made by the keeper before its first fork, used by the runtime."""

    __slots__ = ("_fd", "_size")

    def __init__(self) -> None:
        self._size = 0
        try:
            self._fd = os.memfd_create("fleet-values", os.MFD_CLOEXEC)
        except (AttributeError, OSError):  # then they are asked for again after a kill
            self._fd = -1

    def read(self) -> dict[str, dict[str, Any]]:
        """{"umask", "values"} by run."""
        found: dict[str, dict[str, Any]] = {}
        if self._fd < 0:
            return found
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        self._size = data.rfind(b"\n") + 1
        for line in data[: self._size].splitlines():
            entry = codec.decode(line)
            if entry["given"] is None:
                found.pop(entry["run"], None)
            else:
                found[entry["run"]] = entry["given"]
        return found

    def keep(self, run: str, given: dict[str, Any]) -> None:
        """Replaces what is kept for `run`."""
        self._write(run, given)

    def drop(self, run: str) -> None:
        """Nothing is kept for `run` any more."""
        self._write(run, None)

    def _write(self, run: str, given: dict[str, Any] | None) -> None:
        if self._fd < 0:
            return
        if self._size > limits.VALUES_BYTES:
            self._drop_replaced()
        self._append(run, given)

    def _append(self, run: str, given: dict[str, Any] | None) -> None:
        data = codec.encode({"run": run, "given": given})
        at = self._size
        while data:
            sent = os.pwrite(self._fd, data, at)
            at += sent
            data = data[sent:]
        self._size = at

    def _drop_replaced(self) -> None:
        """A kill in here loses values; runs then wait until they are given again."""
        latest = self.read()
        os.ftruncate(self._fd, 0)
        self._size = 0
        for run, given in latest.items():
            self._append(run, given)
