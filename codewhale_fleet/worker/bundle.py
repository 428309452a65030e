"""Files of a workspace that travel: a manifest of paths, and contents by their digests.

A manifest is JSON: `files`, a list of [path, mode, sha256], and `links`, a list of [path, where it
leads]. Promises: what is laid out lies below the target whatever a manifest says (no absolute path,
no `..`, no link that leads out, nothing written through a link, nothing of a fleet's own), and
every file is what its digest says. It does not know who chose the files.
"""

from __future__ import annotations

import os
from hashlib import sha256

from codewhale_fleet.worker import codec
from codewhale_fleet.worker.git import Refusal
from codewhale_fleet.worker.launch import FOR_WANT_OF_MEANS, blame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

KIND = "bundle"
"""Of an attempt's own directory that holds nothing but a bundle, and leaves no patch."""
STORES = ("inputs", "evidence")
"""Where contents lie, below a fleet's directory: what was carried here, and what was kept here."""
FILES, BYTES, FILE_BYTES = 20_000, 1 << 30, 1 << 30
"""The most that a bundle holds: files, and bytes in all."""
_NEVER = frozenset((".fleet",))
_MANIFEST_BYTES = 64 << 20
_CHUNK = 1 << 20
_HEX = frozenset("0123456789abcdef")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def manifest_of(data: bytes) -> tuple[list[Any], list[Any]]:
    """(files, links) of a manifest, every path checked; Refusal where something is wrong."""
    try:
        found = codec.decode(data)
        files, links = found["files"], found["links"]
        for path, mode, digest in files:
            check_path(path)
            if type(mode) is not int or not 0 <= mode <= 0o777:
                raise Refusal(f"the mode of {path} in its bundle is none")
            check_digest(digest)
        for path, leads in links:
            check_path(path)
            check_link(path, leads)
    except (ValueError, TypeError, KeyError):
        raise Refusal("the list of its bundle's files is damaged") from None
    paths = {one[0] for one in (*files, *links)}
    if len(paths) != len(files) + len(links):
        raise Refusal("its bundle names a file twice")
    for path in paths:
        if any(above in paths for above in _above(path)):
            raise Refusal(f"{path} of its bundle lies below a file")
    return files, links


def digests(data: bytes) -> list[str]:
    """Of all contents that a manifest names."""
    return list(dict.fromkeys(digest for _, _, digest in manifest_of(data)[0]))


def check_path(path: object) -> None:
    """Refusal where a path does not stay below the place where it is laid."""
    if type(path) is not str or not path or path.startswith("/") or "\0" in path:
        raise Refusal(f"{_shown(path)} is no path of a bundle")
    parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or not _NEVER.isdisjoint(parts):
        raise Refusal(f"{_shown(path)} is no path of a bundle")


def check_link(path: str, leads: object) -> None:
    """Refusal where a link does not stay below the place where it is laid."""
    if type(leads) is not str or not leads or leads.startswith("/") or "\0" in leads:
        raise Refusal(f"the link {_shown(path)} of a bundle leads out of it")
    depth = path.count("/")
    for part in leads.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            raise Refusal(f"the link {_shown(path)} of a bundle leads out of it")


def check_digest(digest: object) -> None:
    """Refusal where something is no SHA-256 in hex."""
    if type(digest) is not str or len(digest) != 64 or not _HEX.issuperset(digest):
        raise Refusal("a digest has 64 hexadecimal digits")


def _above(path: str) -> Iterator[str]:
    at = path.rfind("/")
    while at > 0:
        yield path[:at]
        at = path.rfind("/", 0, at)


def _shown(path: object) -> str:
    text = "".join(sign if sign.isprintable() else "?" for sign in str(path))
    return text if len(text) <= 80 else text[:79] + "…"


def lay(fleet: str, manifest: str, target: str, cwd: str = ".") -> None:
    """Makes `target`, a new directory, of the bundle whose manifest has that digest.

    `cwd`, a path below it, is there in any case.
    """
    check_digest(manifest)
    files, links = manifest_of(b"".join(_contents(fleet, manifest, "the list of its files")))
    made = {""}
    try:
        os.mkdir(target, 0o700)
        if cwd != ".":
            check_path(cwd)
            os.makedirs(os.path.join(target, cwd))
        for path, mode, digest in sorted(files):
            _make_above(target, path, made)
            fd = os.open(os.path.join(target, path), _MAKE, 0o600)
            try:
                for piece in _contents(fleet, digest, path):
                    data = piece
                    while data:
                        data = data[os.write(fd, data) :]
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        for path, leads in links:  # last: nothing is written through one of them
            _make_above(target, path, made)
            os.symlink(leads, os.path.join(target, path))
    except OSError as error:
        words = f"its bundle cannot be laid out: {error.strerror}"
        raise Refusal(blame(error) + words) from None


def _make_above(target: str, path: str, made: set[str]) -> None:
    folder = path.rpartition("/")[0]
    if folder not in made:
        os.makedirs(os.path.join(target, folder), exist_ok=True)
        made.add(folder)


def _contents(fleet: str, digest: str, name: str) -> Iterator[bytes]:
    """A file by its digest, in pieces; Refusal where it is not here, or not what it was."""
    fd = -1
    for store in STORES:
        try:
            fd = os.open(f"{fleet}/{store}/{digest}", _READ)
            break
        except FileNotFoundError:
            continue
    if fd < 0:
        raise Refusal(f"{FOR_WANT_OF_MEANS}{_shown(name)} of its bundle has not come here")
    state = sha256()
    try:
        while data := os.read(fd, _CHUNK):
            state.update(data)
            yield data
    finally:
        os.close(fd)
    if state.hexdigest() != digest:
        raise Refusal(f"{FOR_WANT_OF_MEANS}{_shown(name)} of its bundle is damaged here")
