"""What came of each target of `fleet exec`, as it becomes known, and what its streams hold.

One small row a target, whatever it wrote: texts stay in their log files and are read, within
bounds, by whoever prints them. Promises one row for each task of the run, whether it is told as it
happens, by another manager, or only stands in the ledger.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from ..core import events as e
from ..core.state import Run
from ..worker.logs import read_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from ..ledger.store import Ledger

EXCERPT_BYTES = 64 * 1024
"""Most bytes of one stream in an answer: its head and its tail."""

STREAMS = (("stdout", "out"), ("stderr", "err"))
"""A stream as people call it, and as records do."""

NONE = e.Log(path="", size=0)


class Told(Struct, gc=False):
    """How one target fared. `number` is its attempt, 0 where it had none; `seq` the receipt's."""

    id: str
    result: str
    source: str = ""
    reason: str = ""
    exit: int | None = None
    signal: int | None = None
    seconds: float | None = None
    out: e.Log = NONE
    err: e.Log = NONE
    number: int = 0
    seq: int = 0

    @property
    def passed(self) -> bool:
        """Whether its command did as it should."""
        return self.result == "pass"

    @property
    def unreached(self) -> bool:
        """Whether it is the road to it that failed, and not the command."""
        return self.source == "transport"

    @property
    def answer(self) -> tuple[object, ...]:
        """What is the same for all that fared alike."""
        streams = [one.sha256 or (one.path if one.size else "") for one in (self.out, self.err)]
        return (self.result, self.source, self.reason, *streams)


def told_by(run: str, records: Iterable[tuple[e.Envelope, e.Event]]) -> Iterator[Told]:
    """The targets whose end these records tell."""
    cut = len(run) + 1
    for head, event in records:
        if head.run != run:
            continue
        match event:
            case e.AttemptEnded() if event.retry_after is None and not event.late:
                task, _, number = event.attempt[cut:].rpartition("@")
                made = _judged(task, event.receipt, head.seq)
                made.number = int(number)
                made.exit, made.signal, made.seconds = event.exit, event.signal, event.seconds
                made.out = event.logs.get("out", NONE)
                made.err = event.logs.get("err", NONE)
                yield made
            case e.AttemptLost() if event.retry_after is None:
                task, _, number = event.attempt[cut:].rpartition("@")
                made = _judged(task, event.receipt, head.seq)
                made.number = int(number)
                yield made
            case e.TaskUnplaced():
                for task in event.tasks:
                    yield _judged(task, event.receipt, head.seq)


def _judged(task: str, receipt: e.Receipt, seq: int) -> Told:
    return Told(task, receipt.result, receipt.source, receipt.reason, seq=seq)


def missed(ledger: "Ledger", run: Run, known: set[str]) -> Iterator[Told]:
    """The targets that nobody has told of, out of the ledger; those that never ran come last."""
    if len(known) >= len(run.order):
        return
    for one in told_by(run.id, ledger.records(run.id, run.opened_at)):
        if one.id not in known:
            known.add(one.id)
            yield one
    for task in run.order:
        if task.id not in known:
            result, reason = task.result or "skip", task.reason or f"it is {task.status}"
            yield Told(task.id, result, task.source, reason, number=task.attempt, seq=task.seq)


def excerpt(fleet_dir: "Path", log: e.Log, limit: int = EXCERPT_BYTES) -> tuple[str, int]:
    """The head and tail of a stream as text, and how many bytes of it are left out."""
    if not log.path:
        return "", 0
    path = fleet_dir / log.path
    kept = log.size - log.dropped
    if kept <= limit:
        data, dropped = read_log(path)
        return data.decode("utf-8", "replace"), dropped
    head, _ = read_log(path, limit // 2, tail=False, marker=False)
    tail, _ = read_log(path, limit // 2, marker=False)
    left_out = log.size - len(head) - len(tail)
    said = f"\n[... {left_out:,} bytes left out ...]\n"
    return head.decode("utf-8", "replace") + said + tail.decode("utf-8", "replace"), left_out


def as_json(run: str, told: Told, fleet_dir: "Path") -> dict[str, Any]:
    """One target's line of `--json`. `cut` counts the bytes of each stream that are left out."""
    made: dict[str, Any] = {
        "id": told.id,
        "result": told.result,
        "source": told.source,
        "reason": told.reason,
        "exit": told.exit,
        "signal": told.signal,
        "seconds": None if told.seconds is None else round(told.seconds, 3),
    }
    cut = {}
    for name, stream in STREAMS:
        made[name], left_out = excerpt(fleet_dir, getattr(told, stream))
        if left_out:
            cut[name] = left_out
    made["cut"] = cut
    made["attempt"] = f"{run}/{told.id}@{told.number}" if told.number else None
    made["receipt"] = told.seq
    return made
