"""What the state learns about who is alive: managers, hosts, directories, attempts that hang.

Handlers of `evolve`. Times in the future rest on timestamps, so a clock that was set back between
two managers would freeze them: an election moves them by as much as the clock lost. A directory
that was renamed, or copied, takes the paths of its runs with it.
"""

from datetime import datetime
from heapq import heapify

from . import events as ev
from .fleet_words import LOCAL
from .state import Manager, Run, State


def seconds_of(ts: str) -> float:
    """A record's timestamp as seconds since the epoch."""
    return datetime.fromisoformat(ts).timestamp()


def to_the_second(ts: str) -> str:
    """A record's timestamp as a sentence says it."""
    return ts.partition(".")[0] + "Z" if "." in ts else ts


def see(state: State, src: tuple[str, int]) -> None:
    """The journal of runtime `src[0]` is in the ledger up to fact `src[1]`."""
    runtime, number = src
    if number > state.cursors.get(runtime, 0):
        state.cursors[runtime] = number


def initialized(state: State, head: ev.Envelope, event: ev.FleetInitialized) -> None:
    """A ledger begins."""
    state.fleet = event.fleet


def enrolled(state: State, head: ev.Envelope, event: ev.WorkerEnrolled) -> None:
    """A run has its local slots; or the host of another worker was heard of."""
    run = state.runs.get(head.run)
    if event.worker or (run is not None and run.workers):
        from .workers import enrolled

        enrolled(state, head, event, event.worker or LOCAL)
    if not event.worker:
        state.runs[head.run].slots = event.slots
        state.boot = event.boot


def beat(state: State, head: ev.Envelope, event: ev.WorkerHeartbeat) -> None:
    """These workers were heard of."""
    for worker in event.workers:
        state.beats[worker] = head.ts


def elected(state: State, head: ev.Envelope, event: ev.ManagerElected) -> None:
    """A manager took over: fences the earlier ones, and finds the directory where it is now."""
    before = state.manager
    if before and before.root and event.root and before.root != event.root:
        _move(state, before.root, event.root)
    state.manager = Manager(
        epoch=event.epoch,
        pid=event.pid,
        host=event.host,
        boot=event.boot,
        device=event.device,
        inode=event.inode,
        root=event.root,
        ts=head.ts,
    )
    if head.ts < state.latest:
        back = seconds_of(state.latest) - seconds_of(head.ts)
        for run in state.open_runs.values():
            _earlier(run, back)
        if state.alerts:
            from .topics import earlier

            earlier(state, back)
    state.latest = head.ts


def _move(state: State, old: str, new: str) -> None:
    """Workspaces that lay below the fleet's root lie below its new one."""
    for run in state.runs.values():
        if run.workspace == old or run.workspace.startswith(old.rstrip("/") + "/"):
            run.workspace = new + run.workspace[len(old) :]


def _earlier(run: Run, seconds: float) -> None:
    """The clock lost `seconds`: waits end as much earlier on it, so that none grows longer."""
    for task in run.order:
        if task.status == "queued" and task.not_before:
            task.not_before -= seconds
    run.until = run.until and run.until - seconds
    run.timers = [(when - seconds, index) for when, index in run.timers]
    heapify(run.timers)


def left(state: State, head: ev.Envelope, event: ev.ManagerLeft) -> None:
    """A manager went in order."""
    if state.manager and state.manager.epoch == event.epoch:
        state.manager.left = True


def copied(state: State, head: ev.Envelope, event: ev.FleetCopied) -> None:
    """From here this is another fleet."""
    state.fleet = event.fleet


def stale(state: State, head: ev.Envelope, event: ev.WorkerStale) -> None:
    """An attempt does nothing any more."""
    if event.src is not None:
        see(state, event.src)
    flight = state.runs[head.run].flights.get(event.attempt)
    if flight is not None and not flight.stale:
        flight.stale, flight.stale_seq, flight.silent = head.ts, head.seq, event.src is None


def recovered(state: State, head: ev.Envelope, event: ev.WorkerRecovered) -> None:
    """It moves again."""
    if event.src is not None:
        see(state, event.src)
    flight = state.runs[head.run].flights.get(event.attempt)
    if flight is not None:
        flight.stale, flight.stale_seq, flight.silent = "", 0, False
