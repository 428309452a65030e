"""What becomes of an attempt that crossed a cap: its budget's fault, with the cap, limit and use.

Where the cap was crossed by an agent that verified it, the work itself is done and nobody has
judged it: it waits for a person. Pure. Knows a cap of its task (`max_tokens`) and one of its run
(`run.max_tokens`); what others of the run use at the same time is not recorded yet, so a run's use
is told only as far as it is.
"""

from typing import Any

from msgspec.structs import replace

from ..core import spec
from ..core.events import AttemptEnded, Receipt
from ..core.state import Run, Task
from ..core.usage import CAPS, budget_of, usage_of

UNVERIFIED = "not verified: "


def judge(run: Run, row: Task, task: spec.Task, ended: AttemptEnded) -> Receipt:
    """The receipt of an attempt with `why` = budget and a `cap`; `row` does not count it yet."""
    if ended.unstarted:
        return Receipt(result="skip", source="budget", reason=ended.unstarted)
    reason = _crossed(ended.cap, run, row, task, ended)
    return Receipt(result="fail", source="budget", reason=reason)


def unverified(
    run: Run, row: Task, task: spec.Task, ended: AttemptEnded, receipt: Receipt
) -> Receipt:
    """The same receipt of an attempt whose verifier crossed a cap, with the cap, limit and use."""
    step = next((one for one in ended.steps if one.why == "budget"), None)
    if step is None:
        return receipt
    words = _crossed(step.cap, run, row, task, ended)
    if step.unstarted:
        words = step.unstarted
    elif not step.cap.startswith("run."):
        words = f"with its verifier it {words}"
    return replace(receipt, reason=UNVERIFIED + words)


def _crossed(named: str, run: Run, row: Task, task: spec.Task, ended: AttemptEnded) -> str:
    """What was used more than a cap allows."""
    cap = named.removeprefix("run.")
    if cap != named:
        most, used = _most(budget_of(run), cap), run.usage.of(cap) if cap in CAPS else run.spent
        used += usage_of(ended).of(cap) if cap in CAPS else ended.seconds
        told = f" ({_short(used)} recorded)" if most is not None and used > most else ""
        return f"the tasks of its run used more than the run's budget.{cap} = {_short(most)}{told}"
    most = _most(task.budget, cap)
    if cap in CAPS:
        before = row.more.usage if row.more else None
        used = usage_of(ended).of(cap) + (before.of(cap) if before else 0)
        return f"used more than budget.{cap} = {_short(most)} ({_short(used)} in all attempts)"
    return f"all attempts together ran longer than budget.{cap} = {_short(most)}"


def _most(budget: spec.Budget | None, cap: str) -> Any:
    return getattr(budget, cap, None)


def _short(number: Any) -> str:
    if number is None:
        return "?"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"
