"""`fleet cost [RUN]`: what agents used and cost, by task, agent, model and label."""

from typing import Any

from . import names
from .common import Context, print_json
from .faces import Page, Span
from .words import plain

SHOWN = 20
"""Rows of each table that are written out for people."""

NEEDLES = (b'"agent":{', b'"k":"attempt.lost"')
"""What stands in every record that counts."""


def cost(*, run: str | None = None, ctx: Context) -> int:
    """Of one run, or one task; without a name, of all runs here."""
    from ..core.events import Envelope, Event
    from ..core.state import Run
    from ..views.cost import Use, uses
    from ..views.cost import cost as view

    ledger = ctx.ledger()

    def used(one: Run) -> list[Use]:
        found: dict[int, tuple[Envelope, Event]] = {}
        for needle in (b"attempt.ended",) if one.compacted else NEEDLES:
            for head, event in ledger.records(one.id, one.opened_at, containing=needle):
                found[head.seq] = (head, event)
        return uses(one, [found[seq] for seq in sorted(found)])

    only, name = "", "all runs"
    if run is None:
        those = [one.id for one in ledger.state.runs.values() if one.usage or one.flights]
        runs = [ledger.hydrate(one) for one in those]
    else:
        target = names.resolve(ledger, run)
        runs, name = [target.run], target.id
        only = target.task.id if target.task else ""
    answer = {"id": name, **view([(one, used(one)) for one in runs], only=only)}
    if ctx.json:
        print_json(answer)
    else:
        draw(answer, whole=run is None).show(ctx)
    return 0


def draw(answer: dict[str, Any], *, whole: bool = False) -> Page:
    """The answer for people."""
    from ..views.usage import money

    page = Page()
    total = answer["total"]
    if not total["processes"]:
        page.line(f"{answer['id']}: no agent has reported any usage.")
        page.line()
        page.line(("Commands cost nothing. How agents report it: fleet doctor", "dim"))
        return page
    page.line((f"{answer['id']}: {_sum(total)}", "bold"))
    if total["cost_per_passed_usd"] is not None:
        tasks = "1 task" if total["passed"] == 1 else f"{total['passed']:,} tasks"
        page.line(
            f"{tasks} passed, at {money(total['cost_per_passed_usd'])} each, failures included"
        )
    if "verifiers" in answer:
        page.line(f"of that, verifiers: {_sum(answer['verifiers'])}")
    for key in ("run", "task", "agent", "model", "label"):
        rows = answer[f"by_{key}"]
        if not rows or (key == "run" and not whole) or (key == "task" and whole):
            continue
        page.line()
        page.rows([_head(key), *(_row(key, row) for row in rows[:SHOWN])], prose=0)
        if len(rows) > SHOWN:
            page.line((f"  and {len(rows) - SHOWN:,} more: --json has them all", "dim"))
    page.line()
    if answer["no_cost"]:
        those = ", ".join(
            f"{plain(agent)} ({number:,} of them)" for agent, number in answer["no_cost"].items()
        )
        page.line(f"Some processes told no cost, and sums are without it: {those}.")
    if total.get("unread"):
        page.line(f"{total['unread']:,} bytes of output could not be read: there may be more.")
    step = "fleet cost RUN" if whole else f"fleet inspect {answer['id']}"
    page.line((f"To see more: {step}", "dim"))
    return page


def _sum(row: dict[str, Any]) -> str:
    from ..views.usage import count, money

    cost = "cost unknown" if row["cost_usd"] is None else money(row["cost_usd"])
    some = "at least " if row.get("unpriced") and row["cost_usd"] is not None else ""
    calls = "1 tool call" if row["tool_calls"] == 1 else f"{row['tool_calls']:,} tool calls"
    return f"{some}{cost}, {count(row['tokens'])} tokens, {calls}"


def _head(key: str) -> list[Span]:
    heads = (key, "tokens", "cached", "calls", "cost", "passed", "each")
    return [(head, "dim") for head in heads]


def _row(key: str, row: dict[str, Any]) -> list[Span]:
    from ..views.usage import count, money

    each = row["cost_per_passed_usd"]
    name = row[key].partition("/")[2] if key == "task" else row[key]
    return [
        plain(name),
        count(row["tokens"]),
        count(row["tokens_cached"]),
        f"{row['tool_calls']:,}",
        "?" if row["cost_usd"] is None else money(row["cost_usd"]),
        f"{row['passed']:,}",
        money(each) if each is not None else "",
    ]
