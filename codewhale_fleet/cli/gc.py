"""`fleet gc`: remove logs, evidence and scratch files of runs that finished long ago."""

from typing import Any

from .common import EXIT_PASSED, Context, print_json
from .faces import Page
from .words import size

DEFAULT_DAYS = 30.0
"""Where neither the command nor fleet.toml says."""
DAY_SECONDS = 86_400.0


def gc(*, older_than: str | None = None, dry_run: bool = False, ctx: Context) -> int:
    """Remove the files, or with `dry_run` say what would be removed."""
    from msgspec import to_builtins

    from ..engine.collecting import collect

    ledger = ctx.ledger()
    age = age_of(ctx, older_than, "files_days")
    found = to_builtins(collect(ledger, age, dry_run=dry_run))
    answer = {**found, "older_than_seconds": age, "exit_code": EXIT_PASSED}
    if ctx.json:
        print_json(answer)
    else:
        draw(answer).show(ctx)
    return EXIT_PASSED


def age_of(ctx: Context, older_than: str | None, key: str) -> float:
    """Seconds: as asked, else as `[retention]` of fleet.toml says, else 30 days."""
    from ..engine.disk import roots
    from ..engine.housekeeping import retention_of
    from ..wire.ages import seconds_of_age

    if older_than is not None:
        return seconds_of_age(older_than)
    ledger = ctx.ledger()
    asked = retention_of(roots(ledger.dir, ledger.state))
    written: float | None = getattr(asked, key) if asked else None
    return (DEFAULT_DAYS if written is None else written) * DAY_SECONDS


def draw(answer: dict[str, Any]) -> Page:
    """The answer for people."""
    from ..wire.ages import days

    page = Page()
    age = days(answer["older_than_seconds"])
    files = "1 file" if answer["files"] == 1 else f"{answer['files']:,} files"
    runs = "1 run" if answer["runs"] == 1 else f"{answer['runs']:,} runs"
    if not answer["files"]:
        page.line(f"Nothing to remove: no run that finished more than {age} ago has files here.")
    else:
        what = "Would be removed" if answer["dry_run"] else "Removed"
        page.line(f"{what}: {files}, {size(answer['bytes'])}, of {runs} older than {age}.")
        page.rows(
            [
                [kind, f"{one['files']:,}", size(one["bytes"])]
                for kind, one in sorted(answer["kinds"].items())
            ]
        )
    if answer["kept"]:
        page.line(f"Not looked at: {answer['kept']}.")
    page.line()
    if answer["dry_run"] and answer["files"]:
        page.line(("Nothing was removed. To do it: fleet gc, with the same age", "dim"))
    else:
        page.line(("The ledger keeps every receipt: fleet receipts RUN", "dim"))
    return page
