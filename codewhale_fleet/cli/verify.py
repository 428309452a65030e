"""`fleet verify ATTEMPT --pass|--fail`: the verdict of a person, or of another agent.

It is on what waits for one, and never for the task itself: from inside an attempt of this fleet it
is refused. What may be judged is the core's; this reads the words, and tells what became of it.
"""

import os
from pathlib import Path
from typing import Any

from ..core.events import Receipt
from ..core.state import Run, attempt_id
from ..errors import FleetError, Refused
from ..ledger.store import Ledger
from ..views.status import verify_command
from . import names
from .common import Context, print_json, refuse_unwritable
from .controls import BY
from .faces import Page
from .words import counted, plain

NOTE_BYTES = 4_096
MOST_PARENTS = 64
"""Processes above this one that are looked at for an attempt."""


def verify(
    *,
    id: str,
    passed: bool = False,
    failed: bool = False,
    note: str | None = None,
    evidence: str | None = None,
    ctx: Context,
) -> int:
    """Record the verdict; exit code 0 once it is durable."""
    if passed == failed:
        raise FleetError(
            "a verdict is --pass or --fail, one of them.", f"fleet verify {id} --pass", code="usage"
        )
    words = (note or "").strip().encode("utf-8", "replace")
    if len(words) > NOTE_BYTES:
        raise FleetError(
            f"the note takes {len(words):,} bytes; at most {NOTE_BYTES:,} are kept with a verdict.",
            "Put it into a file: --evidence FILE keeps that too.",
            field="note",
        )
    ledger = ctx.ledger()
    _refuse_inside(ctx, ledger)
    refuse_unwritable(str(ledger.dir))
    attempt = _attempt(ledger, id)
    from ..engine import verdicts

    kept = verdicts.keep(ledger, Path(ctx.cwd or "", evidence)) if evidence is not None else None
    receipt = _receipt(passed, words.decode())
    seq = verdicts.record(ledger, attempt, receipt, kept, by=BY)
    if ledger.state.owing:
        from ..engine.handover import have_sent

        have_sent(ledger)
    made = _answer(ledger, attempt, receipt, seq)
    if kept is not None:
        made["evidence"] = f"sha256:{kept.sha256}"
    if ctx.json:
        print_json(made)
    elif not ctx.quiet:
        draw(made).show(ctx)
    return 0


def _receipt(passed: bool, note: str) -> Receipt:
    if passed:
        return Receipt(result="pass", scorer="manual", reason=note)
    reason = note or "refused without a note"
    return Receipt(result="fail", source="human", scorer="manual", reason=reason, feedback=note)


def _attempt(ledger: Ledger, id: str) -> str:
    """The attempt that is meant: of a task, the latest one."""
    target = names.resolve(ledger, id)
    run, task = target.run, target.task
    if target.worker:
        raise FleetError(f"{target.id} is a worker.", "Name a task or an attempt.")
    if task is None:
        waiting = [one for one in run.order if one.status == "partial"]
        hint = f"fleet verify {run.id}/TASK --pass"
        if waiting:
            hint = f"What waits: {', '.join(f'{run.id}/{one.id}' for one in waiting[:5])}"
        raise FleetError(f"{run.id} is a run; a verdict is on one task.", hint)
    if not task.attempt:
        raise Refused(
            f"{run.id}/{task.id} has had no attempt: there is nothing to judge.",
            f"fleet explain {run.id}/{task.id} says why.",
        )
    return attempt_id(run.id, task.id, target.number or task.attempt)


def _refuse_inside(ctx: Context, ledger: Ledger) -> None:
    """Refused where this process, or one above it, belongs to an attempt of this fleet."""
    mine = ctx.environ.get("FLEET_ATTEMPT_ID", "")
    fleet = ctx.environ.get("FLEET_ID", "")
    inside = mine if mine and fleet in ("", ledger.state.fleet) else _above(ledger.state.fleet)
    if inside:
        raise Refused(
            f"this is inside {inside}: no task judges work of its own fleet.",
            "A person, or an agent outside of it, gives the verdict.",
            code="inside_task",
        )


def _above(fleet: str) -> str:
    """The attempt of this fleet that a process above this one belongs to; empty for none."""
    from ..worker import processes

    pid = os.getppid()
    for _ in range(MOST_PARENTS):
        if pid <= 1:
            break
        environment = processes.environment_of(pid)
        name = processes.attempt_in(environment)
        if name and f"\0FLEET_ID={fleet}\0".encode() in b"\0" + environment + b"\0":
            return name
        facts = processes.facts_of(pid)
        pid = facts.parent if facts else 0
    return ""


def _answer(ledger: Ledger, attempt: str, receipt: Receipt, seq: int) -> dict[str, Any]:
    run = ledger.hydrate(attempt.partition("/")[0])
    made: dict[str, Any] = {
        "attempt": attempt,
        "result": receipt.result,
        "note": receipt.reason,
        "by": BY,
        "seq": seq,
        "run": run.id,
        "status": run.status,
        "counts": {status: count for status, count in run.counts.items() if count},
    }
    if run.status == "finished":
        made["run_result"] = run.result
    made["next"] = _next(run, attempt, receipt)
    return made


def _next(run: Run, attempt: str, receipt: Receipt) -> list[str]:
    waiting = next((task for task in run.order if task.status == "partial"), None)
    steps = []
    if receipt.result == "fail":
        task = attempt.rpartition("@")[0]
        told = " and tells it your note" if receipt.feedback else ""
        steps.append(f"fleet restart {task} does it again{told}")
    if waiting is not None:
        steps.append(f"{verify_command(run, waiting)} decides what waits next")
    elif run.status == "finished":
        steps.append(f"fleet receipts {run.id} shows all verdicts")
    return steps or [f"fleet status {run.id} shows how far it is"]


def draw(made: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    word, shade = ("passed", "green") if made["result"] == "pass" else ("failed", "red")
    note = f": {plain(made['note'])}" if made["note"] else ""
    page.line(made["attempt"], " is ", (word, shade), note, (f"   #{made['seq']}", "dim"))
    counts = ", ".join(f"{made['counts'][key]:,} {said}" for key, said in counted(made["counts"]))
    page.line(f"{made['run']} is {made['status']}: {counts}")
    page.line()
    page.line((" · ".join(made["next"]), "dim"))
    return page
