"""Which worker an attempt went to and why that one, and what the others of its run did then.

Pure. The choice itself is in the record, with what only the manager knew at that moment; who was
out of use, could not be reached or did not match is known from the records before it.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from ..core import events as e
from ..core.fleet_words import LOCAL, WorkerRow
from ..core.liveness import to_the_second
from ..core.load import place_of
from ..core.lookout import WORDS, Lookout, said, standing
from ..core.matching import Need, mismatch, need_in
from ..core.placement import Other
from ..core.state import Flight, Run, State, Task, split_attempt
from ..core.workers import enrolled, learn
from .folding import folded
from .timeline import History
from .units import many, one_line

SHOWN = 3
"""Groups of workers of a kind that have a line each; the rest is counted."""

MANY = {
    "busy": "are busy",
    "unreachable": "can't be reached",
    "draining": "get nothing new",
    "retired": "were retired",
    "untried": "were not tried yet",
    "mismatch": "do not match",
}
"""`WORDS` of several workers."""

THEN = {
    "unreachable": "could not be reached",
    "draining": "got nothing new",
    "retired": "was retired",
    "mismatch": "did not match",
}
"""The same of a moment that is over."""

MANY_THEN = {**THEN, "retired": "were retired"}

Lines = list[dict[str, Any]]


class Choices:
    """What is said of where the attempts of a task went, from first to last."""

    def __init__(self, run: Run, task: Task, records: History) -> None:
        """`records`: what happened to workers, in order."""
        self._run, self._task = run, task
        self._need = need_in(run, task.raw)
        self._records = deque(records)
        self._state = State()
        self._before: Lines = []

    def of(self, head: e.Envelope, event: e.AttemptDispatched) -> Lines:
        """Where an attempt went, and who else of its run was out of the question; that only
        where it is not as it was for the attempt before."""
        while self._records and self._records[0][0].seq < head.seq:
            self._learn(*self._records.popleft())
        place = place_of(self._run.id, event.worker)
        where = "this machine" if place == LOCAL else place
        count = split_attempt(event.attempt)[2]
        told = [_line(f"attempt {count} went to {where}: {_why(self._need, event.why)}", head.seq)]
        others = lines_of(self._others(place), THEN, MANY_THEN)
        told += others if others != self._before else ()
        self._before = others
        return told

    def away(self, workers: Mapping[str, WorkerRow]) -> Lines:
        """Workers of the run that cannot be reached now, with what helps; the first few."""
        rows = [(id, row) for id in self._run.workers if (row := workers.get(id))]
        gone = [(id, row) for id, row in rows if row.unreachable][:SHOWN]
        return [
            _line(f"{id}: {one_line(row.unreachable)}", row.unreachable_seq) for id, row in gone
        ]

    def cut_off(self, flight: Flight, workers: Mapping[str, WorkerRow]) -> Lines:
        """That the worker of what is in flight cannot be reached now, where it cannot."""
        row = workers.get(place_of(self._run.id, flight.worker))
        if row is None or not row.unreachable:
            return []
        why = f"since {to_the_second(row.unreachable_ts)}: {one_line(row.unreachable)}"
        told = f"its worker can't be reached {why}; it may still run there"
        return [_line(told, row.unreachable_seq)]

    def _learn(self, head: e.Envelope, event: e.Event) -> None:
        if isinstance(event, e.WorkerEnrolled):
            enrolled(self._state, head, event, event.worker or LOCAL)
        else:
            learn(self._state, head, event)

    def _others(self, place: str) -> Iterable[Other]:
        need = self._need
        if need.targets or need.stays:
            return
        unfit = []
        for one in Lookout(self._run, self._state.workers).every:
            if one.id in (place, LOCAL):
                continue
            if why := mismatch(need, one.facts):
                unfit.append(Other(one.id, "mismatch", why))
            elif (other := standing(one)).kind != "untried":
                yield other
        yield from unfit


def _why(need: Need, recorded: str) -> str:
    """What spoke for it: what the task asks for, and what was found at that moment."""
    if need.targets:
        return f"it asks for {need.targets[0]}"
    if need.stays:
        return f"it asks for no worker; {recorded}"
    asked = [f"{label}={value}" for label, value in need.labels]
    asked += [need.platform] if need.platform else []
    asked += need.capabilities
    asked += [many(need.cores, "core")] if need.cores else []
    asked += [f"{need.memory_mb:,} MiB of memory"] if need.memory_mb else []
    asked += [many(need.gpus, "GPU")] if need.gpus else []
    return f"it asks for {', '.join(asked)}; {recorded}" if asked else recorded


def lines_of(
    others: Iterable[Other], one: Mapping[str, str] = WORDS, more: Mapping[str, str] = MANY
) -> Lines:
    """Why others do not take a task: those that are alike share a line, and few lines say it."""
    kinds: dict[str, dict[str, list[Other]]] = {}
    for other in others:
        kinds.setdefault(other.kind, {}).setdefault(other.detail, []).append(other)
    lines: Lines = []
    for kind, alike in kinds.items():
        groups = list(alike.values())
        for group in groups[:SHOWN]:
            first, names = group[0], folded(each.worker for each in group)
            words = one if len(group) == 1 else more
            lines.append(_line(one_line(said(first, names, words)), first.seq))
        if rest := sum(map(len, groups[SHOWN:])):
            words = one if rest == 1 else more
            lines.append(_line(f"{rest:,} more {words[kind]}"))
    return lines


def _line(sentence: str, seq: int = 0) -> dict[str, Any]:
    return {"sentence": sentence, "seq": seq} if seq else {"sentence": sentence}
