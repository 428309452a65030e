"""`fleet explain ID`: why it waits, went where it did, was tried again or failed."""

import time
from typing import Any

from . import history, names
from .common import Context, manager_answers, print_json
from .faces import Page, Span


def explain(*, id: str, ctx: Context) -> int:
    """Say it, each sentence with the ledger record that it rests on."""
    from ..views import explain as view

    ledger = ctx.ledger()
    target = names.resolve(ledger, id)
    run, task, number = target.run, target.task, target.number
    alive = manager_answers(str(ledger.dir))
    now = time.time()
    if target.worker:
        mine = [one for one in run.order if one.worker == target.worker]
        task = max(mine, key=lambda one: one.seq, default=None)
        number = task.attempt if task else 0
    if task is None:
        answer = view.explain_run(run, history.of_run(ledger, run), alive=alive, now=now)
    else:
        records = history.of_task(ledger, run, task.id)
        answer = view.explain_task(run, task, records, alive=alive, now=now, number=number)
    if ctx.json:
        print_json(answer)
    else:
        draw(answer).show(ctx)
    return 0


def draw(answer: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    page.line((answer["headline"], "bold"))
    page.line()
    rows: list[list[Span]] = [
        [line["sentence"], (f"#{line['seq']}" if "seq" in line else "", "dim")]
        for line in answer["lines"]
    ]
    page.rows(rows, prose=0)
    if rows:
        page.line()
    for step in answer["next"]:
        page.line((step, "dim"))
    return page
