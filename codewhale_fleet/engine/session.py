"""A run's way to its end, from whoever asked: manage it, or wait on the manager that does.

Every asker is an equal candidate. `run_to_end` elects itself where no manager answers; where one
does, it hands over the run's values, waits, and takes over when that manager dies. What a person
presses (Ctrl-C, a closed terminal) becomes a record like any other.
"""

import os
import socket
from contextlib import suppress

from msgspec import Struct

from .. import __version__
from ..core import commands as c
from ..core import events as e
from ..core.duties import owes
from ..core.greeting import of_another_boot, on_takeover
from ..core.state import Run, State
from ..errors import Damaged, Refused
from ..ledger.place import new_fleet
from ..ledger.store import Fenced, Ledger, Transaction
from .clock import boot_id
from .handover import answers, detach, hand_over, spawn_manager, unpause
from .runs import Asker
from .signals import Signals
from .sockets import connect, is_heard, listen
from .waiting import Heard, Waiter, is_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .early import Early
    from .manager import Observer


class Session(Struct):
    """How `run_to_end` ended: `interrupted` by Ctrl-C, or `detached` by a closed terminal."""

    interrupted: bool = False
    detached: bool = False


def run_to_end(
    ledger: Ledger,
    run_id: str,
    *,
    asker: Asker | None,
    observer: "Observer",
    early: "Early | None" = None,
) -> Session:
    """Return when the run is finished, or paused with nothing in flight.

    `early`: a connector that loads already, for a manager that may be needed.
    """
    session = Session()
    stalled = 0
    with Signals() as signals:
        while is_open(ledger, run_id) or (asker is not None and unpause(ledger, run_id, asker)):
            caller = None if stalled else connect(ledger.dir / "manager.sock")
            try:
                if caller is None:
                    _manage(ledger, run_id, asker, observer, signals, session, stalled, early)
                    stalled = 0
                else:
                    if early is not None:
                        early.drop()
                    with caller:
                        stalled = _wait_on(
                            caller, ledger, run_id, asker, observer, signals, session
                        )
            except Fenced:
                stalled = 0
                observer.note("another manager took over; waiting on it")
            if session.detached:
                break
    return session


def send(ledger: Ledger, run_id: str, *, asker: Asker, observer: "Observer") -> Session:
    """Bring the values that the alerts of a run wait for, and stay while they are sent."""
    session = Session()
    with Signals() as signals:
        caller = connect(ledger.dir / "manager.sock")
        if caller is None:
            with suppress(Fenced):
                _manage(ledger, run_id, asker, observer, signals, session, 0)
        else:
            caller.close()
            detach(ledger, run_id, asker=asker)
    return session


# As manager ---------------------------------------------------------------------------------


def elect(ledger: Ledger, *, stalled: int = 0) -> socket.socket | None:
    """Become manager: epoch + 1 in the ledger and the socket, or None when another one answers.

    `stalled` is the epoch of a manager that holds its socket and did not answer: it is replaced,
    unless somebody else has done so, or it answers by now.
    """
    if stalled and answers(ledger.dir):
        return None
    try:
        folder = ledger.dir.stat()
    except FileNotFoundError as error:
        raise removed(ledger) from error
    boot = boot_id()
    with ledger.transaction("manager") as transaction:
        if is_heard(ledger.dir / "manager.sock") and transaction.state.epoch != stalled:
            return None
        return _take_over(ledger, transaction, folder, boot)


def removed(ledger: Ledger) -> Damaged:
    """The sentence for a fleet directory that went away under us."""
    return Damaged(
        f"{ledger.dir} was removed while it was in use.",
        "Nothing more is recorded. What still runs goes on unseen until it ends.",
    )


def _take_over(
    ledger: Ledger,
    transaction: Transaction,
    folder: os.stat_result,
    boot: str,
) -> socket.socket:
    found = (folder.st_dev, folder.st_ino)
    # First: a torn write must not hide that the directory is another one.
    state = transaction.state
    kept: dict[str, str] = {}
    if of_another_boot(state, boot):
        from .rebooted import cut_off

        kept = cut_off(state, ledger.dir, boot)
    for command in on_takeover(state, boot, *found, fleet=new_fleet(), kept=kept):
        transaction.submit(command)
    transaction.submit(
        c.Elect(
            elected=e.ManagerElected(
                epoch=ledger.state.epoch + 1,
                pid=os.getpid(),
                host=os.uname().nodename,
                boot=boot,
                version=__version__,
                device=folder.st_dev,
                inode=folder.st_ino,
                root=str(ledger.dir.absolute().parent),
            )
        )
    )
    return listen(ledger.dir / "manager.sock")


def _manage(
    ledger: Ledger,
    run_id: str,
    asker: Asker | None,
    observer: "Observer",
    signals: Signals,
    session: Session,
    stalled: int,
    early: "Early | None" = None,
) -> None:
    server = elect(ledger, stalled=stalled)
    if server is None:
        return
    from .manager import Manager  # who only waits for one needs none

    manager = Manager(ledger, server, observer, focus=run_id, asker=asker)
    manager.early = early
    stops = 0

    def on_wake(descriptor: int) -> None:
        nonlocal stops
        signals.drain()
        if signals.hangups:
            session.detached = True
            manager.leaving = True
        for _ in range(signals.stops - stops):
            stops += 1
            _stop_once(ledger, run_id, observer, session, stops)
            if stops > 1:
                manager.kill(run_id)

    manager.watch(signals.descriptor)
    manager.on_wake = on_wake  # type: ignore[method-assign]
    manager.run()
    left = manager.others or owes(ledger.state)
    if (session.detached or left) and not manager.succeeded:
        spawn_manager(ledger)


def _stop_once(
    ledger: Ledger, run_id: str, observer: "Observer", session: Session, count: int
) -> None:
    session.interrupted = True
    if count == 1:
        observer.note("stopping: running tasks are interrupted; press Ctrl-C again to kill them")
        try:
            with ledger.transaction("cli:user") as transaction:
                transaction.submit(c.StopRun(run=run_id, reason="stopped by Ctrl-C"))
        except Refused:
            return
    else:
        observer.note("killing what still runs")


class Nobody:
    """An observer that sees nothing: a detached manager has no terminal."""

    ticks = 0.0

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None: ...
    def tick(self, state: State) -> None: ...
    def note(self, sentence: str) -> None: ...


def serve_manager(ledger: Ledger, *, ready: int | None = None, settle: bool = False) -> None:
    """Manage every open run; leave when none needs it. `ready` is closed once callers are heard.

    With `settle` nothing is placed: what was asked to end is ended, then it leaves.
    """
    server = elect(ledger)
    if ready is not None:
        with suppress(BrokenPipeError):  # whoever asked for it is gone: it manages all the same
            os.write(ready, b"ready\n")
        os.close(ready)
    if server is None:
        return
    from .manager import Manager

    until = is_settled if settle else None
    manager = Manager(ledger, server, Nobody(), focus=None, asker=None, until=until)
    manager.run()
    if (manager.wanted or (settle and owes(ledger.state))) and not manager.succeeded:
        spawn_manager(ledger)


def is_settled(state: State) -> bool:
    """Whether nothing that was asked to end is still in flight."""
    return not any(
        flight.end for run in state.open_runs.values() for flight in run.flights.values()
    )


def _wait_on(
    caller: socket.socket,
    ledger: Ledger,
    run_id: str,
    asker: Asker | None,
    observer: "Observer",
    signals: Signals,
    session: Session,
) -> int:
    """Follow the live manager until the run is over, or until it is gone.

    Answers the epoch of a manager that has stalled and is to be replaced, else 0.
    """
    ledger.sync()  # the manager reads only what is durable
    if asker is not None:
        hand_over(ledger, run_id, asker)
    observer.note("another manager is at work here; waiting on it")
    waiter = Waiter(caller, ledger, observer, lambda state: not is_open(ledger, run_id), run=run_id)
    stops = 0
    while (heard := waiter.follow(signals)) is Heard.SIGNAL:
        signals.drain()
        if signals.hangups:
            session.detached = True
            return 0
        while stops < signals.stops:
            stops += 1
            _stop_once(ledger, run_id, observer, session, stops)
            waiter.tell("poke" if stops == 1 else "kill")
    if heard is Heard.STALLED:
        observer.note("the other manager does not answer; taking over from it")
        return ledger.state.epoch
    return 0


def resume(
    ledger: Ledger,
    run_id: str,
    *,
    failed: bool,
    max_workers: int | None,
    by: str = "cli:user",
) -> None:
    """Record that a run goes on. A run that merely lost its manager needs no record."""
    run: Run = ledger.state.runs[run_id]
    again = run.counts.get("cancelled", 0) + (run.counts.get("failed", 0) if failed else 0)
    if run.status == "running" and not again and not max_workers:
        return
    if run.status == "finished" and not again and run.id in ledger.state.owing:
        return  # it has come to its end, and people are still to be told
    with ledger.transaction(by) as transaction:
        transaction.submit(c.ResumeRun(run=run_id, failed=failed, max_workers=max_workers or 0))
    ledger.sync()
