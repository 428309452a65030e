"""Answers kept for as long as the ledger has not changed.

An answer is kept under the ledger's device, inode and size: an append-only file of the same size is
the same file. It is a pure cache: whatever goes wrong with it, the answer is computed anew. This
module imports nothing but `os`, so that an unchanged `fleet status` costs a stat and a read.
"""

import os

CACHED = "cache/status.json"
"""Where answers lie, below the fleet directory."""
MAX_KEY = 512
"""Bytes of the longest key that is kept."""


def identity(fleet_dir: str | os.PathLike[str]) -> str:
    """What the ledger is now: device, inode and size; empty where there is none."""
    try:
        found = os.stat(os.path.join(fleet_dir, "fleet.jsonl"))  # noqa: PTH116, PTH118
    except OSError:
        return ""
    return f"{found.st_dev}.{found.st_ino}.{found.st_size}"


def read_cached(fleet_dir: str | os.PathLike[str], key: str) -> bytes | None:
    """The answer that was kept for `key` if the ledger is still the same, else None."""
    now = identity(fleet_dir)
    if not now:
        return None
    try:
        descriptor = os.open(_path(fleet_dir, key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    head, _, answer = data.partition(b"\n")
    if head != _head(now, key, answer):
        return None
    return answer


def write_cached(
    fleet_dir: str | os.PathLike[str], key: str, answer: bytes, ledger_identity: str
) -> bool:
    """Keep an answer that was computed from the ledger as `Ledger.identity()` names it.

    Returns whether it was kept; a full disk or a read-only directory is no error here.
    """
    if not ledger_identity or len(key) > MAX_KEY:
        return False
    path = _path(fleet_dir, key)
    fresh = f"{path}.{os.getpid()}"
    data = _head(ledger_identity, key, answer) + b"\n" + answer
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            whole = os.write(descriptor, data) == len(data)
        finally:
            os.close(descriptor)
        if whole:
            os.replace(fresh, path)  # noqa: PTH105
        else:
            os.unlink(fresh)  # noqa: PTH108
    except OSError:
        return False
    return whole


def _path(fleet_dir: str | os.PathLike[str], key: str) -> str:
    """Where the answer for `key` lies: one file for the plain status, one for each other key."""
    path = os.path.join(fleet_dir, CACHED)  # noqa: PTH118
    if key == "status":
        return path
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in key)
    return f"{path[:-5]}-{name[:100]}.json"


def _head(ledger_identity: str, key: str, answer: bytes) -> bytes:
    return f"{ledger_identity} {len(answer)} {key!a}".encode()
