"""`fleet receipts [RUN]`: how each task was judged, by what, and on what it rests."""

from typing import Any

from . import names
from .common import Context, print_json
from .faces import Page, Span
from .inspect import prefix_of
from .words import duration, plain

SHADES = {"pass": "green", "fail": "red", "timeout": "red", "partial": "yellow", "skip": "dim"}


def receipts(*, run: str = "@last", attempts: bool = False, ctx: Context) -> int:
    """The receipts of a run, of one task or of one attempt."""
    from ..views.receipts import receipts as view
    from ..views.status import compacted

    ledger = ctx.ledger()
    target = names.resolve(ledger, run)
    of = target.run
    found = list(
        view(
            of,
            ledger.records(of.id, of.opened_at),
            task=target.task.id if target.task else "",
            number=target.number,
            repeated=attempts,
            prefix=prefix_of(ctx, of.workspace),
        )
    )
    answer = {"id": target.id, "receipts": found, "open": of.open, "unenforced": of.waived}
    if of.compacted:
        answer["compacted"] = compacted(of)
    if target.task is not None:
        from .hints import of_task

        ctx.hint = of_task(str(ledger.dir), "receipts", target)
    if ctx.json:
        print_json({**answer, "hint": ctx.hint} if ctx.hint else answer)
    else:
        draw(answer).show(ctx)
    return 0


def draw(answer: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    run = answer["id"].partition("/")[0]
    rows: list[list[Span]] = []
    for one in answer["receipts"]:
        number = f"@{one['attempt']}" if one.get("attempt", 1) > 1 else ""
        took = duration(one["seconds"]) if "seconds" in one else ""
        files = len(one["artifacts"])
        score = one["score"]
        reason = plain(score["notes"] if score else one.get("reason", ""))
        kind = f"{one['failure_kind']}: " if one.get("failure_kind") else ""
        by = one.get("by") or one.get("scorer", "")
        left = "1 file" if files == 1 else f"{files} files" if files else ""
        rows.append(
            [(one["result"], SHADES[one["result"]]), one["task_id"], number, took, by,
             f"{kind}{reason}", left, (f"#{one['terminal_seq']}", "dim")]
        )  # fmt: skip
    page.rows(rows, indent=0, prose=-3)
    if not rows:
        page.line(f"{answer['id']} has no receipt yet.")
    if answer["unenforced"]:
        page.line()
        page.line(f"Not enforced, as allowed, on each of these: {', '.join(answer['unenforced'])}")
    if "compacted" in answer:
        page.line()
        page.line(f"These are kept; the rest is not: {answer['compacted']}.")
        return page
    page.line()
    if answer["open"]:
        page.line((f"{answer['open']:,} still to come: fleet wait {run}", "dim"))
    else:
        page.line((f"To see the files: fleet artifacts {answer['id']}", "dim"))
    return page
