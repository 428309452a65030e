"""What leaves a runtime, and what tasks ask it to keep, without the secret values of their runs.

Three answers: a text that a person reads goes on without the value (`[redacted:KEY]`); what others
would take for the very bytes (data, checkpoints, artifacts that are kept, patches) is refused with
a sentence that names the secret; evidence is kept without the value, and says so. Promises: no
fact goes into the journal with a value in it but in the names that it goes by. Files that lie in
the workspace are the user's: they are not touched.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import collect
from codewhale_fleet.worker.collect import Refusal
from codewhale_fleet.worker.redaction import Blind
from codewhale_fleet.worker.tags import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.attempts import Run
    from codewhale_fleet.worker.redaction import Redactor

_NAMES = frozenset(
    ("attempt", "slot", "why", "cap", "sha256", "kind", "mime", "base", "isolated", "logs", "name",
     "secrets", "tags", "redacted")
)  # fmt: skip
"""What things go by in a fact: changed, it would name another thing, or none."""
_TEXTS = ("text", "question", "choices")
_KEPT = {"artifact": ("kind", "path"), "put": ("name", "tags"), "checkpoint": ("path",)}
_PIECE = 256 * 1024
_LOST = "the values of its secrets are not known here any more"


class Guard:
    """Looks at each fact before it is written."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self._runs = runs

    def screened(self, attempt: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a fact about an attempt, or a run, without values."""
        run = self._runs.get(attempt.partition("/")[0])
        redactor = run.redactor if run is not None else None
        if redactor is None:
            return fields
        made: dict[str, Any] = redactor.tree(fields, _NAMES)
        return made


def admitted(redactor: Redactor, request: dict[str, Any]) -> dict[str, Any]:
    """A request of a task without values; Wrong where it cannot be without."""
    verb = request.get("v")
    for field in _KEPT.get(str(verb), ()):
        _refuse(redactor, str(request.get(field)), f"its {field}")
    if verb == "put":
        import binascii

        try:
            value = binascii.a2b_base64(request.get("value", ""))
        except (binascii.Error, TypeError, ValueError):
            return request  # it is told so
        _refuse(redactor, value, "the value")
    if verb == "checkpoint":
        _refuse(redactor, str(request.get("text") or ""), "the checkpoint")
        return request
    return {
        name: redactor.tree(value) if name in _TEXTS else value for name, value in request.items()
    }


def _refuse(redactor: Redactor, what: bytes | str, name: str) -> None:
    keys = redactor.held_in(what)
    if keys:
        _refuse_keys(keys, name)


def _refuse_keys(keys: list[str], name: str) -> None:
    raise Wrong(f"{name} holds {named(keys)}: what is kept of a run lies on disk, secrets do not")


def named(keys: list[str]) -> str:
    """Secrets as a sentence names them."""
    many = "secrets" if len(keys) > 1 else "secret"
    return f"the {many} {', '.join(keys)}"


def check_checkpoint(redactor: Redactor, data: bytes) -> None:
    """Wrong where a file that is to be kept as a checkpoint holds a value."""
    _refuse(redactor, data, "the checkpoint")


def check_patch(redactor: Redactor | Blind, path: str) -> Generator[None, None, None]:
    """Refusal, and the patch is gone, where it holds a value: changed, it would be another one."""
    if isinstance(redactor, Blind):
        keys = ["?"]
    else:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            keys = yield from keys_in(redactor, fd)
        finally:
            os.close(fd)
    if keys:
        os.unlink(path)
        words = _LOST if isinstance(redactor, Blind) else f"what it has changed holds {named(keys)}"
        raise Refusal(f"{words}: there is no patch of it")


def check_artifact(redactor: Redactor | Blind, path: str, fd: int) -> Generator[None, None, None]:
    """Refusal where an artifact holds a value: in its name, or in the file that is to be copied.

    `fd`: -1 where no copy is kept.
    """
    if isinstance(redactor, Blind):
        if fd >= 0:
            raise Refusal(f"{_LOST}, so no copy of it is kept")
        return
    keys = redactor.held_in(path)
    if keys:
        raise Refusal(f"its name holds {named(keys)}")
    if fd >= 0:
        keys = yield from keys_in(redactor, fd)
        if keys:
            raise Refusal(f"it holds {named(keys)}, so no copy of it is kept")


def evidence(redactor: Redactor | Blind, data: bytes, store: str) -> dict[str, Any]:
    """Keeps what a scorer gets of a file; says whose values were taken out. Refusal: it cannot."""
    if isinstance(redactor, Blind):
        raise Refusal(f"{_LOST}, so no copy of it is kept")
    keys = redactor.held_in(data)
    if not keys:
        return collect.keep(data, store)
    return {**collect.keep(redactor.redacted(data), store), "redacted": keys}


def keys_in(redactor: Redactor, fd: int) -> Generator[None, None, list[str]]:
    """The keys of the values that stand in an open file, whose place stays where it is."""
    found: set[str] = set()
    held, at = b"", 0
    while data := os.pread(fd, _PIECE, at):
        at += len(data)
        data = held + data
        found.update(redactor.held_in(data))
        held = data[-redactor.reach :]
        yield
    return sorted(found)
