"""Small real file systems that a test may fill: a tmpfs, or an ext4 in a file.

They are mounted in a mount namespace of this process and its children alone, so nothing of them is
left on the machine however the tests end. Needs root, or a user namespace.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.surroundings import own_mounts

_private = False


def be_private() -> None:
    """From now on what this process mounts is seen by its children and nobody else."""
    global _private
    if _private:
        return
    try:
        own_mounts()
    except OSError as error:
        raise AssertionError(
            "this test mounts a small file system in a namespace of its own and could not "
            f"({error}): run it as root, or: unshare -rm scripts/test"
        ) from None
    _private = True


@contextmanager
def small_disk(folder: Path, kind: str, size: int) -> Iterator[Path]:
    """A file system of `size` bytes at `folder`: tmpfs or ext4."""
    be_private()
    folder.mkdir()
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder))
    else:
        image = folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-m", "0", "-b", "1024", "-O", "^has_journal", str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        _run("umount", "-l", str(folder))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"


def free(folder: Path) -> int:
    """Bytes that may still be written."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder: Path, leave: int = 0) -> Path:
    """Write a file until the disk is full (that it is, is checked), or so many bytes are left."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        if leave:
            while free(folder) > leave:
                file.write(b"x" * min(4096, max(1, free(folder) - leave)))
            return ballast
        for size in (65536, 4096, 512, 1):
            while True:
                try:
                    if file.write(b"x" * size) < size:
                        break
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    break
    assert free(folder) == 0
    return ballast
