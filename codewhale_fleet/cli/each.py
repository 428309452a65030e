"""A line, a task: the ad-hoc fan-out of `fleet run --each FILE|- -- CMD {}`.

Promises that no shell ever reads a line: `{}` is replaced inside each argument, and where no
argument has one the line becomes the last argument. Ids are `line-00017`, by the number of the line
in its file. Makes the sparse JSON of the tasks directly, because a hundred thousand lines are
ordinary input; it knows nothing of ledgers or of how tasks are run.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import json

from ..errors import FleetError
from .common import Context, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..core.spec import Task
    from ..wire.problems import Found
    from .run import Plan

BOM = b"\xef\xbb\xbf"
"""What some editors put before UTF-8; it belongs to no line."""

MARK = "{}"
"""What a line replaces."""

MAX_BYTES = 64 * 1024 * 1024
"""Most bytes of lines."""

MAX_ARGUMENT_BYTES = 131_071
"""Longest single argument that Linux passes to a program (MAX_ARG_STRLEN, less its final NUL)."""

MAX_TASK_BYTES = 200 * 1024
"""Most bytes of one task in the ledger."""


def plan_of_lines(each: str, words: list[str], workspace: Path, root: Path) -> "Plan":
    """A run of a command for each line of a file, of the fleet in `root`."""
    from .run import Plan

    plan = Plan(
        name=Path(words[0]).name if words else "",
        tasks=tasks_of(each, words),
        max_workers=0,
        workspace=workspace,
        spec=each,
    )
    if (root / "fleet.toml").exists():
        from .trust import of_lines

        plan.policy, plan.waived = of_lines(root)
    return plan


def tasks_of(each: str, command: list[str]) -> list[bytes]:
    """The tasks that the lines of a file (`-`: standard input) make of a command.

    Blank lines are skipped. No line at all is no mistake: the answer is empty.
    """
    if not command:
        raise FleetError(
            "--each was given no command.", f"fleet run --each {each} -- wc -l {{}}", field="CMD"
        )
    data = read(each)
    if len(data) > MAX_BYTES:
        raise FleetError(
            f"{named(each)} is larger than 64 MiB.",
            "Take it in pieces: split -l 100000 FILE part-, and a run for each part",
            file=each,
        )
    refuse_secrets(data, command, each)
    return list(expand(lines_of(data, each), command, each))


def refuse_secrets(data: bytes, command: list[str], each: str) -> None:
    """What is plainly a secret may not stand in a command: the ledger would keep it."""
    from ..wire.literals import hints, secret_paths

    words = "\n".join(command)
    known = hints(data + b"\n" + words.encode(errors="replace"))
    if not known:
        return
    of_lines = data.decode("utf-8", "replace").split("\n")
    hint = 'Keep it: fleet secret set KEY; and write a spec whose tasks have secrets = ["KEY"].'
    for _ in secret_paths(words, known):
        raise FleetError("the command holds what is plainly a secret.", hint, field="CMD")
    for place in secret_paths(of_lines, known):
        number = int(place[0]) + 1
        told = f"line {number:,} of {named(each)} holds what is plainly a secret."
        raise FleetError(told, hint, file=each, line=number)


def read(path: str) -> bytes:
    """A file's bytes, or standard input's for `-`; never more than one past `MAX_BYTES`."""
    if path == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def lines_of(data: bytes, each: str) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, with its number; `\\r\\n` ends a line as `\\n` does."""
    for number, line in enumerate(data.removeprefix(BOM).split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise FleetError(
                f"{named(each)} is not UTF-8: line {number} has byte "
                f"0x{line[error.start]:02x} at column {error.start + 1}.",
                "Convert it: iconv -f latin1 -t utf-8",
                file=each,
                line=number,
            ) from None
        if "\0" in text:
            raise FleetError(
                f"{named(each)} has a NUL byte in line {number}, and an argument cannot hold one.",
                "Lines end with a newline; make them of a NUL-separated list: tr '\\0' '\\n'",
                file=each,
                line=number,
            )
        yield number, text


def expand(
    lines: Iterator[tuple[int, str]], command: list[str], each: str = "-"
) -> Iterator[bytes]:
    """One sparse JSON task a line. Works on JSON text: escapes are the same in pieces as joined."""
    for word in command:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="surrogateescape").decode(errors="replace")
            raise FleetError(
                f'the argument "{shown}" is not UTF-8, so it cannot be recorded.',
                "Give the file a UTF-8 name, or pass it by --each.",
            ) from None
    words = command if any(MARK in word for word in command) else [*command, MARK]
    template = b",".join(b'"' + _escaped(word) + b'"' for word in words)
    first, *rest = template.split(MARK.encode())
    for number, line in lines:
        arguments = _escaped(line).join((first, *rest))
        if len(arguments) > MAX_ARGUMENT_BYTES and (
            len(arguments) > MAX_TASK_BYTES or _longest(words, line) > MAX_ARGUMENT_BYTES
        ):
            raise FleetError(
                f"{named(each)} has a line that no program can take as an argument: "
                f"line {number} has {len(line.encode()):,} bytes.",
                f"An argument may have {MAX_ARGUMENT_BYTES:,} bytes; pass a file name instead.",
                file=each,
                line=number,
            )
        yield b'{"id":"line-%05d","command":[%b]}' % (number, arguments)


def _longest(words: list[str], line: str) -> int:
    return max(len(word.replace(MARK, line).encode()) for word in words)


def _escaped(text: str) -> bytes:
    return json.encode(text)[1:-1]


def named(each: str) -> str:
    """How a sentence calls the input."""
    return "standard input" if each == "-" else each


def unreadable(path: str, error: OSError | ValueError) -> FleetError:
    """Why a file that a person named cannot be read, and what is there instead."""
    if isinstance(error, FileNotFoundError):
        from difflib import get_close_matches

        parent = Path(path).parent
        try:
            there = [entry.name for entry in parent.iterdir() if entry.is_file()]
        except OSError:
            return FleetError(f"there is no directory {parent}.", "Check the path.", file=path)
        near = get_close_matches(Path(path).name, there, 3, 0.6)
        hint = f"Nearest: {', '.join(str(parent / name) for name in near)}" if near else ""
        return FleetError(f"there is no file {path}.", hint or "Check the path.", file=path)
    if isinstance(error, IsADirectoryError):
        return FleetError(f"{path} is a directory.", "Name a file in it.", file=path)
    if isinstance(error, PermissionError):
        hint = f"Look at its mode: ls -ld {path}"
        return FleetError(f"{path} may not be read by you.", hint, file=path)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return FleetError(f"{path} cannot be read: {reason}.", "Check the path.", file=path)


def nothing(ctx: Context, each: str) -> int:
    """Say that there was no line, which is no mistake."""
    if ctx.json:
        print_json({"run": None, "tasks": 0, "counts": {}, "exit_code": 0})
    else:
        ctx.note(f"{named(each)} has no lines, so there is nothing to run.")
    return 0


def files_of(root: Path) -> "Callable[[Task], Iterable[Found]]":
    """What tells what is wrong with the files that a spec's tasks take along of `root`."""
    look: Callable[[Task], Iterable[Found]] | None = None

    def problems(task: "Task") -> "Iterable[Found]":
        nonlocal look
        if task.workspace is None or not task.workspace.include:
            return ()
        if look is None:
            from ..engine import bundling

            look = bundling.checker(root)
        return look(task)

    return problems
