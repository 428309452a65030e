"""Follows what agents say while they run: holds caps, warns, tells managers now and then.

Agents that verify an attempt are followed too, and what they use is the attempt's. Promises: a cap
of a task or of a run ends what crosses it as soon as the line that says so is read, manager or no
manager; a fact `progressed` is told at most every `PROGRESS_SECONDS`, at once for a
new session or a warning, and not at all while nothing new is said; an agent that says that it
waits out a usage limit is ended; no byte of a stream is punched
out before it was read and what it said is in the journal. It judges nothing.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import ending, limits
from codewhale_fleet.worker.caps import SECONDS, Meter, Purse, added
from codewhale_fleet.worker.own import Own
from codewhale_fleet.worker.usage import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt, Run
    from codewhale_fleet.worker.caps import Figures
    from codewhale_fleet.worker.execution import Execution
    from codewhale_fleet.worker.journal import Journal
    from codewhale_fleet.worker.usage import Stream


def hear(run: Run, plan: dict[str, Any]) -> None:
    """A plan tells the caps of its run, and what the run had used by the facts up to `run_ack`."""
    if run.purse is None:
        run.purse = Purse()
    run.purse.told(plan["run_caps"], plan.get("run_spent") or {}, plan["run_ack"])


def recover(execution: Execution, journal: Journal) -> None:
    """What runs with caps had used when the runtime before this one died."""
    for name, record in journal.open.items():
        if "run_caps" in record.intent["p"]:
            hear(execution.run(name.partition("/")[0]), record.intent["p"])
    for name, entry in journal.spent.items():
        purse = execution.run(name).purse
        if purse is not None:
            purse.told({}, entry["u"], entry["ack"])
    for fact in journal.ended:
        purse = execution.run(fact["attempt"].partition("/")[0]).purse
        if purse is not None:
            purse.end(fact["attempt"], fact["n"], fact)
    journal.spent.clear()
    journal.ended.clear()


class Follower:
    """The reader of a log, as the log asks for it before it drops its middle."""

    __slots__ = ("_journal", "_metered", "_stream")

    def __init__(self, metered: Metered, stream: Stream, journal: Journal) -> None:
        self._metered = metered
        self._stream = stream
        self._journal = journal

    @property
    def reached(self) -> int:
        """Up to where everything was read."""
        return self._stream.begun

    def keep(self) -> None:
        """What was read so far is safe, should this runtime be killed."""
        reader, attempt = self._metered.reader, self._metered.attempt
        if reader is not None:
            state = reader.snapshot()
            if attempt.run.redactor is not None:
                state = attempt.run.redactor.tree(state)
            entry = {"f": "read", "a": attempt.id, "s": state}
            self._journal.put({**entry, "step": attempt.step} if attempt.step else entry)
            self._journal.flush()


class Metered:
    """One process that is followed: an attempt's, or that of a step of its verification.

    `before`: of a step, what the attempt and the steps before it have used, its seconds included.
    """

    __slots__ = ("attempt", "before", "meter", "reader")

    def __init__(
        self,
        execution: Execution,
        attempt: Attempt,
        meter: Meter | None = None,
        before: Figures | None = None,
    ) -> None:
        plan, folder = attempt.plan, execution.fleet_dir
        self.attempt = attempt
        self.before = before
        self.meter = meter or Meter(plan, attempt.since)
        self.reader: Reader | None = None
        purse = attempt.run.purse
        if purse is not None:
            self.count(purse, before or {})
        if "usage" in plan:
            self.reader = Reader(plan["usage"], _paths(plan, folder), answer="answer" in plan)
            self.reader.clean = attempt.redactor
        if attempt.adopted:
            reading = attempt.reading
            if self.reader is not None:
                self.reader.adopt(reading.get("s"))
            warned = reading.get("warned", ())
            self.meter.warned(warned)
            if purse is not None:
                purse.warned.update(cap[4:] for cap in warned if cap.startswith("run."))

    def used(self) -> Figures:
        """What the attempt has used so far, as far as its agents said."""
        numbers = self.reader.numbers if self.reader else {}
        if self.before is not None:
            return added([self.before, numbers])
        own = self.attempt.own
        return added([numbers, own.usage]) if own is not None and own.usage else numbers

    def count(self, purse: Purse, used: Figures) -> None:
        """Count it for its run: verification costs what it uses, but no seconds of a budget."""
        attempt = self.attempt
        if self.before is None and attempt.ended:
            used = {**used, "seconds": max(attempt.ended - attempt.since, 0.0)}
        running = self.before is None and not attempt.ended
        purse.open[attempt.id] = (used, attempt.since if running else None)


_STREAMS = ("out", "err")


def _paths(plan: dict[str, Any], folder: str) -> dict[str, str]:
    if "sealed" in plan:
        from codewhale_fleet.worker import sealing

        return sealing.existing(folder, plan)
    return {name: f"{folder}/{plan[name]}" for name in _STREAMS}


def look(execution: Execution, attempt: Attempt, now: float) -> float:
    """Reads what is new and does what follows; answers in how many seconds to look again."""
    metered = attempt.metered
    if metered is None:
        metered = attempt.metered = Metered(execution, attempt)
        _follow(execution, attempt, metered)
    reader, purse = metered.reader, attempt.run.purse
    more = reader.read() if reader else False
    used = metered.used()
    warn = metered.meter.warnings(used)
    if purse is not None:
        metered.count(purse, used)
        warn += ["run." + cap for cap in purse.warnings(now)]
    _tell(execution, metered, warn, now)
    if reader is not None and reader.texts.get("limit"):
        execution.stop(attempt, "limit", False)
    if cap := metered.meter.crossed(used):
        execution.stop(attempt, "budget", False, cap)
    elif purse is not None and (cap := purse.crossed(now)):
        for name in list(purse.open):
            other = execution.running.get(name)
            if other is not None and _counts(other, cap):
                execution.stop(other, "budget", False, "run." + cap)
    if more:
        return 0.0
    every = limits.CAP_LOOK if metered.meter.holds or purse is not None else limits.LOG_SLOW
    left = purse.seconds_left(now) if purse is not None else None
    return every if left is None else min(every, max(left, 0.01))


def _counts(process: Attempt, cap: str) -> bool:
    """Whether what it does is what a cap of its run counts: commands that verify cost nothing."""
    return not process.step or (process.metering and cap != SECONDS)


def _follow(execution: Execution, attempt: Attempt, metered: Metered) -> None:
    ending.open_logs(attempt, execution.fleet_dir)
    if metered.reader is not None:
        for name, stream in metered.reader.streams.items():
            follower = Follower(metered, stream, execution.journal)
            attempt.logs[name].follower = follower


def _tell(execution: Execution, metered: Metered, warn: list[str], now: float) -> None:
    """The fact `progressed`, when it is due."""
    attempt, meter = metered.attempt, metered.meter
    if attempt.step:  # its figures are told at its end; what it says is not the attempt's word
        if warn:
            told = {"attempt": attempt.id, "slot": attempt.slot, "step": attempt.step}
            execution.journal.fact("progressed", {**told, "warn": warn})
        return
    facts = metered.reader.facts() if metered.reader else {}
    if facts == meter.said and not warn:
        return
    fresh = facts.get("session") != meter.said.get("session")
    rested = now - meter.said_at >= limits.PROGRESS_SECONDS
    if not (warn or (attempt.started and (fresh or rested))):
        return
    meter.said, meter.said_at = facts, now
    fields: dict[str, Any] = {"attempt": attempt.id, "slot": attempt.slot, "agent": facts}
    if warn:
        fields["warn"] = warn
    execution.journal.fact("progressed", fields)


def answer_of(attempt: Attempt) -> str:
    """The last message of an agent that ended well; empty where it said none."""
    reader = attempt.metered.reader if attempt.metered else None
    if reader is None or attempt.exit != 0 or attempt.why or reader.facts().get("error"):
        return ""
    return str(reader.answer).strip()


def finish(execution: Execution, attempt: Attempt) -> Generator[None, None, dict[str, Any]]:
    """Reads to the end; answers what is known of the agent."""
    if attempt.metered is None:
        attempt.metered = Metered(execution, attempt)
        _follow(execution, attempt, attempt.metered)
    reader, purse = attempt.metered.reader, attempt.run.purse
    while reader is not None and reader.read():
        yield
    if reader is not None:
        reader.finish()
    if purse is not None:
        attempt.metered.count(purse, attempt.metered.used())
    if reader is None:
        return {}
    facts = reader.facts()
    if attempt.why == "limit":
        facts.setdefault("error", reader.texts.get("limit", ""))
    return facts


# ---- the agents that verify an attempt


def begin_step(execution: Execution, attempt: Attempt, process: Attempt, used: Figures) -> None:
    """A step of an attempt that has `used` so much is followed from now on."""
    meter = attempt.metered.meter if attempt.metered else None
    process.metered = Metered(execution, process, meter, used)
    _follow(execution, process, process.metered)


def spent(attempt: Attempt, used: Figures, now: float) -> str:
    """The cap that leaves nothing for an agent to verify an attempt with, or nothing."""
    meter, purse = attempt.metered.meter if attempt.metered else None, attempt.run.purse
    if meter is not None and (cap := meter.reached(used)):
        return cap
    cap = purse.crossed(now, reached=True) if purse is not None else ""
    return "run." + cap if cap and cap != SECONDS else ""


def recount(execution: Execution, attempt: Attempt) -> Generator[None, None, None]:
    """What agents used that verified an attempt when their runtime was killed: it stays counted.

    They verify it anew. Their logs go, so that nothing counts twice.
    """
    for number, step in enumerate(attempt.plan["steps"], 1):
        if attempt.hides:
            from codewhale_fleet.worker import sealing

            step = sealing.hidden(step)  # noqa: PLW2901
        paths = _paths(step, execution.fleet_dir)
        if not step.get("usage") or not os.path.exists(paths["out"]):
            continue
        reader = Reader(step["usage"], paths)
        reader.adopt(attempt.reading.get(f"s{number}"))
        while reader.read():
            yield
        reader.finish()
        status = os.stat(paths["out"])
        mark = f"step {number} {status.st_ino} {status.st_mtime_ns}"
        used = reader.facts().get("usage")
        if used and not (attempt.own and mark in attempt.own.heard):
            entry = {"f": "own", "a": attempt.id, "w": "usage", "u": used, "i": mark}
            attempt.own = attempt.own or Own()
            attempt.own.take(entry)
            execution.journal.put(entry)
            execution.journal.flush()
        for path in (*step.get("sealed", {}).values(), *(step[stream] for stream in _STREAMS)):
            execution.launcher.clear_log(path)
