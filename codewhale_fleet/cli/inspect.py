"""`fleet inspect ID`: everything about one run, task, attempt or worker."""

import time
from typing import Any

from ..errors import FleetError
from . import history, names
from .common import FLEET, Context, manager_answers, print_json
from .faces import Page, Span, state_span
from .words import SHOWN_AS, duration, plain, size

SHOWN_REASON = 200
"""Characters of a reason in a table."""


def inspect(*, id: str, ctx: Context) -> int:
    """Look the thing up and show it."""
    from ..engine.disk import too_full
    from ..views import inspect as view

    ledger = ctx.ledger()
    if id in ledger.state.workers:
        return _machine(ctx, id)
    try:
        target = names.resolve(ledger, id)
    except FleetError:
        if "/" in id or not _is_machine(ctx, id):
            raise
        return _machine(ctx, id)
    state, run, task = ledger.state, target.run, target.task
    alive = manager_answers(str(ledger.dir))
    prefix = prefix_of(ctx, run.workspace)
    answer: dict[str, Any] | None
    if target.worker:
        records = history.of_worker(ledger, run, target.worker)
        answer = view.inspect_worker(state, run, target.worker, records, alive=alive, prefix=prefix)
    elif task is None:
        answer = view.inspect_run(state, run, history.of_run(ledger, run), alive=alive)
    else:
        records = history.of_task(ledger, run, task.id)
        if target.number:
            answer = view.inspect_attempt(state, run, task, target.number, records, prefix=prefix)
        else:
            answer = view.inspect_task(
                state,
                run,
                task,
                records,
                alive=alive,
                now=time.time(),
                prefix=prefix,
                full=too_full(ledger.dir, state),
            )
    assert answer is not None, "names.resolve answers only attempts that were"
    if target.task is not None:
        from .hints import of_task

        ctx.hint = of_task(str(ledger.dir), "inspect", target)
    if ctx.json:
        print_json({**answer, "hint": ctx.hint} if ctx.hint else answer)
    else:
        draw(answer, time.time()).show(ctx)
    return 0


def _is_machine(ctx: Context, id: str) -> bool:
    """Whether it is a worker of the fleet that no record speaks of yet."""
    from . import fleet_workers
    from .worker import knows

    try:
        return knows(fleet_workers.opened(ctx), id)
    except FleetError:  # fleet.toml has mistakes, which are not asked for
        return False


def _machine(ctx: Context, id: str) -> int:
    from .worker import worker_inspect

    return worker_inspect(id=id, ctx=ctx)


def prefix_of(ctx: Context, workspace: str) -> str:
    """The fleet directory as seen from the workspace: `.fleet`, or its absolute path."""
    directory = ctx.fleet_dir()
    return FLEET if directory == f"{workspace}/{FLEET}" else directory


# The face -------------------------------------------------------------------------------------

_FIELDS = (
    "worker", "status", "run", "task", "name", "objective", "role", "trust", "command", "agent",
    "model", "scorer", "timeout_seconds", "host", "heartbeat", "stale_since", "attempt", "placed",
    "started_at", "seconds", "usage", "told", "progress", "asks", "ended", "cpu", "rss_kb",
    "result", "restart_exhausted", "workspace",
    "max_workers", "environment", "secrets", "verifier_secrets",
    "unenforced", "reason", "compacted", "latest_event", "waiting",
    "isolated", "base", "notes", "unsaved", "receipt", "missing", "last_error", "alert",
)  # fmt: skip
"""Shown in this order, each if there is something to show."""

_LABELS = {
    "seconds": "took",
    "timeout_seconds": "timeout",
    "started_at": "started",
    "placed": "why there",
    "stale_since": "stale",
    "cpu": "processor time",
    "rss_kb": "peak memory",
    "restart_exhausted": "attempts",
    "compacted": "detail",
    "isolated": "own directory",
    "base": "began from",
    "unsaved": "not in the patch",
    "usage": "used",
    "told": "used",
    "verifier_secrets": "verifier's secrets",
}


def draw(answer: dict[str, Any], now: float) -> Page:
    """The answer for people."""
    page = Page()
    kind = answer["kind"]
    title = answer.get("id") or answer.get("worker") or answer["run"]
    page.line((title, "bold"), f"   {kind}")
    page.line()
    rows: list[list[Span]] = []
    for name in _FIELDS:
        value = answer.get(name)
        if name == "rss_kb" and name in answer and value is None:
            value = "unknown"
        if value in (None, "", [], {}) or name == kind or (kind == "run" and name == "name"):
            continue
        label = _LABELS.get(name, name.replace("_", " "))
        rows.append([(label, "dim"), _shown(name, value, now)])
    page.rows(rows)
    _attempts(page, answer)
    _workers(page, answer)
    _tasks(page, answer)
    _artifacts(page, answer)
    page.line()
    page.line((" · ".join(answer["next"]), "dim"))
    return page


def _workers(page: Page, answer: dict[str, Any]) -> None:
    """Who did how much of a run, where it has workers; those that are in trouble are told so."""
    if not answer.get("workers"):
        return
    page.line()
    rows: list[list[Span]] = []
    for one in answer["workers"]:
        done = ", ".join(f"{count:,} {status}" for status, count in one["tasks"].items())
        trouble = f"can't be reached: {plain(one['unreachable'])}" if "unreachable" in one else ""
        trouble = "retired" if "retired" in one else trouble or "drained" * ("draining" in one)
        rows.append([one["worker"], (done or "nothing yet", "dim"), (trouble, "yellow")])
    page.rows(rows)
    rest = answer["workers_total"] - len(answer["workers"])
    if rest > 0:
        page.line((f"  and {rest:,} more workers", "dim"))


def _shown(name: str, value: Any, now: float) -> Span:
    if name == "status":
        return state_span(value, SHOWN_AS[value][0] if value in SHOWN_AS else value)
    if name in ("heartbeat", "started_at", "stale_since"):
        from datetime import datetime

        since = duration(max(0.0, now - datetime.fromisoformat(value).timestamp()))
        hangs = (f"no output and no processor time; noticed {since} ago", "yellow")
        return hangs if name == "stale_since" else f"{since} ago"
    if name == "restart_exhausted":
        return "used up"
    if name == "rss_kb" and value != "unknown":
        return size(value * 1024)
    if name in ("seconds", "timeout_seconds", "cpu"):
        return duration(value)
    if name in ("usage", "told"):
        return _used(value)
    if name == "latest_event":
        return f"#{value['seq']} {value['says']}"
    if name == "asks":
        return ("; ".join(f"{plain(one['question'])}   {one['next']}" for one in value), "yellow")
    if name == "notes":
        return "; ".join(value)
    if name == "isolated":
        return f".fleet/{value}"
    if name == "waiting":
        return str(value["sentence"])
    if name == "receipt":
        notes = f": {value['notes']}" if value.get("notes") else ""
        source = f" ({value['failure_kind']})" if value.get("failure_kind") else ""
        return f"{value['result']}{source}{notes}, #{value['terminal_seq']}"
    if isinstance(value, dict):
        return ", ".join(f"{key} ({way})" for key, way in sorted(value.items()))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def _used(value: dict[str, Any]) -> str:
    """What an agent used; of an attempt, also its session and model."""
    from ..views.usage import count, money

    usage = value.get("usage", value)
    parts = [f"{count(usage['tokens'])} tokens"]
    if usage["tokens_cached"]:
        parts.append(f"{count(usage['tokens_cached'])} of them from a cache")
    if calls := usage["tool_calls"]:
        parts.append("1 tool call" if calls == 1 else f"{calls:,} tool calls")
    if usage["cost_usd"]:
        parts.append(money(usage["cost_usd"]))
    parts += [f"{key} {plain(value[key])}" for key in ("model", "session") if value.get(key)]
    if value.get("unread"):
        parts.append(f"{value['unread']:,} bytes of its output could not be read")
    return ", ".join(parts)


def _attempts(page: Page, answer: dict[str, Any]) -> None:
    rows = answer.get("attempts")
    if not rows:
        return
    page.line()
    page.line("attempts")
    table: list[list[Span]] = []
    for row in rows:
        if isinstance(row, str):
            table.append([row])
            continue
        result = row.get("result")
        word = "in flight"
        if result:
            from ..views.sentences import RESULT_WORDS

            word = RESULT_WORDS[result]
        took = duration(row["seconds"]) if "seconds" in row else ""
        shade = {"pass": "green", "fail": "red", "timeout": "red", "partial": "yellow"}
        table.append(
            [f"@{row['attempt']}", (word, shade.get(result or "", "")), took,
             row.get("worker", ""), plain(str(row.get("reason", "")))[:SHOWN_REASON],
             (f"#{row['latest_seq']}", "dim")]
        )  # fmt: skip
    page.rows(table, prose=-2)


def _tasks(page: Page, answer: dict[str, Any]) -> None:
    rows = answer.get("task_rows")
    if not rows:
        return
    page.line()
    page.line("tasks")
    table: list[list[Span]] = []
    for row in rows:
        word, shade = SHOWN_AS[row["status"]]
        number = f"@{row['attempt']}" if row["attempt"] > 1 else ""
        took = duration(row["seconds"]) if row["attempt"] else ""
        reason = plain(row["reason"])[:SHOWN_REASON]
        why = f"{row['source']}: {reason}" if row["source"] else reason
        table.append([(word, shade), row["task"], number, took, why])
    page.rows(table)
    more = answer["task_rows_total"] - len(rows)
    if more:
        page.line((f"  and {more:,} more", "dim"))


def _artifacts(page: Page, answer: dict[str, Any]) -> None:
    rows = answer.get("artifacts")
    if not rows:
        return
    page.line()
    page.line("artifacts")
    page.rows([[one["kind"], one["path"], size(one["size_bytes"])] for one in rows], prose=1)
    more = answer.get("artifacts_total", 0) - len(rows)
    if more > 0:
        page.line((f"  and {more:,} more: fleet artifacts {answer['run']}", "dim"))
