"""The command line, continued: one command on many machines. Declared as in app.py."""

from typing import Annotated

from .app import Arg, Opt, command
from .reach import many


@command(
    "fleet exec --on local -- uptime",
    reach=many("fleet exec --on SELECTOR -- CMD"),
    called="exec",
)
def exec_(
    words: Annotated[
        list[str] | None, Arg("The command, or with --script its arguments.", "-- CMD")
    ] = None,
    on: Annotated[
        str | None,
        Opt(
            "--on",
            "Whom: ids, web[01-50], globs, groups, role=db, @failed:RUN.",
            metavar="SELECTOR",
        ),
    ] = None,
    concurrency: Annotated[
        int | None, Opt("--concurrency", "Most targets at once.", metavar="N", min=1)
    ] = None,
    keep_order: Annotated[
        bool, Opt("--keep-order", "One after the other, as selected; nothing is folded.")
    ] = False,
    script: Annotated[
        str | None, Opt("--script", "Run this file there; - reads stdin.", metavar="FILE")
    ] = None,
    one: Annotated[bool, Opt("--one", "On one of them: the least loaded.")] = False,
    timeout: Annotated[
        float | None, Opt("--timeout", "End it after so long.", metavar="SECONDS", min=0.001)
    ] = None,
    env: Annotated[
        list[str] | None, Opt("--env", "A variable that goes along.", metavar="NAME")
    ] = None,
    name: Annotated[str | None, Opt("--name", "Title of the run.", metavar="TEXT")] = None,
) -> None:
    """Run one command on many machines, as one run."""
