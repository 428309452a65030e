"""What is told of an attempt that is over: status, use, logs, artifacts, evidence.

Promises: `fields_of` answers the fields of the fact `ended` and never raises for what a task
did to its files; it yields after each chunk of long work. Processes are touched by
`signal` alone.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import collect, logs, processes
from codewhale_fleet.worker.launch import UNCONFINED, UNFOLLOWED

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
    if attempt.cap:
        fields["cap"] = attempt.cap
    fields.update((yield from logs_of(attempt, fleet_dir)))
    plan, redactor = attempt.plan, attempt.redactor
    try:
        if attempt.own and attempt.own.artifacts:
            plan = {**plan, "added": attempt.own.artifacts, "store": fleet_dir + "/evidence"}
            if "sandbox" in plan:
                from codewhale_fleet.worker import confining

                plan["scratch"] = confining.scratch_of(fleet_dir, plan)
        if "artifacts" in plan or "expected" in plan or "added" in plan:
            store = fleet_dir + "/evidence" if "isolate" in plan or "keep" in plan else ""
            fields.update((yield from collect.artifacts(plan, store, redactor)))
        if "evidence" in plan:
            place = fleet_dir + "/evidence"
            fields.update((yield from collect.evidence(plan, place, redactor)))
    except UNFOLLOWED as error:
        fields["artifact_errors"] = [f"the plan of what to collect cannot be followed: {error!r}"]
    if "given" in plan:
        fields["artifacts"] = [plan["given"], *fields.get("artifacts", ())]
    if attempt.stragglers:
        fields["stragglers"] = attempt.stragglers
    if "sandbox" in plan:
        from codewhale_fleet.worker import confining

        confining.tell(fleet_dir, attempt, fields)
        if "unstarted" in fields:
            fields.setdefault("why", UNCONFINED)
    return fields


def forget_secrets(attempt: Attempt) -> None:
    """The files with its secrets are gone, where it had some."""
    if attempt.secrets_dir:
        from codewhale_fleet.worker import secrets

        secrets.remove(attempt.secrets_dir)


def signal(attempt: Attempt, number: int, fleet_dir: str) -> None:
    """A signal for all of its group."""
    if "sandbox" in attempt.plan:
        from codewhale_fleet.worker import confining

        confining.signal(fleet_dir, attempt, number)
    else:
        processes.send_signal(attempt.pid, number, group=True)


def tidied(attempt: Attempt, fleet_dir: str) -> Generator[None, None, None]:
    """Nothing is left of what it and its steps had only while they ran; its end is told first."""
    if "sandbox" in attempt.plan or "tools" in attempt.plan:
        from codewhale_fleet.worker import confining

        yield  # to this turn of the loop
        yield  # to the next one: what was written in this one is told by then
        last = not (attempt.run.busy or attempt.run.waiting)
        yield from confining.removed(fleet_dir, attempt.plan, last=last)


def take_answer(attempt: Attempt, fields: dict[str, Any], text: str, fleet_dir: str) -> None:
    """An agent's last message is the artifact that was promised, where no file is it."""
    wanted = attempt.plan["answer"]
    missing = fields.get("missing", [])
    if not text or wanted["kind"] not in missing:
        return
    data = text.encode("utf-8", "replace") + b"\n"
    try:
        kept = collect.keep(data, fleet_dir + "/evidence")
        collect.write(f"{fleet_dir}/{wanted['path']}", data)
    except OSError as error:
        said = f"{wanted['kind']}: its last message cannot be kept: {error.strerror}"
        fields["artifact_errors"] = [*fields.get("artifact_errors", ()), said]
        return
    entry = {**wanted, "mime": "text/markdown", **kept}
    fields["artifacts"] = [*fields.get("artifacts", ()), entry]
    fields["missing"] = [kind for kind in missing if kind != wanted["kind"]]
    if not fields["missing"]:
        del fields["missing"]


def logs_of(attempt: Attempt, fleet_dir: str) -> Generator[None, None, dict[str, Any]]:
    """The field `logs` of a process that is over, left out where it has written nothing."""
    found: dict[str, Any] = {}
    if "sealed" in attempt.plan:
        from codewhale_fleet.worker import sealing

        yield from sealing.seal(fleet_dir, attempt)
    for stream in ("out", "err"):
        path = f"{fleet_dir}/{attempt.plan[stream]}"
        try:
            size = os.stat(path).st_size
            if size:
                found[stream] = yield from _sealed(attempt, stream, path, size)
        except OSError:  # the task took it away: there is nothing to state
            continue
    for stream, more in attempt.of_logs.items():
        nothing = {"path": attempt.plan[stream], "size": 0, "dropped": 0, "sha256": ""}
        found[stream] = {**found.get(stream, nothing), **more}
    return {"logs": found} if found else {}


def output_of(attempt: Attempt, fleet_dir: str) -> int:
    """Bytes that it has written to both streams so far."""
    total = 0
    for stream in ("out", "err"):
        try:
            total += os.stat(f"{fleet_dir}/{attempt.plan[stream]}").st_size
        except OSError:  # the task took it away
            continue
    return total


def open_logs(attempt: Attempt, fleet_dir: str) -> None:
    """Its streams are watched from now on."""
    if not attempt.logs:
        for stream in ("out", "err"):
            path = f"{fleet_dir}/{attempt.plan[stream]}"
            attempt.logs[stream] = logs.Log(path, attempt.log_limit)


def growth_of(attempt: Attempt, fleet_dir: str) -> int:
    """Bytes by which the stream that grew most has grown since the last look; cuts what is long."""
    open_logs(attempt, fleet_dir)
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
