"""Controls: interrupt, restart, stop and pause, recorded and then seen through.

Each records what was asked in one transaction (all of it or, refused, nothing) and answers a
`Control`. `see_through` returns when it is so: the live manager is told, or, where none answers,
the asker elects itself, ends what is to end, places nothing and leaves. Ctrl-C and a closed
terminal end the waiting only. It knows no words and no terminal.
"""

import socket
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from ..core import commands as c
from ..core.controls import Aim, Meant, aim_interrupt, aim_restart
from ..core.decide import Known
from ..core.duties import closing, owes
from ..core.greeting import values_gone
from ..core.state import Run, State, attempt_id
from ..ledger.store import Fenced, Ledger, Transaction
from .handover import have_sent, holds_values, poke, spawn_manager, tell
from .manager import Manager, Observer
from .session import Session, elect
from .signals import Signals
from .sockets import connect
from .waiting import Heard, Waiter

NAMES_AT_ONCE = 1_000
"""Tasks in one record; its line stays below 256 KiB."""


class Control(Struct):
    """What was recorded, and what is to come of it."""

    ending: list[str] = []
    """Attempts (`RUN/TASK@N`) that are to end."""
    cancelled: list[str] = []
    """Tasks that were queued and are cancelled now."""
    queued: list[str] = []
    """Tasks that are queued again now."""
    stopping: list[str] = []
    """Runs that are to finish."""
    runs: list[str] = []
    """Every run that is meant."""
    known: list[str] = []
    """Runs for which what was asked was so already."""
    paused: list[str] = []
    """Runs that need `fleet resume` before what was asked can happen."""

    def reached(self, state: State) -> bool:
        """Whether all of it is so."""
        if any(state.runs[run].status == "stopping" for run in self.stopping):
            return False
        return not any(name in state.runs[name.partition("/")[0]].flights for name in self.ending)


# Asking ---------------------------------------------------------------------------------------


def interrupt(ledger: Ledger, aims: Iterable[Aim], *, reason: str, by: str) -> Control:
    """End running attempts; cancel tasks that are queued."""
    control = Control()
    with ledger.transaction(by) as transaction:
        for run, meant in _meant(ledger, aims, aim_interrupt):
            control.runs.append(run)
            _ends(transaction, control, run, meant)
            for names in (*_batches(meant.flying), *_batches(meant.resting)):
                transaction.submit(c.Interrupt(run=run, tasks=names, reason=reason))
            control.cancelled += [f"{run}/{name}" for name in meant.resting]
            _finish_if_over(transaction, run)
    ledger.sync()
    return control


def restart(ledger: Ledger, aims: Iterable[Aim], *, reason: str, by: str) -> Control:
    """End running attempts and queue their tasks again; queue what has ended."""
    control = Control()
    with ledger.transaction(by) as transaction:
        for run, meant in _meant(ledger, aims, aim_restart):
            control.runs.append(run)
            _ends(transaction, control, run, meant)
            for names in (*_batches(meant.flying), *_batches(meant.resting)):
                transaction.submit(c.Restart(run=run, tasks=names, reason=reason))
            control.queued += [f"{run}/{name}" for name in meant.resting]
    ledger.sync()
    _have_managed(ledger, control, by)
    return control


def stop(ledger: Ledger, runs: Iterable[str], *, reason: str, by: str) -> Control:
    """No new attempts; interrupt what runs; cancel the rest."""
    control = Control()
    with ledger.transaction(by) as transaction:
        for run in dict.fromkeys(runs):
            control.runs.append(run)
            decision = transaction.submit(c.StopRun(run=run, reason=reason))
            if isinstance(decision, Known):
                control.known.append(run)
            control.ending += transaction.state.runs[run].flights
            control.stopping.append(run)
            _finish_if_over(transaction, run)
    ledger.sync()
    return control


def pause(ledger: Ledger, run: str, *, reason: str, by: str) -> Control:
    """No new attempts for now."""
    control = Control(runs=[run])
    with ledger.transaction(by) as transaction:
        if isinstance(transaction.submit(c.PauseRun(run=run, reason=reason)), Known):
            control.known.append(run)
    ledger.sync()
    return control


def _meant(
    ledger: Ledger, aims: Iterable[Aim], aim_at: Callable[[Run, Aim, Meant], None]
) -> list[tuple[str, Meant]]:
    """What the aims mean now, by run; Refused before anything is recorded."""
    found: dict[str, Meant] = {}
    for aim in aims:
        run = ledger.hydrate(aim.run)
        aim_at(run, aim, found.setdefault(run.id, Meant()))
    return list(found.items())


def _batches(names: list[str]) -> Iterator[tuple[str, ...]]:
    for at in range(0, len(names), NAMES_AT_ONCE):
        yield tuple(names[at : at + NAMES_AT_ONCE])


def _ends(transaction: Transaction, control: Control, run: str, meant: Meant) -> None:
    tasks = transaction.state.runs[run].tasks
    control.ending += [attempt_id(run, name, tasks[name].attempt) for name in meant.flying]


def _finish_if_over(transaction: Transaction, run_id: str) -> None:
    """Close a run of which nothing is left: that needs no manager."""
    if command := closing(transaction.state.runs[run_id], transaction.now):
        transaction.submit(command)


def _have_managed(ledger: Ledger, control: Control, by: str) -> None:
    """See that somebody places what is queued; where nobody can, the run is paused and says so."""
    for run in control.runs:
        if poke(ledger.dir, run) or ledger.state.runs[run].status != "running":
            continue
        if holds_values(ledger, run):
            spawn_manager(ledger)
            continue
        with ledger.transaction(by) as transaction:
            if transaction.state.runs[run].status == "running":
                transaction.submit(c.PauseRun(run=run, reason=values_gone(run)))
        ledger.sync()
    control.paused = [run for run in control.runs if ledger.state.runs[run].status == "paused"]


# Seeing it through ----------------------------------------------------------------------------


def see_through(ledger: Ledger, control: Control, observer: Observer) -> Session:
    """Return when what was asked is so, or when the person does not want to wait."""
    session = Session()
    stalled = 0
    if control.reached(ledger.state):
        tell(ledger.dir)
    with Signals() as signals:
        while not (control.reached(ledger.state) or session.interrupted or session.detached):
            caller = None if stalled else connect(ledger.dir / "manager.sock")
            try:
                if caller is None:
                    _settle(ledger, control, observer, signals, session, stalled)
                    stalled = 0
                else:
                    with caller:
                        stalled = _wait(caller, ledger, control, observer, signals, session)
            except Fenced:
                stalled = 0
                ledger.refresh()
    have_sent(ledger)
    return session


def _wait(
    caller: socket.socket,
    ledger: Ledger,
    control: Control,
    observer: Observer,
    signals: Signals,
    session: Session,
) -> int:
    """Wait on the live manager; answers the epoch of one that has stalled, else 0."""
    heard = Waiter(caller, ledger, observer, control.reached).follow(signals)
    if heard is Heard.SIGNAL:
        _heed(signals, session)
    return ledger.state.epoch if heard is Heard.STALLED else 0


def _settle(
    ledger: Ledger,
    control: Control,
    observer: Observer,
    signals: Signals,
    session: Session,
    stalled: int,
) -> None:
    """Be the manager for as long as it takes, and place nothing."""
    server = elect(ledger, stalled=stalled)
    if server is None:
        return
    manager = Manager(ledger, server, observer, focus=None, asker=None, until=control.reached)

    def on_wake(descriptor: int) -> None:
        _heed(signals, session)
        manager.leaving = True

    manager.watch(signals.descriptor)
    manager.on_wake = on_wake  # type: ignore[method-assign]
    manager.run()
    if manager.succeeded:
        return
    before = stalled and manager.others  # they had a manager before we came
    if manager.wanted or before or owes(ledger.state):
        spawn_manager(ledger)
    elif not control.reached(ledger.state):
        spawn_manager(ledger, settle=True)


def _heed(signals: Signals, session: Session) -> None:
    signals.drain()
    session.interrupted = signals.stops > 0
    session.detached = signals.hangups > 0
