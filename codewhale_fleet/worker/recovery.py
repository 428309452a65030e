"""After a runtime died: what became of the attempts that its journal left open.

Promises: nothing is started here; each open attempt is either adopted (its process lives) or
ended with the exit status that somebody saw, as `unknown` where nobody did, and as unstarted
where it is certain that the spawn never happened (the keeper was there all the time and saw no
such process). Who a pid is: it leads its own session and began inside the boot-clock window
around the spawn, or its environment names the attempt.
"""

from __future__ import annotations

import os
import time

from codewhale_fleet.worker import ending, processes
from codewhale_fleet.worker.attempts import Attempt
from codewhale_fleet.worker.execution import Execution, clock
from codewhale_fleet.worker.own import Own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codewhale_fleet.worker.journal import Journal, Record
    from codewhale_fleet.worker.notes import Notes

_TICK = 0.011
"""Start times are rounded down to a hundredth of a second."""
_SPAWN = 1.0
"""More seconds than pass between a process's start and its pid line; a pid is not reused in it."""
_EXEC_LOOKS = 200
"""Looks, 10 ms apart, at a child that a runtime killed inside its spawn left before its exec."""


class Recovery:
    """One pass over the open records. `keeper`: its pid, or 0; `keeper_since`: boot clock."""

    def __init__(
        self,
        execution: Execution,
        journal: Journal,
        notes: Notes,
        keeper: int,
        keeper_since: float,
    ) -> None:
        self._execution = execution
        self._journal = journal
        self._reader = notes
        self._notes: list[dict[str, Any]] = []
        self._in_doubt = False
        self._keeper = keeper
        self._keeper_since = keeper_since
        self._claimed = {record.pid for record in journal.open.values()}

    def perform(self) -> None:
        """Adopts or ends every open attempt."""
        if self._journal.ended or any(
            "run_caps" in r.intent["p"] for r in self._journal.open.values()
        ):
            from codewhale_fleet.worker import metering

            metering.recover(self._execution, self._journal)
        records = list(self._journal.open.items())
        self._journal.open.clear()
        for name, record in records:
            intent = record.intent
            run = self._execution.run(name.partition("/")[0])
            attempt = Attempt(name, run, intent["s"], intent["p"], intent["t"])
            attempt.adopted = True
            attempt.started = record.started
            if attempt.stall:
                attempt.stall.adopt(record.stale)
            attempt.pid = record.pid
            attempt.reading = record.reading
            if record.own:
                attempt.own = Own(record.own)
            run.busy.add(attempt.slot)
            self._execution.running[name] = attempt
            if record.stop:
                attempt.why = record.stop["why"]
                attempt.cap = record.stop.get("cap", "")
            self._settle(attempt, record)
        self._journal.known_pids.clear()
        for note in self._notes:  # what ended while we were at it
            self._execution.adopted.noted(note)

    def _settle(self, attempt: Attempt, record: Record) -> None:
        if record.exit is not None:
            self._end(attempt, record.exit, record.exit["t"])
            return
        if not attempt.pid:
            if not self._kept_since(attempt):  # what names it may be its daemon: swept, unknown
                self._end(attempt, {}, clock())
                return
            pid = self._find(attempt)
            if pid:
                self._found(attempt, pid)
        if attempt.pid and self._adopt(attempt, record):
            return
        note = self._note(attempt, record.pid_at)
        if note:
            if not attempt.pid:
                self._found(attempt, note["pid"])
            attempt.cpu = note.get("cpu")
            self._end(attempt, note, note["t"])
        elif self._saw_everything(attempt):
            self._never_started(attempt)
        else:
            self._end(attempt, {}, clock())

    def _found(self, attempt: Attempt, pid: int) -> None:
        """Its pid line, late: from now on no other attempt can be taken for this process."""
        attempt.pid = pid
        self._claimed.add(pid)
        self._journal.put({"f": "pid", "a": attempt.id, "pid": pid, "t": clock()})

    def _saw_everything(self, attempt: Attempt) -> bool:
        """Would the keeper have seen its process, had there ever been one?"""
        return self._kept_since(attempt) and not attempt.pid and not self._in_doubt

    def _kept_since(self, attempt: Attempt) -> bool:
        """Was this keeper there all the time?"""
        return bool(self._keeper and attempt.since > self._keeper_since)

    def _end(self, attempt: Attempt, status: dict[str, Any], when: float) -> None:
        attempt.exit, attempt.signal = status.get("exit"), status.get("signal")
        self._execution.adopted.end(attempt, when)

    def _never_started(self, attempt: Attempt) -> None:
        ending.forget_secrets(attempt)
        del self._execution.running[attempt.id]
        attempt.run.busy.discard(attempt.slot)
        sentence = "the runtime of this host was killed just before it started it"
        fields = {"attempt": attempt.id, "slot": attempt.slot, "seconds": 0.0}
        self._journal.fact("ended", {**fields, "unstarted": sentence, "why": "unspawned"})

    def _adopt(self, attempt: Attempt, record: Record) -> bool:
        facts = processes.facts_of(attempt.pid)
        if facts is None or facts.session != attempt.pid:
            return False
        if not self._in_window(attempt, record.pid_at, facts.start):
            return False
        mine = bool(self._keeper) and facts.parent == self._keeper
        if facts.state == b"Z" and not mine:
            return False
        attempt.keeper_reaps = mine
        try:
            self._execution.watch(attempt)
        except ProcessLookupError:  # reaped this moment: its note is there
            self._execution.leaders.pop(attempt.pid, None)
            return False
        if record.stop:
            self._execution.stop(attempt, record.stop["why"], record.stop["kill"])
        return True

    @staticmethod
    def _in_window(attempt: Attempt, pid_at: float, start: float) -> bool:
        latest = pid_at if pid_at else clock()
        return attempt.since - _TICK <= start <= latest + _TICK

    def _find(self, attempt: Attempt) -> int:
        """The process of an attempt whose spawn was not followed by its pid line; 0 if none.

        A daemon of it may look the same, session and environment; but the leader is older, and
        the keeper has noted one that is gone.
        """
        living: list[tuple[float, int]] = []
        for _ in range(_EXEC_LOOKS):
            self._in_doubt = False
            living.clear()
            for pid in processes.all_pids():
                if pid in self._claimed or pid == os.getpid():
                    continue
                facts = processes.facts_of(pid)
                if facts is None or not self._in_window(attempt, 0.0, facts.start):
                    continue
                name = processes.attempt_of(pid)
                mine = processes.is_of_fleet(pid, attempt.fleet)
                if name == attempt.id and facts.session == pid and mine:
                    living.append((facts.start, pid))
                elif name is None and self._keeper and facts.parent == self._keeper:
                    self._in_doubt = True  # perhaps it: before its exec, or about to be noted
            if not self._in_doubt:
                break
            time.sleep(0.01)
        if not living:
            return 0
        gone = [(note["start"], note["pid"]) for note in self._fitting(attempt, 0.0)]
        first: int = min(living + gone)[1]
        return first

    def _is_anothers(self, note: dict[str, Any]) -> bool:
        """Is it about a process that the journal tells of: an attempt's, or a swept one?"""
        pid = note["pid"]
        at = self._journal.known_pids.get(pid)
        return pid in self._claimed or (at is not None and abs(at - note["start"]) < _SPAWN)

    def _note(self, attempt: Attempt, pid_at: float) -> dict[str, Any] | None:
        """What the keeper noted about it. Without a pid: the only session leader it can be."""
        fitting = self._fitting(attempt, pid_at)
        if len(fitting) != 1:
            self._in_doubt = self._in_doubt or bool(fitting)
            return None
        return fitting[0]

    def _fitting(self, attempt: Attempt, pid_at: float) -> list[dict[str, Any]]:
        self._notes.extend(self._reader.new())
        if attempt.pid:
            fitting = [note for note in self._notes if note["pid"] == attempt.pid]
        else:
            fitting = [
                note
                for note in self._notes
                if note["session"] == note["pid"] and not self._is_anothers(note)
                # what led a session inside a sandbox was never an attempt's own process
                if not note.get("inside")
            ]
        return [
            note
            for note in fitting
            if note["t"] >= attempt.since and self._in_window(attempt, pid_at, note["start"])
        ]
