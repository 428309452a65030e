"""What is to be seen at which path of a sandbox, as the fewest words for bubblewrap.

Promises: a path is mounted only where what lies above it does not already show it as it should be,
because every mount costs 0.3 ms; what was said to be written stays so, unless it is protected. It
looks at no disk.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import limits

_HIDE, _READ, _WRITE = "hide", "read", "write"


class Mounts:
    """What is to be seen at which path, written as the fewest words that show it."""

    def __init__(self) -> None:
        self._at: dict[str, tuple[str, str]] = {}

    def hide(self, path: str) -> None:
        """Nothing is there but an empty directory in memory."""
        self._at.setdefault(path, (_HIDE, ""))

    def read(self, path: str, source: str = "") -> None:
        """`source` (absent: the path itself) can be read there."""
        if self._at.get(path, (_HIDE, ""))[0] == _HIDE:
            self._at[path] = (_READ, source or path)

    def write(self, path: str, source: str = "") -> None:
        """`source` can be written there."""
        self._at[path] = (_WRITE, source or path)

    def protect(self, path: str) -> None:
        """It can be read there and nothing else, whatever was said of it before."""
        self._at[path] = (_READ, path)

    def conceal(self, path: str) -> None:
        """Nothing is there, whatever was said of it before; where nothing shows it, not even it."""
        if not self.hides(path):
            self._at[path] = (_HIDE, "")

    def hides(self, path: str) -> bool:
        """Is nothing to be seen where it is?"""
        while path != "/":
            if path in self._at:
                return self._at[path][0] == _HIDE
            path = os.path.dirname(path)
        return False

    def words(self, sized: bool) -> list[str]:
        """The arguments, what lies above first."""
        found: list[str] = []
        shown = {"/": (_READ, "/"), "/dev": (_HIDE, ""), "/proc": (_HIDE, "")}
        for path in sorted(self._at, key=lambda one: one.split("/")):
            kind, source = self._at[path]
            above = path
            while above not in shown or above == path:
                above = os.path.dirname(above)
            over, from_there = shown[above]
            inherited = from_there.rstrip("/") + path[len(above.rstrip("/")) :]
            if kind == _HIDE and over == _HIDE:
                found += ["--dir", path]
                continue
            if kind == over and source == inherited:
                continue
            shown[path] = kind, source
            if kind == _HIDE:
                size = ["--size", str(limits.SANDBOX_TMP_BYTES)] if sized else []
                found += [*size, "--tmpfs", path]
            else:
                found += ["--ro-bind" if kind == _READ else "--bind", source, path]
        return found
