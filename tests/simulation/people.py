"""People at a simulated fleet: they make runs, and interrupt, restart, stop, pause and resume.

Each command is a transaction of its own, decided on the newest state, durable before its sentence
is shown (unless a power loss comes first). A refusal is an answer; any other error is a fault.
When the faults cease they only see to it that what waits for a person goes on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.state import Run
from codewhale_fleet.errors import Refused

if TYPE_CHECKING:
    from .world import World

LINE = 2000
"""Most tasks in one record."""


class People:
    """All the people of one history."""

    def __init__(self, world: World) -> None:
        self.world = world
        rng, plan = world.rng, world.plan
        most = 3 if plan.tasks <= 2000 else 1
        count = rng.randint(1, min(most, plan.tasks, plan.workers))
        self.wanted = [
            (f"run{number}", plan.tasks // count, max(1, plan.workers // count))
            for number in range(count)
        ]
        self.begun: list[str] = []
        self.share = rng.uniform(0.5, 0.95)
        """Share of the tasks that are decided when the faults cease."""
        self._every = rng.choice([2.0, 10.0, 60.0]) * (1 if plan.tasks <= 2000 else 10)
        self._asked: list[int] = []

    @property
    def begun_all(self) -> bool:
        """Whether every run that was wanted was made."""
        return len(self.begun) == len(self.wanted)

    def begin(self) -> None:
        """Make the first run now and the others later; then meddle."""
        for number, wanted in enumerate(self.wanted):
            delay = self.world.rng.uniform(1, 30) if number else 0.0
            self.world.at(self.world.now + delay, self.make, *wanted)
        if not self.world.quiet:
            self.world.at(self.world.now + self._every, self._meddle)

    def half_done(self) -> bool:
        """Whether enough is done, or has gone on long enough, for the faults to cease."""
        world = self.world
        if world.steps % 64:
            return False
        runs = world.ledger.state.runs.values()
        over = sum(
            count
            for run in runs
            for status, count in run.counts.items()
            if status in ("completed", "failed")
        )
        long = world.steps > 400 * world.plan.tasks + 5000
        return long or over >= self.share * world.plan.tasks

    def settle(self) -> None:
        """From now on only help what waits for a person."""
        self._help()

    def lost(self) -> None:
        """A power loss: a run that was not durable was never confirmed, and is asked for anew."""
        runs = self.world.ledger.state.runs
        for number, (name, tasks, workers) in enumerate(self.wanted):
            made = [run for run in runs.values() if run.name == name and run.status != "draft"]
            if name in self.begun and not made:
                self.begun.remove(name)
                self.world.at(self.world.now + 1.0 + number, self.make, name, tasks, workers)

    # Making ---------------------------------------------------------------------------------

    def make(self, name: str, tasks: int, workers: int) -> None:
        """Create a run in one write."""
        world = self.world
        run = f"{name}-{sum(known.startswith(name) for known in world.ledger.state.runs)}"
        limit = world.rng.choice([0, 0, 0, max(3, tasks // 4)])
        created = e.RunCreated(
            name=name, digest="", max_workers=workers, workspace="/w", max_failures=limit
        )
        self._ask(c.CreateRun(run=run, created=created), run)
        claims = world.rng.random() < 0.3 and tasks <= 2000
        raws = [self._task(number, claims=claims) for number in range(tasks)]
        for first in range(0, tasks, LINE):
            self._ask(c.AddTasks(run=run, tasks=tuple(raws[first : first + LINE])), run)
        self._ask(c.StartRun(run=run, count=tasks), run)
        self.begun.append(name)
        self._confirm(run)
        self._hand_over(run)

    def _task(self, number: int, *, claims: bool) -> bytes:
        rng = self.world.rng
        task: dict[str, Any] = {"id": f"t{number}", "command": "true"}
        if rng.random() < 0.7:
            task["retry_policy"] = {
                "max_attempts": rng.randint(1, 4),
                "initial_backoff_seconds": rng.choice([0, 1, 5]),
                "max_backoff_seconds": rng.choice([3, 60]),
                "backoff_multiplier": rng.choice([1, 2]),
                "jitter": rng.choice([0, 0.5]),
            }
        if rng.random() < 0.1:
            task["priority"] = rng.randint(-2, 2)
        if claims and rng.random() < 0.5:
            paths = ["a", "a/b", "a/b/c", "d", ".", "e/f", "e/g"]
            task["workspace"] = {"writable_paths": rng.sample(paths, rng.randint(1, 2))}
        if claims and rng.random() < 0.2:
            task["metadata"] = {"coordination_contracts": [rng.choice(["db", "api"])]}
        return json.dumps(task).encode()

    def _hand_over(self, run: str) -> None:
        """Give the run's values to every host that can be reached."""
        for host in self.world.hosts:
            if host.up and self.world.reachable(host.number):
                host.values[run] = True
        self.world.poke(run)

    # Asking ---------------------------------------------------------------------------------

    def _ask(self, command: c.Command, run: str) -> None:
        world = self.world
        try:
            world.ledger.submit(command, world.now + world.skew, run=run, by="cli:user")
        except Refused:
            world.count("commands refused")

    def _confirm(self, run: str) -> None:
        """The sync that precedes the sentence; a person may be killed before it."""
        world = self.world
        if world.quiet or world.rng.random() < 0.8:
            world.ledger.sync(len(world.ledger.lines))
        world.poke(run)

    def _meddle(self) -> None:
        world = self.world
        if world.quiet:
            return
        runs = list(world.ledger.state.runs.values())
        if runs:
            self._one(world.rng.choice(runs))
        world.at(world.now + world.rng.expovariate(1 / self._every), self._meddle)

    def _one(self, run: Run) -> None:
        world, rng = self.world, self.world.rng
        verb = rng.choices(["interrupt", "restart", "stop", "pause", "resume"], [4, 5, 1, 2, 5])[0]
        world.count(f"{verb} asked")
        world.ledger.hydrate(run.id)
        run = world.ledger.state.runs[run.id]
        names = rng.sample([task.id for task in run.order], min(len(run.order), rng.randint(1, 6)))
        flying = [flight.task for flight in run.flights.values()]
        if flying and rng.random() < 0.6:
            names = list(dict.fromkeys(rng.sample(flying, min(len(flying), rng.randint(1, 6)))))
        if not names:
            return
        tasks = tuple(names)
        if verb == "interrupt":
            self._ask(c.Interrupt(run=run.id, tasks=tasks, reason="asked"), run.id)
        elif verb == "restart":
            self._ask(c.Restart(run=run.id, tasks=tasks, reason="asked"), run.id)
        elif verb == "stop":
            self._ask(c.StopRun(run=run.id, reason="asked", interrupt=rng.random() < 0.7), run.id)
        elif verb == "pause":
            self._ask(c.PauseRun(run=run.id, reason="asked"), run.id)
        else:
            self._hand_over(run.id)
            self._ask(c.ResumeRun(run=run.id, failed=rng.random() < 0.5), run.id)
        self._confirm(run.id)

    def _help(self) -> None:
        """Resume what is paused: only a person can."""
        world = self.world
        for run in list(world.ledger.state.open_runs.values()):
            self._hand_over(run.id)
            if run.status == "paused":
                world.count("runs resumed when all was calm")
                self._ask(c.ResumeRun(run=run.id), run.id)
                self._confirm(run.id)
        world.at(world.now + 60.0, self._help)
