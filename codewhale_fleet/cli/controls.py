"""What the controls (interrupt, restart, stop, pause) share: from words to aims, and the answer.

An answer says what became of each thing that was asked for; `draw` shows the same to people. What
a control means is the core's, how it is carried out the engine's.
"""

import time
from collections.abc import Iterable
from typing import Any

from ..core import events as e
from ..core.controls import Aim
from ..core.state import Run, State, split_attempt
from ..engine.controls import Control, see_through
from ..engine.session import Session
from ..ledger.store import Ledger
from . import names
from .common import EXIT_INTERRUPTED, EXIT_PERSON, Context, print_json
from .faces import Page, Span
from .words import counted, duration, plain

BY = "cli:user"
"""Who asks, in the records."""

PATIENCE_SECONDS = 1.0
"""After so long a person is told what is waited for."""

SHOWN = 20
"""Lines of one kind that are written out for people; JSON has all."""


class Watching:
    """Takes note of how attempts end, and says after a while what is waited for."""

    ticks = 0.1

    def __init__(self, ctx: Context, control: Control) -> None:
        self.ended: dict[str, e.AttemptEnded] = {}
        self._ctx = ctx
        self._waiting = set(control.ending)
        self._speak_at = time.monotonic() + PATIENCE_SECONDS

    def changed(self, state: State, records: list[tuple[e.Envelope, e.Event]]) -> None:
        for _, event in records:
            if isinstance(event, e.AttemptEnded | e.AttemptLost):
                self._waiting.discard(event.attempt)
            if isinstance(event, e.AttemptEnded) and not event.late:
                self.ended[event.attempt] = event

    def tick(self, state: State) -> None:
        if time.monotonic() < self._speak_at:
            return
        self._speak_at = float("inf")
        self._ctx.note(
            f"waiting for {_many(len(self._waiting), 'attempt')} to end: TERM follows 10 s after"
            " INT, KILL 10 s later. Ctrl-C leaves that going."
        )

    def note(self, sentence: str) -> None:
        self._ctx.note(sentence)


def aims(ledger: Ledger, ids: Iterable[str]) -> list[Aim]:
    """What the ids name, each once."""
    found = [names.resolve(ledger, one) for one in ids]
    made = [
        Aim(one.run.id, one.task.id if one.task else "", one.number, one.worker) for one in found
    ]
    return list(dict.fromkeys(made))


def carry_out(ctx: Context, verb: str, control: Control) -> int:
    """See a recorded control through, and answer; the exit code."""
    ledger = ctx.ledger()
    watching = Watching(ctx, control)
    session = see_through(ledger, control, watching)
    if session.detached:
        return 0
    made = answer(ledger, verb, control, watching.ended, session)
    if ctx.json:
        print_json({**made, "hint": ctx.hint} if ctx.hint else made)
    elif not ctx.quiet:
        draw(made).show(ctx)
    return int(made["exit_code"])


# The answer -----------------------------------------------------------------------------------


def answer(
    ledger: Ledger,
    verb: str,
    control: Control,
    ended: dict[str, e.AttemptEnded],
    session: Session,
) -> dict[str, Any]:
    """What became of it. `seconds` are those of an attempt, or of a finished run."""
    state = ledger.state
    made: dict[str, Any] = {
        "verb": verb,
        "runs": [_run(ledger.hydrate(run), run in control.known) for run in control.runs],
        "attempts": [_attempt(state, name, ended.get(name)) for name in control.ending],
        "cancelled": control.cancelled,
        "queued": control.queued,
        "waited": not session.interrupted,
        "next": _next(state, verb, control),
        "exit_code": 0,
    }
    if session.interrupted:
        made["exit_code"] = EXIT_INTERRUPTED
    elif control.paused:
        made["exit_code"] = EXIT_PERSON
    return made


def _run(run: Run, known: bool) -> dict[str, Any]:
    return {
        "run": run.id,
        "status": run.status,
        "result": run.result,
        "reason": run.reason,
        "already": known,
        "in_flight": len(run.flights),
        "counts": {status: count for status, count in run.counts.items() if count},
    }


def _attempt(state: State, name: str, ended: e.AttemptEnded | None) -> dict[str, Any]:
    """How an attempt ended, from its record, else from its task's row."""
    run_id, task_id, number = split_attempt(name)
    run = state.runs[run_id]
    if name in run.flights:
        return {"attempt": name, "status": "ending"}
    made: dict[str, Any] = {"attempt": name, "status": "ended"}
    task = run.tasks[task_id]
    if ended is not None:
        receipt = ended.receipt
        made.update(result=receipt.result, seconds=ended.seconds, stragglers=ended.stragglers)
        made.update(reason=receipt.reason, started=not ended.unstarted)
    elif task.attempt == number and task.result:
        made.update(result=task.result, seconds=task.seconds, reason=task.reason)
    return made


def _next(state: State, verb: str, control: Control) -> list[str]:
    """What a person may type now, each with what it does."""
    run = control.runs[0] if control.runs else ""
    tasks = [name.rpartition("@")[0] for name in control.ending] + control.cancelled
    if control.paused:
        return [f"fleet resume {control.paused[0]} goes on with it"]
    if not control.reached(state):
        return [f"fleet status {run} shows how far it is", f"fleet wait {run} waits for the end"]
    if verb == "restart":
        again = tasks + control.queued
        return [f"fleet wait {again[0] if len(again) == 1 else run} waits for the end"]
    if verb == "interrupt" and len(tasks) == 1:
        return [f"fleet restart {tasks[0]} runs it again"]
    what = "runs what was cancelled" if verb == "interrupt" else "goes on with it"
    return [f"fleet resume {run} {what}"]


# The face -------------------------------------------------------------------------------------


def draw(made: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    verb = made["verb"]
    if verb in ("stop", "pause"):
        for run in made["runs"][:SHOWN]:
            page.line(_sentence(verb, run))
        _more(page, len(made["runs"]), "run")
    else:
        rows: list[list[Span]] = [_row(verb, one) for one in made["attempts"][:SHOWN]]
        page.rows(rows, indent=0)
        _more(page, len(made["attempts"]), "attempt")
        for key, said in (("cancelled", "cancelled; it was queued"), ("queued", "queued again")):
            found = made[key]
            if len(found) > SHOWN:
                page.line(f"{_many(len(found), 'task')} {said.partition(';')[0]}")
            else:
                page.rows([[name, said] for name in found], indent=0)
        for run in made["runs"]:
            if run["status"] == "paused":
                page.line((f"{run['run']} is paused: {plain(run['reason'])}", "yellow"))
    page.line()
    page.line((" · ".join(made["next"]), "dim"))
    return page


def _row(verb: str, one: dict[str, Any]) -> "list[Span]":
    if one["status"] == "ending":
        return [one["attempt"], "is still ending"]
    seconds = one.get("seconds")
    after = f" after {duration(seconds)}" if seconds else ""
    if not one.get("started", True):
        said = "was withdrawn before it started"
    elif one.get("result", "skip") != "skip":
        said = f"had ended by itself{after}: {plain(one.get('reason') or one['result'])}"
    else:
        said = f"interrupted{after}"
    if verb == "restart":
        said += "; its task is queued again"
    left = one.get("stragglers", 0)
    remark = f"{_many(left, 'process')} that it left behind {_were(left)} killed" if left else ""
    return [one["attempt"], said, (remark, "dim")]


def _sentence(verb: str, run: dict[str, Any]) -> str:
    name = run["run"]
    flying = run["in_flight"]
    if verb == "pause":
        already = " already" if run["already"] else ""
        goes = f"; {_many(flying, 'attempt')} in flight {_go(flying)} on" if flying else ""
        why = f": {plain(run['reason'])}" if run["already"] and run["reason"] else ""
        return f"{name} is paused{already}{why}{goes}"
    said = ", ".join(f"{run['counts'][status]:,} {word}" for status, word in counted(run["counts"]))
    if run["status"] == "finished":
        return f"{name} {'was stopping already; it ' if run['already'] else ''}is stopped: {said}"
    return f"{name} is {run['status']}: {said}"


def _more(page: Page, count: int, what: str) -> None:
    if count > SHOWN:
        page.line((f"and {_many(count - SHOWN, what)} more", "dim"))


def _many(count: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{count:,} {what if count == 1 else plural}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _go(count: int) -> str:
    return "goes" if count == 1 else "go"
