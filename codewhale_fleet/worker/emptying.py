"""Removing a directory with all that a task has put in it, however deep and with whatever rights.

Promises: no link is followed; no depth is too deep, because what lies far below is moved up before
it is removed, so that neither paths nor open directories grow; other work has its turn in between;
one that was interrupted can be begun again. It does not know whose the directory is.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 100
"""Entries removed before other work has its turn."""
_LONG = 1024
"""Bytes of a path from where on what lies below is moved up."""


def piecewise(directory: str) -> Generator[None, None, None]:
    """Remove a directory and all that is in it, so many entries at a time; no link is followed."""
    todo, removed = [directory], 0
    while todo:
        path = todo[-1]
        folder = _opened(path)
        is_long = len(os.fsencode(path[len(directory) :])) > _LONG
        inner = []
        try:
            for name in os.listdir(folder):
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=folder)
                    removed += 1
                    continue
                there = f"{path}/{name}"
                if is_long:
                    os.close(_opened(name, folder))
                    there = f"{directory}/{os.urandom(8).hex()}"
                    os.rename(name, there, src_dir_fd=folder)
                inner.append(there)
        finally:
            os.close(folder)
        if inner:
            todo += inner
        else:
            os.rmdir(path)
            todo.pop()
            removed += 1
        if removed >= _PIECE:
            removed = 0
            yield


def _opened(name: str, folder: int | None = None) -> int:
    """A directory that can be written from now on, opened."""
    try:
        found = os.open(name, FOLDER, dir_fd=folder)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=folder)
        found = os.open(name, FOLDER, dir_fd=folder)
    if os.fstat(found).st_mode & 0o700 != 0o700:  # what was made read-only, and is ours
        os.fchmod(found, 0o700)
    return found
