"""What a recorded event changes: the only code that writes to `State`.

`evolve` never refuses and never fails on an event that `decide` could answer; a fact about
something that has moved on changes nothing. Timestamps come from the record's head; times in the
future are computed from them, so that replaying the file gives the same state anywhere.
"""

from collections.abc import Callable
from datetime import datetime
from heapq import heappush
from typing import Any

from msgspec import Raw, Struct, json

from . import events as ev
from .state import (
    OPEN,
    RESULT_STATUS,
    Flight,
    Manager,
    Run,
    State,
    Task,
)
from .tasks import claims_of, decode_task, priority_of

MEAN_WEIGHT = 0.2
"""Weight of the newest attempt in a run's mean duration."""


_ABSENT = Raw()


class _Head(Struct, gc=False):
    """The few fields of a task that placement needs without decoding the rest."""

    id: str
    priority: int = 0
    metadata: Raw = _ABSENT
    workspace: Raw = _ABSENT


_decode_head = json.Decoder(_Head).decode


def seconds_of(ts: str) -> float:
    """A record's timestamp as seconds since the epoch."""
    return datetime.fromisoformat(ts).timestamp()


def evolve(state: State, head: ev.Envelope, event: ev.Event) -> None:
    """Take one record into the state."""
    state.seq = head.seq
    state.ts = head.ts
    handler = _HANDLERS.get(type(event))
    if handler is not None:
        handler(state, head, event)


# What moves a task ----------------------------------------------------------------------------


def _move(run: Run, task: Task, status: str, seq: int) -> None:
    before = task.status
    task.seq = seq
    if before == status:
        return
    counts = run.counts
    counts[before] -= 1
    counts[status] = counts.get(status, 0) + 1
    run.open += (status in OPEN) - (before in OPEN)
    task.status = status


def _forget_result(run: Run, task: Task) -> None:
    if task.source:
        run.sources[task.source] -= 1
    task.result = task.source = task.reason = ""


def _settle(run: Run, task: Task, receipt: ev.Receipt, seq: int) -> None:
    _forget_result(run, task)
    task.result, task.source = receipt.result, receipt.source
    task.reason = "" if receipt.result == "pass" else receipt.reason
    if receipt.source:
        run.sources[receipt.source] = run.sources.get(receipt.source, 0) + 1
    _move(run, task, RESULT_STATUS[receipt.result], seq)


def _queue(run: Run, task: Task, seq: int, not_before: float = 0.0) -> None:
    _forget_result(run, task)
    _move(run, task, "queued", seq)
    task.not_before = not_before
    if not_before:
        heappush(run.timers, (not_before, task.index))
    else:
        heappush(run.ready, (task.priority, task.index))


def _land(run: Run, attempt: str, flight: Flight) -> None:
    """Free what an attempt in flight held: its slot, its claims, and who waited for them."""
    del run.flights[attempt]
    load = run.load[flight.worker] - 1
    if load:
        run.load[flight.worker] = load
    else:
        del run.load[flight.worker]
    task = run.tasks[flight.task]
    if task.has_claims:
        for claim in [claim for claim, holder in run.claims.items() if holder == task.id]:
            del run.claims[claim]
        for index in run.parked.pop(task.id, ()):
            waiting = run.order[index]
            if waiting.status == "queued":
                heappush(run.ready, (waiting.priority, index))


# Fleet, managers, workers ---------------------------------------------------------------------


def _initialized(state: State, head: ev.Envelope, event: ev.FleetInitialized) -> None:
    state.fleet = event.fleet


def _elected(state: State, head: ev.Envelope, event: ev.ManagerElected) -> None:
    state.manager = Manager(
        epoch=event.epoch,
        pid=event.pid,
        host=event.host,
        boot=event.boot,
        device=event.device,
        inode=event.inode,
        ts=head.ts,
    )


def _left(state: State, head: ev.Envelope, event: ev.ManagerLeft) -> None:
    if state.manager and state.manager.epoch == event.epoch:
        state.manager.left = True


def _enrolled(state: State, head: ev.Envelope, event: ev.WorkerEnrolled) -> None:
    state.runs[head.run].slots = event.slots
    state.boot = event.boot


def _beat(state: State, head: ev.Envelope, event: ev.WorkerHeartbeat) -> None:
    for worker in event.workers:
        state.beats[worker] = head.ts


# Runs -----------------------------------------------------------------------------------------


def _created(state: State, head: ev.Envelope, event: ev.RunCreated) -> None:
    state.runs[head.run] = Run(
        id=head.run,
        name=event.name,
        seq=head.seq,
        ts=head.ts,
        max_workers=event.max_workers,
        workspace=event.workspace,
        digest=event.digest,
        max_failures=event.max_failures,
        labels=event.labels,
        environment=event.environment,
        waived=event.waived,
        spec=event.spec,
    )


def _added(state: State, head: ev.Envelope, event: ev.TasksAdded) -> None:
    run = state.runs[head.run]
    seq = head.seq
    for raw in event.tasks:
        top = _decode_head(raw)
        data = bytes(raw)
        task = Task(index=len(run.order), id=top.id, raw=data, priority=top.priority, seq=seq)
        if top.metadata != _ABSENT or top.workspace != _ABSENT:
            spec = decode_task(data)
            task.has_claims = bool(claims_of(spec))
            task.priority = priority_of(spec)
        run.order.append(task)
        run.tasks[top.id] = task
        run.ready.append((task.priority, task.index))
    run.ready.sort()
    added = len(event.tasks)
    run.counts["queued"] = run.counts.get("queued", 0) + added
    run.open += added


def _run_started(state: State, head: ev.Envelope, event: ev.RunStarted) -> None:
    run = state.runs[head.run]
    run.status = "running"
    run.started_ts = head.ts
    state.open_runs[run.id] = run


def _stopped(state: State, head: ev.Envelope, event: ev.RunStopped) -> None:
    run = state.runs[head.run]
    run.status = "stopping"
    run.reason = event.reason
    run.stop_source = event.source
    receipt = ev.Receipt(result="skip", source=event.source, reason=event.reason)
    for task in run.order:
        if task.status == "queued":
            _settle(run, task, receipt, head.seq)
    run.ready.clear()
    run.timers.clear()
    run.parked.clear()
    if event.interrupt:
        for flight in run.flights.values():
            flight.end = "stopped"


def _paused(state: State, head: ev.Envelope, event: ev.RunPaused) -> None:
    run = state.runs[head.run]
    run.status = "paused"
    run.reason = event.reason


def _resumed(state: State, head: ev.Envelope, event: ev.RunResumed) -> None:
    run = state.runs[head.run]
    if event.max_workers:
        run.max_workers = event.max_workers
    run.status, run.reason, run.stop_source, run.result = "running", "", "", ""
    state.open_runs[run.id] = run
    again = ("cancelled", "failed") if event.failed else ("cancelled",)
    for task in run.order:
        if task.status in again:
            if task.attempt:
                task.restarts += 1
                run.restarted += 1
            task.failures = 0
            _queue(run, task, head.seq)


def _finished(state: State, head: ev.Envelope, event: ev.RunFinished) -> None:
    run = state.runs[head.run]
    run.status = "finished"
    run.result = event.status
    run.seconds = event.seconds
    run.counts, run.sources = dict(event.counts), dict(event.sources)
    run.restarted = event.restarted
    run.finished_ts = head.ts
    state.open_runs.pop(run.id, None)
    for index in range(1, run.slots + 1):
        state.beats.pop(f"{run.id}-local-{index}", None)


# Tasks and attempts ---------------------------------------------------------------------------


def _queued(state: State, head: ev.Envelope, event: ev.TaskQueued) -> None:
    run = state.runs[head.run]
    if run.status in ("finished", "stopping"):
        run.status = "running"
        state.open_runs[run.id] = run
    for name in event.tasks:
        task = run.tasks[name]
        task.failures = 0
        task.restarts += 1
        run.restarted += 1
        _queue(run, task, head.seq)


def _cancelled(state: State, head: ev.Envelope, event: ev.TaskCancelled) -> None:
    run = state.runs[head.run]
    receipt = ev.Receipt(result="skip", source="human", reason=event.why)
    for name in event.tasks:
        task = run.tasks[name]
        if task.status == "queued":
            _settle(run, task, receipt, head.seq)


def _dispatched(state: State, head: ev.Envelope, event: ev.AttemptDispatched) -> None:
    run = state.runs[head.run]
    name, number = event.attempt[len(head.run) + 1 :].rsplit("@", 1)
    task = run.tasks[name]
    task.attempt = int(number)
    task.worker = event.worker
    task.not_before = 0.0
    _move(run, task, "leased", head.seq)
    run.flights[event.attempt] = Flight(task=name, worker=event.worker, boot=event.boot, ts=head.ts)
    run.load[event.worker] = run.load.get(event.worker, 0) + 1
    if task.has_claims:
        for claim in claims_of(decode_task(task.raw)):
            run.claims[claim] = name


def _started(state: State, head: ev.Envelope, event: ev.AttemptStarted) -> None:
    _see(state, event.src)
    run = state.runs[head.run]
    flight = run.flights.get(event.attempt)
    if flight is None:
        return
    flight.started = True
    flight.pid = event.pid
    task = run.tasks[flight.task]
    task.worker = event.worker
    _move(run, task, "running", head.seq)


def _ended(state: State, head: ev.Envelope, event: ev.AttemptEnded) -> None:
    _see(state, event.src)
    run = state.runs[head.run]
    flight = run.flights.get(event.attempt)
    if flight is None:
        return
    task = run.tasks[flight.task]
    task.worker = event.worker
    task.seconds = event.seconds
    task.spent += event.seconds
    if not event.unstarted:
        run.mean = (
            run.mean + MEAN_WEIGHT * (event.seconds - run.mean) if run.mean else event.seconds
        )
    _close(run, head, event, flight)


def _lost(state: State, head: ev.Envelope, event: ev.AttemptLost) -> None:
    run = state.runs[head.run]
    flight = run.flights.get(event.attempt)
    if flight is not None:
        _close(run, head, event, flight)


def _close(
    run: Run, head: ev.Envelope, event: ev.AttemptEnded | ev.AttemptLost, flight: Flight
) -> None:
    task = run.tasks[flight.task]
    _land(run, event.attempt, flight)
    receipt, again = event.receipt, event.retry_after
    if receipt.result in ("fail", "timeout"):
        task.failures += 1
    if again is None:
        _settle(run, task, receipt, head.seq)
        return
    if receipt.result in ("fail", "timeout") or flight.end == "restart":
        task.restarts += 1
        run.restarted += 1
    if flight.end == "restart":
        task.failures = 0
    _queue(run, task, head.seq, seconds_of(head.ts) + again if again else 0.0)
    task.reason = receipt.reason


def _controlled(state: State, head: ev.Envelope, event: ev.ControlRequested) -> None:
    run = state.runs[head.run]
    why = "restart" if event.verb == "restart" else "interrupted"
    for attempt in event.attempts:
        flight = run.flights.get(attempt)
        if flight is not None:
            flight.end = why


def _see(state: State, src: tuple[str, int]) -> None:
    runtime, number = src
    if number > state.cursors.get(runtime, 0):
        state.cursors[runtime] = number


_HANDLERS: dict[type[ev.Event], Callable[[State, ev.Envelope, Any], None]] = {
    ev.FleetInitialized: _initialized,
    ev.ManagerElected: _elected,
    ev.ManagerLeft: _left,
    ev.WorkerEnrolled: _enrolled,
    ev.WorkerHeartbeat: _beat,
    ev.RunCreated: _created,
    ev.TasksAdded: _added,
    ev.RunStarted: _run_started,
    ev.RunStopped: _stopped,
    ev.RunPaused: _paused,
    ev.RunResumed: _resumed,
    ev.RunFinished: _finished,
    ev.TaskQueued: _queued,
    ev.TaskCancelled: _cancelled,
    ev.AttemptDispatched: _dispatched,
    ev.AttemptStarted: _started,
    ev.AttemptEnded: _ended,
    ev.AttemptLost: _lost,
    ev.ControlRequested: _controlled,
}
"""Every word but `ledger.repaired`, which changes nothing that is known; a test holds that."""
