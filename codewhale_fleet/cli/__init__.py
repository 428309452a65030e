"""The command line: reads what was asked, carries it out, and turns every mistake into a sentence.

`main` promises an exit code and never a traceback (FLEET_DEBUG=1 asks for one). Frequent commands
are read from a small table without importing Typer (`hot`), everything else by the declarations
(`app`); both give a `Call`. Exit codes beyond those of the product's table: 70 for a mistake in
fleet itself, 141 where the reader of the answer closed the pipe. It knows nothing of what the
commands do.
"""

import os
import sys

from ..errors import FleetError, Refused
from . import hot
from .common import (
    EXIT_INTERRUPTED,
    EXIT_LEDGER,
    EXIT_OURS,
    EXIT_PIPE,
    Context,
    import_msgspec,
    print_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DISK = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EFBIG")
"""Errors of the system that mean: nothing can be written."""

_RIGHTS = ("EACCES", "EPERM")
"""Errors of the system that mean: not you."""


_LIGHT = ("status", "ask", "progress", "checkpoint", "artifact", "usage", "data", "secret")
"""Commands that need msgspec only where no answer is kept, or where no task calls them."""


def main(
    argv: "Sequence[str] | None" = None, carry_out: "Callable[[list[str]], int] | None" = None
) -> int:
    """Carry out a command line; the answer is the exit code.

    `carry_out`: how, where not every command can be had.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["--relay"]:  # hosts/connector.py at the other end of this stdin and stdout
        from ..worker import relay

        return relay.main(words[1:])
    _fill_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what cannot be encoded is shown, never fatal
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            code = (carry_out or _carry_out)(words)
            sys.stdout.flush()
        except FleetError as error:
            sys.stdout.flush()
            code = _tell(error, words)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_PIPE
    except OSError as error:
        code = _tell(_of_system(error), words)
    except Exception as error:
        code = _tell(_ours(error), words)
    _let_go()
    return code


def _fill_standard_descriptors() -> None:
    """Give what the caller closed to nobody: else the ledger is opened in its place.

    Such a stream is None in Python; words for it go nowhere.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115


def perform(call: hot.Call) -> int:
    """Carry out a command: the function of its name, in the module of its first word."""
    first, *_ = words = call.name.replace("-", "_").split(" ")
    if first not in _LIGHT:
        import_msgspec()
    module = __import__(f"codewhale_fleet.cli.{first}", fromlist=("",))
    function = getattr(module, "_".join(words))
    common = call.common
    context = Context(
        common["directory"],
        json=common["json"],
        quiet=common["quiet"],
        verbose=common["verbose"],
        color=False if common["no_color"] else None,
    )
    try:
        return function(**call.params, ctx=context) or 0
    finally:
        context.close()
        if context.hint:
            sys.stdout.flush()
            context.note(f"hint: {context.hint}")


def _carry_out(words: list[str]) -> int:
    if sys.platform != "linux":
        raise Refused(
            f"fleet is tested on Linux only, and this is {sys.platform}.",
            "Use a Linux machine, container or virtual machine.",
            code="platform",
        )
    call = hot.read(words)
    if call is None:
        from . import app

        read = app.read(words)
        if isinstance(read, int):
            return read
        call = read
    return perform(call)


def _tell(error: FleetError, words: list[str]) -> int:
    if os.environ.get("FLEET_DEBUG") == "1":
        import traceback

        traceback.print_exception(error.__cause__ or error)
    before = words[: words.index("--")] if "--" in words else words
    verbose = "-v" in before or "--verbose" in before
    try:
        print_error(error, json="--json" in before, verbose=verbose)
    except OSError:
        pass  # stderr is closed: the exit code is all that can be told
    return error.exit_code


def _of_system(error: OSError) -> FleetError:
    """What the system refused, in a sentence."""
    import errno

    what = (error.strerror or str(error) or type(error).__name__).lower()
    word = errno.errorcode.get(error.errno or 0)
    full = word in _DISK
    where = "the answer" if full else "the system"
    named = isinstance(error.filename, str | bytes)
    if named:
        where = os.fsdecode(error.filename)
    hint = "Nothing that was acknowledged is lost; make room and ask again." if full else ""
    if named and word in _RIGHTS:
        from shlex import quote

        hint = f"To see which directory keeps you out: namei -l {quote(where)}"
    exit_code = EXIT_LEDGER if full else 2
    told = FleetError(f"{where}: {what}.", hint, code="system", exit_code=exit_code)
    told.__cause__ = error
    return told


def _ours(error: Exception) -> FleetError:
    """A mistake in fleet itself: said as such, with where a report goes."""
    what = " ".join(str(error).split())[:200]
    named = f"{type(error).__name__}: {what}" if what else type(error).__name__
    told = FleetError(
        f"this is a mistake in fleet itself ({named}).",
        "Please report it to the project's issue tracker, with what the same command prints\n"
        "under FLEET_DEBUG=1.",
        code="internal",
        exit_code=EXIT_OURS,
    )
    told.__cause__ = error
    return told


def _let_go() -> None:
    """Flush, or give the streams up: the interpreter must not complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            try:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            except (OSError, ValueError):
                pass
