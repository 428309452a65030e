"""`fleet status`: runs, exact counts, and what needs a person.

An unchanged answer is a stat and a read: it is kept beside the ledger with the second up to which
it holds, whether a manager answered and the room that its disk must have, and only that is looked
at again. Of many who ask at once
while the ledger grows, one computes and the others take its answer, where it was begun after they
asked. `--watch` draws anew whenever the ledger changes.
"""

import os
import time

from .common import (
    Context,
    check_reader,
    manager_answers,
    manager_is_silent,
    print_json,
    write_bytes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..core.state import Run
    from ..ledger.reader import Reader
    from .faces import Page, Span

KEY = "status"
"""Name of the kept answer."""

SHOWN_RUNS = 20
"""Runs that are written out for people."""

QUIET_SECONDS = 1.0
"""A manager that wrote more lately than so is not asked whether it lives."""

ASK_SECONDS = 5.0
"""After so long a manager that answered is asked again, though the ledger is as it was."""

SHOWN_NEEDS = 10
"""Things for a person that are written out."""

SHOWN_PROGRESS = 5
"""Lines of one run about what its attempts do."""

BESIDE_RUNS = 9
"""Lines of a watched page beside its runs and what needs a person, on a terminal 80 wide."""

NAMED_RUNS = 5
NAMED_TASKS = 10_000
"""Of so many finished runs of so many tasks the waiting ones are looked up, to be named."""

LOOK_SECONDS = 1.0
"""Longest time between two looks while watching, whether or not the ledger changed."""


def status(*, run: str | None = None, watch: bool = False, ctx: Context) -> int:
    """Answer once, or with `watch` again and again until Ctrl-C (or the run's end)."""
    if watch:
        return _watch(ctx, run)
    if run is not None:
        return _show(ctx, _answer(ctx.ledger(), run))
    fleet_dir = ctx.fleet_dir()
    kept = kept_answer(fleet_dir)
    if kept is not None:
        return _show_kept(ctx, kept)
    from ..ledger.cache import Turn, now

    turn = Turn(fleet_dir)
    try:
        if turn.take():
            kept = kept_answer(fleet_dir) or kept_answer(fleet_dir, turn.asked)
        if kept is None:
            begun = now()
            answer = _answer(_looked_at(ctx), None, begun)
    finally:
        turn.done()  # before anything is shown: whoever reads it may be slow
    return _show(ctx, answer) if kept is None else _show_kept(ctx, kept)


def _show(ctx: Context, answer: "dict[str, Any]") -> int:
    if ctx.json:
        print_json(answer)
    else:
        draw(answer, time.time()).show(ctx)
    return 0


def _show_kept(ctx: Context, kept: bytes) -> int:
    if ctx.json:
        write_bytes(kept)
    else:
        from json import loads

        draw(loads(kept), time.time()).show(ctx)
    return 0


def kept_answer(fleet_dir: str, since: "tuple[str, int] | None" = None) -> bytes | None:
    """The answer that was kept, as JSON with a newline, if it still holds.

    Given an instant, instead: if it was begun then or later.
    """
    from ..ledger.cache import read_cached

    kept = read_cached(fleet_dir, KEY, since)
    if kept is None:
        return None
    head, _, body = kept.partition(b"\n")
    if since is not None:
        return body
    until, _, rest = head.partition(b" ")
    answered, _, least = rest.partition(b" ")
    try:
        if time.time() >= float(until) or _free_bytes(fleet_dir) < int(least):
            return None
    except ValueError:
        return None
    if answered != b"-" and manager_answers(fleet_dir) != (answered == b"alive"):
        return None
    return body


def _free_bytes(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _looked_at(ctx: Context) -> "Reader":
    """The ledger at a glance; whole where something of a finished run is to be named."""
    glance = ctx.glance()
    return ctx.ledger() if _waiting(glance.state.runs.values()) else glance


def _waiting(runs: "Iterable[Run]") -> "list[str]":
    """Finished runs whose waiting tasks are named one by one: the newest, unless they are large."""
    found = [
        run.id
        for run in runs
        if run.counts.get("partial")
        and run.status == "finished"
        and sum(run.counts.values()) <= NAMED_TASKS
    ]
    return found[-NAMED_RUNS:]


def _answer(
    ledger: "Reader", run: str | None, begun: "tuple[str, int]" = ("-", 0)
) -> "dict[str, Any]":
    """The answer of the whole fleet, which is kept, or of one run.

    `begun`: an instant before the ledger was opened.
    """
    from ..engine.disk import LOOK_SECONDS, room_of
    from ..views import status as view

    state = ledger.state
    now = time.time()
    known = state.manager
    asked = known is not None and not (known.left and not state.open_runs)
    alive = asked and manager_answers(str(ledger.dir))
    heard_until = _seconds(state.ts) + QUIET_SECONDS if alive and state.open_runs else 0.0
    silent = 0.0 < heard_until <= now and manager_is_silent(str(ledger.dir))
    room = room_of(ledger.dir, state)
    low, folder = room.why() if room and room.low else "", str(ledger.dir)
    if run is not None:
        from .names import run_id

        name = run_id(state, run)
        if state.runs[name].counts.get("partial"):
            ledger.hydrate(name)
        return view.status(
            state, alive=alive, silent=silent, now=now, only=name, low=low, folder=folder
        )
    listed = _waiting(state.runs.values())
    for name in listed:
        ledger.hydrate(name)
    answer = view.status(
        state,
        alive=alive,
        silent=silent,
        now=now,
        low=low,
        folder=folder,
        rest=ledger.rest,
        spelled=listed,
    )
    from msgspec import json

    from ..ledger.cache import write_cached

    word = ("alive" if alive else "dead") if asked else "-"
    until = view.good_until(state, now)
    if silent:
        until = 0.0  # it may answer at any moment: only for those who wait for this
    elif heard_until:
        until = min(until, heard_until if heard_until > now else now + ASK_SECONDS)
    if low:
        until = min(until, now + LOOK_SECONDS)
    head = f"{until} {word} {room.least if room else 0}\n".encode()
    write_cached(ledger.dir, KEY, head + json.encode(answer) + b"\n", ledger.identity(), begun)
    return answer


def _watch(ctx: Context, run: str | None) -> int:
    from ..ledger.follow import follow

    ledger = ctx.ledger()
    if run is not None:
        from .names import run_id

        run = run_id(ledger.state, run)
    with _Screen(ctx) as show:
        for _ in follow(ledger, tick=LOOK_SECONDS):
            check_reader()
            answer = _answer(ledger, run)
            show(answer)
            if run is not None and ledger.state.runs[run].status == "finished":
                break
    return 0


class _Screen:
    """Where a watched status is drawn: JSON lines, a live area, or pages on a pipe."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.live: Any = None
        self.last = ""
        self.told: dict[str, Any] = {}

    def __enter__(self) -> "_Screen":
        import sys

        if not self.ctx.json and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(no_color=not self.ctx.styled(), highlight=False, emoji=False)
            self.live = Live(console=console, auto_refresh=False, vertical_overflow="visible")
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, answer: "dict[str, Any]") -> None:
        if self.ctx.json:
            if answer != self.told:
                print_json(answer)
            self.told = answer
            return
        if self.live is not None:
            room = self.live.console.height - BESIDE_RUNS - min(SHOWN_NEEDS, len(answer["needs"]))
            page = draw(answer, time.time(), min(SHOWN_RUNS, max(room, 1)))
            self.live.update(page.drawn(self.live.console.width), refresh=True)
            return
        text = draw(answer, time.time()).text()
        if text != self.last:
            print(("\n" if self.last else "") + text, end="", flush=True)
        self.last = text


# The face -------------------------------------------------------------------------------------


def draw(answer: "dict[str, Any]", now: float, most: int = SHOWN_RUNS) -> "Page":
    """The answer for people, at most so many runs; `now` says how long ago things were."""
    from .faces import Page
    from .words import clock_time, plain

    page = Page()
    runs = answer["runs"]
    if not runs:
        page.line("No run here yet.")
        page.line()
        page.line(("To begin: fleet run SPEC", "dim"))
        return page
    page.rows([_run(row, answer["manager"], now) for row in runs[:most]], indent=0)
    page.rows(
        [
            [one["attempt"], (_progress(one), "dim")]
            for row in runs[:most]
            for one in row.get("progress", ())[:SHOWN_PROGRESS]
        ]
    )
    more = answer["runs_total"] - len(runs[:most])
    if more > 0:
        page.line((f"and {more:,} older: fleet status RUN", "dim"))
    page.line()
    counts = answer["counts"]
    page.line(" · ".join(f"{name} {counts[name]:,}" for name in counts if name != "runs"))
    page.line("failures: " + " · ".join(f"{k} {v:,}" for k, v in answer["failures"].items()))
    for row in answer["resting"]:
        page.line((f"{row['agent']} rests until {clock_time(row['until'], now)}", "yellow"),
                  (f"   {plain(row['words'])}", "dim"))  # fmt: skip
    told = answer.get("alerts") or {}
    waits = [
        f"{told[word]:,} {word}" for word in ("owed", "held", "delayed", "stuck") if told.get(word)
    ]
    if waits:
        page.line((f"alerts: {', '.join(waits)}", "yellow"), ("   fleet alerts", "dim"))
    if workers := answer.get("workers"):
        said = ", ".join(f"{count:,} {word}" for word, count in workers.items())
        shade = "yellow" if workers.get("offline") else ""
        page.line((f"workers: {said}", shade), ("   fleet worker list", "dim"))
    page.line()
    _needs(page, answer, now)
    return page


def _run(row: "dict[str, Any]", manager: "dict[str, Any]", now: float) -> "list[Span]":
    from .faces import state_span
    from .words import duration

    if row["status"] == "finished":
        when = f"{duration(max(0.0, now - _seconds(row['finished_at'])))} ago"
    else:
        begun = row.get("started_at") or row["created_at"]
        when = duration(max(0.0, now - _seconds(begun)))
    said = [
        f"{word} {row['counts'][name]:,}"
        for name, word in (("failed", "failed"), ("partial", "waits"), ("cancelled", "cancelled"))
        if row["counts"].get(name)
    ]
    about = []
    if row["status"] in ("running", "stopping") and manager["state"] == "alive":
        about.append(f"manager here, epoch {manager['epoch']}")
    elif row["status"] in ("running", "stopping"):
        about.append(f"its manager (process {manager['pid']}) does not answer")
    elif row["status"] == "left alone":
        about.append("no manager")
    if row.get("compacted_at"):
        about.append(f"its detail was dropped by compaction on {row['compacted_at'][:10]}")
    if row["status"] in ("paused", "stopping") and row.get("reason"):
        about.append(row["reason"])
    state = row["result"] if row["status"] == "finished" else row["status"]
    return [
        row["run"],
        state_span(state, row["status"]),
        when,
        f"{row['done']:,}/{row['tasks']:,}",
        " · ".join(said),
        (" · ".join(about), "dim"),
    ]


def _needs(page: "Page", answer: "dict[str, Any]", now: float) -> None:
    needs, total = answer["needs"], answer["needs_total"]
    if total == 1:
        why = (_why(needs[0], now), "dim")
        page.line(("1 needs you: ", "yellow"), f"{needs[0]['next']}   ", why)
    elif total:
        page.line((f"{total:,} need you:", "yellow"))
        page.rows([[one["next"], (_why(one, now), "dim")] for one in needs[:SHOWN_NEEDS]])
        if total > SHOWN_NEEDS:
            page.line((f"  and {total - SHOWN_NEEDS:,} more", "dim"))
    else:
        newest = answer["runs"][0]
        step = "receipts" if newest["status"] == "finished" else "explain"
        if newest["counts"].get("failed"):
            step = "explain"
        page.line((f"Nothing needs you. To see more: fleet {step} {newest['run']}", "dim"))


def _why(need: "dict[str, Any]", now: float) -> str:
    """Why something needs a person, and for how long where that is known."""
    why = str(need["why"])
    if "since" in need:
        from .words import duration

        why += f" (for {duration(max(0.0, now - _seconds(need['since'])))})"
    return why


def _progress(one: "dict[str, Any]") -> str:
    from .words import plain

    share = "" if one["percent"] is None else f"[{one['percent']:3.0f} %] "
    return share + plain(one["note"])


def _seconds(ts: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(ts).timestamp()
