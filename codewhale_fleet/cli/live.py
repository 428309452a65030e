"""What a person sees while a run goes on: lines on a pipe, a live view on a terminal.

Both are observers: they are told durable records and never decide anything. Writing must never
end a run, so a closed pipe or terminal makes an observer fall silent. On a pipe a line is one event
and every commit is one write. The drawing part (`cli/view.py`, with rich) is imported only when a
terminal is there and the run outlives `PATIENCE_SECONDS`; until then finished tasks are plain
lines.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from ..core import events as e
from ..core.state import Run, State
from .common import Context
from .words import SHOWN_AS, duration, paint, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from .view import View
    from .waits import Waits

PATIENCE_SECONDS = 0.3
"""A run that is over sooner is never drawn."""

REDRAW_SECONDS = 0.1
"""Between two redraws: ten a second."""

BURST = 60
"""Finished tasks that scroll by in one redraw; of more, those that passed are counted."""

_STDERR = 2
_RESULTS = {
    "pass": "completed",
    "fail": "failed",
    "timeout": "failed",
    "partial": "partial",
    "skip": "cancelled",
}

Records = list[tuple[e.Envelope, e.Event]]


class Watching(Protocol):
    """An observer of the engine that can be closed."""

    @property
    def ticks(self) -> float: ...
    @property
    def draws(self) -> bool: ...
    def changed(self, state: State, records: Records) -> None: ...
    def tick(self, state: State) -> None: ...
    def note(self, sentence: str) -> None: ...
    def close(self, state: State) -> None: ...


class Happening:
    """One event of a run, ready to be written: a status (or word), its task, and a remark."""

    __slots__ = ("number", "remark", "seconds", "status", "task", "ts")

    def __init__(
        self,
        ts: str,
        status: str,
        task: str = "",
        number: int = 1,
        seconds: float | None = None,
        remark: str = "",
    ) -> None:
        self.ts = ts
        self.status = status
        self.task = task
        self.number = number
        self.seconds = seconds
        self.remark = remark


def happenings(run: str, records: Iterable[tuple[e.Envelope, e.Event]]) -> Iterator[Happening]:
    """What of the records of a run a person wants to read, in order."""
    cut = len(run) + 1
    for head, event in records:
        if head.run != run:
            continue
        match event:
            case e.AttemptEnded():
                if event.late or (event.why == "withdrawn" and event.retry_after is not None):
                    continue
                task, _, number = event.attempt[cut:].rpartition("@")
                yield _ended(head.ts, task, int(number), event.seconds, event)
            case e.AttemptLost():
                task, _, number = event.attempt[cut:].rpartition("@")
                yield _ended(head.ts, task, int(number), None, event)
            case e.AttemptStarted():
                task, _, number = event.attempt[cut:].rpartition("@")
                yield Happening(head.ts, "running", task, int(number))
            case e.AttemptProgressed() if not event.step or event.warn:
                task, _, number = event.attempt[cut:].rpartition("@")
                yield _told(head.ts, task, int(number), event)
            case e.QuestionAsked() if event.answer is None:
                task, _, number = event.attempt[cut:].rpartition("@")
                yield _asks(head.ts, task, int(number), event)
            case e.TaskCancelled():
                for task in event.tasks:
                    yield Happening(head.ts, "cancelled", task, remark=plain(event.why))
            case e.TaskUnplaced():
                for task in event.tasks:
                    yield Happening(head.ts, "failed", task, remark=_fault(event.receipt))
            case e.TaskQueued():
                for task in event.tasks:
                    yield Happening(head.ts, "queued", task, remark=plain(event.why))
            case e.RunStopped():
                yield Happening(head.ts, "stopping", remark=f"({plain(event.reason)})")
            case e.RunPaused():
                yield Happening(head.ts, "paused", remark=f"({plain(event.reason)})")
            case e.RunResumed():
                yield Happening(head.ts, "resumed")


def _told(ts: str, task: str, number: int, event: e.AttemptProgressed) -> Happening:
    """What an agent tells while it works: a warning, or what it used and its last line."""
    from ..views.asking import progressed
    from ..views.usage import said, warned

    if warning := warned(event):
        return Happening(ts, "warned", task, number, remark=warning)
    if own := progressed(event):
        return Happening(ts, "progress", task, number, remark=plain(own))
    parts = (said(event.agent.usage), plain(event.agent.note))
    return Happening(ts, "progress", task, number, remark="  ".join(filter(None, parts)))


def _asks(ts: str, task: str, number: int, event: e.QuestionAsked) -> Happening:
    """A question, with what to type."""
    key = event.attempt if event.number == 1 else f"{event.attempt}:{event.number}"
    choices = f" ({', '.join(event.choices)})" if event.choices else ""
    told = f'{plain(event.text)}{choices}   fleet answer {key} "…"'
    return Happening(ts, "asks", task, number, remark=told)


def _fault(receipt: e.Receipt) -> str:
    reason = plain(receipt.reason)
    return f"{receipt.source}: {reason}" if receipt.source else reason


def _ended(
    ts: str, task: str, number: int, seconds: float | None, event: e.AttemptEnded | e.AttemptLost
) -> Happening:
    receipt = event.receipt
    remark = _fault(receipt) if receipt.result != "pass" else ""
    if event.retry_after is None:
        return Happening(ts, _RESULTS[receipt.result], task, number, seconds, remark)
    again = f"in {duration(event.retry_after)}" if event.retry_after else "now"
    return Happening(ts, "retry", task, number, seconds, f"again {again}; {remark}".rstrip("; "))


class Clock:
    """Record timestamps (UTC) as the time of day here; the offset is asked for once an hour."""

    def __init__(self) -> None:
        self._hour = ""
        self._shift = 0

    def of(self, ts: str) -> str:
        """`2026-11-21T06:25:58.123456Z` as `07:25:58`."""
        if ts[:13] != self._hour:
            self._hour = ts[:13]
            local = time.localtime()
            self._shift = local.tm_gmtoff or 0
        if not self._shift:
            return ts[11:19]
        second = int(ts[11:13]) * 3600 + int(ts[14:16]) * 60 + int(ts[17:19]) + self._shift
        return f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


class Silent:
    """Says nothing: `--json`, `--quiet`."""

    ticks = 0.0
    draws = False

    def changed(self, state: State, records: Records) -> None:
        """Nothing."""

    def tick(self, state: State) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Nothing."""

    def close(self, state: State) -> None:
        """Nothing."""


class Lines:
    """One line an event, for pipes and files: `12:04:51 passed lint 1.2 s`."""

    draws = False

    def __init__(self, run: str, out: int = _STDERR, waits: "Waits | None" = None) -> None:
        self.waits = waits
        self.ticks = waits.ticks if waits else 0.0
        self.run = run
        self.out = out
        self.clock = Clock()

    def changed(self, state: State, records: Records) -> None:
        """One write for all that one commit brought."""
        text = "".join(self.line(one) for one in happenings(self.run, records))
        if text:
            self.out = _written(self.out, text)

    def line(self, one: Happening) -> str:
        """An event as a line without colours or columns."""
        parts = [self.clock.of(one.ts), SHOWN_AS.get(one.status, (one.status,))[0]]
        if one.task:
            parts.append(one.task if one.number == 1 else f"{one.task} @{one.number}")
        if one.seconds is not None:
            parts.append(duration(one.seconds))
        if one.remark:
            parts.append(one.remark)
        return " ".join(parts) + "\n"

    def tick(self, state: State) -> None:
        """Say what the run waits for."""
        if self.waits is not None:
            self.waits.look(state, self.note)

    def note(self, sentence: str) -> None:
        """A sentence on its own line."""
        self.out = _written(self.out, f"{time.strftime('%H:%M:%S')} {sentence}\n")

    def close(self, state: State) -> None:
        """Nothing is held back."""


class Terminal:
    """Finished tasks scroll up and stay; below them, what runs, redrawn in place."""

    ticks = REDRAW_SECONDS
    draws = True

    def __init__(
        self,
        run: Run,
        fleet_dir: "Path",
        *,
        color: bool,
        out: int = _STDERR,
        waits: "Waits | None" = None,
    ) -> None:
        self.waits = waits
        self.run = run.id
        self.fleet_dir = fleet_dir
        self.color = color
        self.out = out
        self.began = self.drawn = time.monotonic()
        self.pending: list[Happening | str] = [_headline(run, fleet_dir), ""]
        self.view: View | None = None
        self.told: dict[str, e.AgentFacts] = {}
        """What agents that run told last."""
        self.ids = min(32, max((len(task.id) for task in run.order[:1000]), default=0))

    def changed(self, state: State, records: Records) -> None:
        """Keep what finished for the next redraw."""
        for head, event in records:
            if isinstance(event, e.AttemptProgressed) and not event.step and head.run == self.run:
                self.told[event.attempt] = event.agent
            elif isinstance(event, e.AttemptEnded | e.AttemptLost):
                self.told.pop(event.attempt, None)
        for one in happenings(self.run, records):
            if one.status == "progress":
                continue
            if one.status == "running":
                if self.view is not None:
                    self.view.started(one)
            else:
                self.pending.append(one)

    def tick(self, state: State) -> None:
        """Redraw, at most ten times a second."""
        now = time.monotonic()
        if now - self.drawn < REDRAW_SECONDS or self.out < 0:
            return
        self.drawn = now
        if self.waits is not None:
            self.waits.look(state, self.note)
        if self.view is None and now - self.began > PATIENCE_SECONDS:
            from .view import View

            self.view = View(self.run, self.fleet_dir, color=self.color, ids=self.ids)
            self.view.told = self.told
        self._flush(state)

    def note(self, sentence: str) -> None:
        """A sentence among the finished tasks."""
        self.pending.append(f"  {sentence}")

    def close(self, state: State) -> None:
        """Take the live part away; everything that finished stays."""
        self._flush(state)
        if self.view is not None:
            try:
                self.view.close()
            except OSError:
                self.out = -1
            self.view = None

    def _flush(self, state: State) -> None:
        lines = self._lines()
        self.pending = []
        if self.view is None:
            if lines:
                self.out = _written(self.out, "\n".join(lines) + "\n")
            return
        try:
            self.view.draw(state, lines)
        except OSError:
            self.out = -1
            self.view = None

    def _lines(self) -> list[str]:
        width = columns(self.out)
        if len(self.pending) <= BURST:
            return [self._line(one, width) for one in self.pending]
        lines, passed = [], 0
        for one in self.pending:
            if isinstance(one, Happening) and one.status == "completed":
                passed += 1
            else:
                lines.append(self._line(one, width))
        if passed:
            word = paint(f"{'passed':<10}", "green", self.color)
            lines.append(f"  {word}{passed:,} tasks")
        return lines

    def _line(self, one: Happening | str, width: int) -> str:
        if isinstance(one, str):
            return one
        word, shade = SHOWN_AS.get(one.status, (one.status, "yellow"))
        task = one.task if one.number == 1 else f"{one.task} @{one.number}"
        took = duration(one.seconds) if one.seconds is not None else ""
        start = f"{task:<{self.ids}}  {took:<9}"
        room = max(12, width - len(start) - 14)
        remark = one.remark if len(one.remark) <= room else one.remark[: room - 1] + "…"
        return f"  {paint(f'{word:<10}', shade, self.color)}{start}  {remark}".rstrip()


def _headline(run: Run, fleet_dir: "Path") -> str:
    slots = min(run.max_workers, len(run.order))
    plural = "" if len(run.order) == 1 else "s"
    said = f"{run.id} · {len(run.order):,} task{plural} · {slots} at once"
    return f"{said}   {fleet_dir.name}/fleet.jsonl"


def columns(out: int, otherwise: int = 80) -> int:
    """Of the terminal that a descriptor leads to."""
    try:
        return os.get_terminal_size(out).columns
    except OSError:
        return otherwise


def _written(out: int, text: str) -> int:
    """Write, and answer where to write next: nowhere once nobody reads any more."""
    data = text.encode(errors="replace")
    try:
        while out >= 0 and data:
            data = data[os.write(out, data) :]
    except OSError:
        return -1
    return out


def observer(ctx: Context, run: Run, fleet_dir: "Path") -> Watching:
    """The observer that fits: silence, a live view, or lines.

    Started with stderr closed (`2>&-`), descriptor 2 may by now be any file, the ledger itself.
    """
    if ctx.json or ctx.quiet or sys.stderr is None:
        return Silent()
    waits = None
    if run.workers:
        from .waits import Waits

        waits = Waits(run.id)
    if os.isatty(_STDERR) and ctx.environ.get("TERM", "dumb") != "dumb":
        color = ctx.color is not False and not ctx.environ.get("NO_COLOR")
        return Terminal(run, fleet_dir, color=color, waits=waits)
    return Lines(run.id, waits=waits)
