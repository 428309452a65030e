"""What is looked at while an attempt's process, or a step of its verification, runs.

Promises: that it outlives a second is a fact, once; its logs stay bounded, its meter is read as
often as it wants, and what has died among the orphans is reaped. When the next look is due stands
in the attempt. It decides nothing about ends but that of a flood.
"""

from __future__ import annotations

from codewhale_fleet.worker import ending, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from codewhale_fleet.worker.attempts import Attempt
    from codewhale_fleet.worker.execution import Execution


def outlived(execution: Execution, attempt: Attempt) -> None:
    """It has run for about a second: that is worth a fact."""
    attempt.started = True
    fields = {"attempt": attempt.id, "slot": attempt.slot}
    if attempt.step:
        execution.journal.fact("verifying", {**fields, "step": attempt.step})
    else:
        more = {"pid": attempt.pid, "since": round(attempt.since, 6)}
        execution.journal.fact("started", {**fields, **more})


def look(execution: Execution, attempt: Attempt, now: float) -> None:
    """Its output and what its agent says of it, and when to look again."""
    soon = limits.LOG_SLOW
    if attempt.metering:
        from codewhale_fleet.worker import metering

        soon = metering.look(execution, attempt, now)
    limit, grown = attempt.log_limit, ending.growth_of(attempt, execution.fleet_dir)
    ceiling = attempt.log_ceiling
    if ceiling and any(log.size > ceiling for log in attempt.logs.values()):
        execution.stop(attempt, "flood", True)
    attempt.log_interval = limits.LOG_FAST if grown * 8 > limit else attempt.log_interval * 2
    attempt.look_at = now + min(attempt.log_interval, limits.LOG_SLOW, soon)
    if "sealed" in attempt.plan:
        from codewhale_fleet.worker import sealing

        if sealing.look(execution.fleet_dir, attempt):
            attempt.look_at = min(attempt.look_at, now + limits.LOG_FAST)
    if now - execution.tidied >= 1.0:
        execution.tidied = now
        execution.orphans.tidy()
        execution.killer.look(now)
