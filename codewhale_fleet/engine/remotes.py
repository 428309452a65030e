"""All workers of a manager that are reached by ssh: who is to be connected, and when again.

Made by the first run that has workers. Promises: only what a run could use now is connected; who
was lost is tried again at once, and then ever more seldom; what was asked to end where nobody can
be reached is waited for a minute. What a run's tasks need of its asker's values is asked of the
local runtime where the asker is somebody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import commands as c
from ..core.events import Receipt
from ..core.fleet_words import LOCAL, MAY_RUN
from ..core.load import is_here_in, place_of, run_of
from ..core.placement import AHEAD_BELOW_SECONDS, LEASE_AHEAD
from ..core.spec_hosts import SshHost, decode_worker, mark_of
from ..core.spread import Place, is_hopeless, stranded, wanted
from ..core.spread import in_turn as in_turn_of
from ..errors import Unreachable
from ..hosts.remote import Remote
from .far import Far
from .link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..core.state import Run
    from ..ledger.store import Transaction
    from .manager import Manager

STATE = "~/.local/state/codewhale-fleet/{fleet}-{worker}-{mark}"
"""The runtime's directory there. Two definitions may lead to one login of one machine."""

LOSE_SECONDS = 60.0
"""How long the end of an attempt is waited for where nobody can be reached: of one that was asked
to end, or is of a run without patience."""

MOST_AHEAD = 64
"""Attempts that a slot far away may hold beyond the one that runs."""

NEVER = 1e18


Key = tuple[str, str]
"""A worker's id, and the mark of its host."""


class Remotes:
    """The far endpoints of one manager, and the connector process that carries them."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        early = manager.early.taken() if manager.early else None
        self.remote = early or Remote(manager.ledger.dir)
        self.known: dict[Key, Far] = {}
        self._values: dict[str, dict[str, Any]] = {}
        """Run -> its umask and values; empty where the local runtime has none."""
        self._asked: set[str] = set()
        self._link: object = None
        self._wanted: set[Key] = set()
        self._failing: list[Far] = []
        self._shut = False
        self._offer = self._places(lambda far: 0)
        """Where attempts of runs can go that lease none ahead."""
        self._idle: set[Key] = set()
        """Connected, and nobody's at the last beat."""

    # Values -------------------------------------------------------------------------------

    def values_of(self, manager: Manager, run: str) -> dict[str, Any] | None:
        """A run's values; None while the local runtime has not said what it has of them."""
        if run == manager.focus and manager.asker:
            asker = manager.asker
            values = {"allowed": asker.allowed, "secrets": asker.secrets}
            return {"umask": asker.umask, "values": values}
        if run in self._values:
            return self._values[run]
        if self._link is not manager.local.link:
            self._link = manager.local.link
            self._asked.clear()
        if run not in self._asked and manager.local.greeted:
            self._asked.add(run)
            manager.local.say({"m": "values", "run": run, "whole": True})
            manager.local.flush(manager.poll)
        return None

    def heard(self, run: str, given: dict[str, Any]) -> None:
        """The local runtime says what it has of a run."""
        self._values[run] = given
        self._asked.discard(run)

    def brought(self, run: str) -> None:
        """Somebody has brought a run's values: what is known of them is old."""
        self._values.pop(run, None)
        self._asked.discard(run)
        for far in self.known.values():
            far.runs.discard(run)

    def in_turn(self, runs: list[Run]) -> list[Run]:
        """The order in which runs may place; what holds for all of them is looked up once."""
        state = self._manager.ledger.state
        self._failing = [far for far in self.known.values() if far.failures and not far.greeted]
        self._shut = any(row.retired or row.draining for row in state.workers.values())
        self._offer = self._places(lambda far: 0)
        return in_turn_of(runs)

    # What is recorded ---------------------------------------------------------------------

    def places(self, run: Run) -> Mapping[str, Place]:
        """Where a run's attempts can go now."""
        if not _ahead(run, 0.0):
            if all(far.leads_to(run) for far in self.known.values() if far.worker in run.workers):
                return self._offer
            return self._places(lambda far: 0, run)
        return self._places(lambda far: _ahead(run, far.rtt if far else 0.0), run)

    def _places(
        self, ahead: Callable[[Far | None], int], run: Run | None = None
    ) -> dict[str, Place]:
        found = {LOCAL: Place(boot=self._manager.local.boot, ahead=ahead(None))}
        for (worker, _), far in self.known.items():
            if far.greeted and (run is None or far.leads_to(run)):
                found[worker] = Place(boot=far.boot, ahead=ahead(far))
        return found

    def give_up(self, manager: Manager, run: Run) -> Iterator[c.Command]:
        """What ends of a run because nobody can be reached who could do it."""
        now = manager.clock()
        dead: dict[str, str] = {}
        for far in self._failing:
            if far.leads_to(run) and far.is_dead(run, now):
                dead[far.worker] = far.why or "it cannot be reached"
        state = manager.ledger.state
        rows = state.workers
        if dead or self._shut or is_hopeless(state, run):
            yield from stranded(state, run, dead)
        for attempt, flight in list(run.flights.items()) if self._failing else ():
            worker = place_of(run.id, flight.worker)
            away = self.of(run, flight.worker)
            if away is None or away.greeted:
                continue
            row = rows.get(worker)
            ends = flight.end or not run.patience or (row is not None and row.retired)
            hurries = run.id in away.killed and away.failures > 0
            if ends and (hurries or away.away >= LOSE_SECONDS):
                why = f"{worker}: {MAY_RUN}"
                receipt = Receipt(result="fail", source="transport", reason=why)
                yield c.ReportLost(attempt=attempt, why=why, receipt=receipt, open=True)

    def beat(self, manager: Manager, transaction: Transaction, slots: set[str]) -> set[str]:
        """Record of whom was heard; let go who has nothing to do for a whole beat.

        Answers the slots that are this machine's.
        """
        heard, here = [], set()
        for slot in slots:
            run = transaction.state.open_runs.get(run_of(slot, transaction.state.open_runs))
            far = self.of(run, slot) if run else None
            if far is None:
                here.add(slot)
            elif far.heard and far.greeted:
                heard.append(slot)
        if heard:
            transaction.submit(c.ReportBeat(workers=tuple(sorted(heard))))
        idle = {key for key, far in self.known.items() if far.link} - self._wanted
        for key in idle & self._idle:
            self.known[key].forget()
        self._idle = idle
        for key, far in self.known.items():
            far.heard = False
            if far.greeted and key in self._wanted:
                far.ping(manager)
        return here

    # Connecting ---------------------------------------------------------------------------

    def look(self, manager: Manager) -> None:
        """Notice who was lost; connect who is wanted and may be tried."""
        now = manager.clock()
        for far in self.known.values():
            if far.link is not None and far.link.closed:
                far.dropped(now)
        state = manager.ledger.state
        asked: dict[Key, set[str]] = {}
        for run in state.open_runs.values():
            if run.workers:
                for worker in self._wanted_by(manager, run):
                    asked.setdefault((worker, mark_of(run.workers[worker])), set()).add(run.id)
        self._wanted = set(asked)
        for key, runs in asked.items():
            far = self.known.get(key) or self._made(manager, key)
            is_new = far.failures > 0 and not runs <= far.asked.keys()
            if far.link is None and (is_new or now >= far.next):
                far.definition = state.runs[max(runs)].workers[far.worker]
                self._connect(manager, far, runs, now)

    def of(self, run: Run, slot: str) -> Far | None:
        """The host that a run means by one of its slots, where that is another machine."""
        worker = place_of(run.id, slot)
        definition = run.workers.get(worker)
        return self.known.get((worker, mark_of(definition))) if definition else None

    def _wanted_by(self, manager: Manager, run: Run) -> frozenset[str] | set[str]:
        if manager.until is None and run.id in manager.hosted:
            return wanted(manager.ledger.state, run)
        found = {place_of(run.id, flight.worker) for flight in run.flights.values()}
        return {worker for worker in found if not is_here_in(run, worker)}

    def _made(self, manager: Manager, key: Key) -> Far:
        far = self.known[key] = Far(*key)
        manager.endpoints["-".join(key)] = far
        return far

    def _connect(self, manager: Manager, far: Far, runs: set[str], now: float) -> None:
        host = decode_worker(far.definition).host
        assert isinstance(host, SshHost)
        far.begin(runs, now)
        fleet = manager.ledger.state.fleet
        state = STATE.format(fleet=fleet, worker=far.worker, mark=far.mark)
        try:
            link = Link(self.remote.connect(far.worker, host, state))
        except (Unreachable, OSError) as error:
            far.why = str(error)
            far.dropped(now)
            return
        far.opened(manager, link)

    def wakes_at(self, manager: Manager) -> float:
        """The second at which time alone changes what is to be done here."""
        soonest, now = NEVER, manager.clock()
        for key in self._wanted:
            far = self.known[key]
            if far.greeted:
                soonest = min(soonest, far.again or NEVER)
                continue
            if far.link is None:
                soonest = min(soonest, far.next)
            runs = manager.ledger.state.open_runs
            for run, since in far.asked.items():
                if run in runs and since + runs[run].patience > now:
                    soonest = min(soonest, since + runs[run].patience)
        return soonest

    def kill(self, run: str) -> None:
        """A person does not wait for what nobody can reach, nor for who has fallen silent and is
        found to be away later; whoever can be reached hears of it."""
        for far in self.known.values():
            far.killed.add(run)

    def close(self) -> None:
        """The connector leaves; what runs on the hosts goes on."""
        self.remote.close()


def _ahead(run: Run, rtt: float) -> int:
    """Attempts that a slot may hold beyond the one that runs, while attempts are short.

    So many as end while a word goes there and back.
    """
    if not run.mean or run.mean >= AHEAD_BELOW_SECONDS or run.claims:
        return 0
    return min(LEASE_AHEAD + int(rtt / run.mean), MOST_AHEAD)
