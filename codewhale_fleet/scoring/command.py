"""Scorer `command`: a program that ran where the attempt ran, after it.

Promises: exit 0 passes and every other end fails, unless its output is, or ends with, a verdict in
JSON, which counts then. That it could not be run, or was not done in time, is the verifier's
failure. Knows what was kept of its answer only.
"""

from collections.abc import Callable

from ..core.events import Evidence, Receipt, Step
from ..core.spec import CommandScorer
from ..worker.verdict import LAST_WORDS, at_the_end
from . import NOT_FOUND, verdict
from .exit_code import name_of
from .reading import fail, passed, quote

KIND = "command"


def judge(scorer: CommandScorer, step: Step | None, read: Callable[[Evidence], bytes]) -> Receipt:
    """The receipt of an attempt that this command verified."""
    refused = not_performed(KIND, step, scorer.timeout_seconds)
    if refused is not None or step is None:
        return refused or fail(KIND, "verifier", "it was not performed")
    said = text_of(KIND, step.verdict, read)
    if isinstance(said, Receipt):
        return said
    if (found := at_the_end(said)) is not None:
        try:
            return verdict.receipt(KIND, verdict.read(found))
        except verdict.Unreadable as error:
            return verdict.unreadable(KIND, str(error))
    shown = quote(" ".join([scorer.command, *scorer.args]), 80)
    if step.exit == 0:
        return passed(KIND, f"{shown}: exit 0")
    how = f"exit {step.exit}" if step.exit is not None else f"killed by {name_of(step.signal or 0)}"
    words = said.removesuffix(LAST_WORDS).strip()
    last = quote(words.rpartition("\n")[2])
    return Receipt(
        result="fail",
        source="task",
        scorer=KIND,
        reason=f"{shown}: {how}" + (f": {last}" if last else ""),
        feedback=verdict.feedback(f"{shown}: {how}\n\n{words}"),
    )


def not_performed(kind: str, step: Step | None, limit: float) -> Receipt | None:
    """The receipt of an attempt whose verifier did not come to its own end; None if it did."""
    if step is None:
        return fail(kind, "verifier", "it was not performed")
    if step.unstarted:
        where = "; fleet doctor shows which agents are there"
        hint = where if step.kind == "agent" and NOT_FOUND in step.unstarted else ""
        return fail(kind, "verifier", f"it could not be started: {quote(step.unstarted)}{hint}")
    if step.why == "timeout":
        seconds = str(limit).removesuffix(".0")
        return fail(kind, "verifier", f"it ran longer than its timeout_seconds = {seconds}")
    if step.why:
        return fail(kind, "verifier", f"it was ended: {quote(step.why)}")
    return None


def text_of(kind: str, kept: Evidence | None, read: Callable[[Evidence], bytes]) -> str | Receipt:
    """A kept text, empty where nothing was kept, or the receipt that says why it is not there."""
    if kept is None:
        return ""
    try:
        return read(kept).decode("utf-8", "replace")
    except OSError as error:
        return fail(kind, "verifier", f"the kept copy of what it said: {error.strerror}")
