"""All that a manager keeps of one worker runtime: its connection, and what is to be said on it.

One stands for this machine, others for machines that are reached by ssh; the manager's loop knows
no difference but this. Whatever is kept here may be lost: a new connection begins with a greeting,
after which the ledger and the runtime's journal say the same again.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from ..core.load import is_here_in, place_of
from .facts import hello_message
from .launch import There, start_message

if TYPE_CHECKING:
    from ..core.state import Flight, Run, State
    from ..ledger.store import Transaction
    from .link import Link, Message
    from .manager import Manager


class Endpoint:
    """One worker runtime, connected or not."""

    def __init__(self, worker: str, boot: str) -> None:
        self.worker = worker
        self.boot = boot
        """The boot of its machine; empty until it is known."""
        self.link: Link | None = None
        self.greeted = False
        self.tries = 0
        """Connections since the runtime last said something."""
        self.heard = False
        """Whether the runtime said anything since the last beat."""
        self.acknowledge = 0
        self.untold: dict[str, str] = {}
        """Attempt -> run: dispatched, and not yet said on this connection."""
        self.cut_off: dict[str, str] = {}
        """Attempt -> run: of an earlier boot, and its work is still to be kept."""
        self.ending: set[str] = set()
        """Attempts whose interrupt was said on this connection."""
        self.answered: set[str] = set()
        """Questions whose answer was said on this connection."""
        self.unshared = False
        """Whether it has greeted, and was not told since what data the runs have."""
        self.done_with: dict[str, str] = {}
        """Attempt -> its own directory, below the fleet's, that is not needed any more."""

    @property
    def connected(self) -> bool:
        """Whether something can be said now."""
        return self.link is not None and not self.link.closed

    @property
    def there(self) -> There | None:
        """Where plans are followed, if not on this machine."""
        return None

    @property
    def runtime(self) -> str:
        """The id of its journal, once it has greeted."""
        return self.link.runtime if self.link else ""

    def has(self, run: Run, flight: Flight) -> bool:
        """Whether an attempt in flight was placed on this machine since it was started."""
        if run.workers and not is_here_in(run, place_of(run.id, flight.worker)):
            return False
        return flight.boot == self.boot

    def serves(self, run: Run) -> bool:
        """Whether attempts of a run may come here."""
        return True

    def unstarted(self, state: State, hosted: set[str]) -> dict[str, str]:
        """Attempt -> run: placed here, and not known to have started, of the runs in `hosted`."""
        return {
            attempt: run.id
            for run in state.open_runs.values()
            if run.id in hosted
            for attempt, flight in run.flights.items()
            if not flight.started and self.has(run, flight)
        }

    def opened(self, manager: Manager, link: Link, *first: dict[str, Any]) -> None:
        """A new connection: greet, say what is known of data, and what comes first."""
        self.link = link
        self.greeted = False
        self.acknowledge = 0
        self.ending.clear()
        self.answered.clear()
        state = manager.ledger.state
        link.say(hello_message(state, manager.epoch))
        if any(run.data for run in state.open_runs.values()):
            from .asking import greet

            greet(manager, self)
        for message in first:
            link.say(message)
        link.flush()
        if not link.closed:
            manager.poll.register(link.fileno(), select.EPOLLIN)
            manager.by_descriptor[link.fileno()] = self
            self.interest(manager.poll)

    def say(self, message: dict[str, Any]) -> None:
        """Queue one message, where there is a connection."""
        if self.link is not None:
            self.link.say(message)

    def interest(self, poll: select.epoll) -> None:
        """Be woken for what the connection waits for."""
        if self.link and not self.link.closed:
            events = select.EPOLLIN | (select.EPOLLOUT if self.link.wants_write else 0)
            poll.modify(self.link.fileno(), events)

    def flush(self, poll: select.epoll) -> None:
        """Write what the connection takes now."""
        if self.link and not self.link.closed:
            self.link.flush()
            self.interest(poll)

    def take(self, manager: Manager, transaction: Transaction, message: Message) -> bool:
        """Take what only a runtime like this says; whether that is all."""
        return False

    def tell(self, manager: Manager) -> None:
        """Say what is owed and durable, but for ends: acknowledgements, answers, starts."""
        link = self.link
        if link is None or link.closed:
            return
        state = manager.ledger.state
        if self.acknowledge:
            link.say({"m": "ack", "n": self.acknowledge})
            self.acknowledge = 0
        if any(run.questions or run.data for run in state.open_runs.values()):
            from . import asking

            asking.tell(manager, self)
        if self.cut_off:
            from .rebooted import tell

            tell(manager, self)
        for attempt, directory in self.done_with.items():
            link.say({"m": "drop", "attempt": attempt, "directory": directory})
        self.done_with.clear()
        self.start(manager)

    def start(self, manager: Manager) -> None:
        """Say every start that is owed."""
        state = manager.ledger.state
        for attempt, run_id in self.untold.items():
            run = state.runs[run_id]
            flight = run.flights.get(attempt)
            if flight is not None and not flight.started:
                self.say(start_message(state, run, attempt, manager.ledger.dir))
        self.untold.clear()

    def end(self, attempt: str, flight: Flight) -> None:
        """Ask for the end of an attempt, once a connection."""
        if self.link is not None and not self.link.closed and attempt not in self.ending:
            self.ending.add(attempt)
            why = "stopped" if flight.end == "stopped" else "interrupted"
            self.link.say({"m": "interrupt", "attempt": attempt, "why": why})

    def kill(self, attempt: str) -> None:
        """KILL at once, whatever was asked before."""
        self.say({"m": "interrupt", "attempt": attempt, "why": "stopped", "kill": True})


def hang_up(manager: Manager) -> None:
    """End every connection; what runs on the hosts goes on."""
    manager.callers.close()
    for endpoint in manager.endpoints.values():
        if endpoint.link:
            endpoint.link.close()
    if manager.remotes:
        manager.remotes.close()
    if manager.post:
        manager.post.close()
    manager.poll.close()
