"""Git as a child process: how it is called where an attempt's directory is made, read or removed.

Promises: none of the caller's GIT_ variables, hooks, prompts or background work; its words in the
language C; an answer of any length without a deadlock; a git that is missing, or fails, is a
`Refusal` with one sentence. It knows nothing of attempts, and it is not for the runtime's own
process, which it would keep waiting.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker.launch import DEFAULT_PATH, FOR_WANT_OF_MEANS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_QUIET = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "advice.detachedHead=false",
)
_GIT = ["git", *(word for setting in _QUIET for word in ("-c", setting))]
_EXEC_FAILED = 127
prefix: list[str] = []
"""Words before each call, where what is called may run what an attempt has written."""


theirs: list[str] = []
"""Where tasks may have put programs: a git that lies there is called only if there is no other."""


class Refusal(Exception):
    """Why an attempt's directory is not as it should be: one sentence, the hint behind a dash."""


class Answer:
    """What a git said. `status`: its exit code, negative for a signal."""

    __slots__ = ("error", "out", "status")

    def __init__(self, status: int, out: bytes, error: bytes) -> None:
        self.status = status
        self.out = out
        self.error = error

    @property
    def words(self) -> str:
        """Its first error, else its last line on stderr, without the prefix."""
        lines = self.error.decode("utf-8", "replace").split("\n")
        told = [line.strip() for line in lines if line.strip() and not line.startswith("hint:")]
        fatal = [line for line in told if line.startswith(("fatal: ", "error: "))]
        line = (fatal[:1] or told or [f"git ended with {self.status}"])[-1]
        return line.partition(": ")[2] if line.startswith(("fatal: ", "error: ")) else line


class Started:
    """A git that runs beside what comes next; `answer` waits for it."""

    __slots__ = ("_error", "_out", "_pid")

    def __init__(self, pid: int, out: int, error: int) -> None:
        self._pid = pid
        self._out = out
        self._error = error

    def answer(self) -> Answer:
        """Its end."""
        _, status = os.waitpid(self._pid, 0)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return Answer(code, _read(self._out), _read(self._error))


def environment() -> dict[str, str]:
    """This process's variables, without what would lead git elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}


def begin(
    words: Iterable[str], more: dict[str, str] | None = None, given: bytes = b"", out: int = -1
) -> Started:
    """A git with these words; `given` is its input, `out` a descriptor for its output."""
    kept = os.memfd_create("out") if out < 0 else out
    error = os.memfd_create("err")
    source = os.memfd_create("in")
    _write(source, given)
    os.lseek(source, 0, os.SEEK_SET)
    variables = {**environment(), **(more or {})}
    actions: list[Any] = [
        (os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate((source, kept, error))
    ]
    if prefix:
        from codewhale_fleet.worker import syscalls

        actions += syscalls.actions(network=False)
    program = _program(variables)
    argv = [*prefix, program, *_GIT[1:], *words] if prefix else [*_GIT, *words]
    try:
        pid = os.posix_spawn(
            prefix[0] if prefix else program, argv, variables, file_actions=actions
        )
    finally:
        os.close(source)
    return Started(pid, kept if out < 0 else -1, error)


def run(words: Iterable[str], more: dict[str, str] | None = None, given: bytes = b"") -> Answer:
    """A git from its start to its end."""
    return begin(words, more, given).answer()


def line(words: Iterable[str], what: str, more: dict[str, str] | None = None) -> str:
    """The one line that a git prints; a Refusal that begins with `what` where it fails."""
    return text(words, what, more).decode("utf-8", "surrogateescape").rstrip("\n")


def text(
    words: Iterable[str], what: str, more: dict[str, str] | None = None, given: bytes = b""
) -> bytes:
    """What a git prints; a Refusal that begins with `what` where it fails."""
    answer = run(words, more, given)
    if answer.status:
        raise failed(what, answer)
    return answer.out


def failed(what: str, answer: Answer) -> Refusal:
    """The sentence about a git that failed; a host without room or memory is to blame itself."""
    words = answer.words
    want = any(
        sign in words
        for sign in ("No space left", "Cannot allocate", "Disk quota", "Too many open")
    )
    return Refusal(f"{FOR_WANT_OF_MEANS if want else ''}{what}: {words}")


def _program(variables: dict[str, str]) -> str:
    found = ""
    for directory in f"{variables.get('PATH', '')}:{DEFAULT_PATH}".split(":"):
        candidate = f"{directory}/git"
        if directory.startswith("/") and os.access(candidate, os.X_OK):
            real = os.path.realpath(directory) + "/"
            if not any(real.startswith(f"{one}/") for one in theirs):
                return candidate
            found = found or candidate
    if found:
        return found
    raise Refusal(
        f"{FOR_WANT_OF_MEANS}isolation needs git, and this host has none on PATH: install it"
    )


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read(fd: int) -> bytes:
    if fd < 0:
        return b""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
