"""What an attempt has changed in its own directory, as one patch against what it began with.

Promises: new, deleted, renamed and binary files and modes are in it, but nothing that `.gitignore`
leaves out; the directory, its index and its repository are not written to; what cannot be told in a
patch is said (`unsaved` of the record), so that the directory is kept. Commits that the attempt
made count as changes like any others. It does not judge, and it removes nothing but its own
scratch.
"""

from __future__ import annotations

import os
import stat

from codewhale_fleet.worker import copying, git, indexing, limits, seclusion, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIFF = ("diff-index", "--cached", "-p", "--binary", "--full-index", "-M", "--no-textconv",
         "--no-ext-diff", "--no-color")  # fmt: skip
_NESTED = (b"\n+Subproject commit ", b"\n-Subproject commit ")
_NO_FLEET = (":(exclude,glob)**/.fleet/**", ":(exclude,glob)**/.fleet")
_CHUNK = 1 << 20


def patch(directory: str) -> None:
    """Write `directory`.patch, if there is anything, and what is to be said into the record."""
    record = workspace.read_record(directory)
    record["patch"], record["unsaved"] = 0, ""
    try:
        if not record.get("tree"):
            raise git.Refusal("it is not known what its directory began with")
        if os.path.islink(directory) or not os.path.isdir(directory):
            raise git.Refusal("its directory was removed")
        _write(directory, record)
    except git.Refusal as reason:
        record["unsaved"] = str(reason)
    except OSError as error:
        record["unsaved"] = f"its patch cannot be written: {error.strerror}"
    workspace.write_record(directory, record)


def _write(directory: str, record: dict[str, Any]) -> None:
    index = f"{indexing.OBJECTS}/index.{os.getpid()}"
    os.makedirs(directory + indexing.OBJECTS, 0o700, exist_ok=True)
    if record.get("confined"):
        writes = [directory + end for end in (indexing.OBJECTS, indexing.HIDDEN)]
        seclusion.confine_git(directory, record, [path for path in writes if os.path.isdir(path)])
    temporary = f"{directory}{workspace.PATCH}.{os.getpid()}"
    more = indexing.git_of(directory, record, index)
    try:
        large = _take_in(directory, record, index, more)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            where = ["-C", directory]
            answer = git.begin([*where, *_DIFF, record["tree"]], more, out=fd).answer()
            if answer.status:
                raise git.failed("its patch cannot be made", answer)
            record["patch"] = os.fstat(fd).st_size
            if record.get("nested") or _is_nested(fd):
                record["unsaved"] = (
                    "changes inside repositories that lie in it are not in its patch"
                )
            elif filled := [one for one in record.get("modules", ()) if _has_files(directory, one)]:
                listed = workspace.listed(filled)
                record["unsaved"] = f"what lies in submodules ({listed}) is not in its patch"
            elif large and not record["unsaved"]:
                record["unsaved"] = (
                    f"files above {limits.PATCHED_FILE_BYTES:,} bytes ({workspace.listed(large)}) "
                    "are not in its patch"
                )
        finally:
            os.close(fd)
        if record["patch"] > limits.PATCH_BYTES:
            record["unsaved"] = (
                f"its patch takes {record['patch']:,} bytes, more than the {limits.PATCH_BYTES:,} "
                "that are kept of one"
            )
        if record["patch"]:
            os.replace(temporary, directory + workspace.PATCH)
    finally:
        for path in (directory + index, directory + index + ".lock", temporary):
            if os.path.exists(path):
                os.unlink(path)


def _take_in(directory: str, record: dict[str, Any], index: str, more: dict[str, str]) -> list[str]:
    """All files as they are now, into an index of our own; answers those that are too large.

    It begins as the directory's was before the attempt, whose times spare git from reading what has
    not changed; what the attempt made of its own is not believed.
    """
    where = copying.hidden(directory) if record["kind"] == "copy" else ["-C", directory]
    answer, large = None, list[str]()
    if indexing.copied(directory + indexing.INDEX, directory + index):
        answer, large = _added(directory, where, more)
    if answer is None or answer.status not in (0, 1):
        if os.path.exists(directory + index):
            os.unlink(directory + index)
        git.text(["-C", directory, "read-tree", record["tree"]], "its base cannot be read", more)
        answer, large = _added(directory, where, more)
    if answer.status not in (0, 1):
        raise git.failed("its changes cannot be read", answer)
    if answer.status:
        record["unsaved"] = f"not every file could be read: {answer.words}"
    brought = [path for path in record.get("brought", ()) if os.path.lexists(f"{directory}/{path}")]
    if record["kind"] == "worktree":
        brought += _forced(directory, record, index, more)
    if brought:
        indexing.take(directory, [one for one in brought if one not in large], more)
    return large


def _added(directory: str, where: list[str], more: dict[str, str]) -> tuple[git.Answer, list[str]]:
    """Takes in all that has changed, but for files that are too large, which are answered, too."""
    seen = ["ls-files", "-z", "-o", "-m", "--exclude-standard", "--", ".", *_NO_FLEET]
    listed = git.run([*where, *seen], more)
    names = listed.out.decode("utf-8", "surrogateescape").split("\0")
    large = [name for name in dict.fromkeys(names) if name and _is_large(f"{directory}/{name}")]
    words = [*where, "add", "-A", "--ignore-errors", "--sparse", "--pathspec-from-file=-"]
    rest = [".", *_NO_FLEET, *(f":(exclude,literal){name}" for name in large)]
    given = "\0".join(rest).encode("utf-8", "surrogateescape")
    return git.run([*words, "--pathspec-file-nul"], more, given), large


def _is_large(path: str) -> bool:
    try:
        facts = os.lstat(path)
    except OSError:  # it was deleted
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size > limits.PATCHED_FILE_BYTES


def _forced(directory: str, record: dict[str, Any], index: str, more: dict[str, str]) -> list[str]:
    """Files that git is told to ignore, and that the attempt has added all the same."""
    told = {**more, "GIT_INDEX_FILE": directory + index + ".own"}
    if not indexing.copied(seclusion.index_of(directory, record), told["GIT_INDEX_FILE"]):
        return []
    words = ["-C", directory, "ls-files", "-z", "-c", "-i", "--exclude-standard"]
    try:
        names = git.run([*words, "--", ".", *_NO_FLEET], told).out
    finally:
        os.unlink(told["GIT_INDEX_FILE"])
    paths = names.decode("utf-8", "surrogateescape").split("\0")
    return [path for path in paths if path and os.path.lexists(f"{directory}/{path}")]


def _has_files(directory: str, module: str) -> bool:
    """Whether a submodule, which was empty, has anything in it; git would pass over that."""
    path = os.path.join(directory, module)
    try:
        return not os.path.islink(path) and bool(os.listdir(path))
    except OSError:  # no directory any more: a change like any other
        return False


def _is_nested(fd: int) -> bool:
    os.lseek(fd, 0, os.SEEK_SET)
    tail = b""
    while data := os.read(fd, _CHUNK):
        text = tail + data
        if any(sign in text for sign in _NESTED):
            return True
        tail = text[-64:]
    return False
