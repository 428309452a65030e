"""What a command changes: one event, nothing new, or a refusal. Nothing is changed here.

Theory of operation. `decide(state, command, now)` looks at the state and answers `Event` (record
this), `Known` (already so: asking again is harmless) or raises `Refused` with the sentence for the
person who asked; it raises nothing else. Facts from a host are never refused: a late one is
recorded as late. Who decides what may be placed is `placement`; who carries it out is the engine.
"""

from typing import assert_never

from msgspec import Raw, Struct, structs

from ..errors import Refused
from . import commands as c
from . import events as e
from .asks import decide_asks, decide_facts
from .backoff import retry_after
from .controls import refuse_compacted, refuse_draft, refuse_restart
from .state import OPEN, Flight, Run, State, Task, attempt_id, split_attempt
from .tasks import decode_task
from .usage import limited, usage_of, wait_of
from .verdicts import judge


class Known(Struct, frozen=True):
    """What was asked is already so, since record `seq`."""

    seq: int


Decision = e.Event | Known


def decide(state: State, command: c.Command, now: float) -> Decision:
    """The event that records this command; `now` is seconds since the epoch."""
    match command:
        case c.Place():
            return _place(state, command)
        case c.ReportEnded():
            return _report_ended(state, command)
        case c.ReportStarted():
            return _report_started(state, command)
        case c.ReportLost():
            return _report_lost(state, command)
        case c.ReportQuiet():
            return _report_quiet(state, command)
        case c.ReportProgress():
            return _report_progress(state, command)
        case c.ReportAsked() | c.ReportData() | c.ReportSecrets():
            return decide_facts(state, command) or Known(state.seq)
        case c.ReportStill():
            return _report_still(state, command)
        case c.ReportBeat():
            return e.WorkerHeartbeat(workers=list(command.workers))
        case c.OfWorkers():
            from .workers import decide_worker

            return decide_worker(state, command, now) or Known(state.seq)
        case c.Initialize():
            if state.fleet:
                return Known(1)
            return e.FleetInitialized(fleet=command.fleet)
        case c.Elect():
            return _elect(state, command)
        case c.Copied():
            return e.FleetCopied(fleet=command.fleet, was=state.fleet)
        case c.Leave():
            if state.epoch != command.epoch or (state.manager and state.manager.left):
                return Known(state.seq)
            return e.ManagerLeft(epoch=command.epoch)
        case _:
            return _decide_run(state, command, now)


def _decide_run(state: State, command: c.Command, now: float) -> Decision:
    """What is asked of a run, by people and by the manager."""
    match command:
        case c.CreateRun(run=run, created=created):
            if run in state.runs:
                raise Refused(f'a run "{run}" exists already.', "Ask again for another id.")
            return created
        case c.AddTasks(run=run, tasks=tasks):
            return _add_tasks(_run(state, run), tasks)
        case c.StartRun(run=run, count=count):
            found = _run(state, run)
            if found.status != "draft":
                return Known(found.seq)
            return e.RunStarted(count=count, digest=found.digest)
        case c.Enrol(run=run, enrolled=enrolled):
            found = _run(state, run)
            if found.slots == enrolled.slots and state.boot == enrolled.boot:
                return Known(found.seq)
            return enrolled
        case c.StopRun():
            return _stop(_run(state, command.run), command)
        case c.PauseRun():
            return _pause(_run(state, command.run), command)
        case c.ResumeRun():
            return _resume(_run(state, command.run), command)
        case c.FinishRun():
            return _finish(_run(state, command.run), command)
        case c.Interrupt():
            return _interrupt(_run(state, command.run), command)
        case c.Answer() | c.PutData() | c.DeleteData():
            return decide_asks(_run(state, command.run), command)
        case c.AlertCommand():
            from .outbox import decide_alert

            return decide_alert(state, _run(state, command.run), command, now) or Known(state.seq)
        case c.Judge():
            return judge(_run(state, command.run), command)
        case c.Restart():
            return _restart(_run(state, command.run), command, now)
        case _:
            return assert_never(command)  # type: ignore[arg-type]


def _run(state: State, run: str) -> Run:
    found = state.runs.get(run)
    if found is None:
        raise Refused(f'"{run}" is no run.', "fleet status lists the runs.", exit_code=2)
    return found


# The fleet ------------------------------------------------------------------------------------


def _elect(state: State, command: c.Elect) -> Decision:
    if command.elected.epoch != state.epoch + 1:
        raise Refused(
            f"another manager was elected meanwhile (epoch {state.epoch}).",
            "Nothing was changed; ask again.",
        )
    return command.elected


def _add_tasks(run: Run, tasks: tuple[bytes, ...]) -> Decision:
    if run.status != "draft":
        raise Refused(f'"{run.id}" is started: its tasks stand.', "Make a new run of the rest.")
    return e.TasksAdded(tasks=[Raw(task) for task in tasks])


# Attempts -------------------------------------------------------------------------------------


def _place(state: State, command: c.Place) -> Decision:
    run = state.runs[command.run]
    task = run.tasks[command.task]
    if task.status != "queued" or run.status != "running":
        raise Refused(f"{command.run}/{command.task} is {task.status}, so it can't be placed.")
    return e.AttemptDispatched(
        attempt=attempt_id(run.id, task.id, task.attempt + 1),
        worker=command.worker,
        boot=command.boot,
        why=command.why,
        cores=command.cores,
        memory_mb=command.memory_mb,
        gpus=list(command.gpus),
    )


def _flight(state: State, attempt: str) -> tuple[Run | None, Flight | None]:
    run = state.runs.get(split_attempt(attempt)[0])
    return run, run.flights.get(attempt) if run else None


def _seen(state: State, src: tuple[str, int]) -> bool:
    return src[1] <= state.cursors.get(src[0], 0)


def _report_started(state: State, command: c.ReportStarted) -> Decision:
    run, _ = _flight(state, command.attempt)
    if run is None or _seen(state, command.src):
        return Known(state.seq)
    return e.AttemptStarted(
        attempt=command.attempt,
        worker=command.worker,
        pid=command.pid,
        since=command.since,
        src=command.src,
    )


def _report_quiet(state: State, command: c.ReportQuiet) -> Decision:
    run, _ = _flight(state, command.attempt)
    if run is None or _seen(state, command.src):
        return Known(state.seq)
    kind = e.WorkerRecovered if command.moves else e.WorkerStale
    return kind(
        worker=command.worker, attempt=command.attempt, quiet=command.quiet, src=command.src
    )


def _report_still(state: State, command: c.ReportStill) -> Decision:
    run, flight = _flight(state, command.attempt)
    if run is None or flight is None or (command.moves and not flight.silent):
        return Known(state.seq)
    kind = e.WorkerRecovered if command.moves else e.WorkerStale
    return kind(worker=command.worker, attempt=command.attempt, quiet=command.quiet)


def _report_progress(state: State, command: c.ReportProgress) -> Decision:
    run, _ = _flight(state, command.attempt)
    if run is None or _seen(state, command.src):
        return Known(state.seq)
    return e.AttemptProgressed(
        attempt=command.attempt,
        worker=command.worker,
        src=command.src,
        agent=command.agent,
        warn=list(command.warn),
        step=command.step,
        percent=command.percent,
        note=command.note,
        checkpoint=command.checkpoint,
    )


def _report_ended(state: State, command: c.ReportEnded) -> Decision:
    ended = command.ended
    run, flight = _flight(state, ended.attempt)
    if run is None or _seen(state, ended.src):
        return Known(state.seq)
    if flight is None:
        return structs.replace(ended, late=True, retry_after=None)
    receipt = _overruled(ended, flight, run)
    if ended.quota and receipt is ended.receipt:
        receipt = limited(ended.quota)
        quota = structs.replace(ended.quota, seconds=wait_of(state, ended.quota))
        ended = structs.replace(ended, quota=quota)
    again = _next(run, flight, receipt, command.jitter, ended)
    never = ended.why in ("withdrawn", "unspawned")
    if never and not flight.end and run.status in ("running", "paused"):
        again = 0.0
    if receipt is ended.receipt and again is None:
        return ended
    return structs.replace(ended, receipt=receipt, retry_after=again)


def _overruled(ended: e.AttemptEnded, flight: Flight, run: Run) -> e.Receipt:
    """The receipt of an attempt that was ended on request is skip; others keep theirs."""
    if ended.why not in ("interrupted", "stopped", "withdrawn"):
        return ended.receipt
    if flight.end == "stopped":
        source, reason = run.stop_source or "human", run.reason or "the run was stopped"
    else:
        source, reason = "human", f"{ended.why} on request"
    return e.Receipt(result="skip", source=source, reason=reason)


def _report_lost(state: State, command: c.ReportLost) -> Decision:
    run, flight = _flight(state, command.attempt)
    if run is None or flight is None:
        return Known(state.seq)
    again = _next(run, flight, command.receipt, command.jitter, None)
    if command.open and flight.end != "restart":
        again = None
    return e.AttemptLost(
        attempt=command.attempt, why=command.why, receipt=command.receipt, retry_after=again
    )


def _next(
    run: Run, flight: Flight, receipt: e.Receipt, jitter: float, ended: e.AttemptEnded | None
) -> float | None:
    """Seconds until the task's next attempt, or None when this one decides it."""
    if run.status == "stopping":
        return None
    if flight.end == "restart":
        return 0.0
    if receipt.result == "pass":
        return None
    if ended and ended.quota and not ended.quota.verifier and not flight.end:
        return ended.quota.seconds
    if flight.end or receipt.result not in ("fail", "timeout"):
        return None
    task = run.tasks[flight.task]
    usage = task.more.usage if task.more else e.Usage()
    return retry_after(
        decode_task(task.raw),
        failures=task.failures + 1,
        spent=task.spent + (ended.seconds if ended else 0.0),
        usage=usage + usage_of(ended) if ended else usage,
        receipt=receipt,
        jitter=jitter,
    )


# Controls -------------------------------------------------------------------------------------


def _stop(run: Run, command: c.StopRun) -> Decision:
    refuse_draft(run)
    if run.status == "finished":
        raise Refused(
            f'"{run.id}" has finished; there is nothing to stop.',
            f"What became of it: fleet receipts {run.id}",
        )
    if run.status == "stopping" and not (
        command.interrupt and any(not flight.end for flight in run.flights.values())
    ):
        return Known(run.seq)
    return e.RunStopped(reason=command.reason, source=command.source, interrupt=command.interrupt)


def _pause(run: Run, command: c.PauseRun) -> Decision:
    refuse_draft(run)
    if run.status == "paused":
        return Known(run.seq)
    if run.status != "running":
        is_so = "has finished" if run.status == "finished" else "is stopping"
        raise Refused(f'"{run.id}" {is_so}; only a running run can be paused.')
    return e.RunPaused(reason=command.reason)


def _resume(run: Run, command: c.ResumeRun) -> Decision:
    if run.status == "draft":
        raise Refused(f'"{run.id}" was never started.', "fleet run makes it anew.")
    refuse_compacted(run)
    again = run.counts.get("cancelled", 0)
    again += run.counts.get("failed", 0) if command.failed else 0
    if not again and run.status == "running":
        return Known(run.seq)
    if not again and run.status == "finished":
        failed = run.counts.get("failed", 0)
        hint = f"To run the failed ones again: fleet resume {run.id} --failed" if failed else ""
        raise Refused(f'"{run.id}" has finished; there is nothing to resume.', hint)
    return e.RunResumed(failed=command.failed, max_workers=command.max_workers)


def _finish(run: Run, command: c.FinishRun) -> Decision:
    if run.status == "finished":
        return Known(run.seq)
    if run.open:
        raise Refused(f'"{run.id}" has {run.open} tasks that have not ended.')
    counts = {name: count for name, count in run.counts.items() if count}
    event = e.RunFinished(
        status=outcome(run),
        counts=counts,
        seconds=command.seconds,
        sources={name: count for name, count in run.sources.items() if count},
        restarted=run.restarted,
        spent=round(run.spent, 6),
        usage=run.usage or None,
    )
    if run.alerts is None:
        return event
    from .topics import kept_at_end

    known = run.alerts.told == event.status
    return structs.replace(event, alerts=kept_at_end(run), known=known)


def outcome(run: Run) -> str:
    """failed before cancelled before partial before completed."""
    for status in ("failed", "cancelled", "partial"):
        if run.counts.get(status):
            return status
    return "completed"


def _interrupt(run: Run, command: c.Interrupt) -> Decision:
    refuse_draft(run)
    flying = _attempts(run, command.tasks)
    fresh = [name for name in flying if run.flights[name].end in ("", "restart")]
    if fresh:
        return e.ControlRequested(verb="interrupt", attempts=fresh, reason=command.reason)
    queued = [name for name in command.tasks if run.tasks[name].status == "queued"]
    if queued:
        return e.TaskCancelled(tasks=queued, why=command.reason)
    if flying:
        return Known(run.seq)
    raise Refused(f"nothing of {_named(run, command.tasks)} is running or queued.")


def _restart(run: Run, command: c.Restart, now: float) -> Decision:
    refuse_restart(run)
    flying = _attempts(run, command.tasks)
    fresh = [name for name in flying if run.flights[name].end != "restart"]
    if fresh:
        return e.ControlRequested(verb="restart", attempts=fresh, reason=command.reason)
    resting = [name for name in command.tasks if _rests(run.tasks[name], now)]
    if not resting:
        return Known(run.seq)
    return e.TaskQueued(tasks=resting, why=command.reason)


def _rests(task: Task, now: float) -> bool:
    """Whether a restart changes something: the task has ended, or waits out its backoff."""
    return task.status not in OPEN or (task.status == "queued" and task.not_before > now)


def _attempts(run: Run, tasks: tuple[str, ...]) -> list[str]:
    wanted = set(tasks)
    return [name for name, flight in run.flights.items() if flight.task in wanted]


def _named(run: Run, tasks: tuple[str, ...]) -> str:
    return ", ".join(f"{run.id}/{task}" for task in tasks[:3])
