"""`fleet logs ID`: what a task has written, through the one reader of bounded logs.

What went to stdout is printed to stdout, what went to stderr to stderr, as if the task ran here;
`--stderr` prints that alone, to stdout. Bytes that were dropped from the middle are counted, never
hidden. On a terminal control sequences other than colours are left out.
"""

import os
import sys
from pathlib import Path
from typing import Any

from ..core.events import AttemptEnded
from ..core.state import OPEN, Run, attempt_id
from ..errors import FleetError
from ..ledger.store import Ledger
from ..worker.logs import hole_of, read_log
from . import history, names
from .common import Context, check_reader, manager_answers, print_json

STREAMS = ("out", "err")
SHOWN_AS = {"out": "stdout", "err": "stderr"}

CHUNK_BYTES = 256 * 1024
"""Read at once while following."""

RAW = ".raw"

LOOK_MS = 1000
"""Longest time between two looks while following, whatever the kernel says."""


def logs(
    *,
    id: str,
    follow: bool = False,
    attempt: int | None = None,
    stderr: bool = False,
    ctx: Context,
) -> int:
    """Print the logs of a task's latest (or another) attempt; of a run, of every task."""
    ledger = ctx.ledger()
    target = names.resolve(ledger, id)
    if attempt is not None:
        if target.task is None or target.number not in (0, attempt):
            raise FleetError(f"--attempt goes with a task, and {target.id} is none.")
        target = names.resolve(ledger, f"{target.run.id}/{target.task.id}@{attempt}")
    streams = ("err",) if stderr else STREAMS
    if target.task is None:
        if follow:
            raise FleetError(
                f"{target.id} has more than one log to follow.",
                f"Name a task: fleet logs {target.run.id}/TASK --follow",
            )
        return _of_many(ctx, ledger, target, streams)
    if follow:
        return Follower(ctx, ledger, target, streams).run()
    number = target.number or target.task.attempt
    if not number:
        raise FleetError(
            f"{target.id} has not started yet.", f"To see why: fleet explain {target.id}"
        )
    paths = paths_of(ledger, target, number)
    gone = why_gone(ledger, target.run, paths)
    if gone:
        if target.run.workers and not _has_come(ledger, target, number):
            gone = "the attempt was lost before they came from its worker"
        name = attempt_id(target.run.id, target.task.id, number)
        raise FleetError(
            f"the logs of {name} are gone: {gone}.",
            f"How it was judged: fleet receipts {target.run.id}/{target.task.id}",
            code="gone",
        )
    name = attempt_id(target.run.id, target.task.id, number)
    from .hints import of_task

    ctx.hint = of_task(str(ledger.dir), "logs", target)
    _fetch(ledger, target.run, target.task.id, number)
    _print_one(ctx, name, paths, streams, over=name not in target.run.flights, hint=ctx.hint)
    return 0


def _fetch(ledger: Ledger, run: Run, task: str, number: int) -> None:
    """Have what an attempt on another machine has written so far."""
    if run.workers:
        from ..engine.tailing import fetch

        fetch(ledger.dir, run, attempt_id(run.id, task, number))


def paths_of(ledger: Ledger, target: names.Target, number: int) -> dict[str, Path]:
    """Where the streams of an attempt lie: as recorded at its end, else as it was launched."""
    from ..views.timeline import attempts

    run, task = target.run, target.task
    assert task is not None
    records = history.of_task(ledger, run, task.id)
    for row in attempts(run.id, task.id, records):
        if row["attempt"] == number and "logs" in row and not run.compacted:
            return {name: ledger.dir / log["path"] for name, log in row["logs"].items()}
    from msgspec.structs import replace

    from ..engine.launch import plan

    made = plan(run, replace(task, attempt=number), ledger.state.fleet, ledger.dir)
    return {name: ledger.dir / made[name] for name in STREAMS}


def _has_come(ledger: Ledger, target: names.Target, number: int) -> bool:
    """Whether the end of an attempt was told, and its logs with it."""
    from ..views.timeline import attempts

    run, task = target.run, target.task
    assert task is not None
    rows = attempts(run.id, task.id, history.of_task(ledger, run, task.id))
    return bool(run.compacted) or any(row["attempt"] == number and "logs" in row for row in rows)


def why_gone(ledger: Ledger, run: Run, paths: dict[str, Path]) -> str:
    """Why nothing is left of the logs of an attempt that is over; empty where something is."""
    if run.status != "finished" or not paths or any(path.exists() for path in paths.values()):
        return ""
    if any(raw_of(path).exists() for path in paths.values()):
        return ""
    if (ledger.dir / "logs" / run.id).exists():
        return "their files were removed, by somebody else than gc"
    return "removed by gc"


def raw_of(path: Path) -> Path:
    """Where a process of a run with secrets writes what is to become a log; never shown."""
    return path.with_name(path.name + RAW)


def _withheld(ctx: Context, name: str, shown_as: str, path: Path, over: bool) -> int:
    """Bytes of a log that wait for the run's secrets; says so."""
    try:
        count = raw_of(path).stat().st_size if over else 0
    except FileNotFoundError:
        return 0
    if count:
        ctx.note(
            f"fleet: {count:,} bytes of the {shown_as} of {name} are withheld: the values of its "
            "secrets were gone, or the disk was full, before they could be taken out. "
            "A resume of the run brings them back"
        )
    return count


def _of_many(ctx: Context, ledger: Ledger, target: names.Target, streams: tuple[str, ...]) -> int:
    run = target.run
    tasks = [task for task in run.order if task.attempt]
    if target.worker:
        tasks = [task for task in tasks if task.worker == target.worker]
    if not tasks:
        raise FleetError(
            f"{target.id} has written nothing yet.", f"To see why: fleet explain {target.id}"
        )
    recorded = {
        event.attempt: {name: ledger.dir / log.path for name, log in event.logs.items()}
        for _, event in ledger.records(run.id, run.opened_at, containing=b'"attempt.ended"')
        if isinstance(event, AttemptEnded) and not run.compacted
    }
    missing, gone = 0, ""
    for task in tasks:
        name = attempt_id(run.id, task.id, task.attempt)
        if not ctx.json and not ctx.quiet:
            print(f"== {name}", flush=True)
        paths = recorded.get(name)
        if paths is None:
            paths = paths_of(ledger, names.Target(run, task), task.attempt)
        gone = why_gone(ledger, run, paths)
        missing += bool(gone)
        _fetch(ledger, run, task.id, task.attempt)
        _print_one(ctx, name, paths, streams, gone, over=name not in run.flights, ends=True)
    if missing == len(tasks):
        raise FleetError(
            f"the logs of {target.id} are gone: {gone}.",
            f"How its tasks were judged: fleet receipts {run.id}",
            code="gone",
        )
    return 0


def _print_one(
    ctx: Context,
    name: str,
    paths: dict[str, Path],
    streams: tuple[str, ...],
    gone: str = "",
    *,
    over: bool,
    hint: str | None = None,
    ends: bool = False,
) -> None:
    """Print the streams of an attempt; `ends`: its last line is ended where another follows."""
    made: dict[str, Any] = {"attempt": name, "dropped": {}}
    if hint:
        made["hint"] = hint
    if gone:
        made["gone"] = gone
        ctx.note(f"fleet: the logs of {name} are gone: {gone}")
    for stream in streams:
        data, dropped = read_log(paths[stream]) if stream in paths else (b"", 0)
        withheld = 0
        if stream in paths:
            withheld = _withheld(ctx, name, SHOWN_AS[stream], paths[stream], over)
        if ctx.json:
            if withheld:
                made.setdefault("withheld", {})[SHOWN_AS[stream]] = withheld
            made[SHOWN_AS[stream]] = data.decode("utf-8", "replace")
            made["dropped"][SHOWN_AS[stream]] = dropped
            continue
        if ends and data:  # a line that looks like the heading of another one is none
            data = (b"\n" + data).replace(b"\n== ", b"\n === ")[1:]
            data += b"" if data.endswith(b"\n") else b"\n"
        if b"\x1b[" in data and sys.stdout.isatty():
            data += b"\x1b[0m"
        _write(data, stream if len(streams) > 1 else "out")
        if dropped:
            ctx.note(f"fleet: {dropped:,} bytes of its {SHOWN_AS[stream]} were dropped")
    if ctx.json:
        print_json(made)


def _write(data: bytes, stream: str) -> None:
    out = sys.stdout if stream == "out" else sys.stderr
    out.flush()
    if out.isatty():
        data = without_controls(data)
    os_level = getattr(out, "buffer", None)
    if os_level is None:
        out.write(data.decode("utf-8", "replace"))
    else:
        os_level.write(data)
        os_level.flush()


def without_controls(data: bytes) -> bytes:
    """Text for a terminal: colours stay, every other control sequence goes, and what turns the
    order of letters round, so that a line is read as something else than it says."""
    import re

    data = re.sub(rb"\x1b\[[0-9;]*[^0-9;m]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?", b"", data)
    data = re.sub(rb"\x1b(?!\[[0-9;]*m)", b"", data)
    data = re.sub(rb"\xc2(?:[\x80-\x9f]|\Z)|\xe2(?:\x80[\xaa-\xae]|\x81[\xa6-\xa9])", b"", data)
    return data.translate(None, bytes(range(9)) + b"\x0b\x0c" + bytes(range(14, 27)) + b"\x7f")


# Following ------------------------------------------------------------------------------------


class Follower:
    """Prints what an attempt writes as it writes it, until the ledger says that it has ended."""

    def __init__(
        self, ctx: Context, ledger: Ledger, target: names.Target, streams: tuple[str, ...]
    ) -> None:
        self.ctx = ctx
        self.ledger = ledger
        self.target = target
        self.streams = streams
        self.at = dict.fromkeys(streams, 0)
        self.paths: dict[str, Path] = {}
        self.number = target.number
        self.warned = False

    def run(self) -> int:
        """Follow to the end; 0 whatever the attempt's result is."""
        from watchfiles._rust_notify import RustNotify

        run = self.target.run
        folder = self.ledger.dir / "logs" / run.id
        notify: Any = None
        try:
            while True:
                check_reader()
                over = self._is_over()  # before reading: what was written by then is printed
                if self.number and not self.paths:
                    self.paths = self._launched()
                self._print_new()
                if over:
                    return 0
                if notify is None:
                    watched = [str(self.ledger.dir)]
                    if folder.is_dir():
                        watched.append(str(folder))
                    notify = RustNotify(watched, False, False, 0, False, False)
                    continue  # what came before the watch is seen now
                if len(watched) == 1 and folder.is_dir():
                    notify.close()
                    notify = None
                    continue
                if notify.watch(50, 5, LOOK_MS, None) == "signal":
                    raise KeyboardInterrupt
        finally:
            if notify is not None:
                notify.close()

    def _is_over(self) -> bool:
        self.ledger.settle()
        self.ledger.refresh()
        run = self.ledger.hydrate(self.target.run.id)
        assert self.target.task is not None
        task = run.tasks[self.target.task.id]
        self.target.run, self.target.task = run, task
        if not self.number:
            self.number = task.attempt
        if not self.number:
            return task.status not in OPEN
        name = attempt_id(run.id, task.id, self.number)
        if name not in run.flights:
            return True
        if not self.warned and not manager_answers(str(self.ledger.dir)):
            self.warned = True
            self.ctx.note(f"Nobody manages {run.id}; it goes on with: fleet resume {run.id}")
        return False

    def _launched(self) -> dict[str, Path]:
        return paths_of(self.ledger, self.target, self.number)

    def _print_new(self) -> None:
        if self.number and self.target.task is not None:
            _fetch(self.ledger, self.target.run, self.target.task.id, self.number)
        for stream in self.streams:
            path = self.paths.get(stream)
            while path is not None:
                data, dropped = self._next(stream, path)
                if dropped:
                    self._say(stream, b"[... %d bytes dropped ...]\n" % dropped)
                if not data:
                    break
                self._say(stream, data)

    def _next(self, stream: str, path: Path) -> tuple[bytes, int]:
        """The next bytes of a stream, and how many before them are gone."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b"", 0
        try:
            at, dropped = self.at[stream], 0
            data = os.pread(descriptor, CHUNK_BYTES, at)
            start, end = hole_of(str(path))  # after reading: what was punched meanwhile is known
            if start < at + len(data) and at < end:
                if at < start:
                    data = data[: start - at]
                else:
                    dropped, at = end - at, end
                    data = os.pread(descriptor, CHUNK_BYTES, at)
            self.at[stream] = at + len(data)
            return data, dropped
        finally:
            os.close(descriptor)

    def _say(self, stream: str, data: bytes) -> None:
        if self.ctx.json:
            text = data.decode("utf-8", "replace")
            print_json({"stream": SHOWN_AS[stream], "text": text})
        else:
            _write(data, stream if len(self.streams) > 1 else "out")
