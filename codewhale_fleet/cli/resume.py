"""`fleet resume RUN`: go on with a run that was stopped or paused, or that its manager left.

The values of the run's environment come from this shell; their names stand in the ledger.
"""

from . import names
from .common import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.state import Run


def resume(
    *,
    run: str,
    failed: bool = False,
    max_workers: int | None = None,
    detach: bool = False,
    ctx: Context,
) -> int:
    """Record that it goes on, then see it to its end as `fleet run` does."""
    from ..engine import handover, session
    from ..engine.runs import asker_environment
    from . import run as foreground
    from .live import observer

    ledger = ctx.ledger()
    ledger.settle()  # whoever recorded the run may have been killed before it was durable
    ledger.refresh()
    found = names.run_of(ledger, run)
    if found.environment and found.status != "draft":
        from .missing import refuse_missing

        tasks = (task.raw for task in found.order if task.status != "completed")
        again = f"fleet resume {found.id}"
        refuse_missing(tasks, found.spec or found.id, again, found.agents)
    secrets = _secrets(found)
    session.resume(ledger, found.id, failed=failed, max_workers=max_workers)
    found = ledger.state.runs[found.id]
    asker = asker_environment(found.environment, secrets=secrets, alerts=_told(found))
    if detach:
        handover.detach(ledger, found.id, asker=asker)
        return foreground.detached(ctx, ledger, found.id)
    watching = observer(ctx, found, ledger.dir)
    goes_on = session.send if found.status == "finished" else session.run_to_end
    try:
        ended = goes_on(ledger, found.id, asker=asker, observer=watching)
    finally:
        watching.close(ledger.state)
    return foreground.conclude(ctx, ledger, found.id, ended, watching)


def _told(run: "Run") -> dict[str, str]:
    """The values that its alerts need, as far as they are here."""
    if run.alerts is None:
        return {}
    from ..engine.alert_values import resolved

    tasks = (task.raw for task in run.order) if run.alerts.policies else ()
    again = f"fleet resume {run.id}"
    return resolved(run.alerts.config, tasks, of=run.spec or run.id, again=again, must=False)


def _secrets(run: "Run") -> dict[str, str]:
    """The values of the run's secrets; what only tasks need that are done may be missing."""
    if not run.secrets or run.status == "draft":
        return {}
    from ..engine.secrets import needed, resolve

    tasks = (task.raw for task in run.order if task.status != "completed")
    wanted = needed(tasks, run.agents, run.secrets)
    spare = [one for one in run.secrets if one not in wanted]
    return resolve(wanted, of=run.spec or run.id, again=f"fleet resume {run.id}", spare=spare)
