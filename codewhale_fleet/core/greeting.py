"""Who is lost, and which runs must wait, by what a new manager finds and a worker runtime says.

Pure: an election brings the identity of this boot and of the fleet's directory, a greeting what
the runtime knows; the answers are commands for `decide`. An attempt is lost only where nobody can
tell its end any more: a dropped connection is no loss. Nothing here records or says anything.
"""

from collections.abc import Callable, Collection, Iterator

from msgspec import Struct

from .commands import Command, Copied, PauseRun, ReportLost
from .events import Receipt
from .fleet_words import LOCAL
from .liveness import seconds_of
from .load import is_here_in, place_of
from .state import Flight, Run, State

RESTARTED = "the machine was restarted"
COPIED = "the fleet directory was copied or restored"
NO_TRACE = "the worker runtime has no trace of it"

ARRIVE_SECONDS = 5.0
"""How long whoever has a run begin, or go on, may take to hand over its values."""


class Greeting(Struct, frozen=True, kw_only=True):
    """What a worker runtime says of itself first.

    `journal` is the number of its last fact, `open` the attempts that run or wait there. `kept`:
    attempts of another boot that have left a directory of their own, of which it will tell.
    """

    runtime: str
    boot: str
    journal: int
    open: frozenset[str]
    kept: Collection[str] = ()


def was_copied(state: State, boot: str, device: int, inode: int) -> bool:
    """Is `.fleet` another directory than the last manager's? Device numbers hold for a boot."""
    manager = state.manager
    if manager is None:
        return False
    return manager.inode != inode or (manager.boot == boot and manager.device != device)


def of_another_boot(state: State, boot: str) -> dict[str, str]:
    """Attempt -> run, of what was placed here before this machine was restarted."""
    return {
        attempt: run.id
        for run in state.open_runs.values()
        for attempt, flight in run.flights.items()
        if flight.boot != boot and _flies_here(run, flight)
    }


def _flies_here(run: Run, flight: Flight) -> bool:
    """Whether an attempt is on this machine."""
    return not run.workers or is_here_in(run, place_of(run.id, flight.worker))


def on_takeover(
    state: State, boot: str, device: int, inode: int, *, fleet: str, kept: Collection[str] = ()
) -> Iterator[Command]:
    """What an election has to record first; `fleet` is the id that a copy goes on under.

    `kept`: attempts of another boot whose work the worker runtime is still to save. What boot other
    machines are in is theirs to say.
    """
    copied = was_copied(state, boot, device, inode)
    if copied:
        yield Copied(fleet=fleet)
    for run in state.open_runs.values():
        for attempt, flight in list(run.flights.items()):
            if flight.boot != boot and _flies_here(run, flight):
                if copied or attempt not in kept:
                    yield _lost(attempt, RESTARTED)
            elif copied:
                yield _lost(attempt, COPIED)


def on_greeting(
    state: State,
    greeting: Greeting,
    worker: str = LOCAL,
    serves: Callable[[Run], bool] = lambda run: True,
) -> Iterator[Command]:
    """Attempts in flight that this runtime, the only one of its worker, will never tell of.

    `serves`: the runs that mean its host by this worker.
    """
    for run in list(state.open_runs.values()):
        for attempt, flight in list(run.flights.items()):
            if worker == LOCAL:
                mine = _flies_here(run, flight)
            else:
                mine = place_of(run.id, flight.worker) == worker and serves(run)
            if mine and (why := why_lost(state, greeting, attempt, flight)):
                yield _lost(attempt, why)


def why_lost(state: State, greeting: Greeting, attempt: str, flight: Flight) -> str:
    """Why an attempt that was placed on this runtime's host is lost, or nothing if it is not.

    One that never started is told again, and one whose end may be among the facts that are still
    to be heard is waited for.
    """
    if flight.boot != greeting.boot:
        return "" if attempt in greeting.kept else RESTARTED
    heard = greeting.journal <= state.cursors.get(greeting.runtime, 0)
    return NO_TRACE if flight.started and heard and attempt not in greeting.open else ""


def without_values(
    state: State, hosted: Collection[str], watched: Collection[str], now: float
) -> Iterator[Command]:
    """Runs that nobody can place: no runtime holds their values, and nobody who has them waits.

    Those of a run that somebody has just had begin, or go on, are on their way.
    """
    for run in list(state.open_runs.values()):
        if _lacks(run, hosted, watched) and not _is_new(run, now):
            yield PauseRun(run=run.id, reason=values_gone(run.id))


def values_come(
    state: State, hosted: Collection[str], watched: Collection[str], now: float
) -> bool:
    """Whether the values of a run may still be on their way: who knows is to be asked again."""
    return any(
        _lacks(run, hosted, watched) and _is_new(run, now) for run in state.open_runs.values()
    )


def _lacks(run: Run, hosted: Collection[str], watched: Collection[str]) -> bool:
    return run.status == "running" and run.id not in hosted and run.id not in watched


def _is_new(run: Run, now: float) -> bool:
    return bool(run.asked_ts) and 0 <= now - seconds_of(run.asked_ts) < ARRIVE_SECONDS


def values_gone(run: str) -> str:
    """Why a run is paused whose values no runtime holds."""
    return f"its environment is gone; from a shell that has it: fleet resume {run}"


def _lost(attempt: str, why: str) -> ReportLost:
    """No task is to blame for it."""
    receipt = Receipt(result="fail", source="transport", reason=why)
    return ReportLost(attempt=attempt, why=why, receipt=receipt)
