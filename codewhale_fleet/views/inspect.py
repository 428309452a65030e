"""Everything about one thing: a run, a task, an attempt or a worker.

Pure: rows of the state, and the records that belong to the thing. Keys that mean nothing for it are
left out; `alert` is null where nobody is to be told anything.
"""

from typing import Any

from ..core import events as e
from ..core.backoff import is_exhausted
from ..core.fleet_words import LOCAL
from ..core.load import place_of
from ..core.placement import watch, why_waiting
from ..core.spec import Task as Spec
from ..core.state import OPEN, RESULT_STATUS, Run, State, Task, attempt_id
from ..core.tasks import decode_task
from .asking import asking, of_flight
from .sentences import say
from .status import compacted, manager, run_row, task_word, verify_command, word_of
from .timeline import History, attempts, references
from .usage import figures

MOST_WORKERS = 100
LISTED = 24
"""Tasks, or artifacts, that an answer names; the rest is counted."""

_SECRETS = ("secrets", "verifier_secrets")
"""What is said of the latest attempt's secrets, by name."""
_OF_TASK = (e.TaskQueued, e.TaskCancelled, e.TaskUnplaced)
_ORDER = ("failed", "partial", "running", "leased", "cancelled", "queued", "skipped", "completed")
"""Which tasks of a run are named first."""


def inspect_run(state: State, run: Run, history: History, *, alive: bool) -> dict[str, Any]:
    """A run: how it goes, what was asked, its tasks (what needs attention first)."""
    places = {name: place for place, name in enumerate(_ORDER)}
    rows = sorted(run.order, key=lambda task: (places.get(task.status, 9), task.index))
    made = {
        "kind": "run",
        **run_row(run, alive=alive),
        **dropped(run),
        "workspace": run.workspace,
        "slots": run.slots,
        "max_failures": run.max_failures or None,
        "deadline_seconds": run.deadline_seconds or None,
        "environment": run.environment,
        "secrets": [one.key for one in run.secrets],
        "digest": run.digest,
        "host": _host(state, run, "", history),
        "manager": manager(state, alive=alive),
        "latest_event": _latest(history),
        "task_rows": [_task_row(run, task) for task in rows[:LISTED]],
        "task_rows_total": len(rows),
        "alert": _alert(run),
    }
    if run.workers:
        from .workers import per_worker

        made["workers"] = per_worker(state, run)[:MOST_WORKERS]
        made["workers_total"] = len(run.workers)
    return {**made, "next": _next_of_run(run, alive=alive)}


def _alert(run: Run, task: Task | None = None) -> str | None:
    """What people were told, or are to be told, of it."""
    if run.alerts is None:
        return None
    from .alerting import told_of

    return told_of(run, task)


def inspect_task(
    state: State,
    run: Run,
    task: Task,
    history: History,
    *,
    alive: bool,
    now: float,
    prefix: str,
    full: str = "",
) -> dict[str, Any]:
    """A task: state, goal, place, attempts, what it left, how it was judged.

    `full`: see `why_waiting`.
    """
    spec = decode_task(task.raw)
    rows = attempts(run.id, task.id, history)
    found = [one for row in rows for one in references(row, prefix)]
    made: dict[str, Any] = {
        "kind": "task",
        "id": f"{run.id}/{task.id}",
        "run": run.id,
        "task": task.id,
        "status": task_word(run, task),
        **_asked(spec),
        "worker": task.worker or None,
        "host": _host(state, run, task.worker, history),
        **dropped(run),
        "heartbeat": _heartbeat(state, run, task),
        "latest_event": _latest(_about(run, task, history) or history),
        "priority": task.priority,
        "attempt": task.attempt,
        "failures": task.failures,
        "restarts": task.restarts,
        "spent_seconds": round(task.spent, 3),
        "usage": figures(task.more.usage) if task.more and task.more.usage else None,
        "attempts": rows,
        "artifacts": found[:LISTED],
        "artifacts_total": len(found),
        "receipt": _receipt(task),
        "last_error": _last_error(rows),
        "alert": _alert(run, task),
    }
    made.update({key: rows[-1][key] for key in _SECRETS if rows and key in rows[-1]})
    made.update(_hanging(run, attempt_id(run.id, task.id, task.attempt)))
    if is_exhausted(task):
        made["restart_exhausted"] = True
    if task.status == "queued":
        lookout = watch(run, state.workers, state.open_runs.values())
        reason = why_waiting(run, task, now, full, state.breakers, lookout)
        made["waiting"] = {"reason": reason.waiting.value, "sentence": reason.sentence}
        if reason.until:
            made["waiting"]["until"] = reason.until
    if run.policy != b"null" or run.roles:
        made["trust"] = _trust(run, spec)
    if run.waived:
        made["unenforced"] = run.waived
    return {**made, "next": _next_of_task(run, task, alive=alive)}


def _trust(run: Run, spec: Spec) -> str:
    """A task's level of trust, and what gave it."""
    from ..core.posture import decode_policy, level_of, roles_of

    level, because = level_of(decode_policy(run.policy), roles_of(spec, run.roles))
    return f"{level} ({because})"


def inspect_attempt(
    state: State, run: Run, task: Task, number: int, history: History, *, prefix: str
) -> dict[str, Any] | None:
    """One attempt of a task, or None when the ledger knows none of that number."""
    name = attempt_id(run.id, task.id, number)
    row = next(
        (row for row in attempts(run.id, task.id, history) if row["attempt"] == number), None
    )
    if row is None:
        return None
    of_attempt = [one for one in history if getattr(one[1], "attempt", "") == name]
    flight = run.flights.get(name)
    verdicts = row.get("verdicts", [])
    status = RESULT_STATUS.get(verdicts[-1]["result"] if verdicts else row.get("result", ""))
    if status is None and flight is not None:
        status = "verifying" if flight.step else "running" if flight.started else "leased"
    return {
        "kind": "attempt",
        "run": run.id,
        "task": task.id,
        "status": status,
        **_asked(decode_task(task.raw)),
        **dropped(run),
        "host": _host(state, run, row.get("worker", ""), history),
        "heartbeat": state.beats.get(row.get("worker", "")) if flight else None,
        "latest_event": _latest(of_attempt),
        **row,
        "artifacts": references(row, prefix),
        "last_error": _last_error([row]),
        **_hanging(run, name),
        "alert": _alert(run, task),
        "next": [f"fleet receipts {run.id}/{task.id}"]
        if run.compacted
        else [f"fleet logs {name}", f"fleet explain {name}"],
    }


def inspect_worker(
    state: State, run: Run, worker: str, history: History, *, alive: bool, prefix: str
) -> dict[str, Any]:
    """A worker slot: what it does now, and what it did last."""
    here = [(name, flight) for name, flight in run.flights.items() if flight.worker == worker]
    heard = [state.beats[worker]] if worker in state.beats else []
    mine = [one for one in history if getattr(one[1], "worker", "") == worker]
    latest = next((task for task in _latest_first(run) if task.worker == worker), None)
    rows: list[dict[str, Any]] = []
    if latest is not None:
        rows = [row for row in attempts(run.id, latest.id, mine) if row.get("worker") == worker]
    if run.status == "finished":
        status = "retired"
    elif not alive:
        status = "offline"
    elif any(flight.stale for _, flight in here):
        status = "unhealthy"
    else:
        status = "busy" if here else "online"
    made: dict[str, Any] = {
        "kind": "worker",
        "worker": worker,
        "status": status,
        "run": run.id,
        "task": latest.id if latest else None,
    }
    if latest is not None:
        made.update(_asked(decode_task(latest.raw)))
    return {
        **made,
        **dropped(run),
        "host": _host(state, run, worker, history),
        "heartbeat": max([*heard, *(flight.ts for _, flight in here)], default=None),
        "attempts": [name for name, _ in here],
        "latest_event": _latest(mine),
        "artifacts": [one for row in rows for one in references(row, prefix)][-LISTED:],
        "receipt": _receipt(latest) if latest else None,
        "last_error": _last_error(rows),
        **next((_hanging(run, name) for name, flight in here if flight.stale), {}),
        "alert": _alert(run, latest) if latest else None,
        "next": [f"fleet inspect {run.id}/{latest.id}"] if latest else [f"fleet inspect {run.id}"],
    }


def dropped(run: Run) -> dict[str, Any]:
    """What is said of a run whose detail was dropped; nothing of another one."""
    return {"compacted": sentence} if (sentence := compacted(run)) else {}


def _latest_first(run: Run) -> list[Task]:
    return sorted(run.order, key=lambda task: (task.status in OPEN, task.seq), reverse=True)


def _asked(spec: Spec) -> dict[str, Any]:
    """What the spec says of a task, as far as inspect shows it."""
    made: dict[str, Any] = {
        "name": spec.name or spec.id,
        "objective": spec.objective or spec.description or spec.name,
        "role": spec.worker.role if spec.worker else None,
        "command": spec.command,
        "agent": spec.agent,
        "model": spec.worker.model if spec.worker else None,
        "timeout_seconds": spec.timeout_seconds,
        "scorer": _scorer(spec),
    }
    return {key: value for key, value in made.items() if value is not None or key == "role"}


def _scorer(spec: Spec) -> str | None:
    if spec.verify is not None:
        kinds = (step.__struct_config__.tag for step in spec.verify.steps)
        return f"{' → '.join(map(str, kinds))}; on_fail = {spec.verify.on_fail}"
    if spec.scorer is None:
        return None
    return str(spec.scorer.__struct_config__.tag)


def _hanging(run: Run, attempt: str) -> dict[str, Any]:
    """What is said of an attempt in flight: how far it is, what it asks, whether it hangs."""
    flight = run.flights.get(attempt)
    if flight is None:
        return {}
    made: dict[str, Any] = {}
    if line := of_flight(flight):
        made["progress"] = line
    if questions := [one for one in asking(run, flight.task) if one["id"].startswith(attempt)]:
        made["asks"] = questions
    if flight.stale:
        made.update(stale_since=flight.stale, last_error=f"stale since {flight.stale}")
    return made


def _host(state: State, run: Run, slot: str, history: History) -> str | None:
    if run.workers and slot:
        from .workers import host_of

        if place_of(run.id, slot) != LOCAL:
            return host_of(state, run, slot)
    enrolled = [event for _, event in history if isinstance(event, e.WorkerEnrolled)]
    return enrolled[-1].host if enrolled else None


def _heartbeat(state: State, run: Run, task: Task) -> str | None:
    """When the worker of a task in flight was last heard of."""
    flight = run.flights.get(attempt_id(run.id, task.id, task.attempt))
    return max(flight.ts, state.beats.get(flight.worker, "")) if flight else None


def _about(run: Run, task: Task, history: History) -> History:
    """The records that name the task itself, not only its run."""
    prefix = f"{run.id}/{task.id}@"
    return [
        (head, event)
        for head, event in history
        if str(getattr(event, "attempt", "")).startswith(prefix)
        or (isinstance(event, _OF_TASK) and task.id in event.tasks)
        or (isinstance(event, e.ControlRequested) and prefix in "".join(event.attempts))
    ]


def _latest(history: History) -> dict[str, Any] | None:
    last = None
    for head, event in history:
        last = (head, event)
    if last is None:
        return None
    head, event = last
    return {"seq": head.seq, "word": head.k, "at": head.ts, "says": say(head, event)}


def _receipt(task: Task) -> dict[str, Any] | None:
    if task.status in OPEN:
        return None
    made: dict[str, Any] = {"result": task.result, "terminal_seq": task.seq}
    if task.source and task.status == "failed":
        made["failure_kind"] = task.source
    if task.reason:
        made["notes"] = task.reason
    return made


def _last_error(rows: list[dict[str, Any]]) -> str | None:
    """The latest attempt's trouble; None once an attempt did not fail."""
    for row in reversed(rows):
        if "result" in row:
            if row["result"] not in ("fail", "timeout"):
                return None
            return f"{row['source']}: {row['reason']}" if row["source"] else str(row["reason"])
    return None


def _task_row(run: Run, task: Task) -> dict[str, Any]:
    return {
        "task": task.id,
        "status": task_word(run, task),
        "attempt": task.attempt,
        "seconds": round(task.seconds, 3),
        "source": task.source,
        "reason": task.reason,
        "worker": task.worker,
    }


def _next_of_run(run: Run, *, alive: bool) -> list[str]:
    if word_of(run, alive=alive) in ("left alone", "paused"):
        return [f"fleet resume {run.id}", f"fleet explain {run.id}"]
    if run.status == "finished":
        waiting = next((task for task in run.order if task.status == "partial"), None)
        verdict = [verify_command(run, waiting)] if waiting is not None else []
        failed = run.counts.get("failed")
        again = [f"fleet resume {run.id} --failed"] if failed and not run.compacted else []
        return [*verdict, f"fleet receipts {run.id}", *again]
    return [f"fleet wait {run.id}", f"fleet explain {run.id}"]


def _next_of_task(run: Run, task: Task, *, alive: bool) -> list[str]:
    name = f"{run.id}/{task.id}"
    if task.status in ("running", "leased"):
        return [f"fleet logs {name} --follow"] if alive else [f"fleet resume {run.id}"]
    if task.status == "queued":
        return [f"fleet explain {name}"]
    if run.compacted:
        return [f"fleet receipts {name}"]
    steps = [f"fleet logs {name}"] if task.attempt else []
    if task.status == "partial":
        return [verify_command(run, task), *steps]
    return steps if task.status == "completed" else [*steps, f"fleet explain {name}"]
