"""The command line, continued: the ledger. Declared as in app.py."""

from typing import Annotated

import typer

from .app import Arg, Opt, app, command
from .reach import FLEET

ledger = typer.Typer(
    name="ledger", help="Examine the ledger.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(ledger)


@command("fleet ledger verify --detail", reach=FLEET, group=ledger)
def ledger_verify(
    detail: Annotated[bool, Opt("--detail", "Show the records around each damage.")] = False,
) -> None:
    """Check that every record follows from the one before."""


@command("fleet ledger repair", reach=FLEET, group=ledger)
def ledger_repair(
    yes: Annotated[bool, Opt("--yes", "Do it; without this it is only shown.")] = False,
) -> None:
    """Keep what is good of a damaged ledger, and set the rest aside."""


@command("fleet ledger compact --older-than 90d", reach=FLEET, group=ledger)
def ledger_compact(
    older_than: Annotated[
        str | None, Opt("--older-than", "Age of a finished run: 30d, 12h.", metavar="AGE")
    ] = None,
) -> None:
    """Drop the detail of old finished runs; receipts and ids stay."""


@command("fleet ledger tail --only receipt", reach=FLEET, group=ledger)
def ledger_tail(
    follow: Annotated[bool, Opt("--follow -f", "Go on as records come.")] = False,
    only: Annotated[
        str | None, Opt("--only", "A word or a part of it, or receipt.", metavar="KIND")
    ] = None,
    lines: Annotated[int, Opt("--lines -n", "How many to begin with.", metavar="N", min=0)] = 20,
) -> None:
    """Show the latest records in plain words."""


@command("fleet ledger export --format parquet --output ledger", reach=FLEET, group=ledger)
def ledger_export(
    format: Annotated[
        str | None, Opt("--format", "jsonl, parquet or duckdb.", metavar="FORMAT")
    ] = None,
    output: Annotated[
        str | None, Opt("--output -o", "What to write; it may not exist yet.", metavar="PATH")
    ] = None,
    sign: Annotated[
        str | None, Opt("--sign", "Sign it with this private OpenSSH key.", metavar="KEY")
    ] = None,
) -> None:
    """Write the ledger for other tools: its lines, or its tables."""


@command(
    "fleet ledger query 'SELECT source, count(*) FROM receipts GROUP BY source'",
    reach=FLEET,
    group=ledger,
)
def ledger_query(
    sql: Annotated[str, Arg("A query in DuckDB's SQL; it changes nothing.", "SQL")],
) -> None:
    """Ask the ledger in SQL: records, runs, tasks, attempts, receipts and more."""
