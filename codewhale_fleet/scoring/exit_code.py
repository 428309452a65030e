"""Scorer `exit_code`, and what a command without a scorer is judged by.

Promises: 0 passes and nothing else does, nor an agent whose stream tells of its failure; a status
that nobody saw is neither 0 nor 1 but a transport failure. Looks at no file.
"""

from ..core.events import AttemptEnded, Receipt

PASSED = Receipt(result="pass", scorer="exit_code")
"""The receipt of nearly every attempt: one object for all of them."""

_HINTS = {126: " (in a shell: not executable)", 127: " (in a shell: command not found)"}


MEMORY = ": probably out of memory"
"""A guess, and told as one: the kernel's memory killer was at work when it was killed."""


def judge(ended: AttemptEnded) -> Receipt:
    """Pass for exit 0, fail for every other end; an agent that tells of a failure has failed."""
    if error := ended.agent.error if ended.agent else "":
        how = f"exit {ended.exit}: " if ended.exit else ""
        return Receipt(result="fail", source="task", scorer="exit_code", reason=how + error)
    if ended.exit == 0:
        return PASSED
    if ended.exit is not None:
        reason = f"exit {ended.exit}{MEMORY if ended.oom else _HINTS.get(ended.exit, '')}"
        return Receipt(result="fail", source="task", scorer="exit_code", reason=reason)
    if ended.signal is not None:
        reason = f"killed by {name_of(ended.signal)}{MEMORY if ended.oom else ''}"
        return Receipt(result="fail", source="task", scorer="exit_code", reason=reason)
    reason = "exit status was never seen"
    return Receipt(result="fail", source="transport", scorer="exit_code", reason=reason)


def name_of(number: int) -> str:
    """SIGKILL for 9; `signal 40` for one without a name."""
    from signal import Signals

    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
