"""How `fleet exec` is seen: answers that are the same told once, one after the other, or as JSON.

Each face observes the run and prints: at once where it may, the rest when the run is over. Progress
goes to stderr, and only on a terminal. Promises memory for one small row a target, and for one text
at a time. Decides nothing, and keeps to what the ledger says.
"""

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ..core import events as e
from ..core.state import Run, State
from ..views.folding import Groups, Spread, difference, folded, is_scattered
from ..views.units import many
from .common import Context, print_json
from .exec_told import STREAMS, Told, as_json, excerpt, missed, told_by
from .words import duration, paint, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from ..ledger.store import Ledger
    from .waits import Waits

REDRAW_SECONDS = 0.1
RANGED_BYTES = 4096
"""Texts up to so long are told as one where they differ in numbers only."""

SHOWN_UNREACHED = 50
"""Sentences about targets that could not be reached; the rest is counted."""

SHOWN_GROUPS = 200
"""Different answers that are written out; the rest is counted."""

_STDERR = 2


class Face:
    """An observer of the run; `order` are the targets as they were selected."""

    def __init__(self, ctx: Context, run: str, fleet_dir: "Path", order: list[str]) -> None:
        self.ctx = ctx
        self.run = run
        self.fleet_dir = fleet_dir
        self.order = order
        self.known: set[str] = set()
        self.failed = 0
        self.began = time.monotonic()
        self.drawn = 0.0
        self.waits: Waits | None = None
        self.draws = not (ctx.json or ctx.quiet) and _is_terminal(_STDERR)

    # As an observer

    @property
    def ticks(self) -> float:
        """How often it wants to be called."""
        if self.draws:
            return REDRAW_SECONDS
        return self.waits.ticks if self.waits else 0.0

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        """Take what has ended."""
        for one in told_by(self.run, records):
            if one.id not in self.known:
                self.known.add(one.id)
                self._take(one)

    def tick(self, state: State) -> None:
        """Say how far it is, and what it waits for."""
        if self.waits is not None:
            self.waits.look(state, self.say)
        now = time.monotonic()
        if not self.draws:
            return
        if now - self.drawn < REDRAW_SECONDS or now - self.began < 3 * REDRAW_SECONDS:
            return
        self.drawn = now
        parts = [f"{len(self.known):,} of {many(len(self.order), 'host')}"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        parts.append(duration(now - self.began))
        if busy := [flight.task for flight in state.runs[self.run].flights.values()][:3]:
            parts.append(f"at work: {', '.join(busy)}")
        width = os.get_terminal_size(_STDERR).columns
        os.write(_STDERR, f"\r\x1b[K{' · '.join(parts)[: width - 1]}".encode(errors="replace"))

    def note(self, sentence: str) -> None:
        """What a person at a terminal should know."""
        if self.draws:
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """What everybody should know who has not asked for quiet."""
        with suppress(OSError):  # nobody reads it
            self.clear()
            self.ctx.note(sentence)

    def clear(self) -> None:
        """Take the progress away, so that an answer can be printed."""
        if self.drawn:
            self.drawn = 0.0
            os.write(_STDERR, b"\r\x1b[K")

    def close(self, state: State) -> None:
        """The run is over, or left."""
        if self.draws:
            self.clear()

    # As a face

    def conclude(self, ledger: "Ledger", run: Run, made: dict[str, Any]) -> None:
        """Print what is left; `made` is the run's summary, with hints and what to type next."""
        for one in missed(ledger, run, self.known):
            self._take(one)
        self._finish(run, made)

    def _take(self, one: Told) -> None:
        if not one.passed:
            self.failed += 1
        self.take(one)

    def take(self, one: Told) -> None:
        """One target has ended."""
        raise NotImplementedError

    def _finish(self, run: Run, made: dict[str, Any]) -> None:
        raise NotImplementedError

    def _steps(self, made: dict[str, Any]) -> str:
        return paint(" · ".join(made["next"]), "dim", self.ctx.styled())


class Json(Face):
    """A line a target as it ends, and one of the whole at last."""

    def take(self, one: Told) -> None:
        """Print it."""
        print_json(as_json(self.run, one, self.fleet_dir))

    def _finish(self, run: Run, made: dict[str, Any]) -> None:
        print_json(made)


class Ordered(Face):
    """Target after target in the order in which they were selected, each under a line of its own.

    What went to stderr there goes to stderr here. Of a single target (`alone`) there is no such
    line: it is as if the command had run here.
    """

    def __init__(self, *given: Any, alone: bool = False) -> None:
        super().__init__(*given)
        self.alone = alone
        self.waiting: dict[str, Told] = {}
        self.at = 0

    def take(self, one: Told) -> None:
        """Print it, once all before it are."""
        self.waiting[one.id] = one
        while self.at < len(self.order) and (
            one_more := self.waiting.pop(self.order[self.at], None)
        ):
            self.at += 1
            self._print(one_more)

    def _print(self, one: Told) -> None:
        from .logs import _write

        if self.draws:
            self.clear()
        if not self.alone and not self.ctx.quiet:
            print(paint(f"== {one.id}", "bold", self.ctx.styled()) + _fate(one), flush=True)
        for name, stream in STREAMS:
            log = getattr(one, stream)
            for piece in pieces(self.fleet_dir, log):
                _write(piece, stream)
            if log.dropped:
                sys.stdout.flush()
                self.ctx.note(f"fleet: {log.dropped:,} bytes of {one.id}'s {name} were dropped")

    def _finish(self, run: Run, made: dict[str, Any]) -> None:
        for one in list(self.waiting.values()):  # none is before it that has not ended
            self._print(one)
        if self.ctx.quiet:
            return
        sys.stdout.flush()
        lines = [headline(run, made, self.order)]
        if self.alone and made["exit_code"]:
            lines += [f"{row['task']}: {_reason(row)}" for row in made.get("failed", ())]
        for line in (*lines, self._steps(made) if made["exit_code"] else ""):
            if line:
                self.ctx.note(line)


def pieces(fleet_dir: "Path", log: e.Log) -> Iterable[bytes]:
    """A stream, all that is kept of it, a piece at a time."""
    from ..worker.logs import hole_of, read_log

    path = fleet_dir / log.path
    if not log.path or log.size == 0:
        return
    if log.dropped:
        yield read_log(path)[0]
        return
    with path.open("rb") as file:
        while data := file.read(1 << 18):
            yield data
    assert hole_of(str(path)) == (0, 0)


def _fate(one: Told) -> str:
    if one.passed:
        return ""
    word = "unreachable" if one.unreached else {"skip": "cancelled"}.get(one.result, "failed")
    return f"  {word}: {_said(one.id, one.reason)}"


def _reason(row: dict[str, Any]) -> str:
    said = _said(row["task"], row["reason"])
    return f"{row['source']}: {said}" if row["source"] else said


def _said(id: str, reason: str) -> str:
    """A reason, behind the name of its target: that is not told twice."""
    return plain(reason).removeprefix(f"{id}: ")


class Grouped(Face):
    """Answers that are the same are told once: those of the most first, what failed last."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.passed: Groups[tuple[object, ...]] = Groups()
        self.others: Groups[tuple[object, ...]] = Groups()
        self.unreached: Groups[str] = Groups()
        self.first: dict[tuple[object, ...], Told] = {}
        """Whose text stands for all that fared alike."""

    def take(self, one: Told) -> None:
        """Put it to those that fared alike."""
        if one.unreached and not one.out.size and not one.err.size:
            self.unreached.add(one.id, _said(one.id, one.reason))
            return
        self.first.setdefault(one.answer, one)
        (self.passed if one.passed else self.others).add(one.id, one.answer)

    def _finish(self, run: Run, made: dict[str, Any]) -> None:
        quiet, bold = self.ctx.quiet, self.ctx.styled()
        if not quiet:
            print(f"{headline(run, made, self.order)}   {paint(run.id, 'dim', bold)}\n")
        self._passed(bold)
        for group in self.others.ordered()[:SHOWN_GROUPS]:
            one = self.first[group.key]
            said = {"skip": "cancelled", "timeout": "timed out"}.get(one.result, "failed")
            why = f" ({plain(one.reason)})" if one.reason else ""
            self._block(f"{many(len(group.names), 'host')} {said}{why}", group.names, one, "red")
        self._unreached(bold)
        if not quiet:
            print(self._steps(made))

    def _passed(self, color: bool) -> None:
        groups = self.passed.ordered()
        count = sum(len(group.names) for group in groups)
        ranged = set()
        if is_scattered(len(groups), count):
            for spread, names, keys in self._spreads(groups):
                ranged.update(keys)
                title = f"{many(len(names), 'host')} (same but for numbers)"
                self._heading(title, names, color, "green")
                _indented(spread.text())
                print()
        base = ""
        for at, group in enumerate([one for one in groups if one.key not in ranged]):
            if at == SHOWN_GROUPS:
                print(f"and {len(groups) - at:,} other answers: fleet logs {self.run}\n")
                break
            one = self.first[group.key]
            if at == 0:
                base = excerpt(self.fleet_dir, one.out)[0]
                self._block(many(len(group.names), "host"), group.names, one, "green")
                continue
            text = excerpt(self.fleet_dir, one.out)[0]
            changed = [] if one.err.size else difference(text, base)
            verb = "differs" if len(group.names) == 1 else "differ"
            title = f"{many(len(group.names), 'host')} {verb}"
            if changed:
                self._heading(title, group.names, color, "yellow")
                _indented("\n".join(changed))
                print()
            else:
                self._block(title, group.names, one, "yellow")

    def _spreads(self, groups: list[Any]) -> list[tuple[Spread, list[str], list[Any]]]:
        """Answers that are the same but for numbers, where several are."""
        found: dict[tuple[str, ...], tuple[Spread, list[str], list[Any]]] = {}
        for group in groups:
            one = self.first[group.key]
            if one.err.size or one.out.size > RANGED_BYTES:
                continue
            text = excerpt(self.fleet_dir, one.out)[0]
            words = Spread.words_of(text)
            if words not in found:
                found[words] = (Spread(text), [], [])
            spread, names, keys = found[words]
            spread.take(text)
            names += group.names
            keys.append(group.key)
        return [one for one in found.values() if len(one[2]) > 1]

    def _unreached(self, color: bool) -> None:
        groups = self.unreached.ordered()
        if not groups:
            return
        count = sum(len(group.names) for group in groups)
        names = folded(name for group in groups for name in group.names)
        print(paint(f"{many(count, 'host')} unreachable", "red", color) + f": {names}")
        for group in groups[:SHOWN_UNREACHED]:
            print(f"  {folded(group.names)}  transport: {group.key}")
        if len(groups) > SHOWN_UNREACHED:
            print(f"  and {len(groups) - SHOWN_UNREACHED:,} more")
        print()

    def _heading(self, title: str, names: list[str], color: bool, shade: str) -> None:
        print(f"{paint(title, shade, color)}: {folded(names)}")

    def _block(self, title: str, names: list[str], one: Told, shade: str) -> None:
        self._heading(title, names, self.ctx.styled(), shade)
        written = False
        for name, stream in STREAMS:
            text, left_out = excerpt(self.fleet_dir, getattr(one, stream))
            written = written or bool(text)
            _indented(text, "" if stream == "out" else f"{name}: ")
            if left_out:
                dropped = getattr(one, stream).dropped
                part = f"more of it ({dropped:,} bytes were dropped)" if dropped else "all of it"
                print(f"  {part}: fleet logs {self.run}/{one.id}")
        if not written:
            print("  (no output)")
        print()


def headline(run: Run, made: dict[str, Any], order: list[str]) -> str:
    """How many did as they should, in how long."""
    passed, count = made["counts"].get("completed", 0), len(order)
    took = duration(made["seconds"], exact=True)
    if made["interrupted"]:
        return f"interrupted after {took}: {passed:,} of {many(count, 'host')} passed"
    if run.status != "finished":
        return f"{run.status}: {passed:,} of {many(count, 'host')} passed"
    if passed == count:
        whom = order[0] if count == 1 else f"all {count:,} hosts"
        return f"{whom} passed in {took}"
    return f"{passed:,} of {many(count, 'host')} passed in {took}"


def _indented(text: str, mark: str = "") -> None:
    """Lines of somebody else, two blanks in; on a terminal without what would move its cursor."""
    if not text:
        return
    if sys.stdout.isatty():
        from .logs import without_controls

        text = without_controls(text.encode(errors="replace")).decode(errors="replace")
    print("\n".join(f"  {mark}{line}".rstrip() for line in text.rstrip("\n").split("\n")))


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor) and os.environ.get("TERM", "dumb") != "dumb"
    except OSError:
        return False
