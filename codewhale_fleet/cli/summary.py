"""How a run ended: one plain answer, and its words for people.

`answer` is what `--json` prints; `text` draws the same answer and computes nothing new. Used by
whatever command waits for a run to end. It knows no ledger and no terminal.
"""

from typing import Any

from ..core.state import Run, State, Task
from .words import SHOWN_AS, counted, duration, paint, plain

LISTED = 100
"""Failed, and waiting, tasks that an answer names; the rest is counted."""

SHOWN = 20
"""Failed, and waiting, tasks that are written out for people."""

PLACES = 6
"""Workers that are named to people as those where tasks ran."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

UNREACHABLE = 6
"""Exit code of a run none of whose tasks came to any worker: nobody could be reached."""

WAITS = 3
"""Exit code of what waits for a person; a paused run does."""


def exit_code(counts: dict[str, int], *, interrupted: bool = False) -> int:
    """By precedence: interrupted, failed or cancelled, partial, passed."""
    if interrupted:
        return INTERRUPTED
    if counts.get("failed") or counts.get("cancelled"):
        return 1
    return WAITS if counts.get("partial") else 0


def answer(state: State, run: Run, *, interrupted: bool = False) -> dict[str, Any]:
    """What became of a run. Seconds are wall time; counts leave zeros out."""
    counts = {status: count for status, count in run.counts.items() if count}
    made: dict[str, Any] = {
        "run": run.id,
        "name": run.name,
        "status": run.status,
        "result": run.result,
        "tasks": sum(counts.values()),
        "counts": counts,
        "sources": {source: count for source, count in run.sources.items() if count},
        "restarted": run.restarted,
        "seconds": round(run.seconds, 3),
        "interrupted": interrupted,
        "exit_code": exit_code(counts, interrupted=interrupted),
    }
    if run.status != "finished" and not interrupted:
        made["exit_code"] = WAITS
    elif run.workers and not interrupted and _is_unreached(run, made["tasks"]):
        made["exit_code"] = UNREACHABLE
    if run.usage:
        from ..views.usage import figures

        made["usage"] = figures(run.usage)
    if run.workers:
        from ..views.workers import where

        made["where"] = where(run)
    if run.reason:
        made["reason"] = run.reason
    if run.waived:
        made["unenforced"] = run.waived
    for key, status in (("failed", "failed"), ("waiting", "partial")):
        if counts.get(status):
            rows = [task for task in run.order if task.status == status]
            made[key] = [_row(run, task) for task in rows[:LISTED]]
            if len(rows) > LISTED:
                made[f"{key}_left_out"] = len(rows) - LISTED
    made["next"] = _next(run, counts, "@last" if _newest(state) == run.id else run.id)
    return made


def _is_unreached(run: Run, tasks: int) -> bool:
    """Whether all of it ended without an attempt, because no worker could be reached."""
    if run.sources.get("transport", 0) < max(tasks, 1):
        return False
    return not any(task.attempt for task in run.order)


def _newest(state: State) -> str:
    return next(reversed(state.runs), "")


def _row(run: Run, task: Task) -> dict[str, Any]:
    name = f"{run.id}/{task.id}"
    step = f"fleet {'logs' if task.source == 'task' and task.seconds else 'explain'} {name}"
    if task.status == "partial":
        from ..views.status import verify_command

        step = verify_command(run, task)
    return {
        "task": task.id,
        "attempts": task.attempt,
        "source": task.source,
        "reason": task.reason,
        "seconds": round(task.seconds, 3),
        "next": step,
    }


def _next(run: Run, counts: dict[str, int], name: str) -> list[str]:
    """What a person may type now, each with what it does."""
    if run.status != "finished":
        return [f"fleet status {name} shows it", f"fleet wait {name} waits for its end"]
    steps = []
    if counts.get("failed"):
        steps.append(f"fleet explain {name} says why")
        steps.append(f"fleet resume {name} --failed runs the failed ones again")
    elif counts.get("cancelled"):
        steps.append(f"fleet resume {name} runs the cancelled ones")
    return steps or [f"fleet status {name} shows it", f"fleet receipts {name} proves it"]


def text(made: dict[str, Any], *, color: bool, width: int = 0) -> str:
    """The answer in words. `width` cuts reasons (0: nothing is cut); ids are never cut."""
    lines = [_headline(made)]
    if made.get("where"):
        lines.append(_where(made["where"]))
    rows = _rows(made, color, width)
    if rows:
        lines += ["", *rows]
    if made.get("unenforced"):
        names = ", ".join(made["unenforced"])
        lines += ["", f"Not enforced in this run, as allowed: {names}"]
    lines += ["", paint(" · ".join(made["next"]), "dim", color)]
    return "\n".join(lines)


def _headline(made: dict[str, Any]) -> str:
    counts = made["counts"]
    parts = [f"{counts[status]:,} {word}" for status, word in counted(counts)]
    said = ", ".join(parts) or "no tasks"
    if made["status"] != "finished":
        return f"{made['run']} is {made['status']}: {said}"
    ended = "was interrupted after" if made["interrupted"] else "finished in"
    line = f"{made['run']} {ended} {duration(made['seconds'], exact=True)}: {said}{_used(made)}"
    reason = made.get("reason")
    return f"{line} (stopped: {reason})" if reason and not made["interrupted"] else line


def _where(places: dict[str, int]) -> str:
    """On which workers the tasks ran."""
    named = [f"{count:,} on {place}" for place, count in list(places.items())[:PLACES]]
    more = sum(list(places.values())[PLACES:])
    if more:
        named.append(f"{more:,} on {len(places) - PLACES:,} others")
    return f"ran where: {', '.join(named)}"


def _used(made: dict[str, Any]) -> str:
    usage = made.get("usage")
    if not usage:
        return ""
    from ..views.usage import count, money

    cost = f", {money(usage['cost_usd'])}" if usage["cost_usd"] else ""
    return f", {count(usage['tokens'])} tokens{cost}"


def _rows(made: dict[str, Any], color: bool, width: int) -> list[str]:
    listed = [("failed", row) for row in made.get("failed", ())[:SHOWN]]
    listed += [("partial", row) for row in made.get("waiting", ())[:SHOWN]]
    if not listed:
        return []
    ids = max(len(row["task"]) for _, row in listed)
    reasons = [_reason(row) for _, row in listed]
    steps = max(len(row["next"]) for _, row in listed)
    room = max(len(reason) for reason in reasons)
    if width:
        room = min(room, max(16, width - 2 - 9 - ids - 2 - 2 - steps))
    lines = []
    for (status, row), reason in zip(listed, reasons, strict=True):
        word, shade = SHOWN_AS[status]
        cut = reason if len(reason) <= room else reason[: room - 1] + "…"
        lines.append(
            f"  {paint(f'{word:<9}', shade, color)}{row['task']:<{ids}}  {cut:<{room}}"
            f"  {paint(row['next'], 'dim', color)}"
        )
    for key, status in (("failed", "failed"), ("waiting", "partial")):
        more = made["counts"].get(status, 0) - len(made.get(key, ())[:SHOWN])
        if more > 0:
            lines.append(f"  and {more:,} more {SHOWN_AS[status][0]}")
    return lines


def _reason(row: dict[str, Any]) -> str:
    reason = plain(row["reason"]) or "no reason given"
    if row["source"]:
        reason = f"{row['source']}: {reason}"
    return f"{reason} after {row['attempts']} attempts" if row["attempts"] > 1 else reason
