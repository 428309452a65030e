"""Indexes and objects of the fleet's own, for comparing an attempt's directory with its beginning.

Promises: neither the directory's own index nor its `.git` is relied upon, because they are the
attempt's; new objects stay beside the directory, and go with it. It does not know what is compared.
"""

from __future__ import annotations

import os
import stat

from codewhale_fleet.worker import git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HIDDEN, OBJECTS, INDEX = ".git", ".objects", ".index"
"""Beside a directory: the git directory of a copy, new objects, the index that it began with."""
_PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def tree_with(directory: str, record: dict[str, Any], brought: list[str]) -> str:
    """The tree of the base with these files in it: they are no change of the attempt's."""
    more = git_of(directory, record, INDEX)
    where = ["-C", directory]
    try:
        git.text([*where, "read-tree", record["base"]], "its base cannot be read", more)
        take(directory, brought, more)
        return git.line([*where, "write-tree"], "its base cannot be written", more)
    finally:
        if os.path.exists(directory + INDEX):
            os.unlink(directory + INDEX)


def take(directory: str, paths: list[str], more: dict[str, str]) -> None:
    """These files into the index, even those that git is told to ignore."""
    given = "\0".join(paths).encode("utf-8", "surrogateescape")
    words = ["-C", directory, "add", "-f", "--pathspec-from-file=-", "--pathspec-file-nul"]
    literally = {**more, "GIT_LITERAL_PATHSPECS": "1"}
    git.text(words, "its files cannot be taken in", literally, given)


def git_of(directory: str, record: dict[str, Any], index: str) -> dict[str, str]:
    """The variables by which git compares a directory with what it was made of.

    Neither the worktree's own index nor its `.git` is relied upon: they are the attempt's. New
    objects stay beside the directory, and go with it.
    """
    made = {"GIT_WORK_TREE": directory, "GIT_INDEX_FILE": directory + index}
    if record["kind"] == "copy":
        return {**made, "GIT_DIR": directory + HIDDEN}
    objects = directory + OBJECTS
    os.makedirs(objects, 0o700, exist_ok=True)
    shared = record["common"] + "/objects"
    quoted = '"' + shared.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return {
        **made,
        "GIT_DIR": record["common"],
        "GIT_OBJECT_DIRECTORY": objects,
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted,
    }


def copied(source: str, target: str) -> bool:
    """An index with the times that git compares with; False where there is none."""
    try:
        fd = os.open(source, _READ)
    except OSError:
        return False
    with open(fd, "rb") as reader:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            return False
        with open(target, "wb") as writer:
            while data := reader.read(_PIECE):
                writer.write(data)
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return True
