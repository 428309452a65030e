"""A connection between a manager and a host: two streams that lag, break and leave things behind.

Towards the manager, messages keep their order until the break, after which nothing arrives: that is
what the cursor rests on. Towards the host anything but the greeting may also be delayed past what
was said later, or arrive twice, and what was under way when the connection broke may still arrive
for a while, beside the messages of the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .host import Host
    from .manager import Manager
    from .world import World

Message = tuple[object, ...]


class Connection:
    """One connection of one manager to one runtime process."""

    def __init__(self, world: World, manager: Manager, host: Host) -> None:
        self.world = world
        self.manager = manager
        self.host = host
        self.epoch = manager.epoch
        self.open = True
        self.runtime = ""
        self.boot = ""
        self.greeted = False
        self.acknowledge = 0
        self._incarnation = host.incarnation
        self._cut = float("inf")
        self._host_at = self._manager_at = 0.0
        host.links.append(self)

    def to_host(self, message: Message) -> None:
        """Say something to the host."""
        world = self.world
        if not self.open:
            return
        when = self._host_at = max(self._host_at, world.now + world.lag())
        if message[0] != "hello":
            if world.chance("reorder"):
                when += world.rng.uniform(0.0, 5.0)
            if world.chance("duplicate"):
                world.at(when + world.rng.uniform(0.0, 5.0), self._at_host, message)
        world.at(when, self._at_host, message)

    def _at_host(self, message: Message) -> None:
        host = self.host
        if self.world.now <= self._cut and host.up and host.incarnation == self._incarnation:
            host.receive(self, message)

    def to_manager(self, message: Message) -> None:
        """Say something to the manager."""
        if self.open:
            self._manager_at = max(self._manager_at, self.world.now + self.world.lag())
            self.world.at(self._manager_at, self._at_manager, message)

    def _at_manager(self, message: Message) -> None:
        if self.open:
            self.manager.hear(self, message)

    def close(self) -> None:
        """Break it: what is under way to the host may arrive for a while yet."""
        if self.open:
            self.open = False
            self._cut = self.world.now + self.world.rng.uniform(0.0, 3.0)
            self.host.links.remove(self)
            if self in self.host.peers:
                self.host.peers.remove(self)
            self.manager.unlinked(self)
