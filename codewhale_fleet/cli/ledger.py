"""`fleet ledger verify`, `repair`, `compact`, `tail`: examined, saved, made small, read aloud."""

from collections import deque
from typing import Any

from ..core import events as e
from ..ledger.store import Ledger
from .analytics import ledger_export, ledger_query
from .common import EXIT_LEDGER, EXIT_PASSED, Context, manager_answers, print_json
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
    segments = f"{report['segments']:,} segment{'s'[: report['segments'] > 1]}"
    if report["compacted"]:
        segments += f" ({report['compacted']:,} compacted)"
    good = f"{segments}, {report['records']:,} records, {size(report['size'])}"
    if report["ok"]:
        page.line(f"{report['file']}: ", ("every record follows", "green"), f" ({good})")
        if report["tail_bytes"]:
            page.line(
                f"The last {report['tail_bytes']:,} bytes were never acknowledged; whoever writes "
                "next sets them aside."
            )
    else:
        where = f" at byte {report['bad_offset']:,}, record {report['bad_record']:,}"
        page.line(f"{report['file']}: ", ("damaged", "red"), where)
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
    else:
        page.line(("To see what can be saved: fleet ledger repair", "dim"))
    return page


# Repair ---------------------------------------------------------------------------------------


def ledger_repair(*, yes: bool = False, ctx: Context) -> int:
    """Show what would be kept and set aside; with `yes`, do it. Damage left as it is: code 5."""
    from msgspec import to_builtins

    from ..ledger.repair import examine, repair

    folder = ctx.fleet_path()
    plan = to_builtins(examine(folder))
    if yes:
        from ..engine.ahead import end_if_ahead, refuse_at_work

        if plan["lost"]:
            refuse_at_work(folder)
        plan = to_builtins(repair(folder, lambda: manager_answers(str(folder))))
        if plan["lost"] and (aside := end_if_ahead(folder)):
            plan["runtime"] = aside
    code = EXIT_PASSED if yes else EXIT_LEDGER
    if ctx.json:
        print_json({**plan, "exit_code": code})
    else:
        draw_repair(plan).show(ctx)
    return code


def draw_repair(plan: dict[str, Any]) -> Page:
    """What would be done, or was."""
    page = Page()
    done, aside = plan["done"], plan["files"]
    page.line(f"Damaged: {plan['why']}.")
    kept = "Kept" if done else "Would be kept"
    page.line(f"{kept}: every record up to {plan['last']:,}, in segment {plan['segment']}.")
    if aside:
        what = "Set aside" if done else "Would be set aside"
        page.line(f"{what}: {size(plan['size'])} after it, in {', '.join(aside)}.")
    if plan["behind"]:
        page.line(f"Among that {plan['behind']:,} records follow from each other.")
    if plan["lost"]:
        page.line((f"{plan['lost']:,} records that were acknowledged are not kept.", "red"))
    if "runtime" in plan:
        page.line("The worker runtime knew of them; it was idle, and was ended.")
        page.line(f"Its journal lies in {plan['runtime']}.")
    elif plan["lost"] and not done:
        page.line("A worker runtime that knows of them is ended too; while something runs there, ")
        page.line("nothing is done.")
    if plan["failed"]:
        page.line("An earlier sync failed: what is kept is written and synced anew.")
    page.line()
    if not done:
        page.line(("Nothing was changed. To do it: fleet ledger repair --yes", "dim"))
    elif aside:
        page.line((f"The whole files lie in {plan['quarantine']}.", "dim"))
    else:
        page.line(("The fleet can go on.", "dim"))
    return page


# Compact --------------------------------------------------------------------------------------


def ledger_compact(*, older_than: str | None = None, ctx: Context) -> int:
    """Drop the detail of runs that finished long ago, and say how much that was."""
    from msgspec import to_builtins

    from ..ledger.compact import Compaction
    from ..ledger.record import stamp
    from .gc import age_of

    ledger = ctx.ledger()
    age = age_of(ctx, older_than, "detail_days")
    before = stamp(max(0.0, ledger.clock() - age))
    newest = ledger.position[0]
    if any(
        run.status == "finished" and run.finished_ts < before and run.closed_at[0] == newest
        for run in ledger.state.runs.values()
    ):
        ledger.rotate_if_due(1)  # only a sealed segment can be compacted
    compaction = Compaction(ledger, before)
    done = to_builtins(compaction.run())
    if done:
        ledger.snapshot()
    answer = {
        "before": before,
        "older_than_seconds": age,
        "runs": len(compaction.runs),
        "dropped": sum(one["dropped"] for one in done),
        "bytes_before": sum(one["before"] for one in done),
        "bytes_after": sum(one["after"] for one in done),
        "segments": done,
        "exit_code": EXIT_PASSED,
    }
    if ctx.json:
        print_json(answer)
    else:
        draw_compaction(answer).show(ctx)
    return EXIT_PASSED


def draw_compaction(answer: dict[str, Any]) -> Page:
    """What was dropped."""
    from ..wire.ages import days

    page = Page()
    if answer["segments"]:
        runs = f"{answer['runs']:,} run{'s'[: answer['runs'] > 1]}"
        page.line(
            f"Compacted: {answer['dropped']:,} records of {runs} dropped, "
            f"{size(answer['bytes_before'])} became {size(answer['bytes_after'])}."
        )
        page.line("Every receipt and every id was kept.")
    else:
        age = days(answer["older_than_seconds"])
        page.line(f"Nothing to compact: no run that finished more than {age} ago has detail here.")
    page.line()
    page.line(("To check the ledger: fleet ledger verify", "dim"))
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
    look, start = FIRST_LOOK, ledger.position
    while count:
        before, start = start, ledger.before(ledger.position, look)
        found: deque[Record] = deque(maxlen=count)
        for record in ledger.records(start=start):
            if wanted(record, only):
                found.append(record)
        if len(found) == count or start == before:
            return list(found)
        look *= 4
    return []


def wanted(record: Record, only: str | None) -> bool:
    """Whether a record is of the kind: a word, a part of one, or `receipt`."""
    if only is None:
        return True
    head, event = record
    if only == "receipt":
        return isinstance(event, e.AttemptEnded | e.AttemptLost | e.ReceiptRecorded)
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


__all__ = [
    "ledger_compact",
    "ledger_export",
    "ledger_query",
    "ledger_repair",
    "ledger_tail",
    "ledger_verify",
]
