"""What a run on other machines waits for, said once each, where nothing else would tell.

Looked for while the run is watched, and said when it has been so for a while: slots that another
run holds, workers that get nothing new, attempts on a worker that cannot be reached. From what is
recorded alone; nothing here waits, decides or prints.
"""

import time
from collections.abc import Callable

from ..core.load import place_of
from ..core.placement import Waiting, watch
from ..core.state import Run, State

LOOK_SECONDS = 5.0
"""Between two looks. What two of them find, one after the other, is said."""

MOST_TASKS = 1000
"""Queued tasks that are asked why they wait."""

SHOWN_RUNS = 3

Key = tuple[str, str]
"""What it is about, which stays the same while it lasts."""


class Waits:
    """What one run waits for, as far as it was said."""

    ticks = 1.0
    """Seconds between two calls of `look`, at most."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._seen: set[Key] = set()
        self._told: set[Key] = set()

    def look(self, state: State, say: Callable[[str], None]) -> None:
        """Say what is new and lasts."""
        now = time.monotonic()
        run = state.open_runs.get(self._run)
        if now < self._look_at or run is None:
            return
        self._look_at = now + LOOK_SECONDS
        found = {**_away(state, run), **_held_up(state, run)}
        for key, sentence in found.items():
            if key in self._seen and key not in self._told:
                self._told.add(key)
                say(sentence)
        for kind, worker in self._told - found.keys():
            if kind == "away" and not state.workers[worker].unreachable:
                self._told.discard((kind, worker))
                say(f"{worker} is there again")
        self._seen = set(found)


def _away(state: State, run: Run) -> dict[Key, str]:
    """Workers on which something of the run is, and that cannot be reached."""
    from ..views.workers import away

    waits = "the run waits for that" if run.patience else "that is given up after a minute"
    return {
        ("away", one["id"]): f"{one['why']}, and {waits}: {one['next']}"
        for one in away(state, [run], float("inf"))
    }


def _held_up(state: State, run: Run) -> dict[Key, str]:
    """What keeps queued tasks waiting that is nothing of the run's own."""
    why = watch(run, state.workers)
    queued = [task for task in run.order if task.status == "queued"] if why else []
    if why is None or run.status != "running":
        return {}
    own = {place_of(run.id, slot) for slot in run.load}
    busy: set[str] = set()
    found: dict[Key, str] = {}
    for task in queued[:MOST_TASKS]:
        reason = why(task)
        if reason.waiting is Waiting.BUSY:
            there = {one.worker for one in reason.others if one.kind == "busy"}
            busy |= there if own.isdisjoint(there) else set()
        elif reason.waiting is Waiting.DRAINING:
            again = f"fleet worker drain {reason.others[0].worker} --off gives it work"
            found["shut", reason.sentence] = f"waiting: {reason.sentence}; {again}"
    if held := _held(state, run, busy):
        found["held", ""] = held
    return found


def _held(state: State, run: Run, workers: set[str]) -> str:
    """By whom the slots of these workers are held, and what to type."""
    from ..views.folding import folded

    held = {
        other.id: there
        for other in state.open_runs.values()
        if other is not run and other.workers
        if (there := {place_of(other.id, slot) for slot in other.load} & workers)
    }
    if not held:
        return ""
    runs = list(held)
    names = ", ".join(runs[:SHOWN_RUNS])
    more = f" and {len(runs) - SHOWN_RUNS:,} more" if len(runs) > SHOWN_RUNS else ""
    where = folded(set().union(*held.values()))
    steps = f"fleet status {runs[0]} shows it, fleet stop {runs[0]} ends it"
    return f"waiting for a slot on {where}, held by {names}{more}; {steps}"
