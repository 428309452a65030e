"""The repository of a confined attempt's directory: what of it the attempt sees, and how git is
called for what it left.

Inside, the repository is read-only; the attempt has a copy of the worktree's own entry in it, and a
directory for new objects that stands where those of the repository are and names them in
`info/alternates`. So status, add, diff and commit work; branches cannot be moved. Promises: nothing
of the repository is writable, nor what says where it is; nobody else's git meets what the attempt
committed, nor misses it; the fleet's git never reads the attempt's index or objects as what it
began with, and runs where filters and drivers that the attempt wrote reach nothing: no network, no
home, no fleet, nothing writable but where the patch is made. It does not know what is in a patch.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import git, sandbox, workspace
from codewhale_fleet.worker.mounts import Mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BASE = ".base"
"""How the repository's own objects are seen inside, beside the directory."""
_META, _NEW = "/meta", "/objects"
"""Of the attempt's: its entry as a worktree, and what it adds."""
_OF_A_USER = ("~/.gitconfig", "~/.config/git")
_DEPTH = 5


def prepare(directory: str, record: workspace.Record) -> None:
    """Makes what the attempt's own git will write to."""
    if record["kind"] != "worktree":
        return
    from codewhale_fleet.worker import copying

    own = directory + workspace.COMMITS
    os.makedirs(own + _NEW + "/info", 0o700)
    os.mkdir(own + _NEW + "/pack", 0o700)
    places = [directory + _BASE, *_alternates(os.path.realpath(record["common"]) + "/objects", 0)]
    with open(own + _NEW + "/info/alternates", "wb") as file:
        file.write(b"".join(os.fsencode(place) + b"\n" for place in places))
    copying.Copier(os.path.dirname(directory)).tree(record["meta"], own + _META)


def index_of(directory: str, record: workspace.Record) -> str:
    """The index that the attempt itself has written to."""
    own = directory + workspace.COMMITS + _META
    return (own if record.get("confined") else record["meta"]) + "/index"


def _alternates(objects: str, depth: int) -> list[str]:
    """Where a repository has further objects, by absolute names."""
    try:
        with open(objects + "/info/alternates", "rb") as file:
            lines = os.fsdecode(file.read()).split("\n")
    except OSError:
        return []
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            place = os.path.normpath(os.path.join(objects, line.strip('"')))
            found += [place, *(_alternates(place, depth + 1) if depth < _DEPTH else ())]
    return found


def inside(directory: str, record: workspace.Record) -> dict[str, Any]:
    """What a plan says of the directory to whoever makes a sandbox around it."""
    written, shown = [(directory, directory)], []
    if record.get("kind") == "worktree":
        common, meta = os.path.realpath(record["common"]), os.path.realpath(record["meta"])
        objects = os.path.realpath(common + "/objects")
        own = directory + workspace.COMMITS
        written += [(own + _META, meta), (own + _NEW, objects)]
        shown += [(common, common), (objects, directory + _BASE)]
        shown += [(place, place) for place in _alternates(objects, 0)]
        shown.append((directory + "/.git", directory + "/.git"))
    return {
        "directory": directory,
        "written": written,
        "shown": [(source, path) for source, path in shown if os.path.exists(source)],
    }


def confine_git(directory: str, record: workspace.Record, writes: list[str]) -> None:
    """From now on this process's gits run where what the attempt wrote reaches nothing.

    Raises git.Refusal where that cannot be.
    """
    mounts = Mounts()
    environ = dict(os.environ)
    for path in ("/tmp", "/run", *sandbox.homes(environ)):
        mounts.hide(path)
    for path in sandbox.real(_OF_A_USER, environ):
        mounts.read(path)
    fleet = os.path.dirname(os.path.dirname(os.path.dirname(directory)))
    mounts.hide(fleet)
    common = record.get("common", "")
    places = [directory, common, *(_alternates(common + "/objects", 0) if common else ())]
    for path in filter(None, places):
        mounts.read(os.path.realpath(path))
    for path in writes:
        mounts.write(os.path.realpath(path))
    try:
        git.prefix[:] = [*sandbox.shut(environ, mounts), "--"]
    except sandbox.Unconfined as reason:
        raise git.Refusal(f"what it left cannot be read outside a sandbox: {reason}") from None
