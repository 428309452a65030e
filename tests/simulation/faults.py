"""What befalls a simulated fleet: deaths, stops, partitions, reboots, power losses, clock jumps.

Small chances (a message late, a manager dying between two steps) are asked for where they happen;
the others come by the clock. Rates differ from seed to seed, so that some histories are nearly calm
and some are nothing but trouble.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World

KINDS = (
    "manager killed", "manager stopped", "connection broken", "host cut off", "runtime killed",
    "runtime and keeper killed", "host rebooted", "power lost", "wall clock jumped",
)  # fmt: skip


class Faults:
    """The chances of one history."""

    def __init__(self, world: World) -> None:
        self.world = world
        rng = world.rng
        large = world.plan.tasks > 2000
        trouble = rng.choice([2.0, 4.0] if large else [0.2, 1.0, 1.0, 3.0])
        self.odds = {
            "die": 0.004 * trouble / (10.0 if large else 1.0),
            "reorder": 0.05,
            "duplicate": 0.05,
            "repeat": 0.1,
            "disk": 0.01,
            "compact": 0.1,
        }
        self.cut_until: dict[int, float] = {}
        self.ceased = 0.0
        self._every = (6.0 if world.typical > 1 else 2.0) / trouble
        self._weights = [rng.choice([0, 1, 1, 2]) for _ in KINDS]
        if not any(self._weights):
            self._weights[0] = 1
        if large:
            self._weights[KINDS.index("power lost")] = 0
            world.at(rng.uniform(20, 1000), self._power_once)

    def befalls(self, what: str) -> bool:
        """Whether a fault of that kind happens now."""
        return self.world.rng.random() < self.odds[what]

    def begin(self) -> None:
        """Let there be trouble."""
        self.world.at(self.world.now + self.world.rng.expovariate(1 / self._every), self._strike)

    def _power_once(self) -> None:
        if not self.world.quiet:
            self.power()

    def _strike(self) -> None:
        world = self.world
        if world.quiet:
            return
        kind = world.rng.choices(KINDS, self._weights)[0]
        if kind != "power lost":
            world.count(kind)
        manager = world.manager
        host = world.rng.choice(world.hosts)
        if kind == "manager killed" and manager is not None:
            manager.die()
        elif kind == "manager stopped" and manager is not None:
            manager.stopped_until = world.now + world.rng.expovariate(1 / 20.0)
        elif kind == "connection broken" and host.links:
            world.rng.choice(host.links).close()
        elif kind == "host cut off":
            self.cut_until[host.number] = world.now + world.rng.expovariate(1 / 30.0)
            for link in list(host.links):
                link.close()
        elif kind == "runtime killed":
            host.kill_runtime(keeper=False)
        elif kind == "runtime and keeper killed":
            host.kill_runtime(keeper=True)
        elif kind == "host rebooted":
            host.reboot()
        elif kind == "power lost":
            self.power()
        elif kind == "wall clock jumped":
            world.skew += world.rng.choice([-1, 1]) * world.rng.choice([2, 90, 4000, 10**5, 10**7])
        self.begin()

    def power(self) -> None:
        """The managers' machine loses power: what was not durable may be gone, in part or all."""
        world = self.world
        world.count("power lost")
        if world.manager is not None:
            world.manager.die()
        for manager in world.stopped:
            manager.die()
        ledger = world.ledger
        keep = world.rng.randint(ledger.synced, len(ledger.lines))
        lost = len(ledger.lines) - keep
        world.counted["records lost before they were durable"] += lost
        ledger.lose(keep)
        if lost:
            world.watch.replay()
        world.people.lost()
