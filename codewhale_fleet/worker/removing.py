"""Removing the directory of an attempt, and all that git and the fleet keep about it.

Promises: nothing outside `worktrees/` goes, whatever links say; no link is followed; a worktree
goes through git, and where git cannot do it, its entry in the repository goes with the directory,
if it still names this directory and no other; twice is harmless. Whether it may go is for others to
say.
"""

from __future__ import annotations

import os
import stat

from codewhale_fleet.worker import emptying, git, workspace

PLACE = "worktrees"


def remove(directory: str) -> None:
    """Remove FLEET/worktrees/RUN/NAME and what lies beside it; Refusal where that is none."""
    run, name = os.path.split(directory)
    place = os.path.dirname(run)
    if os.path.basename(place) != PLACE or not name or ".." in (name, os.path.basename(run)):
        raise git.Refusal(f"{directory} is no directory of an attempt")
    for path in (place, run):
        if os.path.islink(path):
            raise git.Refusal(f"{path} is a link, and not followed")
    if not os.path.isdir(run):
        return
    if os.path.islink(directory):
        os.unlink(directory)
    elif os.path.lexists(directory):
        _remove_worktree(directory, workspace.read_record(directory))
    folder = os.open(run, emptying.FOLDER)
    try:
        for beside in sorted(os.listdir(folder)):
            if _is_beside(beside, name):
                _remove(beside, folder)
    finally:
        os.close(folder)
    for path in (run, place):
        try:
            os.rmdir(path)
        except OSError:  # others are in it
            return


def set_aside(directory: str) -> str:
    """Give a directory, and what lies beside it, another name; the repository forgets it.

    From now on its name is free for another one, while the rest of it is removed by the new name.
    """
    run, name = os.path.split(directory)
    record = workspace.read_record(directory)
    fresh = f"{name}.going.{os.getpid()}"
    folder = os.open(run, emptying.FOLDER)
    try:
        for entry in sorted(os.listdir(folder)):
            if entry == name or _is_beside(entry, name):
                new = fresh + entry[len(name) :]
                os.rename(entry, new, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)
    _forget(record.get("meta") or _meta_of(f"{run}/{fresh}"), directory)
    return f"{run}/{fresh}"


def _is_beside(entry: str, name: str) -> bool:
    rest = entry[len(name) :]
    return entry.startswith(name) and any(
        rest == end or rest.startswith(end + ".") for end in workspace.BESIDE
    )


def _remove_worktree(directory: str, record: workspace.Record) -> None:
    common, meta = record.get("common"), record.get("meta") or _meta_of(directory)
    if common and os.path.isdir(common) and not record.get("confined"):
        words = ["--git-dir", common, "worktree", "remove", "--force", "--force", directory]
        try:
            git.run(words)
        except git.Refusal:  # no git: its entry goes below
            pass
    if os.path.lexists(directory):
        run, name = os.path.split(directory)
        folder = os.open(run, emptying.FOLDER)
        try:
            _remove(name, folder)
        finally:
            os.close(folder)
    _forget(meta, directory)


def _forget(meta: str, directory: str) -> None:
    """Remove the entry of a worktree in its repository, if it is this directory's."""
    if meta and _names(meta, directory):
        above, entry = os.path.split(meta)
        folder = os.open(above, emptying.FOLDER)
        try:
            _remove(entry, folder)
        finally:
            os.close(folder)


def _meta_of(directory: str) -> str:
    """The entry in a repository that a worktree's `.git` points to."""
    try:
        with open(directory + "/.git", "rb") as file:
            text = os.fsdecode(file.read(4096)).strip()
    except OSError:
        return ""
    return text.removeprefix("gitdir: ") if text.startswith("gitdir: ") else ""


def _names(meta: str, directory: str) -> bool:
    """Is this a worktree's entry in a repository, and of this directory?"""
    if os.path.basename(os.path.dirname(meta)) != PLACE:
        return False
    try:
        with open(meta + "/gitdir", "rb") as file:
            return os.fsdecode(file.read(4096)).strip() == directory + "/.git"
    except OSError:
        return False


def _remove(name: str, folder: int) -> None:
    """A file, a link, or a directory with all that is in it, of an open directory."""
    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(facts.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    for _ in emptying.piecewise(f"/proc/self/fd/{folder}/{name}"):
        continue
