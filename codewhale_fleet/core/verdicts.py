"""Judgements that come after an attempt: who may give one, of what, and once only.

A person or another agent decides an attempt that no scorer could decide: its receipt is partial.
What a scorer decided stands. `decide` asks here; the record is `receipt.recorded`.
"""

from ..errors import Refused
from . import commands as c
from . import events as e
from .controls import refuse_compacted, refuse_draft
from .state import OPEN, Run, split_attempt


def judge(run: Run, command: c.Judge) -> e.ReceiptRecorded:
    """The record of a verdict; Refused where nothing waits for it."""
    refuse_draft(run)
    refuse_compacted(run)
    _, name, number = split_attempt(command.attempt)
    task = run.tasks.get(name)
    where = f"{run.id}/{name}"
    if task is None or not 1 <= number <= task.attempt:
        raise Refused(
            f'"{command.attempt}" is no attempt.', f"Its task: fleet inspect {where}", exit_code=2
        )
    if task.status in OPEN:
        raise Refused(
            f"{where} is {task.status}: its latest attempt has not been judged by its scorer.",
            f"Wait for it: fleet wait {where}",
        )
    if number != task.attempt:
        raise Refused(
            f"{command.attempt} decides nothing any more: the latest attempt is @{task.attempt}.",
            f"fleet verify {where}@{task.attempt}",
        )
    if task.status != "partial":
        raise Refused(
            f"{command.attempt} is decided: {task.result}{_by(task.reason)}.",
            f"To have it done again: fleet restart {where}",
        )
    return e.ReceiptRecorded(
        attempt=command.attempt, receipt=command.receipt, evidence=command.evidence
    )


def _by(reason: str) -> str:
    return f" ({reason})" if reason else ""
