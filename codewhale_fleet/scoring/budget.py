"""What becomes of an attempt that crossed a cap: its budget's fault, with the cap, limit and use.

Pure. Knows a cap of its task (`max_tokens`) and one of its run (`run.max_tokens`); what others of
the run use at the same time is not recorded yet, so a run's use is told only as far as it is.
"""

from typing import Any

from ..core import spec
from ..core.events import AttemptEnded, Receipt
from ..core.state import Run, Task
from ..core.usage import CAPS, budget_of, usage_of


def judge(run: Run, row: Task, task: spec.Task, ended: AttemptEnded) -> Receipt:
    """The receipt of an attempt with `why` = budget and a `cap`; `row` does not count it yet."""
    if ended.unstarted:
        return Receipt(result="skip", source="budget", reason=ended.unstarted)
    cap = ended.cap.removeprefix("run.")
    if cap != ended.cap:
        most, used = _most(budget_of(run), cap), run.usage.of(cap) if cap in CAPS else run.spent
        used += usage_of(ended).of(cap) if cap in CAPS else ended.seconds
        told = f" ({_short(used)} recorded)" if most is not None and used > most else ""
        reason = f"the tasks of its run used more than the run's budget.{cap} = {_short(most)}"
        return Receipt(result="fail", source="budget", reason=reason + told)
    most = _most(task.budget, cap)
    if cap in CAPS:
        before = row.more.usage if row.more else None
        used = usage_of(ended).of(cap) + (before.of(cap) if before else 0)
        reason = f"used more than budget.{cap} = {_short(most)} ({_short(used)} in all attempts)"
    else:
        reason = f"all attempts together ran longer than budget.{cap} = {_short(most)}"
    return Receipt(result="fail", source="budget", reason=reason)


def _most(budget: spec.Budget | None, cap: str) -> Any:
    return getattr(budget, cap, None)


def _short(number: Any) -> str:
    if number is None:
        return "?"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"
