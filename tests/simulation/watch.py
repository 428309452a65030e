"""What must hold, checked after every record and every start, against a model of its own.

The model is folded from the records alone, without the core's state, so that a fault in the core
and its own books can't agree. Each check is constant in the size of the fleet; `thorough` compares
everything and is called at sampled steps. A breach raises `Breach` with the sentence that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import Struct, json

from codewhale_fleet.core import events as e
from codewhale_fleet.core import placement
from codewhale_fleet.core.duties import duties, recomputed
from codewhale_fleet.core.evolve import seconds_of
from codewhale_fleet.core.state import OPEN, RESULT_STATUS, Run, State

from .ledger import Ledger, differences, waiting


class Breach(AssertionError):
    """An invariant does not hold."""


def hold(true: object, sentence: str) -> None:
    """Raise Breach unless `true`."""
    if not true:
        raise Breach(sentence)


class Row(Struct):
    """The model's task."""

    policy: dict[str, Any] | None
    claims: tuple[str, ...]
    status: str = "queued"
    attempt: int = 0
    failures: int = 0
    receipts: int = 0
    """Deciding receipts since it was last queued."""
    until: float = 0.0
    epoch: int = 0


class Model(Struct):
    """The model's run."""

    tasks: dict[str, Row] = {}
    flights: dict[str, str] = {}
    ends: dict[str, str] = {}
    """Attempt in flight -> why it was asked to end."""
    asked: dict[str, float] = {}
    """The same attempts -> simulated time at which they were first asked."""
    load: dict[str, int] = {}
    claims: dict[str, str] = {}
    counts: dict[str, int] = {}
    status: str = "draft"


class Watch:
    """All invariants over one simulated fleet."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self.ledger = ledger
        self.clock = clock
        """Simulated time."""
        self.epoch = 0
        self.runs: dict[str, Model] = {}
        self.ever: Counter[str] = Counter()
        """Attempt -> how often any host started it."""
        self.now_running: dict[str, str] = {}
        """RUN/TASK -> attempt that runs on some host."""
        self.records = 0
        self.replaying = False

    # The world ----------------------------------------------------------------------------

    def started(self, attempt: str, busy: int, slots: int) -> None:
        """A host has started an attempt."""
        self.ever[attempt] += 1
        hold(self.ever[attempt] == 1, f"{attempt} was started {self.ever[attempt]} times")
        hold(busy <= slots, f"{attempt} runs as number {busy} on {slots} slots")
        task = attempt.rpartition("@")[0]
        other = self.now_running.get(task)
        hold(other is None, f"{attempt} was started while {other} still runs")
        self.now_running[task] = attempt

    def left(self, attempt: str) -> None:
        """A host runs it no longer."""
        self.now_running.pop(attempt.rpartition("@")[0], None)

    # Records ------------------------------------------------------------------------------

    def replay(self) -> None:
        """Records were dropped: the model is made anew from what is left."""
        self.runs, self.epoch, self.records, self.replaying = {}, 0, 0, True
        for head, event, epoch in self.ledger.records():
            self.model(head, event, epoch)
        self.replaying = False

    def saw(self, head: e.Envelope, event: e.Event, epoch: int) -> None:
        """One record, already folded into the state."""
        self.model(head, event, epoch)
        run = self.ledger.state.runs.get(head.run)
        if run is not None:
            counts = {name: count for name, count in run.counts.items() if count}
            mine = {name: count for name, count in self.runs[run.id].counts.items() if count}
            hold(counts == mine, f"{head.seq} {head.k}: {run.id} counts {counts}, not {mine}")

    def model(self, head: e.Envelope, event: e.Event, epoch: int) -> None:
        """Take one record into the model."""
        self.records += 1
        hold(head.seq == self.records, f"record {head.seq} follows {self.records - 1}")
        if epoch:
            hold(epoch == self.epoch, f"{head.k} was written in epoch {epoch}, not {self.epoch}")
        handler = _TAKES.get(type(event))
        if handler is not None:
            handler(self, head, event)

    def _elected(self, head: e.Envelope, event: e.ManagerElected) -> None:
        hold(event.epoch == self.epoch + 1, f"epoch {event.epoch} follows {self.epoch}")
        self.epoch = event.epoch

    def _created(self, head: e.Envelope, event: e.RunCreated) -> None:
        self.runs[head.run] = Model()

    def _added(self, head: e.Envelope, event: e.TasksAdded) -> None:
        model = self.runs[head.run]
        for raw in event.tasks:
            spec = json.decode(raw)
            paths = spec.get("workspace", {}).get("writable_paths", ())
            names = spec.get("metadata", {}).get("coordination_contracts", ())
            claims = (*paths, *(f"contract:{name}" for name in names))
            model.tasks[spec["id"]] = Row(policy=spec.get("retry_policy"), claims=claims)
        model.counts["queued"] = model.counts.get("queued", 0) + len(event.tasks)

    def _move(self, model: Model, row: Row, status: str) -> None:
        model.counts[row.status] -= 1
        model.counts[status] = model.counts.get(status, 0) + 1
        row.status = status

    def _decided(self, model: Model, name: str, row: Row, receipt: e.Receipt) -> None:
        row.receipts += 1
        hold(row.receipts == 1, f"{name} has {row.receipts} deciding receipts")
        self._move(model, row, RESULT_STATUS[receipt.result])

    def _again(self, model: Model, row: Row) -> None:
        row.receipts = row.failures = 0
        row.until = 0.0
        self._move(model, row, "queued")

    def _dispatched(self, head: e.Envelope, event: e.AttemptDispatched) -> None:
        model = self.runs[head.run]
        name, _, number = event.attempt[len(head.run) + 1 :].rpartition("@")
        row = model.tasks[name]
        hold(model.status == "running", f"{event.attempt} was placed in a {model.status} run")
        hold(row.status == "queued", f"{event.attempt} was placed while {row.status}")
        hold(int(number) == row.attempt + 1, f"{event.attempt} follows attempt {row.attempt}")
        early = row.until - seconds_of(head.ts)
        hold(
            early < 0.001 or row.epoch != self.epoch,
            f"{event.attempt} was placed {early:.3f} s before its backoff was over",
        )
        if not self.replaying:
            self._room(model, self.ledger.state.runs[head.run], event)
        for claim in row.claims:
            for held, holder in model.claims.items():
                hold(
                    not overlap(claim, held),
                    f"{event.attempt} claims {claim}, which {holder} holds as {held}",
                )
        for claim in row.claims:
            model.claims[claim] = name
        row.attempt = int(number)
        self._move(model, row, "leased")
        model.flights[event.attempt] = event.worker
        model.load[event.worker] = model.load.get(event.worker, 0) + 1

    def _room(self, model: Model, run: Run, event: e.AttemptDispatched) -> None:
        short = 0.0 < run.mean < placement.AHEAD_BELOW_SECONDS and not model.claims
        most = 1 + placement.LEASE_AHEAD if short else 1
        flying, load = len(model.flights), model.load.get(event.worker, 0)
        slot = int(event.worker.rpartition("-")[2])
        hold(1 <= slot <= run.slots, f"{event.attempt} was placed on {event.worker}")
        hold(flying < run.slots * most, f"{event.attempt} is one more than {flying} in flight")
        hold(load < most, f"{event.attempt} is one more than {load} on {event.worker}")

    def _started(self, head: e.Envelope, event: e.AttemptStarted) -> None:
        model = self.runs[head.run]
        if event.attempt in model.flights:
            name = event.attempt[len(head.run) + 1 :].rpartition("@")[0]
            self._move(model, model.tasks[name], "running")

    def _controlled(self, head: e.Envelope, event: e.ControlRequested) -> None:
        for attempt in event.attempts:
            self._end(self.runs[head.run], attempt, event.verb)

    def _end(self, model: Model, attempt: str, why: str) -> None:
        if attempt in model.flights:
            model.ends[attempt] = why
            model.asked.setdefault(attempt, self.clock())

    def patience(self, before: float) -> None:
        """No attempt that was asked to end before then may be in flight."""
        for model in self.runs.values():
            late = [attempt for attempt, when in model.asked.items() if when < before][:3]
            hold(not late, f"{late} were asked to end, and nobody tells their hosts")

    def _over(self, head: e.Envelope, event: e.AttemptEnded | e.AttemptLost) -> None:
        model = self.runs[head.run]
        name = event.attempt[len(head.run) + 1 :].rpartition("@")[0]
        row = model.tasks[name]
        if event.attempt not in model.flights:
            late = isinstance(event, e.AttemptEnded) and event.late
            hold(late, f"{event.attempt} was over before, and again decides")
            return
        worker = model.flights.pop(event.attempt)
        asked = model.ends.pop(event.attempt, "")
        model.asked.pop(event.attempt, None)
        model.load[worker] -= 1
        for claim in row.claims:
            model.claims.pop(claim, None)
        failed = event.receipt.result in ("fail", "timeout")
        row.failures += failed
        if event.retry_after is None:
            self._decided(model, name, row, event.receipt)
            return
        if failed and not asked and getattr(event, "why", "") != "withdrawn":
            self._allowed(event, row)
        if asked == "restart":
            row.failures = 0
        row.until = seconds_of(head.ts) + event.retry_after
        row.epoch = self.epoch
        self._move(model, row, "queued")

    def _allowed(self, event: e.AttemptEnded | e.AttemptLost, row: Row) -> None:
        policy = row.policy
        hold(policy is not None, f"{event.attempt} is retried without a policy")
        assert policy is not None
        most, first = policy["max_attempts"], policy["initial_backoff_seconds"]
        hold(row.failures < most, f"{event.attempt} is failure {row.failures} of {most}, retried")
        wait = min(
            first * policy["backoff_multiplier"] ** (row.failures - 1),
            policy["max_backoff_seconds"],
        )
        after = event.retry_after or 0.0
        hold(
            wait - 0.01 <= after <= wait * (1 + policy["jitter"]) + 0.01,
            f"{event.attempt} is retried after {after} s, not {wait}",
        )

    def _cancelled(self, head: e.Envelope, event: e.TaskCancelled) -> None:
        model = self.runs[head.run]
        for name in event.tasks:
            if model.tasks[name].status == "queued":
                skip = e.Receipt(result="skip", source="human")
                self._decided(model, name, model.tasks[name], skip)

    def _queued(self, head: e.Envelope, event: e.TaskQueued) -> None:
        model = self.runs[head.run]
        if model.status in ("finished", "stopping"):
            model.status = "running"
        for name in event.tasks:
            hold(model.tasks[name].status not in ("leased", "running"), f"{name} is in flight")
            self._again(model, model.tasks[name])

    def _stopped(self, head: e.Envelope, event: e.RunStopped) -> None:
        model = self.runs[head.run]
        model.status = "stopping"
        for name, row in model.tasks.items():
            if row.status == "queued":
                self._decided(model, name, row, e.Receipt(result="skip", source=event.source))
        if event.interrupt:
            for attempt in model.flights:
                self._end(model, attempt, "stopped")

    def _resumed(self, head: e.Envelope, event: e.RunResumed) -> None:
        model = self.runs[head.run]
        model.status = "running"
        for attempt, end in model.ends.items():
            if end == "stopped":
                model.ends[attempt] = "restart"
        for row in model.tasks.values():
            if row.status == "cancelled" or (event.failed and row.status == "failed"):
                self._again(model, row)

    def _status(self, head: e.Envelope, event: e.RunStarted | e.RunPaused) -> None:
        started = isinstance(event, e.RunStarted)
        self.runs[head.run].status = "running" if started else "paused"

    def _finished(self, head: e.Envelope, event: e.RunFinished) -> None:
        model = self.runs[head.run]
        model.status = "finished"
        still = [name for name, row in model.tasks.items() if row.receipts != 1][:3]
        hold(not still, f"{head.run} finished, but {still} have no deciding receipt")

    # At sampled steps -----------------------------------------------------------------------

    def thorough(self, state: State, *, fold: bool) -> None:
        """Everything that costs more than a step may cost."""
        owed, again = sorted(map(str, duties(state))), sorted(map(str, recomputed(state)))
        hold(owed == again, f"owed: {set(owed) ^ set(again)}")
        for run in state.open_runs.values():
            self._recount(run)
        if fold:
            found = differences(state, self.ledger.restored())
            hold(not found, f"fold(snapshot + tail) differs: {found}")

    def _recount(self, run: Run) -> None:
        model = self.runs[run.id]
        rows = Counter(row.status for row in model.tasks.values())
        theirs = Counter(task.status for task in run.tasks.values())
        counts = Counter({name: count for name, count in run.counts.items() if count})
        hold(rows == theirs == counts, f"{run.id}: {rows}, {theirs}, {counts}")
        still = sum(rows[status] for status in OPEN)
        hold(run.open == still, f"{run.id} has {run.open} open tasks, not {still}")
        found = len(waiting(run))
        hold(found == rows["queued"], f"{run.id}: placement finds {found} of {rows['queued']}")
        hold(list(run.flights) == list(model.flights), f"{run.id}: other flights")
        loads = {worker: load for worker, load in model.load.items() if load}
        hold(run.load == loads, f"{run.id}: load {run.load}, not {loads}")
        hold(dict(run.claims) == model.claims, f"{run.id}: claims {run.claims}")
        sources = Counter(
            task.source for task in run.tasks.values() if task.status == "failed" and task.source
        )
        theirs = Counter({name: count for name, count in run.sources.items() if count})
        hold(sources == theirs, f"{run.id}: sources {theirs}, not {sources}")


def overlap(one: str, other: str) -> bool:
    """Whether two claims exclude each other, said another way than in the core."""
    if one.startswith("contract:") or other.startswith("contract:"):
        return one == other
    a = [part for part in one.split("/") if part != "."]
    b = [part for part in other.split("/") if part != "."]
    shorter = min(len(a), len(b))
    return a[:shorter] == b[:shorter]


_TAKES: dict[type[e.Event], Any] = {
    e.ManagerElected: Watch._elected,
    e.RunCreated: Watch._created,
    e.TasksAdded: Watch._added,
    e.AttemptDispatched: Watch._dispatched,
    e.AttemptStarted: Watch._started,
    e.ControlRequested: Watch._controlled,
    e.AttemptEnded: Watch._over,
    e.AttemptLost: Watch._over,
    e.TaskCancelled: Watch._cancelled,
    e.TaskQueued: Watch._queued,
    e.RunStopped: Watch._stopped,
    e.RunResumed: Watch._resumed,
    e.RunStarted: Watch._status,
    e.RunPaused: Watch._status,
    e.RunFinished: Watch._finished,
}
