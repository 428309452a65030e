"""Judges an attempt by the evidence that its host collected: one scorer kind, one file.

`wanted` says which files the host is to keep, `judge` turns an attempt's end into its receipt. Both
are pure but for `read`, which gives the bytes of kept evidence; neither knows where a file lies,
what runs next or who asked.

An end that somebody or a limit brought about is told first; then the scorer alone decides, even
about a process that failed; last come the promised artifacts, which a pass cannot do without.
A scorer's module, and with it its library, is imported when the first task uses it.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ..core import spec
from ..core.events import AttemptEnded, Evidence, Receipt, Step
from ..core.fleet_words import LOCAL
from ..core.greeting import RESTARTED
from ..core.load import place_of
from ..core.tasks import chain_of
from . import exit_code

Read = Callable[[Evidence], bytes]
"""Gives the bytes of kept evidence; OSError when they are gone."""

QUOTES = 10
"""Most quotes in a receipt."""

EVIDENCE_BYTES = 1_000_000
"""Largest file that a scorer reads (reference, section 6)."""

ESCAPED = "outside the workspace"
"""What the host says of a path that leads out of the workspace."""

NOT_FOUND = "is not found on PATH"
"""What the host says of a program that is not installed."""

SPAWN = "spawn: "
"""How the host marks a start that failed for want of the system's means, not by the task."""


def wanted(task: spec.Task) -> list[dict[str, Any]]:
    """The evidence that the task's scorer needs: `path` below the workspace, `cap` in bytes."""
    paths: dict[str, None] = {}
    for scorer in chain_of(task):
        match scorer:
            case spec.FileExists(path=path) | spec.RegexMatch(path=path) | spec.JsonPath(path=path):
                paths[path] = None
    return [{"path": path, "cap": EVIDENCE_BYTES} for path in paths]


def judge(task: spec.Task, ended: AttemptEnded, read: Read) -> Receipt:
    """The receipt of an attempt that has ended; the one that `ended` carries is not looked at.

    Its reason is one printable line, whatever stands in paths, patterns and words of libraries.
    """
    if ended.why or ended.unstarted:
        receipt = _cut_short(task, ended)
    else:
        receipt = _verdict(task, ended, read)
        if ended.missing or ended.artifact_errors:
            receipt = _without_artifacts(receipt, ended)
        if ended.oom and receipt.result == "fail" and exit_code.MEMORY not in receipt.reason:
            reason = f"{receipt.reason}; its process was killed{exit_code.MEMORY}"
            receipt = replace(receipt, reason=reason)
        if ended.unknown and receipt.source in ("task", "verifier"):
            # It may never have run: its host is to blame, and another attempt may be.
            receipt = replace(receipt, source="transport")
    if receipt.reason.isprintable():
        return receipt
    from .reading import quote

    return replace(receipt, reason=quote(receipt.reason, len(receipt.reason)))


def _cut_short(task: spec.Task, ended: AttemptEnded) -> Receipt:
    """The receipt of an attempt that never started, or that did not end by itself."""
    match ended.why:
        case "timeout":
            reason = f"ran longer than timeout_seconds = {_number(task.timeout_seconds)}"
            return Receipt(result="timeout", source="task", reason=reason)
        case "budget":
            limit = _number(task.budget.max_seconds if task.budget else None)
            reason = f"all attempts together ran longer than budget.max_seconds = {limit}"
            return Receipt(result="fail", source="budget", reason=reason)
        case "stall":
            limit = _number(task.stall_seconds)
            reason = f"hung: no output and no processor time for stall_seconds = {limit}"
            return Receipt(result="timeout", source="task", reason=reason)
        case "restarted":
            return Receipt(result="fail", source="transport", reason=RESTARTED)
        case "unspawned":
            return Receipt(result="skip", source="transport", reason=ended.unstarted)
        case "flood":
            most = max((log.size for log in ended.logs.values()), default=0)
            size = f" ({most:,} bytes)" if most else ""
            reason = f"wrote more output than a task may{size}"
            return Receipt(result="fail", source="policy", reason=reason)
        case "sandbox":
            return Receipt(result="fail", source="policy", reason=ended.unstarted)
        case "interrupted" | "stopped" | "withdrawn":
            return Receipt(result="skip", source="human", reason=f"{ended.why} on request")
        case "":
            source = "transport" if ended.unstarted.startswith(SPAWN) else "task"
            reason = ended.unstarted.removeprefix(SPAWN)
            if task.agent is not None and NOT_FOUND in reason:
                place = place_of(ended.attempt.partition("/")[0], ended.worker)
                hint = "fleet doctor shows which are there"
                if place not in ("", LOCAL):
                    hint = f"it has to be on {place}, on the PATH of a login there"
                reason = f'agent "{task.agent}": {reason}; {hint}'
            return Receipt(result="fail", source=source, reason=reason)
        case _:
            return Receipt(
                result="fail", source="transport", reason=f"its host ended it: {ended.why}"
            )


def _verdict(task: spec.Task, ended: AttemptEnded, read: Read) -> Receipt:
    """The receipt of the first scorer that does not pass, else of the last one."""
    chain = chain_of(task)
    if not chain:
        return exit_code.judge(ended) if task.command is not None else _unscored(ended)
    steps = iter(ended.steps)
    receipt = exit_code.PASSED
    quotes: list[str] = []
    for scorer in chain:
        if isinstance(scorer, spec.CommandScorer | spec.VerifierPrompt):
            receipt = _by_process(task, scorer, ended, next(steps, None), read)
        else:
            receipt = _by_evidence(scorer, ended, read)
            if receipt.result != "pass" and ended.evidence:
                receipt = _without_secrets(receipt, scorer, ended)
        quotes += receipt.quotes
        if receipt.result != "pass":
            break
    if quotes != receipt.quotes:
        receipt = replace(receipt, quotes=quotes[:QUOTES])
    if task.verify is not None and receipt.result == "fail" and not receipt.feedback:
        return replace(receipt, feedback=receipt.reason if receipt.source == "task" else "")
    return receipt


def _by_process(
    task: spec.Task,
    scorer: spec.CommandScorer | spec.VerifierPrompt,
    ended: AttemptEnded,
    step: Step | None,
    read: Read,
) -> Receipt:
    if isinstance(scorer, spec.CommandScorer):
        from . import command

        return command.judge(scorer, step, read)
    if step is None and task.agent is not None:  # an agent's work that failed is shown to nobody
        receipt = _unscored(ended)
        if receipt.result == "fail":
            return receipt
    from . import verifier

    return verifier.judge(scorer, step, read)


def _by_evidence(
    scorer: spec.ExitCode | spec.FileExists | spec.RegexMatch | spec.JsonPath | spec.Manual,
    ended: AttemptEnded,
    read: Read,
) -> Receipt:
    match scorer:
        case spec.ExitCode():
            return exit_code.judge(ended)
        case spec.FileExists() as scorer:
            from . import file_exists

            return file_exists.judge(scorer, ended)
        case spec.RegexMatch() as scorer:
            from . import regex_match

            return regex_match.judge(scorer, ended, read)
        case spec.JsonPath() as scorer:
            from . import json_path

            return json_path.judge(scorer, ended, read)
        case spec.Manual():
            reason = "waits for a person"
            return Receipt(result="partial", source="human", scorer="manual", reason=reason)


def _without_secrets(receipt: Receipt, scorer: object, ended: AttemptEnded) -> Receipt:
    """A failure that may be owed to what was taken out of the file says so."""
    kept = ended.evidence.get(getattr(scorer, "path", ""))
    if kept is None or not kept.redacted:
        return receipt
    keys = ", ".join(kept.redacted)
    return replace(receipt, reason=f"{receipt.reason} (judged without the value of {keys})")


def _unscored(ended: AttemptEnded) -> Receipt:
    """An agent's work without a scorer: its exit 0 says that it stopped, not that it is right."""
    receipt = exit_code.judge(ended)
    if receipt.result != "pass":
        return receipt
    reason = "no scorer: nobody has verified it"
    return Receipt(result="partial", source="human", reason=reason)


def _without_artifacts(verdict: Receipt, ended: AttemptEnded) -> Receipt:
    """The receipt of an attempt whose artifacts are missing or could not be kept, by name."""
    escaped = any(ESCAPED in error for error in ended.artifact_errors)
    reasons = [verdict.reason] if verdict.result == "fail" else []
    if ended.artifact_errors:
        more = f" and {len(ended.artifact_errors) - 1} more" if ended.artifact_errors[1:] else ""
        worst = next((e for e in ended.artifact_errors if ESCAPED in e), ended.artifact_errors[0])
        reasons.append(f"artifact not kept: {worst}{more}")
    if ended.missing:
        reasons.append(f"promised artifact missing: {', '.join(ended.missing)}")
    source = "policy" if escaped else verdict.source if verdict.result == "fail" else "task"
    return Receipt(result="fail", source=source, scorer=verdict.scorer, reason="; ".join(reasons))


def _number(seconds: float | None) -> str:
    return "?" if seconds is None else str(seconds).removesuffix(".0")
