"""The command line, continued: agents, verdicts and patches. Declared like those in app.py."""

from typing import Annotated

from .app import Arg, Opt, command


@command("fleet cost @last")
def cost(
    run: Annotated[str | None, Arg("Run, or task; all runs when absent.", "RUN")] = None,
) -> None:
    """Sum up what agents used, and what it cost."""


@command("fleet verify @last/review --pass")
def verify(
    id: Annotated[str, Arg("A task, or an attempt, that waits for a verdict.", "ID")],
    passed: Annotated[bool, Opt("--pass", "It is as it should be.")] = False,
    failed: Annotated[bool, Opt("--fail", "It is not.")] = False,
    note: Annotated[str | None, Opt("--note", "Why.", metavar="TEXT")] = None,
    evidence: Annotated[
        str | None, Opt("--evidence", "A file that the verdict rests on.", metavar="FILE")
    ] = None,
) -> None:
    """Decide what waits for a person's verdict."""


@command("fleet apply @last/fix --check")
def apply(
    id: Annotated[str, Arg("A task or attempt with a directory of its own.", "ID")],
    check: Annotated[bool, Opt("--check", "Only say whether it fits.")] = False,
    three_way: Annotated[bool, Opt("--3way", "Merge it with what changed meanwhile.")] = False,
    unpassed: Annotated[bool, Opt("--unpassed", "Though the attempt has not passed.")] = False,
) -> None:
    """Put what an attempt has changed into the workspace."""
