"""What stays of a finished run when its detail is dropped: a row a task, a row an attempt.

Pure. `Summary` is told the records of one run and gives its rows, packed so that each pack fits a
ledger line; `summarized` takes such a line into the state; `expanded` gives it back as the events
that receipts and views are made of. All ids, results, sources, reasons, scorers and times stay;
commands, logs, evidence, placements and beats are gone. Knows nothing of files.
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
KEPT_OF_SPEC = ("name", "budget", "retry_policy")
"""What of a task's spec says how many attempts it had, and its title."""


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


class TaskRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task at its end. `cancelled`: when and by whom, if no attempt decided it.

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


_row = json.Decoder(TaskRow).decode
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
        elif isinstance(event, ev.TaskCancelled):
            for task in event.tasks:
                self._cancelled[task] = head.ts, head.by

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
        decided = any(one.seq == task.seq for one in attempts)
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
    receipt = last.receipt
    return structs.replace(
        row,
        status=RESULT_STATUS[receipt.result],
        seq=last.seq,
        attempt=last.number,
        spent=last.seconds,
        seconds=last.seconds,
        result=receipt.result,
        source=receipt.source,
        reason="" if receipt.result == "pass" else receipt.reason,
        worker=last.worker,
    )


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
    )


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
        run.tasks, run.order, run.ready, run.timers = {}, [], [], []
        run.flights, run.load, run.crowd, run.claims, run.parked = {}, {}, [], {}, {}
        run.behind, run.open, run.counts = {}, 0, {}
    for raw in event.tasks:
        row = _row(raw)
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
        ):
            yield run


# Back into events -----------------------------------------------------------------------------


def expanded(
    head: ev.Envelope, event: ev.RunSummarized, containing: bytes | None = None
) -> Iterator[tuple[ev.Envelope, ev.Event]]:
    """The ends of attempts, and the cancelling of tasks, that a line sums up, in their order.

    `containing` leaves out what names nothing of that kind, as it does for lines of the ledger.
    """
    found: list[tuple[ev.Envelope, ev.Event]] = []
    cancelled: dict[tuple[int, str, str], list[str]] = {}
    for raw in event.tasks:
        row = _row(raw)
        for one in row.attempts:
            made = _event(head.run, row.id, one)
            if _names(made.word, made.attempt, one.worker, containing):
                found.append((_head(head, made.word, one.seq, one.at, "manager"), made))
        if row.cancelled:
            cancelled.setdefault((row.seq, *row.cancelled), []).append(row.id)
    for (seq, at, by), tasks in cancelled.items():
        if _names(ev.TaskCancelled.word, "", "", containing):
            of = _head(head, ev.TaskCancelled.word, seq, at, by)
            found.append((of, ev.TaskCancelled(tasks=tasks, why="")))
    found.sort(key=_seq_of)
    yield from found


def told_one_by_one(found: Iterable[Record], containing: bytes | None) -> Iterator[Record]:
    """Records of one run; rows that sum it up come as the records that they stand for.

    Each comes once, also where one file still has what another one sums up. In order, but that
    what is summed up stands before the end of the run.
    """
    seen: set[int] = set()
    rows: list[Record] = []
    for head, event in found:
        if isinstance(event, ev.RunSummarized):
            rows += expanded(head, event, containing)
            continue
        if rows:
            yield from _unseen(rows, seen)
            rows = []
        if isinstance(event, ev.AttemptEnded | ev.AttemptLost | ev.TaskCancelled):
            if head.seq in seen:
                continue
            seen.add(head.seq)
        yield head, event
    yield from _unseen(rows, seen)


def _unseen(rows: list[Record], seen: set[int]) -> Iterator[Record]:
    """Those whose records did not come, in order; from here on they are seen."""
    rows = [one for one in rows if one[0].seq not in seen]
    seen.update(head.seq for head, _ in rows)
    yield from sorted(rows, key=_seq_of)


def _seq_of(record: tuple[ev.Envelope, ev.Event]) -> int:
    return record[0].seq


def _names(word: str, attempt: str, worker: str, containing: bytes | None) -> bool:
    text = f'{{"k":"{word}","attempt":"{attempt}","worker":"{worker}",'
    return containing is None or containing in text.encode()


def _head(head: ev.Envelope, word: str, seq: int, at: str, by: str) -> ev.Envelope:
    return ev.Envelope(word, seq, at, Raw(b"{}"), 1, head.run, by)


def _event(run: str, task: str, row: AttemptRow) -> ev.AttemptEnded | ev.AttemptLost:
    name = f"{run}/{task}@{row.number}"
    if row.lost:
        return ev.AttemptLost(
            attempt=name, why=row.lost, receipt=row.receipt, retry_after=row.retry_after
        )
    return ev.AttemptEnded(
        attempt=name,
        worker=row.worker,
        src=("", 0),
        seconds=row.seconds,
        receipt=row.receipt,
        exit=row.exit,
        signal=row.signal,
        unknown=row.unknown,
        unstarted=row.unstarted,
        why=row.why,
        oom=row.oom,
        artifacts=row.artifacts,
        missing=row.missing,
        retry_after=row.retry_after,
    )
