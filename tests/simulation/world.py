"""The whole simulated fleet: time, chance, hosts, managers, people and what befalls them.

Everything that happens is an entry in one queue, ordered by simulated time; all chance comes from
one seeded generator. So a seed names one history, and the same seed gives the same one anywhere.
First there are faults; then they cease, and within simulated hours every run must have finished.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from msgspec import Struct

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.load import slot_of
from codewhale_fleet.core.state import OPEN, Run
from codewhale_fleet.errors import Refused

from .faults import Faults
from .host import Host
from .ledger import Ledger, differences
from .manager import Manager
from .people import People
from .watch import Breach, Watch, hold

BEGAN = 1_800_000_000.0
CALM_HOURS = 6.0
"""Simulated hours after the last fault within which every run must finish."""
HANGS = 3600.0
"""Seconds of an attempt that hangs: only a request to end it shortens them."""
PATIENCE = 300.0
"""Seconds, once all is calm, within which an attempt that was asked to end must end."""


class Plan(Struct, frozen=True, kw_only=True):
    """What is simulated. Equal plans give equal histories."""

    seed: int
    workers: int = 20
    tasks: int = 60
    hosts: int = 3
    faults: bool = True

    def command(self) -> str:
        """What replays it."""
        return (
            f"python -m tests.simulation --seed {self.seed} --workers {self.workers}"
            f" --tasks {self.tasks} --hosts {self.hosts}" + ("" if self.faults else " --no-faults")
        )


class World:
    """One simulated fleet."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.now = 0.0
        self.skew = BEGAN
        """Wall clock minus simulated time, for whoever reads the wall clock now."""
        self.counted: Counter[str] = Counter()
        self.steps = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0
        self.quiet = not plan.faults
        self.ledger = Ledger()
        self.watch = Watch(self.ledger, lambda: self.now)
        self.ledger.saw = self._saw
        self.every = max(25, plan.tasks // 8)
        """Records between two thorough checks."""
        self.folds = 0
        short = self.rng.random() < 0.3 and plan.tasks <= 2000
        self.typical = 0.1 if short else self.rng.choice([3.0, 8.0, 20.0])
        if plan.tasks > 20_000:
            self.typical = 20.0
        self.hangs = 0.0 if plan.tasks > 2000 else self.rng.choice([0.0, 0.01])
        self.odds = Faults(self)
        self.hosts: list[Host] = []
        self.hosts.extend(Host(self, number) for number in range(plan.hosts))
        self.boots = {host.number: host.boot for host in self.hosts}
        """Boot of each host as last recorded: what a dispatch names."""
        self.manager: Manager | None = None
        self.stopped: list[Manager] = []
        self.people = People(self)

    # Time and chance ------------------------------------------------------------------------

    def at(self, when: float, act: Callable[..., None], *args: Any) -> None:
        """Let `act(*args)` happen at a simulated time."""
        self._entries += 1
        heappush(self._queue, (max(when, self.now), self._entries, act, args))

    def chance(self, what: str) -> bool:
        """Whether a fault of this kind befalls now."""
        return not self.quiet and self.odds.befalls(what)

    def lag(self) -> float:
        """Seconds that a message is under way."""
        return 0.001 if self.quiet else self.rng.expovariate(200.0)

    def think(self) -> float:
        """Seconds between two steps of a manager."""
        return 0.005 if self.quiet else self.rng.uniform(0.001, 0.05)

    def fate(self, run: str) -> tuple[float, str]:
        """How long an attempt runs, and how it ends by itself."""
        rng = self.rng
        seconds = min(rng.expovariate(1.0 / self.typical), 30 * self.typical) + 0.001
        drawn = rng.random()
        outcome = "pass" if drawn < 0.82 else "fail" if drawn < 0.96 else "timeout"
        if not self.quiet and rng.random() < self.hangs:
            seconds = HANGS
        return seconds, outcome

    def count(self, what: str) -> None:
        """Count something for the summary."""
        self.counted[what] += 1

    def host_of(self, run: Run, worker: str) -> int:
        """The number of the host that has a slot."""
        return (slot_of(run, worker) - 1) % len(self.hosts)

    def reachable(self, number: int) -> bool:
        """Whether the network leads to a host now."""
        return self.quiet or self.now >= self.odds.cut_until.get(number, 0.0)

    # The loop -------------------------------------------------------------------------------

    def run(self) -> Counter[str]:
        """The whole history; raises Breach where an invariant does not hold."""
        self.ledger.submit(c.Initialize(fleet="fl-simulated"), self.skew, by="fleet")
        self.people.begin()
        self.at(0.01, self._attend)
        self.odds.begin()
        while self._queue and not self._over():
            self.step()
        self._end()
        return self.counted

    def step(self) -> None:
        """One entry of the queue."""
        self.now, _, act, args = heappop(self._queue)
        self.steps += 1
        act(*args)
        if not self.quiet and self.people.half_done():
            self.calm()
        if self.quiet and self.now > self.odds.ceased + CALM_HOURS * 3600:
            raise Breach(f"{CALM_HOURS:.0f} hours after the last fault: {self._unfinished()}")

    def calm(self) -> None:
        """No more faults from here on; whoever was stopped or cut off comes back."""
        self.quiet = True
        self.odds.ceased = self.now
        self.people.settle()

    def _over(self) -> bool:
        return (
            self.quiet
            and self.people.begun_all
            and not self.ledger.state.open_runs
            and self.ledger.synced == len(self.ledger.lines)
            and not any(host.running or host.waiting for host in self.hosts)
        )

    def _unfinished(self) -> str:
        runs = self.ledger.state.open_runs.values()
        said = [
            f"{run.id} is {run.status}, {run.open} open, {len(run.flights)} in flight:"
            f" {[task.id for task in run.order if task.status in OPEN][:3]}"
            for run in runs
        ]
        said += [
            f"host {host.number} runs {[*host.running, *host.waiting][:3]}"
            for host in self.hosts
            if host.running or host.waiting
        ]
        return "; ".join(said) or "nothing is open, but not all is durable"

    def _end(self) -> None:
        hold(self._over(), f"nothing is left to happen: {self._unfinished()}")
        self.watch.thorough(self.ledger.state, fold=True)
        found = differences(self.ledger.folded(), self.ledger.state)
        hold(not found, f"fold(all) differs from the state: {found}")
        found = differences(self.ledger.folded(), self.ledger.restored())
        hold(not found, f"fold(snapshot + tail) differs from fold(all): {found}")
        self.counted["records"] = len(self.ledger.lines)
        self.counted["attempts started"] = sum(self.watch.ever.values())
        self.counted["steps"] = self.steps

    def _saw(self, head: e.Envelope, event: e.Event, epoch: int) -> None:
        self.watch.saw(head, event, epoch)
        if head.seq % self.every == 0:
            self.folds += 1
            self.count("thorough checks")
            self.watch.thorough(self.ledger.state, fold=True)
            self.ledger.keep_snapshot()

    # Managers -------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Somebody notices that no manager answers, and elects itself."""
        if self.quiet and self.now > self.odds.ceased + PATIENCE:
            self.watch.patience(self.now - PATIENCE)
        manager = self.manager
        if manager is not None and manager.alive and self.now < manager.stopped_until - 5.0:
            self.stopped.append(manager)  # connects but no pong: stalled
            self.count("managers replaced while they were stopped")
            manager = self.manager = None
        wanted = any(
            run.flights or run.status in ("running", "stopping")
            for run in self.ledger.state.open_runs.values()
        )
        if wanted and (manager is None or not manager.alive):
            self.elect()
        self.at(self.now + (10.0 if self.quiet else self.rng.uniform(0.2, 2.0)), self._attend)

    def elect(self) -> None:
        """A new manager; a second one that elects itself from what it saw before is refused."""
        epoch = self.ledger.state.epoch + 1
        elected = e.ManagerElected(
            epoch=epoch, pid=1, host="h", boot="b", version="0", device=1, inode=1
        )
        self.ledger.submit(c.Elect(elected=elected), self.now + self.skew, by="manager")
        try:
            self.ledger.submit(c.Elect(elected=elected), self.now + self.skew, by="manager")
        except Refused:
            self.count("managers elected")
        else:
            raise Breach(f"epoch {epoch} was given twice")
        self.sync_elected()
        self.manager = Manager(self, epoch)

    def sync_elected(self) -> None:
        """Before the first greeting: a cursor tells a host what it may forget."""
        self.ledger.sync(len(self.ledger.lines))

    def poke(self, run_id: str = "") -> None:
        """Somebody wrote something; a live manager looks."""
        if self.manager is not None and self.manager.alive:
            if run_id:
                self.manager.host(run_id)
            self.manager.wake()
