"""What is told of an attempt that is over: status, use, logs, artifacts, evidence.

Promises: `fields_of` answers the fields of the fact `ended` and never raises for what a task
did to its files; it yields after each chunk of long work. It does not touch processes.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import collect, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt


def fields_of(attempt: Attempt, fleet_dir: str) -> Generator[None, None, dict[str, Any]]:
    """The fields of the fact `ended` of an attempt whose processes are gone."""
    fields: dict[str, Any] = {"attempt": attempt.id, "slot": attempt.slot}
    fields["seconds"] = round(max(attempt.ended - attempt.since, 0.0), 6)
    if attempt.cpu is not None:
        fields["cpu"] = round(attempt.cpu, 6)
    if attempt.rss_kb is not None:
        fields["rss_kb"] = attempt.rss_kb
    if attempt.exit is not None:
        fields["exit"] = attempt.exit
    elif attempt.signal is not None:
        fields["signal"] = attempt.signal
    else:
        fields["unknown"] = True
    if attempt.oom:
        fields["oom"] = True
    if attempt.why:
        fields["why"] = attempt.why
    plan = attempt.plan
    found: dict[str, Any] = {}
    for stream in ("out", "err"):
        path = f"{fleet_dir}/{plan[stream]}"
        try:
            size = os.stat(path).st_size
            if size:
                found[stream] = yield from _sealed(attempt, stream, path, size)
        except OSError:  # the task took it away: there is nothing to state
            continue
    if found:
        fields["logs"] = found
    try:
        if "artifacts" in plan or "expected" in plan:
            fields.update((yield from collect.artifacts(plan)))
        if "evidence" in plan:
            fields.update((yield from collect.evidence(plan, fleet_dir + "/evidence")))
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        fields["artifact_errors"] = [f"the plan of what to collect cannot be followed: {error!r}"]
    if attempt.stragglers:
        fields["stragglers"] = attempt.stragglers
    return fields


def output_of(attempt: Attempt, fleet_dir: str) -> int:
    """Bytes that it has written to both streams so far."""
    total = 0
    for stream in ("out", "err"):
        try:
            total += os.stat(f"{fleet_dir}/{attempt.plan[stream]}").st_size
        except OSError:  # the task took it away
            continue
    return total


def growth_of(attempt: Attempt, fleet_dir: str) -> int:
    """Bytes by which the stream that grew most has grown since the last look; cuts what is long."""
    if not attempt.logs:
        for stream in ("out", "err"):
            path = f"{fleet_dir}/{attempt.plan[stream]}"
            attempt.logs[stream] = logs.Log(path, attempt.log_limit)
    return max(log.look() for log in attempt.logs.values())


def _sealed(
    attempt: Attempt, stream: str, path: str, size: int
) -> Generator[None, None, dict[str, Any]]:
    limit = attempt.log_limit
    log = attempt.logs.get(stream)
    hole = (0, 0)
    if log or size > 2 * limit:
        log = log or logs.Log(path, limit)
        log.seal()
        size, hole = log.size, log.hole
    sha256 = yield from logs.digest(path, size, hole)
    relative = attempt.plan[stream]
    return {"path": relative, "size": size, "dropped": hole[1] - hole[0], "sha256": sha256}
