"""Scorer `code_whale_verifier_prompt`: an agent judged, by what it was shown of the attempt.

Promises: a verdict counts only if it can be read, and every quote in it stands in what the agent
was shown, whatever blanks and line ends are in between; a pass needs a quote. Everything else is
the verifier's failure, not the task's, but for a crossed cap, which leaves the work unjudged. Knows
the kept answer and the kept material only.
"""

from collections.abc import Callable

from ..core.events import Evidence, Receipt, Step
from ..core.spec import VerifierPrompt
from ..worker.verdict import anywhere
from . import verdict
from .command import not_performed, text_of
from .exit_code import name_of
from .reading import fail, quote

KIND = "code_whale_verifier_prompt"


def judge(scorer: VerifierPrompt, step: Step | None, read: Callable[[Evidence], bytes]) -> Receipt:
    """The receipt of an attempt that this agent verified."""
    if step is not None and step.why == "budget":
        # The work is done, and nobody's fault: it waits for a person's verdict.
        return Receipt(result="partial", source="budget", scorer=KIND, reason="not verified")
    refused = not_performed(KIND, step, scorer.timeout_seconds)
    if refused is not None or step is None:
        return refused or fail(KIND, "verifier", "it was not performed")
    words = quote(step.agent.error) if step.agent else ""
    if step.exit != 0:
        how = f"exit {step.exit}" if step.exit is not None else name_of(step.signal or 0)
        return fail(KIND, "verifier", f"it ended with {how}" + (f": {words}" if words else ""))
    answer = text_of(KIND, step.verdict, read)
    if isinstance(answer, Receipt):
        return answer
    seen = text_of(KIND, step.seen, read)
    if isinstance(seen, Receipt):
        return seen
    found = anywhere(answer)
    if found is None:
        said = words or quote(answer, end=True)
        why = f"no verdict in JSON: “{said}”" if said else "it answered nothing"
        return verdict.unreadable(KIND, why)
    try:
        given = verdict.read(found)
    except verdict.Unreadable as error:
        return verdict.unreadable(KIND, str(error))
    material = _even(seen)
    for one in given.quotes:
        if not _even(one):
            return verdict.unreadable(KIND, "it quotes nothing")
        if _even(one) not in material:
            why = f"it quotes evidence that is not there: “{quote(one)}”"
            return verdict.unreadable(KIND, why)
    if given.verdict == "pass" and not given.quotes:
        return verdict.unreadable(KIND, "it says pass, and quotes no evidence for it")
    return verdict.receipt(KIND, given, quotes=given.quotes)


def _even(text: str) -> str:
    """The text with one blank wherever any were."""
    return " ".join(text.split())
