"""What a manager of a fleet does, in order, as data: `fleet describe` and `fleet skill` tell it.

Promises that each call in it is one that the command line reads (tests/cli/test_describe.py), and
that commands are told as they are declared. Knows nothing of any one fleet.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from . import app
from .common import EXIT_WORDS
from .reach import Reach
from .wait import EXIT_TIMEOUT

RULE = (
    "Never loop over fleet calls, and never start them in the background side by side: one call "
    "does many, at once, under one summary."
)


class Step(NamedTuple):
    """One call, and what it is for."""

    call: str
    does: str


HOW_TO: dict[str, tuple[Step, ...]] = {
    "run": (
        Step("fleet schema", "what a spec may say"),
        Step("fleet check SPEC", "every problem at once; nothing runs"),
        Step("fleet run SPEC --detach --json", "tasks of a spec, side by side"),
        Step("… | fleet run --each - -- CMD {}", "one command for each line, no spec"),
        Step(
            "fleet exec --on SELECTOR -- CMD", "one command on many machines, like answers as one"
        ),
    ),
    "watch": (
        Step("fleet wait RUN --asked --timeout 600", "until it ends, or asks (3); 124: not yet"),
        Step("fleet status --json", "counts; needs: what waits for somebody, and what to type"),
        Step("fleet logs RUN/TASK", "what it wrote"),
        Step("fleet explain RUN/TASK", "why it waits or failed"),
    ),
    "decide": (
        Step("fleet answer RUN/TASK@1 TEXT", "what a task asks"),
        Step("fleet restart RUN/TASK", "a new attempt"),
        Step("fleet resume RUN --failed", "all that failed, again"),
        Step("fleet stop RUN", "end it in order; resumable"),
    ),
    "verify": (
        Step("fleet receipts RUN --json", "who judged what, on which evidence"),
        Step("fleet verify RUN/TASK@1 --pass --note WHY", "your verdict where one is wanted"),
    ),
    "escalate": (
        Step("fleet inspect RUN/TASK", "what to pass on to a person; exit 3 means one is wanted"),
        Step("fleet pause RUN", "start nothing new while the person thinks"),
        Step("fleet stop RUN", "where going on would do harm"),
    ),
}
"""What is done when, and by which calls."""

ABOUT: dict[str, str] = {
    "run": "Put tasks that belong together into one spec; ids name them from then on.",
    "watch": "Wait, do not poll. A run goes on without you.",
    "decide": "Read why before you repeat: the source of a failure says whose fault it was.",
    "verify": "Trust receipts, not words. Give a verdict only on what you have looked at yourself.",
    "escalate": "What a task asks a person is for a person, unless you were told to answer.",
}
"""What holds for all the calls of a kind."""

EXITS = {0: "all passed", **EXIT_WORDS, EXIT_TIMEOUT: "fleet wait gave up; the run goes on"}
"""What an exit code says."""

RESULTS = {
    "pass": "the judge named on it found it good",
    "fail": "it did not, or there was nothing to judge",
    "timeout": "it was ended because its time was up",
    "partial": "nobody has judged it yet: the exit code of its run is 3",
    "skip": "it was stopped on request",
}
"""What the result on a receipt says."""

SOURCES = {
    "task": "the command itself",
    "transport": "what lies between: a host, a connection, a lost status",
    "verifier": "the judging, not the work",
    "budget": "a cap was reached",
    "policy": "a rule forbade it",
    "human": "a person stopped it, or is waited for",
}
"""Whose fault it is when a receipt is no pass."""


class Known(NamedTuple):
    """A command as it is declared."""

    name: str
    does: str
    reach: Reach


def commands() -> Iterator[Known]:
    """Every command that help shows, in its order."""
    for name, one in visible():
        yield Known(name, first_line(one).removesuffix("."), app.REACHES[name])


def visible() -> Iterator[tuple[str, Any]]:
    """Every command that help shows, by name, as Typer made it."""
    yield from _below(typer.main.get_command(app.app), "")


def _below(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if one.hidden:
            continue
        if getattr(one, "commands", None):
            yield from _below(one, f"{prefix}{name} ")
        else:
            yield prefix + name, one


def first_line(command: Any) -> str:
    """What help says that a command does."""
    return " ".join(str(command.help).split())
