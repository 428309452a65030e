"""The command line as declared: every command, argument and option, once, in Typer.

Each function here only declares; its body never runs. Reading a command line gives a `Call`, which
`cli.main` carries out: the function of the same name in the module of the same name. From these
declarations scripts/command-table generates cli/table.py, which cli/hot.py reads without Typer.
"""

import inspect
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import FleetError
from .hot import COMMON, Call
from .reach import FLEET, ONE, Reach, many

HOT = (
    "run", "exec", "status", "inspect", "logs", "explain", "receipts", "artifacts", "wait",
    "resume", "interrupt", "restart", "stop", "pause", "ask", "progress", "checkpoint",
    "artifact add", "usage add", "data put", "data get", "data list", "data query", "data delete",
    "secret get",
)  # fmt: skip
"""Commands that stand in the generated table."""

app = typer.Typer(
    name="fleet",
    help="Runs many tasks durably: every dispatch, retry and result stands in one ledger.",
    epilog="Start with: fleet check SPEC, then fleet run SPEC. Programs and agents start with: "
    "fleet describe --json. Exit codes: 0 everything passed, "
    "1 a task failed, 2 the request is wrong, 3 a person is needed, 4 refused, 5 the ledger "
    "is damaged or cannot be written, 6 nothing could be placed, 70 a mistake in fleet itself, "
    "130 interrupted.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def Arg(help: str, metavar: str, **more: Any) -> Any:
    """An argument whose metavar is what messages call it."""
    return typer.Argument(help=help, metavar=metavar, show_default=False, **more)


def Opt(names: str, help: str, **more: Any) -> Any:
    """An option under the names given, separated by blanks."""
    return typer.Option(*names.split(), help=help, show_default=False, **more)


_COMMON_OPTIONS: dict[str, tuple[Any, Any]] = {
    "directory": (str | None, Opt("--dir", "Directory of the fleet.", metavar="PATH")),
    "json": (bool, Opt("--json", "Answer in JSON; mistakes too, on stderr.")),
    "quiet": (bool, Opt("--quiet -q", "Say less.")),
    "verbose": (bool, Opt("--verbose -v", "Say more.")),
    "no_color": (bool, Opt("--no-color", "No colours.")),
}


DECLARED: dict[str, inspect.Signature] = {}
"""Every command by name, with its parameters as Typer reads them; the table is made of it."""

REACHES: dict[str, Reach] = {}
"""Every command that help shows, with how far one call of it reaches."""


def command(
    example: str,
    *,
    reach: Reach | None = None,
    group: typer.Typer = app,
    hidden: bool = False,
    called: str = "",
) -> Callable[[Callable[..., None]], None]:
    """Declare a command: the common options are added, and reading it gives a Call.

    It is `called` as its function, with a blank for each underscore, unless that is said. `reach`
    is what `fleet describe` tells of it: a command that says none is refused by a test.
    """

    def declare(function: Callable[..., None]) -> None:
        name = called or function.__name__.strip("_").replace("_", " ")

        def read(**params: Any) -> Call:
            return Call(name, params)

        signature = inspect.signature(function, eval_str=True)
        parameters = list(signature.parameters.values())
        for key in COMMON:
            kind, option = _COMMON_OPTIONS[key]
            parameters.append(
                inspect.Parameter(
                    key,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None if kind is not bool else False,
                    annotation=Annotated[kind, option],
                )
            )
        signature = signature.replace(parameters=parameters)
        DECLARED[name] = signature
        if reach is not None and not hidden:
            REACHES[name] = reach
        read.__signature__ = signature  # type: ignore[attr-defined]
        read.__annotations__ = {one.name: one.annotation for one in parameters}
        read.__doc__ = function.__doc__
        epilog = f"Example: {example}"
        if reach is not None and reach.use_instead:
            epilog += f"\n\nFor many at once: {reach.use_instead}"
        group.command(name.rpartition(" ")[2], epilog=epilog, hidden=hidden)(read)

    return declare


@app.callback()
def _fleet(
    version: Annotated[bool, Opt("--version", "Print the version.")] = False,
) -> None:
    """Only so that the options of the program itself are declared."""


def read(argv: Sequence[str]) -> Call | int:
    """The call that a command line asks for, or the exit code once help was printed.

    Raises FleetError where the command line is wrong.
    """
    argv = list(argv) or ["--help"]
    if argv[0] == "help":
        argv = [*argv[1:], "--help"]
    if argv == ["--version"]:
        print(f"fleet {__version__}")
        return 0
    try:
        answer = _whole().main(_common_first(argv), prog_name="fleet", standalone_mode=False)
    except Exception as error:
        raise _as_ours(error, argv) from None
    return answer if isinstance(answer, Call | int) else 0


@cache
def _whole() -> Any:
    """All commands, as Typer makes them."""
    return typer.main.get_command(app)


def _common_first(argv: list[str]) -> list[str]:
    """Common options before the command stand behind it as well: `fleet --json status`."""
    at = 0
    while at < len(argv) and argv[at] in _BEFORE:
        at += _BEFORE[argv[at]]
    if at == 0 or at >= len(argv) or argv[at].startswith("-"):
        return argv
    words = 2 if argv[at] in ("ledger", "artifact", "usage", "data", "worker") else 1
    return [*argv[at : at + words], *argv[:at], *argv[at + words :]]


_BEFORE = {"--dir": 2, "--json": 1, "--quiet": 1, "-q": 1, "--verbose": 1, "-v": 1, "--no-color": 1}
"""Common options that may stand before the command, and how many words each takes."""


def _as_ours(error: Exception, argv: list[str]) -> Exception:
    """A mistake that Typer found, as one of ours; anything else as it is."""
    told = getattr(error, "format_message", None)
    if told is None:
        return error
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "fleet"
    sentence = str(told()).strip() or f"{path} needs more words."
    sentence = sentence[0].lower() + sentence[1:]
    if type(error).__name__ == "NoArgsIsHelpError":
        sentence = f"{path} needs a command."
    hint = f"{path} --help shows what it takes."
    epilog = str(getattr(getattr(context, "command", None), "epilog", None) or "")
    example = epilog.partition("\n")[0]
    if example.startswith("Example: ") and type(error).__name__ == "MissingParameter":
        hint = f"{hint}\n{example.replace('Example: ', 'Such as: ')}"
    if "--each" in argv:
        after = argv[argv.index("--each") + 1 :]
        if after[:1] == ["--"]:
            sentence = "--each needs the name of a file, or - for standard input."
            hint = f"fleet run --each - -- {shlex.join(after[1:]) or 'CMD {}'}"
        elif "--" not in argv:
            hint = "Put the command behind two dashes: -- CMD {}"
    if "--" not in argv and argv[:1] == ["exec"]:
        hint = "Put the command behind two dashes: fleet exec --on SELECTOR -- CMD"
    return FleetError(sentence, hint, code="usage")


# The main job ---------------------------------------------------------------------------------


@command(
    "fleet run specs/checks.toml --max-workers 4",
    reach=many("fleet run SPEC, or: … | fleet run --each - -- CMD {}"),
)
def run(
    words: Annotated[
        list[str] | None, Arg("The spec, TOML or JSON; - reads stdin.", "SPEC | -- CMD {}")
    ] = None,
    each: Annotated[
        str | None, Opt("--each", "A task for each line of a file, - for stdin.", metavar="FILE")
    ] = None,
    max_workers: Annotated[
        int | None, Opt("--max-workers -j", "Most tasks at once.", metavar="N", min=1, max=128)
    ] = None,
    max_failures: Annotated[
        int | None, Opt("--max-failures", "Stop after so many.", metavar="N", min=1)
    ] = None,
    name: Annotated[str | None, Opt("--name", "Title of the run.", metavar="TEXT")] = None,
    label: Annotated[list[str] | None, Opt("--label", "A label.", metavar="K=V")] = None,
    only: Annotated[
        list[str] | None, Opt("--only", "Only tasks of this id or glob.", metavar="TASK")
    ] = None,
    detach: Annotated[bool, Opt("--detach -d", "Return once a manager has it.")] = False,
    dry_run: Annotated[bool, Opt("--dry-run", "Show what would run.")] = False,
    allow_unenforced: Annotated[
        list[str] | None,
        Opt("--allow-unenforced", "Run although this field cannot be held.", metavar="FIELD"),
    ] = None,
    alerts: Annotated[
        str | None, Opt("--alerts", "Who is told of what, instead of fleet.toml.", metavar="FILE")
    ] = None,
    on: Annotated[
        str | None, Opt("--on", "On these workers, not only here.", metavar="SELECTOR")
    ] = None,
) -> None:
    """Run a spec, or one command for each line of a file."""


@command("fleet check specs/checks.toml --explain", reach=ONE)
def check(
    spec: Annotated[str, Arg("The spec; - reads stdin.", "SPEC")],
    explain: Annotated[bool, Opt("--explain", "Print the plan.")] = False,
    allow_unenforced: Annotated[
        list[str] | None,
        Opt("--allow-unenforced", "Accept that this field is not held.", metavar="FIELD"),
    ] = None,
    alerts: Annotated[
        str | None, Opt("--alerts", "Look at this config of alerts, too.", metavar="FILE")
    ] = None,
) -> None:
    """Find every problem of a spec, and run nothing."""


@command("fleet init", reach=ONE)
def init() -> None:
    """Make a fleet in this directory; twice is harmless."""


@command("fleet doctor", reach=FLEET)
def doctor() -> None:
    """Check this machine, and say what to do."""


# What is going on -----------------------------------------------------------------------------

_ID = "A run, RUN/TASK, RUN/TASK@N or worker; any unique prefix; @last."


@command("fleet status --watch", reach=many("fleet status"))
def status(
    run: Annotated[str | None, Arg("Only this run.", "RUN")] = None,
    watch: Annotated[bool, Opt("--watch -w", "Draw it again whenever it changes.")] = False,
) -> None:
    """Count tasks, and say what needs a person."""


@command("fleet inspect @last", reach=many("fleet inspect RUN"))
def inspect_(
    id: Annotated[str, Arg(_ID, "ID")],
) -> None:
    """Show one run, task, attempt or worker."""


@command("fleet logs @last/ruff --follow", reach=many("fleet logs RUN"))
def logs(
    id: Annotated[str, Arg("A task or attempt; of a run, all tasks.", "ID")],
    follow: Annotated[bool, Opt("--follow -f", "Go on until the attempt ends.")] = False,
    attempt: Annotated[int | None, Opt("--attempt", "Not the latest.", metavar="N", min=1)] = None,
    stderr: Annotated[bool, Opt("--stderr", "Only what went to stderr.")] = False,
) -> None:
    """Print what a task has written."""


@command("fleet artifacts @last --copy-to results", reach=many("fleet artifacts RUN"))
def artifacts(
    id: Annotated[str, Arg("A run, task or attempt.", "ID")],
    copy_to: Annotated[str | None, Opt("--copy-to", "Copy them there.", metavar="DIR")] = None,
) -> None:
    """List the files of attempts: logs, artifacts, evidence."""


@command("fleet receipts @last", reach=many("fleet receipts RUN"))
def receipts(
    run: Annotated[str, Arg("A run, task or attempt; absent: the newest run.", "RUN")] = "@last",
    attempts: Annotated[bool, Opt("--attempts", "Also of attempts that were repeated.")] = False,
) -> None:
    """List how each task was judged, and on what."""


@command("fleet explain @last/ruff", reach=many("fleet explain RUN"))
def explain(
    id: Annotated[str, Arg(_ID, "ID")],
) -> None:
    """Say why it waits, went where it did, or failed."""


@command("fleet wait @last --timeout 600", reach=many("fleet wait ID ID"))
def wait(
    ids: Annotated[list[str], Arg("Runs or tasks.", "ID…")],
    timeout: Annotated[
        float | None, Opt("--timeout", "Give up after so long.", metavar="SECONDS", min=0)
    ] = None,
    asked: Annotated[bool, Opt("--asked", "Also end once one of their tasks asks.")] = False,
) -> None:
    """Wait for the end of runs or tasks."""


@command("fleet resume @last --failed", reach=many("fleet resume RUN --failed"))
def resume(
    run: Annotated[str, Arg("The run.", "RUN")],
    failed: Annotated[bool, Opt("--failed", "Also run again what failed.")] = False,
    max_workers: Annotated[
        int | None, Opt("--max-workers -j", "Most tasks at once.", metavar="N", min=1, max=128)
    ] = None,
    detach: Annotated[bool, Opt("--detach -d", "Return once a manager has it.")] = False,
) -> None:
    """Go on with a run that was stopped, paused or left alone."""


@command("fleet interrupt @last/ruff", reach=many("fleet interrupt ID ID"))
def interrupt(
    ids: Annotated[list[str], Arg("Runs, tasks, attempts or workers.", "ID…")],
) -> None:
    """End what runs, cancel what is queued; resumable."""


@command("fleet restart @last/ruff", reach=many("fleet restart ID ID"))
def restart(
    ids: Annotated[list[str], Arg("Runs, tasks, attempts or workers.", "ID…")],
) -> None:
    """Make a new attempt now; one that runs is ended first."""


@command("fleet stop @last", reach=many("fleet stop --all"))
def stop(
    runs: Annotated[list[str] | None, Arg("The runs.", "RUN…")] = None,
    all: Annotated[bool, Opt("--all", "Every run that is open.")] = False,
) -> None:
    """Interrupt what runs, cancel the rest, and wait for the end."""


@command("fleet pause @last", reach=ONE)
def pause(
    run: Annotated[str, Arg("The run.", "RUN")],
) -> None:
    """Start nothing new until resume; what runs goes on."""


# The rest -------------------------------------------------------------------------------------


@command("fleet schema > fleet-spec.json", reach=ONE)
def schema() -> None:
    """Print the JSON Schema of specs, for editors."""


@command("fleet gc --older-than 30d --dry-run", reach=FLEET)
def gc(
    older_than: Annotated[
        str | None, Opt("--older-than", "Age of a finished run: 30d, 12h.", metavar="AGE")
    ] = None,
    dry_run: Annotated[bool, Opt("--dry-run", "Only say what would be removed.")] = False,
) -> None:
    """Remove logs and evidence of old finished runs."""


from . import app_exec as app_exec  # noqa: E402 (it needs what stands above)
from . import app_ledger as app_ledger  # noqa: E402
from . import app_more as app_more  # noqa: E402
from . import app_tasks as app_tasks  # noqa: E402
from . import app_workers as app_workers  # noqa: E402
