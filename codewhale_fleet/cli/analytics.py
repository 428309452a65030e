"""`fleet ledger export` and `fleet ledger query`: the ledger for other tools, and asked in SQL.

Both read what is durable when they begin and change nothing. Names and meanings of the tables stand
in docs/reference/ledger.md; here is only how an answer looks.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ..errors import FleetError
from ..ledger.analytics import FORMATS, export, query
from .common import Context, print_json
from .faces import Page, Span

SUFFIXES = {"jsonl": ".jsonl", "parquet": "", "duckdb": ".duckdb"}


def ledger_export(
    *,
    format: str | None = None,
    output: str | None = None,
    sign: str | None = None,
    ctx: Context,
) -> int:
    """Write the whole ledger to a new file; for parquet, a directory with a file a table."""
    kind = format or _kind_of(output)
    if kind not in FORMATS:
        raise FleetError(
            f'"{kind}" is no format.',
            f"Say --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
            field="--format",
        )
    ledger = ctx.ledger()
    target = Path(output or f"fleet-{ledger.seq}{SUFFIXES[kind]}")
    done = export(ledger, target, kind, key=Path(sign) if sign else None)
    if ctx.json:
        print_json(to_builtins(done))
        return 0
    page = Page()
    page.line(f"{done.records:,} records, chain {done.chain}, to {done.path}")
    page.rows([[(digest[:16], "dim"), name] for name, digest in done.sha256.items()])
    if done.signature:
        page.line(f"signed: {done.signature}")
    page.show(ctx)
    return 0


def _kind_of(output: str | None) -> str:
    """The format that a file's name asks for; jsonl where it says nothing."""
    suffix = Path(output).suffix if output else ""
    return {".duckdb": "duckdb", ".parquet": "parquet"}.get(suffix, "jsonl")


def ledger_query(*, sql: str, ctx: Context) -> int:
    """Answer one SQL query over the tables: records, runs, tasks, attempts, receipts and more."""
    columns, rows = query(ctx.ledger(), sql)
    if ctx.json:
        plain = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        print_json({"columns": columns, "rows": plain})
        return 0
    page = Page()
    titles: list[Span] = [(name, "bold") for name in columns]
    body: list[list[Span]] = [[_shown(value) for value in row] for row in rows]
    page.rows([titles, *body], indent=0)
    page.line((f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}", "dim"))
    page.show(ctx)
    return 0


def _plain(value: object) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return "" if value is None else str(value)


__all__ = ["ledger_export", "ledger_query"]
