"""What every command shares: where the fleet is, how it was asked to answer, how mistakes are told.

Promises: no import beyond the standard library's smallest parts until a command needs more (a
cached `fleet status --json` ends here), and never a fleet that another user owns. It knows nothing
of what the commands do, and nothing of how command lines are parsed.
"""

# ruff: noqa: PTH100, PTH109, PTH111, PTH112, PTH113, PTH116, PTH118, PTH119, PTH120, PTH123
# (pathlib takes 12 ms to import; an unchanged status has 15 for everything)

import os
import sys

from ..errors import FleetError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import TextIO

    from ..ledger.reader import Reader
    from ..ledger.store import Ledger

FLEET = ".fleet"
"""Name of the directory, below a fleet's root, that holds its ledger."""

EXIT_PASSED, EXIT_FAILED, EXIT_WRONG, EXIT_PERSON = 0, 1, 2, 3
EXIT_REFUSED, EXIT_LEDGER, EXIT_UNPLACED = 4, 5, 6
EXIT_OURS = 70
"""A mistake in fleet itself (EX_SOFTWARE), so that scripts can tell it from a wrong request."""
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
"""Whoever read the answer closed the pipe: what a shell reports for SIGPIPE."""

EXIT_WORDS = {
    EXIT_FAILED: "a task failed, timed out or was cancelled",
    EXIT_WRONG: "the request is wrong",
    EXIT_PERSON: "waiting for a person or a verifier",
    EXIT_REFUSED: "refused",
    EXIT_LEDGER: "the ledger is damaged or cannot be written",
    EXIT_UNPLACED: "no task could be placed on any host",
    EXIT_OURS: "a mistake in fleet itself",
    EXIT_INTERRUPTED: "interrupted",
}
"""What an exit code says, for `-v`."""


class Context:
    """How a command was asked: which directory, which face, how much to say.

    `directory` is `--dir`; `color` is False with --no-color; `environ` and `cwd` are injected by
    tests. Opened things are opened once.
    """

    __slots__ = (
        "_ledger", "color", "cwd", "directory", "environ", "hint", "json", "quiet", "verbose",
    )  # fmt: skip

    def __init__(
        self,
        directory: "str | None" = None,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        color: "bool | None" = None,
        environ: "dict[str, str] | None" = None,
        cwd: "str | None" = None,
    ) -> None:
        self.directory = directory
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.color = color
        self.environ = os.environ if environ is None else environ
        self.cwd = cwd
        self.hint: str | None = None
        """What is said after the answer, on stderr; an answer in JSON has it as "hint"."""
        self._ledger: Ledger | None = None

    def find_root(self) -> "str | None":
        """The directory that holds `.fleet` (or `fleet.toml`), or None when there is none."""
        return find_root(self.directory, self.environ, self.cwd)

    def fleet_dir(self) -> str:
        """The absolute `.fleet` directory; FleetError when there is none, or not our own."""
        root = self.find_root()
        if root is None:
            raise _no_fleet(self.cwd or os.getcwd())
        return fleet_dir_of(root)

    def ledger(self) -> "Ledger":
        """The fleet's ledger, folded up to what is durable."""
        if self._ledger is None:
            directory = self.fleet_dir()
            import_msgspec()
            from pathlib import Path

            from ..ledger.store import Ledger

            self._ledger = Ledger.open(Path(directory))
        return self._ledger

    def glance(self) -> "Reader":
        """The ledger as far as the status of the whole fleet needs it."""
        if self._ledger is not None:
            return self._ledger
        directory = self.fleet_dir()
        import_msgspec()
        from pathlib import Path

        from ..core.tally import Unknown
        from ..ledger.glance import Glance

        try:
            with Glance.open(Path(directory)) as glance:
                return glance
        except Unknown:
            ledger = self.ledger()
            ledger.keep_brief()
            return ledger

    def fleet_path(self) -> "Path":
        """`fleet_dir` as a Path, for the floors below."""
        directory = self.fleet_dir()
        from pathlib import Path

        return Path(directory)

    def close(self) -> None:
        """Let go of what was opened."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def styled(self, stream: "TextIO | None" = None) -> bool:
        """Whether colour may be used: a terminal, and nobody said no."""
        stream = stream or sys.stdout
        if self.color is False or self.environ.get("NO_COLOR") or self.json:
            return False
        return stream.isatty() and self.environ.get("TERM") != "dumb"

    def note(self, sentence: str) -> None:
        """A sentence beside the answer: stderr, and not with --quiet or --json."""
        if not (self.quiet or self.json):
            print(sentence, file=sys.stderr)


def import_msgspec() -> None:
    """Import msgspec without typing_extensions, which it takes for typing where it is installed.

    That brings inspect, ast and more: 12 of 75 ms of a command. From Python 3.11 on, typing itself
    has all that msgspec wants of it.
    """
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    if "msgspec" in modules or "typing_extensions" in modules:
        return
    modules["typing_extensions"] = None  # to import it is an ImportError now
    try:
        __import__("msgspec")
    finally:
        del modules["typing_extensions"]


def find_root(
    directory: "str | None", environ: "os._Environ[str] | dict[str, str]", cwd: "str | None" = None
) -> "str | None":
    """`--dir`, else FLEET_DIR, else the nearest parent with `.fleet` or `fleet.toml`.

    The search ends at the directory that holds `.git`, at a mount point and at HOME. What another
    user owns is passed over; named outright, it is refused. `.fleet` itself may be named too.
    """
    named = directory or environ.get("FLEET_DIR")
    if named:
        path = os.path.abspath(os.path.join(cwd or "", os.path.expanduser(named)))
        if os.path.basename(path) == FLEET:
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            what = "--dir" if directory else "FLEET_DIR"
            raise FleetError(f"{what} names {named}, and that is no directory.")
        for mark in (path, os.path.join(path, FLEET)):
            if not _ours(mark):
                raise not_ours(mark)
        return path
    for path in _upwards(cwd or os.getcwd(), environ.get("HOME")):
        for mark in (os.path.join(path, FLEET), os.path.join(path, "fleet.toml")):
            if os.path.lexists(mark) and _ours(mark):
                return path
    return None


def _upwards(path: str, home: "str | None") -> "Iterator[str]":
    path = os.path.abspath(path)
    home = os.path.abspath(home) if home else None
    try:
        device = os.stat(path).st_dev
    except OSError:
        return
    while True:
        yield path
        parent = os.path.dirname(path)
        if parent == path or path == home or os.path.lexists(os.path.join(path, ".git")):
            return
        try:
            if os.stat(parent).st_dev != device:
                return
        except OSError:
            return
        path = parent


def _ours(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except FileNotFoundError:
        return True


def fleet_dir_of(root: str) -> str:
    """`ROOT/.fleet`, or the directory that it names when it is a file (`dir: PATH`).

    A directory that holds a ledger itself is one that such a file names: it is meant, then.
    """
    path = os.path.join(root, FLEET)
    if not os.path.isfile(path):
        if not os.path.lexists(path) and os.path.isfile(os.path.join(root, "fleet.jsonl")):
            return root
        return path
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(5000).strip()
    word, _, target = text.partition(":")
    if word != "dir" or not target.strip():
        raise FleetError(
            f"{path} is a file, and says {text[:40]!r} where dir: PATH should stand.",
            "Write the directory that holds the fleet into it, or remove it and fleet init.",
        )
    path = os.path.abspath(os.path.join(root, os.path.expanduser(target.strip())))
    if not _ours(path):
        raise not_ours(path)
    return path


def refuse_others(root: str) -> None:
    """Refuse a fleet in `root` that another user owns."""
    path = os.path.join(root, FLEET)
    if os.path.lexists(path) and not _ours(path):
        raise not_ours(path)


def not_ours(path: str) -> Refused:
    """The refusal of what another user owns."""
    return Refused(
        f"{path} belongs to another user; a fleet is used by its owner only.",
        "fleet init makes one of your own, in a directory of your own.",
    )


def refuse_unwritable(fleet_dir: str) -> None:
    """Refuse before anything is recorded where no manager could work: it makes files there."""
    if not os.path.isdir(fleet_dir):
        return
    if not _ours(fleet_dir):
        raise not_ours(fleet_dir)
    if not os.access(fleet_dir, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(fleet_dir).f_flag & os.ST_RDONLY:
            raise FleetError(
                f"{fleet_dir} can't be written: Read-only file system.",
                "What is there can be read. Mount it writable, or work elsewhere: --dir PATH",
                exit_code=EXIT_LEDGER,
            )
        raise FleetError(
            f"{fleet_dir} can't be written: you lack the permission.",
            f"Give it back to yourself: chmod u+rwx {fleet_dir}",
            exit_code=EXIT_LEDGER,
        )


def _no_fleet(cwd: str) -> FleetError:
    refuse_others(cwd)
    hint = "fleet init makes one here; fleet run SPEC makes one by itself."
    return FleetError(f"no fleet in {cwd} or above.", hint, code="no_fleet")


def manager_answers(fleet_dir: str) -> bool:
    """Whether somebody listens on the manager's socket; nobody does once it died."""
    return _manager(fleet_dir, 0.0) is not False


def manager_is_silent(fleet_dir: str) -> bool:
    """Whether a manager listens and says nothing for 50 ms when asked: stopped, or overloaded."""
    return _manager(fleet_dir, 0.05) is None


def _manager(fleet_dir: str, patience: float) -> "bool | None":
    """True: somebody listens (and, given patience, answers); None: listens only; False: nobody."""
    import _socket

    try:
        near = os.open(fleet_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listens = False
    try:
        client.settimeout(0.2)
        client.connect(f"/proc/self/fd/{near}/manager.sock")
        listens = True
        if patience:
            client.settimeout(patience)
            client.send(b'{"m":"ping"}\n')
            return bool(client.recv(64))
    except (BlockingIOError, TimeoutError):
        return None  # so many callers wait there that somebody must be serving them, or it stopped
    except OSError:
        return False
    finally:
        client.close()
        os.close(near)
    return listens


def nearest(wrong: str, known: "Iterable[str]", count: int = 3) -> list[str]:
    """The known names that a person most likely meant, best first."""
    from difflib import get_close_matches

    names = list(known)
    if not wrong:
        return []
    found = [name for name in names if wrong in name]
    found += get_close_matches(wrong, names, n=count, cutoff=0.5)
    short = {name.rpartition("-")[0]: name for name in names if "-" in name}
    found += [short[name] for name in get_close_matches(wrong, short, n=count, cutoff=0.6)]
    return list(dict.fromkeys(found))[:count]


def print_json(answer: object) -> None:
    """One answer as one line of JSON on stdout."""
    from msgspec import json

    write_bytes(json.encode(answer) + b"\n")


def write_bytes(data: bytes) -> None:
    """Bytes to stdout, in order with what was printed before."""
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
    else:
        binary.write(data)
        binary.flush()


def check_reader() -> None:
    """BrokenPipeError once whoever read the answers left: who waits for news learns it here."""
    from select import POLLERR, POLLHUP, poll

    look = poll()
    try:
        look.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return  # it is no descriptor
    if any(events & (POLLERR | POLLHUP) for _, events in look.poll(0)):
        raise BrokenPipeError


def print_error(error: FleetError, *, json: bool = False, verbose: bool = False) -> None:
    """A mistake on stderr: a sentence and an indented hint, or one JSON object."""
    if json:
        from json import dumps

        told = {
            "code": error.code,
            "message": error.sentence,
            "hint": error.hint,
            "field": error.field,
            "file": error.file,
            "line": error.line,
        }
        print(dumps({"error": told}, ensure_ascii=False), file=sys.stderr)
        return
    print(indented("fleet: ", error.sentence), file=sys.stderr)
    if error.hint:
        print(indented("       ", error.hint), file=sys.stderr)
    if verbose:
        words = EXIT_WORDS.get(error.exit_code, "")
        print(f"       exit code {error.exit_code}: {words}", file=sys.stderr)


def indented(first: str, text: str) -> str:
    """`text` with its later lines under its first one, and no control characters."""
    clean = "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)
    return first + clean.replace("\n", "\n" + " " * len(first))
