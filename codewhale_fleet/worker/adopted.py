"""Attempts that an older runtime spawned: how this one learns of their ends.

Their processes are the keeper's children by now: it notes how each ended, reaps it and rings.
Promises: an end is stated once; a status that nobody saw is unknown, and nothing waits for a
note that will not come. Who adopts what is for recovery.py.
"""

from __future__ import annotations

from codewhale_fleet.worker import limits, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt
    from codewhale_fleet.worker.execution import Execution
    from codewhale_fleet.worker.notes import Notes


class Adopted:
    """The ends of adopted attempts. `keeper`: its pid, or 0."""

    def __init__(self, execution: Execution, notes: Notes, keeper: int) -> None:
        self.keeper_lives = True
        self._execution = execution
        self._notes = notes
        self._keeper = keeper

    def ended(self, attempt: Attempt, now: float) -> None:
        """Its pidfd says that its process is gone."""
        self._execution.unwatch(attempt)
        if attempt.ended:
            return
        if attempt.keeper_reaps:
            self._execution.timers.set(attempt.id, now + limits.NOTE_SECONDS)
        else:  # nobody saw its status
            self.end(attempt, now)

    def unnoted(self, attempt: Attempt, now: float) -> None:
        """The keeper has told nothing of an end: it has not come to it, or its disk was full."""
        facts = processes.facts_of(attempt.pid)
        if facts and facts.parent == self._keeper:
            self._execution.timers.set(attempt.id, now + limits.NOTE_SECONDS)
            return
        self.hear_keeper()  # it notes, reaps, and only then rings
        if not attempt.ended:
            self.end(attempt, now)

    def hear_keeper(self) -> None:
        """Take what the keeper has noted since the last time."""
        for note in self._notes.new():
            self.noted(note)

    def noted(self, note: dict[str, Any]) -> None:
        """The keeper has reaped a process and tells its status."""
        attempt = self._execution.leaders.get(note["pid"])
        if attempt is None or not attempt.keeper_reaps or attempt.ended:
            return
        if not attempt.since - 0.02 <= note["start"]:
            return
        attempt.exit, attempt.signal = note.get("exit"), note.get("signal")
        attempt.cpu = note.get("cpu")
        self._execution.unwatch(attempt)
        self.end(attempt, note["t"])

    def keeper_gone(self) -> None:
        """Nobody tells the status of adopted attempts any more."""
        self.keeper_lives = False
        for attempt in list(self._execution.running.values()):
            if attempt.keeper_reaps:
                attempt.keeper_reaps = False
                if attempt.pidfd < 0 and not attempt.ended:
                    self.end(attempt, processes.clock())

    def end(self, attempt: Attempt, when: float) -> None:
        """An attempt that another runtime spawned is over; its status stands in it, if known."""
        attempt.ended = when
        self._execution.journal.exited(attempt)
        self._execution.killer.suspect(attempt, processes.clock())
        self._execution.sweep(attempt)
