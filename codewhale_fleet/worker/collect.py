"""What an attempt leaves for others: artifacts found, checked and hashed; evidence copied.

Promises: nothing outside the workspace is read, whatever links say; only regular files count;
each refusal is a sentence in the answer, never an exception; a directory full of files or a
huge one stops at a named limit. Hashing yields after each chunk, so that other attempts are
served meanwhile. It judges nothing, and it does not know why a file is wanted.
"""

from __future__ import annotations

import os
import stat

from codewhale_fleet.worker import limits
from codewhale_fleet.worker.logs import new_sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    from codewhale_fleet.worker.redaction import Blind, Redactor

    Place = tuple[str, str, "Redactor | Blind | None"]

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
SCRATCH = "$FLEET_SCRATCH/"
"""How the path of an artifact begins that lies in what a confined attempt has for itself."""
_guarded: list[str] = []


class Refusal(Exception):
    """Why one file is not taken."""


def guard(fleet_dir: str) -> None:
    """From now on the fleet's directory counts as outside of every workspace around it."""
    _guarded[:] = [fleet_dir]


def resolve(root: str, path: str) -> str:
    """The real path of `path` inside `root`; Refusal if it leads anywhere else.

    The fleet's own directory is elsewhere: what a task may not read, no link of its shall bring.
    """
    return _resolved(_top(root), path)


def _resolved(top: str, path: str) -> str:
    try:
        real = os.path.realpath(os.path.join(top, path))
    except RecursionError:
        raise Refusal("unreadable: too many links") from None
    _check(real, top)
    return real


def _top(root: str) -> str:
    """The real path of a root.

    Below the fleet's directory it is an attempt's, which may have put a link in its place.
    """
    top = os.path.realpath(root)
    plain = os.path.normpath(root)
    if top != plain and any(_is_below(plain, os.path.realpath(fleet)) for fleet in _guarded):
        raise Refusal("outside the workspace: a link stands in the place of its directory")
    return top


def _check(real: str, top: str) -> None:
    if not _is_below(real, top):
        raise Refusal("outside the workspace")
    for fleet in _guarded:
        own = os.path.realpath(fleet)
        if _is_below(real, own) and not _is_below(top, own):
            raise Refusal("the fleet's own")


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def is_inside(root: str, path: str) -> bool:
    """Does `path` stay inside `root`, whatever links it crosses?"""
    try:
        resolve(root, path)
    except Refusal:
        return False
    return True


def opened(root: str, path: str) -> tuple[int, int, str]:
    """(descriptor, size, real path) of a regular file inside `root`; Refusal where it is none.

    Where it lies is looked at once more when it is open: links may come while it is looked for.
    """
    top = _top(root)
    real = _resolved(top, path)
    fd, size = _open_regular(real)
    try:
        _check(os.readlink(f"/proc/self/fd/{fd}"), top)
    except Refusal:
        os.close(fd)
        raise
    return fd, size, real


def _open_regular(real: str) -> tuple[int, int]:
    """(descriptor, size) of a regular file; a last link that came meanwhile is not followed."""
    try:
        fd = os.open(real, _READ)
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal("missing") from None
    except OSError as error:
        raise Refusal(f"unreadable: {error.strerror}") from None
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        os.close(fd)
        kind = "a directory" if stat.S_ISDIR(facts.st_mode) else "no regular file"
        raise Refusal(f"unreadable: it is {kind}")
    return fd, facts.st_size


# ---- artifacts


def find(root: str, pattern: str) -> Iterator[str]:
    """Paths relative to `root` that a glob matches, sorted; `**` crosses directories, not links.

    As in a shell, a name that begins with a dot matches only where the pattern says the dot.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or ".." in parts:
        raise Refusal(f"the pattern {pattern} leads outside the workspace")
    return _match(root, "", parts)


def _match(root: str, base: str, parts: list[str]) -> Iterator[str]:
    if not parts or not is_inside(root, base):  # whoever takes the latter is told why not
        yield base
        return
    first, rest = parts[0], parts[1:]
    if base.count("/") >= limits.ARTIFACT_DEPTH:
        raise Refusal(f"directories lie more than {limits.ARTIFACT_DEPTH} deep in each other")
    if first == "**":
        yield from _match(root, base, rest or ["*"])
        for name in _names(root, base, directories=True):
            if not name.startswith("."):
                yield from _match(root, os.path.join(base, name), parts)
    elif not any(letter in first for letter in "*?["):
        path = os.path.join(base, first)
        if os.path.lexists(os.path.join(root, path)):
            yield from _match(root, path, rest)
    else:
        import fnmatch

        for name in _names(root, base):
            if name.startswith(".") == first.startswith(".") and fnmatch.fnmatchcase(name, first):
                yield from _match(root, os.path.join(base, name), rest)


def _names(root: str, base: str, directories: bool = False) -> list[str]:
    try:
        with os.scandir(os.path.join(root, base)) as entries:
            if directories:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
            return sorted(e.name for e in entries)
    except OSError:
        return []


def artifacts(
    plan: dict[str, Any], store: str = "", redactor: Redactor | Blind | None = None
) -> Generator[None, None, dict[str, Any]]:
    """The fields `artifacts`, `missing` and `artifact_errors` of an end, empty ones left out.

    Where `store` is given, the files are kept there by their digests, as evidence is; but none
    that holds a secret value.
    """
    found: list[dict[str, Any]] = []
    errors: list[str] = []
    total = 0
    seen: set[tuple[str, str]] = set()
    for kind, pattern, named in _wanted(plan):
        root, kept = plan["root"], store
        if named.startswith(SCRATCH):  # gone when the attempt is over
            root, kept = plan["scratch"], plan["store"]
        try:
            for path in (named,) if named else find(root, pattern):
                if (kind, path) in seen:
                    continue
                seen.add((kind, path))
                if len(found) >= limits.ARTIFACT_FILES:
                    raise Refusal(f"more than {limits.ARTIFACT_FILES} files")
                room = limits.ARTIFACT_BYTES - total
                entry = yield from _artifact((root, kept, redactor), kind, path, room, errors)
                if entry:
                    found.append(entry)
                    total += entry["size"]
        except Refusal as refusal:
            _note(errors, f"{kind}: {refusal}")
    answer: dict[str, Any] = {}
    if found:
        answer["artifacts"] = found
    kinds = {entry["kind"] for entry in found}
    missing = [kind for kind in plan.get("expected") or () if kind not in kinds]
    if missing:
        answer["missing"] = missing
    if errors:
        answer["artifact_errors"] = errors
    return answer


def _wanted(plan: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Kinds with a pattern, and those with a path that the attempt itself has named."""
    for kind, patterns in (plan.get("artifacts") or {}).items():
        for pattern in patterns:
            yield kind, pattern, ""
    for kind, path in plan.get("added") or ():
        yield kind, "", path


def _note(errors: list[str], sentence: str) -> None:
    if len(errors) < limits.ARTIFACT_ERRORS:
        errors.append(sentence)


def _artifact(
    place: Place, kind: str, path: str, room: int, errors: list[str]
) -> Generator[None, None, dict[str, Any] | None]:
    root, store, redactor = place
    try:
        inner = path.removeprefix(SCRATCH)
        if path.encode("utf-8", "replace") != os.fsencode(path):
            raise Refusal("its name is no UTF-8")
        if os.path.isdir(resolve(root, inner)):
            return None
        fd, size, _ = opened(root, inner)
        try:
            if size > room:
                raise Refusal(f"the artifacts exceed {limits.ARTIFACT_BYTES} bytes")
            if redactor is not None:
                from codewhale_fleet.worker import screening

                yield from screening.check_artifact(redactor, path, fd if store else -1)
            digest, size = yield from _kept(fd, size, store) if store else _hash(fd, size)
        finally:
            os.close(fd)
    except Refusal as refusal:
        _note(errors, f"{kind}: {path}: {refusal}")
        return None
    from codewhale_fleet.worker.mime import mime_of

    return {"kind": kind, "path": path, "sha256": digest, "mime": mime_of(path), "size": size}


def _kept(fd: int, size: int, store: str) -> Generator[None, None, tuple[str, int]]:
    """The same of a file that is copied into `store` meanwhile."""
    temporary = f"{store}/.{os.getpid()}.{fd}"
    copy = -1
    try:
        os.makedirs(store, 0o700, exist_ok=True)
        copy = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        digest, size = yield from _hash(fd, size, copy)
        os.rename(temporary, f"{store}/{digest}")
    except OSError as error:
        raise Refusal(f"cannot be kept: {error.strerror}") from None
    finally:
        if copy >= 0:
            os.close(copy)
            if os.path.exists(temporary):
                os.unlink(temporary)
    return digest, size


def _hash(fd: int, size: int, copy: int = -1) -> Generator[None, None, tuple[str, int]]:
    """Digest and length of at most `size` bytes: a file that still grows does not run away.

    `copy`: a descriptor that the bytes are written to as well.
    """
    state = new_sha256(size)
    done = 0
    while done < size:
        try:
            data = os.read(fd, min(limits.CHUNK_BYTES, size - done))
        except OSError as error:
            raise Refusal(f"unreadable: {error.strerror}") from None
        if not data:
            break
        state.update(data)
        done += len(data)
        while copy >= 0 and data:
            data = data[os.write(copy, data) :]
        if done < size:
            yield
    return state.hexdigest(), done


# ---- evidence


def evidence(
    plan: dict[str, Any], store: str, redactor: Redactor | Blind | None = None
) -> Generator[None, None, dict[str, Any]]:
    """The field `evidence` of an end: what was asked for, kept in `store` by its digest; secret
    values are taken out, and whose they were stands in `redacted`."""
    found: dict[str, Any] = {}
    for wanted in plan.get("evidence") or ():
        path = wanted["path"]
        try:
            cap = wanted.get("cap")
            cap = limits.EVIDENCE_BYTES if cap is None else cap
            found[path] = yield from _keep(plan["root"], path, cap, store, redactor)
        except Refusal as refusal:
            found[path] = {"error": str(refusal)}
        except (OSError, ValueError) as error:
            found[path] = {"error": f"unreadable: {error}"}
    return {"evidence": found} if found else {}


def _keep(
    root: str, path: str, cap: int, store: str, redactor: Redactor | Blind | None = None
) -> Generator[None, None, dict[str, Any]]:
    fd, size, _ = opened(root, path)
    try:
        if size > cap:
            raise Refusal("too large")
        parts: list[bytes] = []
        state = new_sha256(size)
        done = 0
        while done <= cap:
            data = os.read(fd, min(limits.CHUNK_BYTES, cap + 1 - done))
            if not data:
                break
            state.update(data)
            parts.append(data)
            done += len(data)
            if done < size:
                yield
        if done > cap:  # it grew while it was read
            raise Refusal("too large")
    finally:
        os.close(fd)
    if redactor is not None:
        from codewhale_fleet.worker import screening

        return screening.evidence(redactor, b"".join(parts), store)
    digest = state.hexdigest()
    _store(os.path.join(store, digest), parts, done)
    return {"sha256": digest, "size": done}


def keep(data: bytes, store: str) -> dict[str, Any]:
    """Bytes kept in `store` as evidence is."""
    state = new_sha256(len(data))
    state.update(data)
    digest = str(state.hexdigest())
    _store(os.path.join(store, digest), [data], len(data))
    return {"sha256": digest, "size": len(data)}


def read_inside(root: str, path: str, most: int) -> bytes:
    """The first `most` bytes of a regular file inside `root`; Refusal where it is none."""
    fd, _, _ = opened(root, path)
    try:
        return os.read(fd, most)
    finally:
        os.close(fd)


def _store(target: str, parts: list[bytes], size: int) -> None:
    try:
        if os.stat(target).st_size == size:
            return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    _write(target, parts)


def write(path: str, data: bytes) -> None:
    """A file of the fleet's own, whole or not at all."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    _write(path, [data])


def _write(target: str, parts: list[bytes]) -> None:
    temporary = f"{target}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        for part in parts:
            done = 0
            while done < len(part):
                done += os.write(fd, part[done:])
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, target)
