"""What of the workspace goes with a task: chosen by globs, checked, and kept by digests.

A task with `workspace.include` runs in a directory of its own that holds what these globs match,
its required and its input files, and nothing else, wherever it runs. Promises: nothing outside the
workspace is taken, whatever links say; nothing of the fleet's own; nothing that looks like a secret
unless its path is written out; a bundle over the limits is refused. What changes while an attempt
runs is in the next one's. It does not know where the bundle is laid out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import json

from ..core.spec import Task
from ..wire.problems import Found
from ..wire.problems import Path as Where
from ..worker.bundle import BYTES, FILES
from ..worker.collect import Refusal, find

_SECRET = (".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", ".netrc", ".pgpass",
           ".git-credentials", ".htpasswd")  # fmt: skip
"""Names of files that hold secrets, as a rule."""
_OPEN = (".env.example", ".env.sample", ".env.template", ".env.dist")
_NEVER = (".git", ".fleet")
"""Directories that no glob takes in by the way; .fleet not by its name either."""
_GLOB = frozenset("*?[")
_CHUNK = 1 << 20
_known: dict[tuple[int, int, int, int, int], str] = {}
"""A file as it was when it was read (device, inode, size, two times) -> its digest."""
_KNOWN = 200_000

Entry = tuple[str, os.stat_result | str]
"""A path below the workspace, and the file's facts or where the link leads."""


def patterns(task: Task) -> list[str]:
    """Globs and paths below the workspace that make a task's bundle."""
    place = task.workspace
    assert place is not None
    own = (*place.include, *place.required_files)
    below = [os.path.normpath(os.path.join(place.root, one)) for one in own]
    return list(dict.fromkeys((*below, *map(os.path.normpath, task.input_files))))


def checker(root: Path) -> Callable[[Task], Iterator[Found]]:
    """What tells all that is wrong with the files of a task; each pattern is looked up once."""

    @cache
    def problem(pattern: str) -> str:
        try:
            _measured(_chosen(str(root), [pattern]))
        except Refusal as refusal:
            return str(refusal)
        return ""

    def problems(task: Task) -> Iterator[Found]:
        place = task.workspace
        if place is None or not place.include:
            return
        below: list[tuple[str, list[str], Where, str]] = [
            ("include", place.include, ("workspace",), place.root),
            ("required_files", place.required_files, ("workspace",), place.root),
            ("input_files", task.input_files, (), "."),
        ]
        for field, written, where, inside in below:
            for index, text in enumerate(written):
                if said := problem(os.path.normpath(os.path.join(inside, text))):
                    yield Found((*where, field, index), said)

    return problems


def fill(plan: dict[str, Any], workspace: str, fleet_dir: Path) -> None:
    """Make the bundle of a plan whose isolation names patterns; its digest takes their place."""
    own = plan["isolate"]
    try:
        own["bundle"] = make(workspace, own["bundle"], fleet_dir)
        plan["carry"] = [*plan.get("carry", ()), own["bundle"]]
    except (Refusal, OSError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        own["bundle"], own["refused"] = "", f"its files cannot be bundled: {reason}"


def make(root: str, wanted: list[str], fleet_dir: Path) -> str:
    """Keep all that these patterns match as evidence; the digest of the manifest."""
    chosen = _chosen(root, wanted)
    _measured(chosen)
    files, links = [], []
    for path, facts in sorted(chosen.items()):
        if isinstance(facts, str):
            links.append([path, facts])
        else:
            digest = _kept(os.path.join(root, path), facts, fleet_dir)
            files.append([path, stat.S_IMODE(facts.st_mode) & 0o777, digest])
    data = json.encode({"files": files, "links": links})
    digest = sha256(data).hexdigest()
    target = fleet_dir / "evidence" / digest
    if not target.exists():
        _write(target, [data])
    return digest


def _chosen(root: str, wanted: Iterable[str]) -> dict[str, os.stat_result | str]:
    """Every file and link that the patterns match."""
    top = os.path.realpath(root)
    found: dict[str, os.stat_result | str] = {}
    for pattern in wanted:
        exact = _GLOB.isdisjoint(pattern)
        before = len(found)
        seen = False
        for path in find(top, pattern) if pattern != "." else ("",):
            for one in _below(top, path, exact):
                seen = True
                if one not in found:
                    _check_name(one, pattern)
                    found[one] = _facts(top, one)
                    if len(found) > FILES:
                        raise Refusal(f"{pattern} takes in more than {FILES:,} files")
        if not seen and len(found) == before:
            raise Refusal(f"{pattern} matches no file of {root}")
    return _settled(top, found)


def _below(top: str, path: str, exact: bool) -> Iterator[str]:
    """A file itself; of a directory all files in it, with their dots, but no repository's own."""
    if set(path.split("/")) & set(_NEVER[1:] if exact else _NEVER):
        return
    real = os.path.join(top, path)
    if os.path.islink(real) or not os.path.isdir(real):
        yield path
        return
    for folder, folders, files in os.walk(real):
        inner = os.path.relpath(folder, top)
        links = [one for one in folders if os.path.islink(os.path.join(folder, one))]
        folders[:] = sorted(one for one in folders if one not in _NEVER and one not in links)
        for name in sorted((*files, *links)):
            yield os.path.normpath(os.path.join(inner, name))


def _check_name(path: str, pattern: str) -> None:
    if path == pattern:
        return
    name = path.rpartition("/")[2]
    key = name.startswith("id_") and "." not in name
    if (key or any(fnmatchcase(name, one) for one in _SECRET)) and name not in _OPEN:
        raise Refusal(
            f"{pattern} takes in {path}, which looks like a secret: narrow it, "
            "or write that path out if it is to go along"
        )


def _facts(top: str, path: str) -> os.stat_result | str:
    real = os.path.join(top, path)
    facts = os.lstat(real)
    if stat.S_ISLNK(facts.st_mode):
        end = os.path.realpath(real)
        if end != top and not end.startswith(top + "/"):
            raise Refusal(f"{path} is a link that leads out of the workspace")
        if _NEVER[1] in os.path.relpath(end, top).split("/"):
            raise Refusal(f"{path} is a link into the fleet's own directory")
        return os.readlink(real)
    if os.path.realpath(real) != real:
        raise Refusal(f"{path} lies behind a link")
    if not stat.S_ISREG(facts.st_mode):
        raise Refusal(f"{path} is neither a file nor a link")
    return facts


def _settled(top: str, found: dict[str, os.stat_result | str]) -> dict[str, os.stat_result | str]:
    """Links stay links where what they lead to is there too; else they become what it holds."""
    folders = {path[:at] for path in found for at, sign in enumerate(path) if sign == "/"}
    for path, leads in found.items():
        if not isinstance(leads, str):
            continue
        end = os.path.realpath(os.path.join(top, path))
        inner = os.path.relpath(end, top)
        there = inner in folders or isinstance(found.get(inner), os.stat_result)
        if there and not leads.startswith("/"):
            continue
        if not os.path.isfile(end):
            what = "nothing" if not os.path.exists(end) else "a directory that is not included"
            raise Refusal(f"{path} is a link that leads to {what}")
        _check_name(inner, path)
        found[path] = os.stat(end)
    return found


def _measured(chosen: dict[str, os.stat_result | str]) -> None:
    size = sum(facts.st_size for facts in chosen.values() if not isinstance(facts, str))
    if size > BYTES:
        raise Refusal(
            f"the files take {size:,} bytes, more than the {BYTES:,} that travel with a task: "
            "put them there once, and name where in working_directory"
        )


def _kept(path: str, facts: os.stat_result, fleet_dir: Path) -> str:
    """The digest of a file that is kept as evidence; read only where it is new or was changed."""
    key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    digest = _known.get(key, "")
    if digest and (fleet_dir / "evidence" / digest).exists():
        return digest
    state = sha256()
    store = fleet_dir / "evidence"
    coming = store / f".bundle.{os.getpid()}"

    def read() -> Iterator[bytes]:
        with Path(path).open("rb") as file:
            while data := file.read(_CHUNK):
                state.update(data)
                yield data

    _write(coming, read())
    digest = state.hexdigest()
    coming.rename(store / digest)
    if len(_known) > _KNOWN:
        _known.clear()
    _known[key] = digest
    return digest


def _write(target: Path, parts: Iterable[bytes]) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for part in parts:
                file.write(part)
        temporary.rename(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
