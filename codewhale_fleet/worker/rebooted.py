"""Attempts of an earlier boot: the end of what no process and no journal can tell of any more.

A manager names them. Promises: they are ended once, with an unknown exit, by the same steps as any
other, so that what they wrote, said and changed in a directory of their own is kept; a runtime that
is killed meanwhile leaves it to the next one; nothing of theirs is started or verified.
"""

from __future__ import annotations

from codewhale_fleet.worker.attempts import Attempt, is_attempt_id, kept_of
from codewhale_fleet.worker.processes import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codewhale_fleet.worker.execution import Execution

WHY = "restarted"
_KEPT = (
    "root", "out", "err", "log_limit", "artifacts", "expected", "evidence", "isolate", "keep",
    "usage",
)  # fmt: skip


def end(execution: Execution, name: str, slot: str, plan: dict[str, Any]) -> None:
    """Ends such an attempt, unless it was told of before."""
    journal = execution.journal
    if journal.knows(name) or not is_attempt_id(name):
        return
    kept = {key: value for key, value in kept_of(plan).items() if key in (*_KEPT, "fleet")}
    run, now = execution.run(name.partition("/")[0]), clock()
    attempt = Attempt(name, run, slot, kept, now)
    attempt.adopted = attempt.started = True
    attempt.why = WHY
    journal.learn(name)
    journal.put({"f": "intent", "a": name, "s": slot, "t": now, "p": kept})
    journal.put({"f": "stop", "a": name, "why": WHY, "kill": False})
    execution.running[name] = attempt
    run.busy.add(slot)
    execution.adopted.end(attempt, now)
