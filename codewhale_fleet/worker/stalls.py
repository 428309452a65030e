"""Attempts that do nothing: no output and no processor time for longer than they may.

`Stall` is the pure part: it is shown an attempt's output and processor time now and then and
says when it becomes stale and when it has moved again. `Usage` reads what the kernel has counted
for an attempt's processes, daemons that it left included. Promises: time that nobody looked at
(a suspended machine, a stopped runtime) does not count as silence. `look` is what the runtime does
with both.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import ending, limits, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from codewhale_fleet.worker.attempts import Attempt
    from codewhale_fleet.worker.execution import Execution
    from codewhale_fleet.worker.processes import ProcessFacts


class Stall:
    """One attempt's silence. `after`: seconds of it that make the attempt stale."""

    __slots__ = ("_at", "_cpu", "_output", "after", "due", "ends", "every", "quiet", "stale")

    def __init__(self, after: float, ends: bool, now: float) -> None:
        self.after = after
        self.ends = ends
        """Whether a stale attempt is ended, so that its retry policy decides."""
        self.every = min(max(after / limits.STALL_LOOKS, limits.STALL_FAST), limits.STALL_SLOW)
        self.due = now
        self.quiet = 0.0
        """Seconds of silence so far, as far as somebody looked."""
        self.stale = False
        self._at = now
        self._output = 0
        self._cpu = 0.0

    def adopt(self, stale: bool) -> None:
        """The attempt is an older runtime's, which said that it is stale, or not."""
        self.stale = stale
        self._output = -1

    def look(self, now: float, output: int, cpu: float, *, asks: bool = False) -> str:
        """`stale`, `recovered` or nothing new; `output` in bytes, `cpu` in seconds, so far.

        `asks`: it waits for a person, which is no silence.
        """
        passed = min(now - self._at, 2 * self.every)
        adopted = self._output < 0  # what it did before nobody here knows
        used = abs(cpu - self._cpu)
        busy = used >= max(limits.STALL_CPU_SECONDS, limits.STALL_CPU_SHARE * passed)
        moved = asks or (not adopted and (busy or output != self._output))
        self._at, self._output, self._cpu = now, output, cpu
        self.due = now + self.every
        if moved:
            self.quiet = 0.0
            if self.stale:
                self.stale = False
                return "recovered"
        elif not adopted:
            self.quiet += passed
            if self.quiet >= self.after and not self.stale:
                self.stale = True
                return "stale"
        return ""


class Usage:
    """Processor time by attempt; one look at /proc serves all that ask at about the same time."""

    def __init__(self, keeper: int) -> None:
        self._parents = {keeper, os.getpid(), 1}
        self._at = -1.0
        self._facts: dict[int, ProcessFacts] = {}
        self._children: dict[int, list[int]] = {}
        self._names: dict[tuple[int, float], str | None] = {}

    def cpu_of(self, attempt: Attempt, now: float) -> float:
        """Seconds that the processes of `attempt` have used, their dead children's included."""
        if now - self._at > limits.STALL_SCAN:
            self._scan(now)
        total = 0.0
        seen: set[int] = set()
        todo = [pid for pid, facts in self._facts.items() if self._is_of(attempt, pid, facts)]
        while todo:
            pid = todo.pop()
            if pid not in seen:
                seen.add(pid)
                facts = self._facts[pid]
                total += facts.cpu + facts.cpu_children
                todo += self._children.get(pid, ())
        return total

    def _scan(self, now: float) -> None:
        found = {pid: facts for pid in processes.all_pids() if (facts := processes.facts_of(pid))}
        self._at, self._facts = now, found
        self._children = {}
        for pid, facts in found.items():
            self._children.setdefault(facts.parent, []).append(pid)
        alive = {(pid, facts.start) for pid, facts in found.items()}
        self._names = {key: name for key, name in self._names.items() if key in alive}

    def _is_of(self, attempt: Attempt, pid: int, facts: ProcessFacts) -> bool:
        if attempt.pid in (pid, facts.session, facts.group):
            return True
        if facts.parent not in self._parents or pid in self._parents:
            return False
        key = (pid, facts.start)
        if key not in self._names:
            self._names[key] = processes.attempt_of(pid)
        return self._names[key] == attempt.id and processes.is_of_fleet(pid, attempt.fleet)


def look(execution: Execution, attempt: Attempt, stall: Stall, now: float) -> None:
    """Does it still do something? If not for too long, that is a fact, and perhaps its end."""
    if execution.processor is None:
        execution.processor = Usage(execution.place.keeper)
    output = ending.output_of(attempt, execution.fleet_dir)
    quiet = stall.quiet
    asks = execution.asks is not None and bool(execution.asks.waiting(attempt.id))
    news = stall.look(now, output, execution.processor.cpu_of(attempt, now), asks=asks)
    if not news:
        return
    fields = {"attempt": attempt.id, "slot": attempt.slot}
    execution.journal.fact(news, {**fields, "quiet": round(stall.quiet or quiet, 3)})
    if stall.stale and stall.ends:
        execution.stop(attempt, "stall", False)
