"""`fleet explain ID`: why it waits, went where it did, was tried again or failed."""

import os
import re
import time
from typing import Any

from ..core.events import Log
from . import history, names
from .common import Context, manager_answers, print_json
from .faces import Page, Span
from .words import plain

TAIL_BYTES = 8192
"""How much of a log's end is looked at for its last line."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

SHOWN = 200
"""Characters of a log's last line."""


def explain(*, id: str, ctx: Context) -> int:
    """Say it, each sentence with the ledger record that it rests on."""
    from ..engine.disk import too_full
    from ..views import explain, explain_run

    ledger = ctx.ledger()
    target = names.resolve(ledger, id)
    run, task = target.run, target.task
    alive = manager_answers(str(ledger.dir))
    now = time.time()
    known: dict[str, Any] = {
        "alive": alive,
        "now": now,
        "full": too_full(ledger.dir, ledger.state),
        "breakers": ledger.state.breakers,
        "workers": ledger.state.workers,
        "runs": ledger.state.open_runs.values(),
    }
    if target.worker:
        records = history.of_worker(ledger, run, target.worker)
        answer = explain_run.explain_worker(run, target.worker, records, **known)
    elif task is None:
        answer = explain_run.explain_run(run, history.of_run(ledger, run), **known)
    else:
        answer = explain.explain_task(
            run,
            task,
            history.of_task(ledger, run, task.id),
            number=target.number,
            of_workers=history.of_workers(ledger, run),
            last_words=lambda log: last_line(str(ledger.dir), log),
            **known,
        )
    if ctx.json:
        print_json(answer)
    else:
        draw(answer).show(ctx)
    return 0


def last_line(directory: str, log: Log) -> str:
    """The last line with something in it that a kept log ends with; empty where there is none."""
    try:
        with open(f"{directory}/{log.path}", "rb") as file:  # noqa: PTH123 (pathlib is no help)
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except OSError:
        return ""
    text = _COLOURS.sub("", data.decode(errors="replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    return plain(lines[-1].strip())[:SHOWN] if lines else ""


def draw(answer: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    page.line((answer["headline"], "bold"))
    page.line()
    rows: list[list[Span]] = [
        [line["sentence"], (f"record {line['seq']:,}" if "seq" in line else "", "dim")]
        for line in answer["lines"]
    ]
    page.rows(rows, prose=0)
    if rows:
        page.line()
    for step in answer["next"]:
        page.line((step, "dim"))
    return page
