"""Follows what agents say while they run: holds caps, warns, tells managers now and then.

Promises: a cap of a task or of a run ends what crosses it as soon as the line that says so is read,
manager or no manager; a fact `progressed` is told at most every `PROGRESS_SECONDS`, at once for a
new session or a warning, and not at all while nothing new is said; no byte of a stream is punched
out before it was read and what it said is in the journal. It judges nothing.
"""

from __future__ import annotations

from codewhale_fleet.worker import ending, limits
from codewhale_fleet.worker.caps import Meter, Purse, added
from codewhale_fleet.worker.usage import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt, Run
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

    __slots__ = ("_attempt", "_journal", "_metered", "_stream")

    def __init__(self, metered: Metered, stream: Stream, attempt: str, journal: Journal) -> None:
        self._metered = metered
        self._stream = stream
        self._attempt = attempt
        self._journal = journal

    @property
    def reached(self) -> int:
        """Up to where everything was read."""
        return self._stream.begun

    def keep(self) -> None:
        """What was read so far is safe, should this runtime be killed."""
        reader = self._metered.reader
        if reader is not None:
            self._journal.put({"f": "read", "a": self._attempt, "s": reader.snapshot()})
            self._journal.flush()


class Metered:
    """One attempt that is followed."""

    __slots__ = ("attempt", "meter", "reader")

    def __init__(self, execution: Execution, attempt: Attempt) -> None:
        plan, folder = attempt.plan, execution.fleet_dir
        self.attempt = attempt
        self.meter = Meter(plan, attempt.since)
        self.reader: Reader | None = None
        purse = attempt.run.purse
        if purse is not None:
            purse.open[attempt.id] = ({}, attempt.since)
        if "usage" not in plan:
            return
        paths = {name: f"{folder}/{plan[name]}" for name in _STREAMS}
        self.reader = Reader(plan["usage"], paths, answer="answer" in plan)
        if attempt.adopted:
            reading = attempt.reading
            self.reader.adopt(reading.get("s"))
            warned = reading.get("warned", ())
            self.meter.warned(warned)
            if purse is not None:
                purse.warned.update(cap[4:] for cap in warned if cap.startswith("run."))

    def used(self) -> dict[str, float]:
        """What its agent has used, as far as it said."""
        numbers = self.reader.numbers if self.reader else {}
        own = self.attempt.own
        return added([numbers, own.usage]) if own is not None and own.usage else numbers


_STREAMS = ("out", "err")


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
        purse.open[attempt.id] = (used, attempt.since)
        warn += ["run." + cap for cap in purse.warnings(now)]
    _tell(execution, metered, warn, now)
    if cap := metered.meter.crossed(used):
        execution.stop(attempt, "budget", False, cap)
    elif purse is not None and (cap := purse.crossed(now)):
        for name in list(purse.open):
            other = execution.running.get(name)
            if other is not None and not other.step:
                execution.stop(other, "budget", False, "run." + cap)
    if more:
        return 0.0
    every = limits.CAP_LOOK if metered.meter.holds or purse is not None else limits.LOG_SLOW
    left = purse.seconds_left(now) if purse is not None else None
    return every if left is None else min(every, max(left, 0.01))


def _follow(execution: Execution, attempt: Attempt, metered: Metered) -> None:
    ending.open_logs(attempt, execution.fleet_dir)
    if metered.reader is not None:
        for name, stream in metered.reader.streams.items():
            follower = Follower(metered, stream, attempt.id, execution.journal)
            attempt.logs[name].follower = follower


def _tell(execution: Execution, metered: Metered, warn: list[str], now: float) -> None:
    """The fact `progressed`, when it is due."""
    attempt, meter = metered.attempt, metered.meter
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
    reader = attempt.metered.reader
    if reader is None:
        return {}
    while reader.read():
        yield
    reader.finish()
    return reader.facts()
