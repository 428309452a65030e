"""Receipts: how every task was judged, by whom, and on what it rests.

Pure. A task that has ended has exactly one deciding receipt; what a run's field list promises but
this version does not hold was waived by name and stands on each of its receipts (`unenforced`).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ..core import events as e
from ..core.backoff import is_exhausted
from ..core.state import OPEN, RESULT_STATUS, Run, Task, split_attempt
from .timeline import attempts, references

SCORES = {"pass": 1.0, "partial": 0.5, "fail": 0.0, "timeout": 0.0}
"""Value of a result; a skipped task has no score."""


def receipts(
    run: Run,
    records: Iterable[tuple[e.Envelope, e.Event]],
    *,
    task: str = "",
    number: int = 0,
    repeated: bool = False,
    prefix: str = ".fleet",
) -> Iterator[dict[str, Any]]:
    """The deciding receipt of each task that has ended, in the order of the ledger.

    `task` (and `number`, an attempt) narrow it down; `repeated` adds the receipts of attempts that
    were followed by another one.
    """
    waited: dict[str, dict[str, Any]] = {}
    for head, event in records:
        match event:
            case e.ReceiptRecorded():
                _, name, count = split_attempt(event.attempt)
                row, before = run.tasks.get(name), waited.pop(event.attempt, None)
                if row is None or before is None or (task and name != task):
                    continue
                decides = row.seq == head.seq and row.status not in OPEN
                if (decides or repeated or number) and (not number or count == number):
                    made = _later(before, head, event)
                    yield made if decides else {**made, "repeated": True}
            case e.AttemptEnded() | e.AttemptLost():
                _, name, count = split_attempt(event.attempt)
                row = run.tasks.get(name)
                if row is None or (task and name != task) or (number and count != number):
                    continue
                decides = row.seq == head.seq and row.status not in OPEN
                counted = not (isinstance(event, e.AttemptEnded) and event.late)
                if counted and event.receipt.result == "partial":
                    waited[event.attempt] = _of_attempt(run, row, head, event, prefix)
                if counted and (decides or repeated or number):
                    made = _of_attempt(run, row, head, event, prefix)
                    yield made if decides else {**made, "repeated": True}
            case e.RunStopped() | e.TaskCancelled() | e.TaskUnplaced() if not number:
                rows = run.order
                if not isinstance(event, e.RunStopped):
                    rows = [run.tasks[name] for name in event.tasks if name in run.tasks]
                for row in rows:
                    settled = row.seq == head.seq and row.status not in OPEN
                    if settled and (not task or row.id == task):
                        yield _unplaced(run, row, head)


def _later(before: dict[str, Any], head: e.Envelope, event: e.ReceiptRecorded) -> dict[str, Any]:
    """A verdict that came after the attempt: what it left is as before, the judgement is new."""
    said = ("failure_kind", "scorer", "score", "reason", "feedback", "quotes")
    kept = {key: value for key, value in before.items() if key not in said}
    made = {**kept, "terminal_seq": head.seq, "completed_at": head.ts, "by": head.by}
    made.update(_judgement(event.receipt))
    if event.evidence is not None:
        made["verdict_evidence"] = f"sha256:{event.evidence.sha256}"
    return made


def _of_attempt(
    run: Run, row: Task, head: e.Envelope, event: e.AttemptEnded | e.AttemptLost, prefix: str
) -> dict[str, Any]:
    attempt = attempts(run.id, row.id, [(head, event)])[0]
    made = _identity(run, row.id, attempt.get("worker") or row.worker, attempt["attempt"], head)
    made.update(_judgement(event.receipt))
    for key in ("exit", "signal", "seconds"):
        if key in attempt:
            made[key] = attempt[key]
    made["artifacts"] = references(attempt, prefix)
    if attempt.get("oom"):
        made["oom"] = True
    if _used_up(row, head):
        made["restart_exhausted"] = True
    if missing := attempt.get("missing"):
        made["missing"] = missing
    return _with_waivers(run, made)


def _used_up(row: Task, head: e.Envelope) -> bool:
    """Is this the receipt with which a task's attempts were used up?"""
    return row.seq == head.seq and is_exhausted(row)


def _unplaced(run: Run, row: Task, head: e.Envelope) -> dict[str, Any]:
    made = _identity(run, row.id, row.worker, row.attempt, head)
    receipt = e.Receipt(result=row.result, source=row.source, reason=row.reason)
    made.update(_judgement(receipt))
    made["artifacts"] = []
    return _with_waivers(run, made)


def _identity(run: Run, task: str, worker: str, attempt: int, head: e.Envelope) -> dict[str, Any]:
    made: dict[str, Any] = {"run_id": run.id, "task_id": task, "worker_id": worker}
    if attempt:
        made["attempt"] = attempt
    return {**made, "terminal_seq": head.seq, "completed_at": head.ts}


def _judgement(receipt: e.Receipt) -> dict[str, Any]:
    made: dict[str, Any] = {"result": receipt.result}
    if receipt.source and RESULT_STATUS[receipt.result] == "failed":
        made["failure_kind"] = receipt.source
    if receipt.scorer:
        made["scorer"] = receipt.scorer
    made["score"] = None
    if receipt.result in SCORES:
        made["score"] = {"value": SCORES[receipt.result], "max": 1.0, "notes": receipt.reason}
    elif receipt.reason:
        made["reason"] = receipt.reason
    if receipt.feedback:
        made["feedback"] = receipt.feedback
    if receipt.quotes:
        made["quotes"] = receipt.quotes
    return made


def _with_waivers(run: Run, made: dict[str, Any]) -> dict[str, Any]:
    if run.waived:
        made["unenforced"] = list(run.waived)
    return made
