"""`fleet ledger verify` and `fleet ledger tail`: the ledger itself, examined and read aloud."""

from collections import deque
from typing import Any

from ..core import events as e
from ..ledger.store import Ledger
from .common import EXIT_LEDGER, EXIT_PASSED, Context, print_json
from .faces import Page
from .words import plain, size

Record = tuple[e.Envelope, e.Event]

FIRST_LOOK = 64 * 1024
"""Bytes at the end of the ledger in which the latest records are looked for first."""


# Verify ---------------------------------------------------------------------------------------


def ledger_verify(*, detail: bool = False, ctx: Context) -> int:
    """Check every record; exit code 5 when one does not follow from the one before."""
    from msgspec import to_builtins

    from ..ledger.verify import verify

    report = to_builtins(verify(ctx.fleet_path(), detail=detail))
    code = EXIT_PASSED if report["ok"] else EXIT_LEDGER
    if ctx.json:
        print_json({**report, "exit_code": code})
    else:
        draw(report, detail=detail).show(ctx)
    return code


def draw(report: dict[str, Any], *, detail: bool) -> Page:
    """The report for people."""
    page = Page()
    good = f"{report['records']:,} records, {size(report['size'])}"
    if report["ok"]:
        page.line(f"{report['file']}: ", ("every record follows", "green"), f" ({good})")
        if report["tail_bytes"]:
            page.line(
                f"The last {report['tail_bytes']:,} bytes were never acknowledged; whoever writes "
                "next sets them aside."
            )
    else:
        page.line(f"{report['file']}: ", ("damaged", "red"), f" at byte {report['bad_offset']:,}")
        page.line(f"{report['why'][:1].upper()}{report['why'][1:]}.")
        page.line(f"{report['records']:,} records before it are good.")
        if detail and report["behind"]:
            page.line(f"Behind it {report['behind']:,} records follow from each other.")
    if detail:
        page.line()
        page.rows([[word, f"{count:,}"] for word, count in sorted(report["words"].items())])
        page.line(f"durable up to record {report['synced']:,} · chain {report['chain']}")
    page.line()
    if report["ok"]:
        page.line(("To read it: fleet ledger tail", "dim"))
    elif not detail:
        page.line(("To see more: fleet ledger verify --detail", "dim"))
    else:
        step = f"Nothing was changed. Keep a copy: cp {report['file']} somewhere/"
        page.line((step, "dim"))
    return page


# Tail -----------------------------------------------------------------------------------------


def ledger_tail(
    *, follow: bool = False, only: str | None = None, lines: int = 20, ctx: Context
) -> int:
    """Print the latest records in plain words, and with `follow` each new one."""
    ledger = ctx.ledger()
    for record in latest(ledger, lines, only):
        _show(ctx, record)
    if follow:
        from ..ledger.follow import follow as news

        for records in news(ledger):
            for record in records:
                if wanted(record, only):
                    _show(ctx, record)
    return 0


def latest(ledger: Ledger, count: int, only: str | None) -> list[Record]:
    """The last `count` records that are wanted, found from the end of the file."""
    segment, end = ledger.position
    look = FIRST_LOOK
    while count:
        start = _line_start(ledger, max(0, end - look))
        found: deque[Record] = deque(maxlen=count)
        for record in ledger.records(start=(segment, start)):
            if wanted(record, only):
                found.append(record)
        if len(found) == count or start == 0:
            return list(found)
        look *= 4
    return []


def _line_start(ledger: Ledger, offset: int) -> int:
    """The first line that begins at or after `offset`; 0 stays 0."""
    if offset == 0:
        return 0
    with (ledger.dir / "fleet.jsonl").open("rb") as file:
        file.seek(offset - 1)
        file.readline()
        return file.tell()


def wanted(record: Record, only: str | None) -> bool:
    """Whether a record is of the kind: a word, a part of one, or `receipt`."""
    if only is None:
        return True
    head, event = record
    if only == "receipt":
        return isinstance(event, e.AttemptEnded | e.AttemptLost)
    return only in head.k


def _show(ctx: Context, record: Record) -> None:
    from ..views.sentences import say

    head, event = record
    if ctx.json:
        made = {"seq": head.seq, "ts": head.ts, "k": head.k, "run": head.run, "by": head.by}
        print_json({**made, "d": head.d, "says": say(head, event)})
        return
    day = f"{head.ts[:10]} {head.ts[11:19]}"
    print(f"{head.seq:>7}  {day}  {head.k:<19}  {plain(say(head, event))}", flush=True)


__all__ = ["ledger_tail", "ledger_verify"]
