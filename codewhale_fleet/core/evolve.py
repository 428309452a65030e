"""What a recorded event changes: the only code that writes to `State`.

`evolve` never refuses and never fails on an event that `decide` could answer; a fact about
something that has moved on changes nothing. Timestamps come from the record's head; times in the
future are computed from them, so that replaying the file gives the same state anywhere.
"""

from collections.abc import Callable
from heapq import heappush
from sys import intern
from typing import Any

from . import asks, liveness, tasks
from . import events as ev
from .claims import release, step_up
from .liveness import seconds_of as seconds_of
from .liveness import see
from .load import occupy, vacate
from .patches import changed
from .state import (
    OPEN,
    RESULT_STATUS,
    Flight,
    Run,
    State,
    Task,
)
from .summary import compacted, summarized
from .tasks import begin_deadline, claims_of, decode_task
from .usage import more_of, progressed, used

MEAN_WEIGHT = 0.2
"""Weight of the newest attempt in a run's mean duration."""


def evolve(state: State, head: ev.Envelope, event: ev.Event) -> None:
    """Take one record into the state."""
    state.seq = head.seq
    state.ts = head.ts
    if head.ts > state.latest:
        state.latest = head.ts
    handler = _HANDLERS.get(type(event))
    if handler is not None:
        handler(state, head, event)
    if state.alerts:
        _note_alerts(state, head, event)


def _note_alerts(state: State, head: ev.Envelope, event: ev.Event) -> None:
    from .alerts import note

    note(state, head, event)


# What moves a task ----------------------------------------------------------------------------


def _move(run: Run, task: Task, status: str, seq: int) -> None:
    before, changed = task.status, task.seq
    task.seq = seq
    if before == status:
        return
    if before == "failed" and changed < run.forgiven_seq:
        run.forgiven -= 1
    counts = run.counts
    counts[before] -= 1
    counts[status] = counts.get(status, 0) + 1
    run.open += (status in OPEN) - (before in OPEN)
    task.status = status


def _forget_result(run: Run, task: Task) -> None:
    if task.source and task.status == "failed":
        run.sources[task.source] -= 1
    task.result = task.source = task.reason = ""


def _settle(run: Run, task: Task, receipt: ev.Receipt, seq: int) -> None:
    _forget_result(run, task)
    task.result, task.source = receipt.result, receipt.source
    task.not_before = 0.0
    task.reason = "" if receipt.result == "pass" else receipt.reason
    if receipt.result == "pass" and task.more and task.more.session_in:
        task.more.session = task.more.session_at = task.more.session_in = ""  # with its directory
    status = RESULT_STATUS[receipt.result]
    if status == "failed" and receipt.source:
        run.sources[receipt.source] = run.sources.get(receipt.source, 0) + 1
    _move(run, task, status, seq)


def _queue(run: Run, task: Task, seq: int, not_before: float = 0.0) -> None:
    _forget_result(run, task)
    _move(run, task, "queued", seq)
    task.not_before = not_before
    if not_before:
        heappush(run.timers, (not_before, task.index))
    else:
        heappush(run.ready, (task.priority, task.index))


def _land(state: State, run: Run, attempt: str, flight: Flight) -> None:
    """Free what an attempt in flight held: its slot, its claims, and who waited for them."""
    del run.flights[attempt]
    vacate(run, flight.worker)
    if run.workers:
        from .workers import give_back

        give_back(state, run, flight)
    task = run.tasks[flight.task]
    if task.has_claims:
        release(run, task)


# Runs -----------------------------------------------------------------------------------------


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
    run.behind.clear()
    run.board = None
    if event.interrupt:
        for flight in run.flights.values():
            flight.end = "stopped"


def _paused(state: State, head: ev.Envelope, event: ev.RunPaused) -> None:
    run = state.runs[head.run]
    run.status = "paused"
    run.reason = event.reason


def _go_on(state: State, run: Run, head: ev.Envelope) -> None:
    """A person has it go on: what has failed until now does not stop it once more, nor does the
    time that it took."""
    run.status, run.reason, run.stop_source, run.result = "running", "", "", ""
    run.forgiven, run.forgiven_seq = run.counts.get("failed", 0), head.seq
    run.asked_ts = head.ts
    begin_deadline(run, head.ts)
    state.open_runs[run.id] = run


def _resumed(state: State, head: ev.Envelope, event: ev.RunResumed) -> None:
    run = state.runs[head.run]
    if event.max_workers:
        run.max_workers = event.max_workers
    _go_on(state, run, head)
    for flight in run.flights.values():
        if flight.end == "stopped":  # its task would be cancelled as its attempt ends
            flight.end = "restart"
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
    run.status, run.asked_ts = "finished", ""
    run.result = event.status
    run.seconds = event.seconds
    run.counts, run.sources = dict(event.counts), dict(event.sources)
    run.restarted = event.restarted
    run.spent, run.usage = event.spent, event.usage or ev.Usage()
    run.finished_ts = head.ts
    state.open_runs.pop(run.id, None)
    for index in range(1, run.slots + 1):
        state.beats.pop(f"{run.id}-local-{index}", None)
    if run.workers:
        from .workers import forget_beats

        forget_beats(state, run)
        run.board = None


# Tasks and attempts ---------------------------------------------------------------------------


def _queued(state: State, head: ev.Envelope, event: ev.TaskQueued) -> None:
    run = state.runs[head.run]
    if run.status == "finished":
        _go_on(state, run, head)
    for name in event.tasks:
        task = run.tasks[name]
        task.failures = 0
        if task.status != "queued":  # a retry that waits was counted as it failed
            task.restarts += 1
            run.restarted += 1
        _queue(run, task, head.seq)


def _cancelled(state: State, head: ev.Envelope, event: ev.TaskCancelled) -> None:
    receipt = ev.Receipt(result="skip", source="human", reason=event.why)
    _without_attempt(state.runs[head.run], event.tasks, receipt, head.seq)


def _unplaced(state: State, head: ev.Envelope, event: ev.TaskUnplaced) -> None:
    _without_attempt(state.runs[head.run], event.tasks, event.receipt, head.seq)


def _without_attempt(run: Run, tasks: list[str], receipt: ev.Receipt, seq: int) -> None:
    for name in tasks:
        task = run.tasks[name]
        if task.status == "queued":
            _settle(run, task, receipt, seq)
            step_up(run, run.behind.pop(name, []))


def _dispatched(state: State, head: ev.Envelope, event: ev.AttemptDispatched) -> None:
    run = state.runs[head.run]
    name, number = event.attempt[len(head.run) + 1 :].rsplit("@", 1)
    task = run.tasks[name]
    task.attempt = int(number)
    task.worker = intern(event.worker)
    task.not_before = 0.0
    _move(run, task, "leased", head.seq)
    flight = Flight(task=name, worker=event.worker, boot=event.boot, ts=head.ts)
    run.flights[event.attempt] = flight
    occupy(run, event.worker)
    if run.workers:
        from .workers import take

        flight.cores, flight.memory_mb, flight.gpus = event.cores, event.memory_mb, event.gpus
        take(state, run, flight)
    if task.has_claims:
        for claim in claims_of(decode_task(task.raw)):
            run.claims[claim] = name


def _started(state: State, head: ev.Envelope, event: ev.AttemptStarted) -> None:
    see(state, event.src)
    run = state.runs[head.run]
    flight = run.flights.get(event.attempt)
    if flight is None:
        return
    flight.started = True
    flight.pid = event.pid
    task = run.tasks[flight.task]
    task.worker = intern(event.worker)
    _move(run, task, "running", head.seq)


def _ended(state: State, head: ev.Envelope, event: ev.AttemptEnded) -> None:
    see(state, event.src)
    run = state.runs[head.run]
    used(state, run, head, event)
    changed(run, event)
    flight = run.flights.get(event.attempt)
    if flight is None:
        return
    task = run.tasks[flight.task]
    task.worker = intern(event.worker)
    task.seconds = event.seconds
    task.spent = task.spent + event.seconds if task.spent else event.seconds
    if not event.unstarted:
        run.mean = (
            run.mean + MEAN_WEIGHT * (event.seconds - run.mean) if run.mean else event.seconds
        )
    _close(state, run, head, event, flight)


def _lost(state: State, head: ev.Envelope, event: ev.AttemptLost) -> None:
    run = state.runs[head.run]
    flight = run.flights.get(event.attempt)
    if flight is not None:
        _close(state, run, head, event, flight)


def _close(
    state: State,
    run: Run,
    head: ev.Envelope,
    event: ev.AttemptEnded | ev.AttemptLost,
    flight: Flight,
) -> None:
    task = run.tasks[flight.task]
    _land(state, run, event.attempt, flight)
    receipt, again = event.receipt, event.retry_after
    if receipt.feedback or task.more:
        more_of(task).feedback = receipt.feedback
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


def _judged(state: State, head: ev.Envelope, event: ev.ReceiptRecorded) -> None:
    run = state.runs[head.run]
    task = run.tasks[event.attempt[len(head.run) + 1 :].rpartition("@")[0]]
    if run.status == "finished":  # its end is recorded again, as this changes how it came out
        run.status, run.result = "running", ""
        state.open_runs[run.id] = run
    if event.receipt.feedback or task.more:
        more_of(task).feedback = event.receipt.feedback
    _settle(run, task, event.receipt, head.seq)


def _controlled(state: State, head: ev.Envelope, event: ev.ControlRequested) -> None:
    run = state.runs[head.run]
    why = "restart" if event.verb == "restart" else "interrupted"
    for attempt in event.attempts:
        flight = run.flights.get(attempt)
        if flight is not None:
            flight.end = why


def _of_workers(state: State, head: ev.Envelope, event: ev.Event) -> None:
    from .workers import learn

    learn(state, head, event)


_HANDLERS: dict[type[ev.Event], Callable[[State, ev.Envelope, Any], None]] = {
    ev.FleetInitialized: liveness.initialized,
    ev.FleetCopied: liveness.copied,
    ev.ManagerElected: liveness.elected,
    ev.ManagerLeft: liveness.left,
    ev.WorkerStale: liveness.stale,
    ev.WorkerRecovered: liveness.recovered,
    ev.AttemptProgressed: progressed,
    ev.ReceiptRecorded: _judged,
    ev.WorkerEnrolled: liveness.enrolled,
    ev.WorkerHeartbeat: liveness.beat,
    ev.RunCreated: tasks.created,
    ev.TasksAdded: tasks.added,
    ev.RunStarted: tasks.started,
    ev.RunStopped: _stopped,
    ev.RunPaused: _paused,
    ev.RunResumed: _resumed,
    ev.RunFinished: _finished,
    ev.TaskQueued: _queued,
    ev.TaskCancelled: _cancelled,
    ev.TaskUnplaced: _unplaced,
    ev.AttemptDispatched: _dispatched,
    ev.AttemptStarted: _started,
    ev.AttemptEnded: _ended,
    ev.AttemptLost: _lost,
    ev.ControlRequested: _controlled,
    ev.RunSummarized: summarized,
    ev.LedgerCompacted: compacted,
    **dict.fromkeys(
        (
            ev.WorkersAdded,
            ev.WorkerRegistered,
            ev.WorkerDraining,
            ev.WorkerRetired,
            ev.WorkerUnreachable,
            ev.InventoryDiscovered,
        ),
        _of_workers,
    ),
    **asks.HANDLERS,
}
"""Every word but those of the ledger that change nothing that is known; a test holds that."""
