"""The records that belong to one run or one task, found by their bytes before any is decoded."""

from ..core.events import Envelope, Event
from ..core.state import Run
from ..ledger.store import Ledger

Records = list[tuple[Envelope, Event]]

_RUN = (b'{"k":"run.', b'{"k":"worker.enrolled"')
_WORKERS = (b"draining", b"enrolled", b"registered", b"retired", b"unreachable")
_TASK = (b'{"k":"task.',)


def of_run(ledger: Ledger, run: Run) -> Records:
    """What happened to the run as a whole, in order."""
    return _found(ledger, run, _RUN)


def of_task(ledger: Ledger, run: Run, task: str) -> Records:
    """What happened to one task, and to its run as a whole, in order."""
    return _found(ledger, run, (*_RUN, *_TASK, f'"{run.id}/{task}@'.encode()))


def of_worker(ledger: Ledger, run: Run, worker: str) -> Records:
    """What happened on one worker of a run, in order."""
    return _found(ledger, run, (b'{"k":"worker.enrolled"', f'"{worker}"'.encode()))


def of_workers(ledger: Ledger, run: Run) -> Records:
    """What the fleet learnt of all its workers until the run ended, in order; of a run that stays
    on this machine nothing."""
    if not run.workers:
        return []
    stop = run.closed_at if run.status == "finished" and run.closed_at > run.opened_at else None
    found = [
        (head, event)
        for word in _WORKERS
        for head, event in ledger.records(stop=stop, containing=b'{"k":"worker.%b"' % word)
    ]
    return sorted(found, key=lambda one: one[0].seq)


def _found(ledger: Ledger, run: Run, needles: tuple[bytes, ...]) -> Records:
    stop = run.closed_at if run.status == "finished" and run.closed_at > run.opened_at else None
    found = {
        head.seq: (head, event)
        for needle in needles
        for head, event in ledger.records(run.id, run.opened_at, stop, containing=needle)
    }
    return [found[seq] for seq in sorted(found)]
