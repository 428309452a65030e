"""The state of a fleet in one answer: what needs a person, its runs, exact counts.

Pure: the state, whether a manager answers, and the time come in. The answer depends on the time
only through `stale`; `good_until` says when that would change, so that an answer can be kept.
"""

from collections.abc import Container
from typing import Any

from ..core.asks import waiting
from ..core.backoff import is_exhausted
from ..core.evolve import seconds_of
from ..core.state import Run, State, Task, attempt_id
from ..core.tally import Rest
from .asking import answer_command, going, wanted

COUNTS = (
    "queued", "running", "completed", "partial", "failed", "restarted", "escalated", "cancelled",
    "stale",
)  # fmt: skip
"""What is counted, in the order in which it is shown."""

SOURCES = ("transport", "task", "verifier", "budget", "policy", "human")
"""Whose fault a failure can be."""

STALE_SECONDS = 300.0
"""An attempt in flight that nobody has heard of for so long is stale."""

RECORDED_SECONDS = 60.0
"""A manager with attempts in flight records something at least so often: their heartbeats."""

LISTED_RUNS = 50
"""Finished runs that an answer names, newest first; open runs are all named."""

LISTED_NEEDS = 50
"""Things for a person that an answer names; the rest is counted."""

NEVER = 1e18


def status(
    state: State,
    *,
    alive: bool,
    silent: bool = False,
    now: float,
    only: str = "",
    low: str = "",
    folder: str = ".",
    rest: Rest | None = None,
    spelled: Container[str] = (),
) -> dict[str, Any]:
    """The whole fleet, or the run `only`. `silent`: its manager is there and does not answer.

    `low` says how little room the disk of the fleet directory `folder` has, where that is little.
    `rest`: finished runs that are not in the state; `spelled`: those whose waiting tasks are named.
    """
    runs = [run for run in state.runs.values() if run.id == only or not only]
    shown = [run for run in runs if run.status != "draft" or only]
    needs = [
        need
        for run in shown
        for need in _needs(run, alive, named=bool(only), listed=run.id in spelled)
    ]
    if state.workers and alive:
        from .workers import away

        needs[:0] = away(state, shown, now)
    if alive and silent and state.manager is not None:
        pid = state.manager.pid
        needs.insert(0, _need("manager", "it does not answer: stopped?", f"kill -CONT {pid}"))
    if low:
        needs.insert(0, _need("disk", low, f"df -h {folder}"))
    total = len(shown) + (rest.runs if rest else 0)
    counted = [*shown, rest.as_run()] if rest else shown
    told: dict[str, Any] = {}
    if state.alerts:
        from .alerting import needs as stuck
        from .alerting import owed

        needs += [_need(*need) for need in stuck(state, only)]
        told = {"alerts": owed(state, only)}
    if state.workers and not only:
        from .workers import counted as of_workers

        told["workers"] = of_workers(state)
    newest = sorted(shown, key=lambda run: run.seq, reverse=True)
    listed = [run for run in newest if run.status != "finished"]
    listed += [run for run in newest if run.status == "finished"][:LISTED_RUNS]
    return {
        "fleet": state.fleet,
        "seq": state.seq,
        "manager": manager(state, alive=alive, silent=silent),
        "counts": {"runs": total, **counts(counted, state, _as_seen(state, now, alive))},
        "failures": failures(counted),
        "resting": _resting(state, now),
        **told,
        "needs": needs[:LISTED_NEEDS],
        "needs_total": len(needs),
        "runs": [run_row(run, alive=alive) for run in listed],
        "runs_total": total,
    }


def _resting(state: State, now: float) -> list[dict[str, Any]]:
    if not state.breakers:
        return []
    from .usage import resting

    return resting(state, now)


def manager(state: State, *, alive: bool, silent: bool = False) -> dict[str, Any]:
    """Who manages: alive, silent, dead, left (in order) or none yet; and the epoch that fences."""
    known = state.manager
    if known is None:
        return {"state": "none", "epoch": 0}
    here = "silent" if silent else "alive"
    word = here if alive else "left" if known.left else "dead"
    return {
        "state": word,
        "epoch": known.epoch,
        "pid": known.pid,
        "host": known.host,
        "since": known.ts,
    }


def counts(runs: list[Run], state: State, now: float) -> dict[str, int]:
    """Tasks by what a person asks about. A leased task that waits behind another one on its slot is
    queued; so `running` never exceeds the slots."""
    made = dict.fromkeys(COUNTS, 0)
    for run in runs:
        if run.status == "draft":
            continue
        busy = len(run.load)
        given = run.counts
        flying = given.get("leased", 0) + given.get("running", 0)
        made["running"] += busy
        made["queued"] += given.get("queued", 0) + flying - busy
        made["completed"] += given.get("completed", 0) + given.get("skipped", 0)
        for name in ("partial", "failed", "cancelled"):
            made[name] += given.get(name, 0)
        made["restarted"] += run.restarted
        made["escalated"] += given.get("partial", 0) + len({one.task for one in waiting(run)})
        made["stale"] += sum(
            bool(flight.stale) or heard + STALE_SECONDS <= now
            for flight, heard in zip(run.flights.values(), _last_heard(run, state), strict=True)
        )
    return made


def _as_seen(state: State, now: float, alive: bool) -> float:
    """The time by the ledger, where a manager keeps it: its clock does not jump, ours may."""
    return min(now, seconds_of(state.ts) + RECORDED_SECONDS) if alive and state.ts else now


def failures(runs: list[Run]) -> dict[str, int]:
    """Deciding receipts of failures, by whose fault they were."""
    return {name: sum(run.sources.get(name, 0) for run in runs) for name in SOURCES}


def good_until(state: State, now: float) -> float:
    """The second at which the answer would be another one, were the ledger to stay as it is."""
    times = [
        heard + STALE_SECONDS
        for run in state.open_runs.values()
        for heard in _last_heard(run, state)
    ]
    times += [breaker.until for breaker in state.breakers.values()]
    if state.workers:
        from .workers import away_from

        times += away_from(state)
    return min((time for time in times if time > now), default=NEVER)


def _last_heard(run: Run, state: State) -> list[float]:
    """For each attempt in flight, when its worker was last heard of (seconds since the epoch)."""
    return [
        seconds_of(max(flight.ts, state.beats.get(flight.worker, "")))
        for flight in run.flights.values()
    ]


def run_row(run: Run, *, alive: bool) -> dict[str, Any]:
    """One run as a row. `seconds` is wall time of a finished one."""
    total = sum(run.counts.values())
    row: dict[str, Any] = {
        "run": run.id,
        "name": run.name,
        "status": word_of(run, alive=alive),
        "result": run.result,
        "tasks": total,
        "done": total - sum(run.counts.get(name, 0) for name in ("queued", "leased", "running")),
        "counts": {name: count for name, count in run.counts.items() if count},
        "sources": {name: count for name, count in run.sources.items() if count},
        "restarted": run.restarted,
        "max_workers": run.max_workers,
        "created_at": run.ts,
    }
    for key, value in (
        ("started_at", run.started_ts),
        ("finished_at", run.finished_ts if run.status == "finished" else ""),
        ("seconds", round(run.seconds, 3) if run.status == "finished" else None),
        ("reason", run.reason),
        ("labels", run.labels),
        ("spec", run.spec),
        ("unenforced", run.waived),
        ("compacted_at", run.compacted),
        ("progress", going(run)),
    ):
        if value or value == 0.0:
            row[key] = value
    return row


def compacted(run: Run) -> str:
    """The sentence about a run whose detail is gone; empty for another one."""
    if not run.compacted:
        return ""
    return f"its detail was dropped by compaction on {run.compacted[:10]}"


def word_of(run: Run, *, alive: bool) -> str:
    """draft, running, paused, stopping, finished; `left alone` when open and nobody manages it."""
    if run.status in ("running", "stopping") and not alive:
        return "left alone"
    return run.status


def _needs(run: Run, alive: bool, *, named: bool, listed: bool) -> list[dict[str, Any]]:
    """What of this run waits for a person, each with what to type.

    `named`: each task, where the rows of a finished run are at hand, instead of their number;
    `listed`: those at least that wait for a verdict.
    """
    found = [
        _need(
            name.rpartition("@")[0],
            f"is stale: {'no sign of life' if flight.silent else 'no output, no processor time'}",
            f"fleet inspect {name}",
        )
        for name, flight in run.flights.items()
        if flight.stale
    ]
    found += [
        _need(one.key, f"needs_human: {wanted(one)}", answer_command(one)) for one in waiting(run)
    ]
    if named or run.status != "finished":
        found += _exhausted(run)
    if word_of(run, alive=alive) == "left alone":
        found.append(_need(run.id, "is open, and nobody manages it", f"fleet resume {run.id}"))
    if run.status == "paused":
        found.append(_need(run.id, f"is paused: {run.reason}", f"fleet resume {run.id}"))
    if run.status == "draft":
        found.append(_need(run.id, "was never started; fleet run makes it anew", "fleet run SPEC"))
    partial = run.counts.get("partial", 0)
    if partial and (named or listed or run.status != "finished"):
        for task in run.order:
            if task.status == "partial":
                name = f"{run.id}/{task.id}"
                found.append(_need(name, waits_for(task), verify_command(run, task)))
    elif partial:
        tasks = "1 task waits" if partial == 1 else f"{partial:,} tasks wait"
        why = f"{tasks} for somebody's verdict"
        found.append(_need(run.id, why, f"fleet inspect {run.id}"))
    return found


def task_word(run: Run, task: Task) -> str:
    """The status of a task; `verifying` where its latest attempt is over and is being judged."""
    flight = run.flights.get(attempt_id(run.id, task.id, task.attempt)) if run.flights else None
    return "verifying" if flight is not None and flight.step else task.status


def verify_command(run: Run, task: Task) -> str:
    """What ends the wait for a person."""
    return f"fleet verify {attempt_id(run.id, task.id, task.attempt)} --pass"


def waits_for(task: Task) -> str:
    """What an escalated task waits for."""
    return task.reason or "waits for somebody's verdict"


def _exhausted(run: Run) -> list[dict[str, Any]]:
    """Tasks that failed with all their attempts used up: one by name, more in one line."""
    names = [task.id for task in run.order if is_exhausted(task)]
    if not names:
        return []
    if len(names) == 1:
        name = f"{run.id}/{names[0]}"
        return [_need(name, "failed with its attempts used up", f"fleet explain {name}")]
    why = f"{len(names):,} tasks failed with their attempts used up"
    return [_need(run.id, why, f"fleet explain {run.id}")]


def _need(name: str, why: str, step: str) -> dict[str, Any]:
    return {"id": name, "why": why, "next": step}
