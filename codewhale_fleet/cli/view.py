"""The part of the terminal that is redrawn: what runs, what waits to be tried again, how far it is.

The only module of a run that imports rich, and only once a run lasts. It reads the state and the
ends of log files; it writes nothing but the terminal.
"""

import re
import time
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..agents.definition import decode_agent
from ..core.events import AgentFacts
from ..core.state import Run, State, split_attempt
from ..core.tasks import decode_task
from ..views import asking, usage
from ..worker.usage import Reader
from .live import Happening
from .words import SHOWN_AS, counted, duration

ROWS_BESIDE = 6
"""Lines of the terminal that are not for running tasks."""

GLANCE_SECONDS = 0.5
"""Between two looks at the end of a log."""

TAIL_BYTES = 600
NOTE_BYTES = 1 << 16
"""How much of the end of an agent's stream is looked through for its last line."""
BAR = 30
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x1f\x7f-\x9f]"
)


class View:
    """A live region on stderr. `ids` is the width of the column of ids."""

    def __init__(self, run: str, fleet_dir: Path, *, color: bool, ids: int) -> None:
        self.run = run
        self.fleet_dir = fleet_dir
        self.ids = ids
        self.since: dict[str, float] = {}
        self.glances: dict[str, tuple[float, str]] = {}
        self.told: dict[str, AgentFacts] = {}
        """What agents that run told last."""
        self.notes = Notes(fleet_dir)
        self.began = time.monotonic()
        self.done_before = -1
        self.console = Console(
            stderr=True,
            highlight=False,
            markup=False,
            emoji=False,
            color_system="auto" if color else None,
        )
        self.live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.live.start()

    def started(self, one: Happening) -> None:
        """An attempt runs; it was told about a second after its start."""
        self.since[one.task] = time.monotonic() - 1.0

    def draw(self, state: State, lines: list[str]) -> None:
        """Scroll the finished lines up and redraw the rest."""
        run = state.runs.get(self.run)
        if run is None:
            return
        self.live.update(self.render(run))
        if lines:
            self.console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        self.live.refresh()

    def close(self) -> None:
        """Give the terminal back."""
        self.live.stop()

    def render(self, run: Run) -> RenderableType:
        """Running tasks, tasks that are tried again, and the bar."""
        table = Table.grid(padding=(0, 2), pad_edge=False)
        table.add_column(no_wrap=True, min_width=10)
        table.add_column(no_wrap=True, min_width=self.ids)
        table.add_column(no_wrap=True, min_width=7)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        room = max(3, self.console.size.height - ROWS_BESIDE)
        rows = [*self._running(run, room), *self._retrying(run, room)]
        for status, task, took, remark in rows[:room]:
            word, shade = SHOWN_AS[status]
            table.add_row(Text("  " + word, shade), task, took, Text(remark, "dim"))
        parts: list[RenderableType] = [Text("")]
        if rows:
            parts.append(table)
        if len(rows) > room:
            parts.append(Text(f"  and {len(rows) - room} more", "dim"))
        return Group(*parts, Text(""), self._bar(run))

    def _running(self, run: Run, room: int) -> list[tuple[str, str, str, str]]:
        now = time.monotonic()
        rows: list[tuple[str, str, str, str]] = []
        for attempt, flight in run.flights.items():
            if not (flight.started or flight.step):
                continue
            since = self.since.setdefault(flight.task, now)
            task = run.tasks[flight.task]
            name = flight.task if task.attempt == 1 else f"{flight.task} @{task.attempt}"
            remark = asking.of_flight(flight)
            if question := asking.waits(run, attempt):
                remark = f"asks: {asking.wanted(question)}   {asking.answer_command(question)}"
            elif not remark and len(rows) < room:
                remark = self._glance(run, attempt, now)
            if attempt in self.told and (used := usage.said(self.told[attempt].usage)):
                remark = f"{used}  {remark}"
            if flight.end:
                remark = f"{flight.end}; {remark}".rstrip("; ")
            word = "verifying" if flight.step else "running"
            rows.append((word, name, duration(now - since), remark))
        return rows

    def _retrying(self, run: Run, room: int) -> list[tuple[str, str, str, str]]:
        now = time.time()
        rows = []
        for moment, index in sorted(run.timers[:200])[:room]:
            task = run.order[index]
            if task.status == "queued" and moment > now:
                rows.append(("retry", task.id, f"in {duration(moment - now)}", task.reason))
        return rows

    def _glance(self, run: Run, attempt: str, now: float) -> str:
        seen, line = self.glances.get(attempt, (0.0, ""))
        if now - seen < GLANCE_SECONDS:
            return line
        if len(self.glances) > 1000:
            self.glances.clear()
        name, _, rest = attempt.partition("/")
        stem = rest.replace("@", ".")
        note = self.notes.of(run, attempt)
        line = note or ""
        if note is None:
            line = last_line(self.fleet_dir / "logs" / name, stem)
        self.glances[attempt] = (now, line)
        return line

    def _bar(self, run: Run) -> Text:
        total = len(run.order)
        done = total - run.open
        if self.done_before < 0:
            self.done_before = done
        filled = BAR * done // total if total else BAR
        line = Text("  ")
        line.append("█" * filled, "green" if not run.counts.get("failed") else "yellow")
        line.append("░" * (BAR - filled), "dim")
        line.append(f"  {done:,}/{total:,}")
        ended = {key: value for key, value in run.counts.items() if key in _ENDED}
        said = " · ".join(f"{word} {ended[status]:,}" for status, word in counted(ended))
        line.append(f"   {said}" if said else "")
        used = sum((facts.usage for facts in self.told.values()), run.usage)
        line.append(f" · {usage.said(used)}" if used else "")
        left = self._left(run, done)
        line.append(f"   {left}" if left else "", "dim")
        line.no_wrap = True
        line.overflow = "ellipsis"
        return line

    def _left(self, run: Run, done: int) -> str:
        if run.status == "stopping":
            return "stopping"
        if run.status == "paused":
            return "paused"
        fresh = done - self.done_before
        if fresh < 3 or not run.open:
            return ""
        seconds = (time.monotonic() - self.began) * run.open / fresh
        return f"about {duration(seconds)} left" if seconds >= 3 else ""


class Notes:
    """The last readable lines of agents, read from the ends of their streams as declared."""

    def __init__(self, fleet_dir: Path) -> None:
        self.fleet_dir = fleet_dir
        self.declared: dict[str, dict[str, Any] | None] = {}

    def of(self, run: Run, attempt: str) -> str | None:
        """The last line of an attempt's agent; None where no agent's stream is read."""
        _, task, number = split_attempt(attempt)
        agent = decode_task(run.tasks[task].raw).agent
        if agent is None or agent not in run.agents:
            return None
        if agent not in self.declared:
            reader = decode_agent(run.agents[agent]).reader
            self.declared[agent] = to_builtins(reader) if reader else None
        declared = self.declared[agent]
        if declared is None:
            return None
        reading = Reader({**declared}, {"out": "", "err": ""})
        for stream in ("err", "out"):
            reading.feed(tail(self.fleet_dir / f"logs/{run.id}/{task}.{number}.{stream}"), stream)
        return reading.texts.get("note", "")


def tail(path: Path) -> bytes:
    """The end of a file, from the first line that stands there whole."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - NOTE_BYTES))
            data = file.read(NOTE_BYTES)
    except OSError:
        return b""
    return data if size <= NOTE_BYTES else data.partition(b"\n")[2]


_ENDED = ("completed", "partial", "failed", "cancelled", "skipped")


def last_line(folder: Path, stem: str) -> str:
    """The last line that an attempt wrote to either stream, without control characters."""
    newest, changed = None, 0.0
    for suffix in (".out", ".err"):
        path = folder / (stem + suffix)
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_size and status.st_mtime >= changed:
            newest, changed = path, status.st_mtime
    if newest is None:
        return ""
    try:
        with newest.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    for line in reversed(re.split(r"[\r\n]+", text)):
        clean = _CONTROL.sub("", line).strip()
        if clean:
            return clean
    return ""
