"""What stays of a finished run when its detail is dropped: a row a task, a row an attempt.

Pure. `Summary` is told the records of one run and gives its rows, packed so that each pack fits a
ledger line; `summarized` takes such a line into the state; summed.py gives it back as the events
that receipts and views are made of. All ids, results, sources, reasons, scorers and times stay, and
so do later verdicts; commands, logs, evidence, placements and beats are gone. Knows nothing of
files.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Raw, Struct, json, structs

from . import events as ev
from .state import RESULT_STATUS, Run, State, Task, rest_of, split_attempt

Record = tuple[ev.Envelope, ev.Event]

PACK_BYTES = 200_000
"""Most bytes of rows in one line."""
MOST_ROW_BYTES = 150_000
"""A longer row of an attempt is cut: its reason, and what it left."""
CUT_REASON = 4_000
KEPT_OF_SPEC = ("name", "agent", "budget", "retry_policy")
"""What of a task's spec says how many attempts it had, who did it, and its title."""


class VerdictRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A later verdict on an attempt: `by` whom, and `seq` and `at` of its record."""

    seq: int
    at: str
    by: str
    receipt: ev.Receipt
    evidence: ev.Evidence | None = None


class AttemptRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an attempt ended: `seq` and `at` are those of the record that said so."""

    number: int
    seq: int
    at: str
    receipt: ev.Receipt
    worker: str = ""
    seconds: float = 0.0
    exit: int | None = None
    signal: int | None = None
    unknown: bool = False
    unstarted: str = ""
    lost: str = ""
    why: str = ""
    oom: bool = False
    artifacts: list[ev.Artifact] = []
    missing: list[str] = []
    retry_after: float | None = None
    agent: ev.AgentFacts | None = None
    verifiers: list[ev.AgentFacts] = []
    """What agents that judged it used."""
    verdicts: list[VerdictRow] = []


class TaskRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task at its end. `cancelled`: when and by whom it was settled, if no attempt decided it.

    Without a status, all but the id, the counts and the spec follow from the last attempt.
    """

    id: str
    status: str = ""
    seq: int = 0
    attempt: int = 0
    failures: int = 0
    restarts: int = 0
    spent: float = 0.0
    seconds: float = 0.0
    result: str = ""
    source: str = ""
    reason: str = ""
    worker: str = ""
    cancelled: tuple[str, str] | None = None
    spec: dict[str, Raw] = {}
    attempts: list[AttemptRow] = []


decode_row = json.Decoder(TaskRow).decode
_spec = json.Decoder(dict[str, Raw]).decode


class Summary:
    """Collects what is kept of one run, record by record."""

    def __init__(self) -> None:
        self._attempts: dict[str, list[AttemptRow]] = {}
        self._cancelled: dict[str, tuple[str, str]] = {}

    def take(self, head: ev.Envelope, event: ev.Event) -> None:
        """Note one record of the run."""
        if isinstance(event, ev.AttemptEnded | ev.AttemptLost):
            if isinstance(event, ev.AttemptEnded) and event.late:
                return
            _, task, number = split_attempt(event.attempt)
            self._attempts.setdefault(task, []).append(_attempt_row(head, event, number))
        elif isinstance(event, ev.ReceiptRecorded):
            self._judged(head, event)
        elif isinstance(event, ev.TaskCancelled | ev.TaskUnplaced):
            for task in event.tasks:
                self._cancelled[task] = head.ts, head.by

    def _judged(self, head: ev.Envelope, event: ev.ReceiptRecorded) -> None:
        _, task, number = split_attempt(event.attempt)
        verdict = VerdictRow(
            seq=head.seq, at=head.ts, by=head.by, receipt=event.receipt, evidence=event.evidence
        )
        rows = self._attempts.get(task, [])
        for index, row in enumerate(rows):
            if row.number == number:
                rows[index] = structs.replace(row, verdicts=[*row.verdicts, verdict])

    def packs(self, run: Run) -> Iterator[list[Raw]]:
        """The rows of the run, as it is at its end, some a line; one empty pack if it has none."""
        pack: list[Raw] = []
        size = 0
        for task in run.order:
            for row in self._rows(task):
                data = json.encode(row)
                if pack and size + len(data) > PACK_BYTES:
                    yield pack
                    pack, size = [], 0
                pack.append(Raw(data))
                size += len(data) + 1
        yield pack

    def _rows(self, task: Task) -> Iterator[TaskRow]:
        """A task's row; more than one where its attempts would make a long line."""
        attempts = self._attempts.pop(task.id, [])
        decided = any(task.seq == _decision(one)[0] for one in attempts)
        rest = [_cut(one) for one in attempts]
        first, rest = _as_many(rest)
        full = TaskRow(
            id=task.id,
            status=task.status,
            seq=task.seq,
            attempt=task.attempt,
            failures=task.failures,
            restarts=task.restarts,
            spent=task.spent,
            seconds=task.seconds,
            result=task.result,
            source=task.source,
            reason=task.reason[:CUT_REASON],
            worker=task.worker,
            cancelled=None if decided else self._cancelled.get(task.id),
            spec={key: raw for key, raw in _spec(task.raw).items() if key in KEPT_OF_SPEC},
            attempts=first,
        )
        short = structs.replace(full, **_NOTHING)
        yield short if first and _whole(short) == full else full
        while rest:
            more, rest = _as_many(rest)
            yield TaskRow(id=task.id, attempts=more)


_NOTHING: dict[str, Any] = {
    "status": "", "seq": 0, "attempt": 0, "spent": 0.0, "seconds": 0.0, "result": "", "source": "",
    "reason": "", "worker": "",
}  # fmt: skip


def _whole(row: TaskRow) -> TaskRow:
    """The row with what its last attempt says of the task."""
    if row.status:
        return row
    last = row.attempts[-1]
    seq, receipt = _decision(last)
    return structs.replace(
        row,
        status=RESULT_STATUS[receipt.result],
        seq=seq,
        attempt=last.number,
        spent=last.seconds,
        seconds=last.seconds,
        result=receipt.result,
        source=receipt.source,
        reason="" if receipt.result == "pass" else receipt.reason,
        worker=last.worker,
    )


def _decision(row: AttemptRow) -> tuple[int, ev.Receipt]:
    """The record that says last how an attempt is judged, and what it says."""
    last = row.verdicts[-1] if row.verdicts else row
    return last.seq, last.receipt


def _attempt_row(
    head: ev.Envelope, event: ev.AttemptEnded | ev.AttemptLost, number: int
) -> AttemptRow:
    row = AttemptRow(
        number=number,
        seq=head.seq,
        at=head.ts,
        receipt=event.receipt,
        retry_after=event.retry_after,
    )
    if isinstance(event, ev.AttemptLost):
        return structs.replace(row, lost=event.why)
    return structs.replace(
        row,
        worker=event.worker,
        seconds=event.seconds,
        exit=event.exit,
        signal=event.signal,
        unknown=event.unknown,
        unstarted=event.unstarted,
        why=event.why,
        oom=event.oom,
        artifacts=event.artifacts,
        missing=event.missing,
        agent=_brief(event.agent),
        verifiers=[facts for step in event.steps if (facts := _brief(step.agent))],
    )


def _brief(agent: ev.AgentFacts | None) -> ev.AgentFacts | None:
    """Of an agent: what it used, and its model."""
    return agent and ev.AgentFacts(usage=agent.usage, model=agent.model)


def _cut(row: AttemptRow) -> AttemptRow:
    """The row, short enough for a line whatever somebody wrote into it."""
    if len(row.receipt.reason) > CUT_REASON:
        receipt = structs.replace(row.receipt, reason=row.receipt.reason[:CUT_REASON])
        row = structs.replace(row, receipt=receipt)
    if len(json.encode(row)) > MOST_ROW_BYTES:
        row = structs.replace(
            row,
            artifacts=[],
            missing=row.missing[:1],
            lost=row.lost[:CUT_REASON],
            unstarted=row.unstarted[:CUT_REASON],
        )
    return row


def _as_many(rows: list[AttemptRow]) -> tuple[list[AttemptRow], list[AttemptRow]]:
    """As many of the rows as one line takes, and the others."""
    size = 0
    for count, row in enumerate(rows):
        size += len(json.encode(row))
        if count and size > MOST_ROW_BYTES:
            return rows[:count], rows[count:]
    return rows, []


# Back into the state --------------------------------------------------------------------------


def summarized(state: State, head: ev.Envelope, event: ev.RunSummarized) -> None:
    """The rows of a run are these; whatever of its detail was still there counts no more."""
    run = state.runs[head.run]
    run.compacted = run.compacted or event.on
    if event.part == 0:
        if run.workers and run.flights:
            from .workers import let_go

            let_go(state, run)
        run.tasks, run.order, run.ready, run.timers = {}, [], [], []
        run.flights, run.load, run.crowd, run.claims, run.parked = {}, {}, [], {}, {}
        run.behind, run.open, run.counts = {}, 0, {}
        run.questions, run.data = {}, {}
        if run.alerts is not None:
            run.alerts = run.alerts.shed()
        run.reason, run.stop_source = event.reason, event.source
    for raw in event.tasks:
        row = decode_row(raw)
        if row.id in run.tasks:
            continue
        row = _whole(row)
        data = json.encode({"id": row.id, **row.spec})
        task = Task(len(run.order), row.id, rest_of(row.id, data), status=row.status)
        task.attempt, task.failures, task.restarts = row.attempt, row.failures, row.restarts
        task.spent, task.seconds, task.seq, task.worker = (
            row.spent,
            row.seconds,
            row.seq,
            row.worker,
        )
        task.result, task.source, task.reason = row.result, row.source, row.reason
        run.order.append(task)
        run.tasks[row.id] = task
        run.counts[row.status] = run.counts.get(row.status, 0) + 1


def compacted(state: State, head: ev.Envelope, event: ev.LedgerCompacted) -> None:
    """Runs that had finished by then have no detail any more."""
    for run in meant(state.runs.values(), event.segment, event.before, event.through):
        run.compacted = run.compacted or head.ts


def meant(runs: Iterable[Run], segment: int, before: str, through: int) -> Iterator[Run]:
    """The runs whose detail compaction of a segment drops: all that finished before an instant.

    Their end stands in a segment up to `through`.
    """
    for run in runs:
        if (
            run.status == "finished"
            and run.finished_ts < before
            and run.opened_at[0] <= segment <= run.closed_at[0] <= through
            and not waits(run)
        ):
            yield run


def waits(run: Run) -> bool:
    """Whether something of the run waits for a person: who judges wants to see its detail."""
    return bool(run.counts.get("partial"))
