"""Rows that sum a run up, told as the events that receipts and views are made of.

Pure; the reverse of summary.py. Knows nothing of files.
"""

from collections.abc import Iterable, Iterator

from msgspec import Raw, json

from . import events as ev
from .summary import AttemptRow, Record, decode_row


def expanded(
    head: ev.Envelope, event: ev.RunSummarized, containing: bytes | None = None
) -> Iterator[tuple[ev.Envelope, ev.Event]]:
    """The ends of attempts, and of tasks without one, that a line sums up, in their order.

    `containing` leaves out what names nothing of that kind, as it does for lines of the ledger.
    """
    found: list[tuple[ev.Envelope, ev.Event]] = []
    settled: dict[tuple[int, str, str, bytes], list[str]] = {}
    for raw in event.tasks:
        row = decode_row(raw)
        for one in row.attempts:
            made = _event(head.run, row.id, one)
            if _names(made.word, made.attempt, one.worker, containing):
                found.append((_head(head, made.word, one.seq, one.at, "manager"), made))
            for said in one.verdicts:
                judged = ev.ReceiptRecorded(
                    attempt=made.attempt, receipt=said.receipt, evidence=said.evidence
                )
                if _names(judged.word, made.attempt, "", containing):
                    of = _head(head, judged.word, said.seq, said.at, said.by)
                    found.append((of, judged))
        if row.cancelled:
            outcome = ev.Receipt(result=row.result, source=row.source, reason=row.reason)
            receipt = json.encode(outcome) if row.result == "fail" else b""
            settled.setdefault((row.seq, *row.cancelled, receipt), []).append(row.id)
    for (seq, at, by, receipt), tasks in settled.items():
        end = _settled(tasks, receipt)
        if _names(end.word, "", "", containing):
            found.append((_head(head, end.word, seq, at, by), end))
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
        if isinstance(event, _TOLD):
            if head.seq in seen:
                continue
            seen.add(head.seq)
        yield head, event
    yield from _unseen(rows, seen)


_TOLD = ev.AttemptEnded | ev.AttemptLost | ev.TaskCancelled | ev.TaskUnplaced | ev.ReceiptRecorded


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


def _settled(tasks: list[str], receipt: bytes) -> ev.TaskCancelled | ev.TaskUnplaced:
    if not receipt:
        return ev.TaskCancelled(tasks=tasks, why="")
    return ev.TaskUnplaced(tasks=tasks, receipt=json.decode(receipt, type=ev.Receipt))


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
        agent=row.agent,
        steps=[ev.Step(kind="agent", agent=facts) for facts in row.verifiers],
        retry_after=row.retry_after,
    )
