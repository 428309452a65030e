"""The attempts of a task as rows, made of its records; what inspect, logs and artifacts share.

Pure. `attempts` takes the records of one task in order (see cli/history.py) and answers one plain
dict an attempt, oldest first, with record numbers; absent keys mean: not so, or not known. `exit`
is "unknown" where nobody saw it, `rss_kb` (peak memory) None where it could not be measured.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import to_builtins

from ..core import events as e
from ..core.state import split_attempt
from .asking import told
from .sentences import how_ended
from .usage import facts

UNKNOWN = "unknown"
"""The exit status that nobody saw: neither 0 nor 1."""

PROMPT = "prompt"
"""Kind of the one artifact that lies in the fleet's directory and not in the workspace."""

History = Iterable[tuple[e.Envelope, e.Event]]


def attempts(run: str, task: str, history: History) -> list[dict[str, Any]]:
    """One row an attempt: where it went and why, when, how it ended, what it left."""
    rows: dict[int, dict[str, Any]] = {}
    for head, event in history:
        match event:
            case e.AttemptDispatched():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    row.update(worker=event.worker, placed=event.why, dispatched_at=head.ts)
                    row["dispatched_seq"] = row["latest_seq"] = head.seq
            case e.AttemptStarted():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    row.update(worker=event.worker, pid=event.pid, started_at=head.ts)
                    row["latest_seq"] = head.seq
            case e.WorkerStale() | e.WorkerRecovered():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    stale = isinstance(event, e.WorkerStale)
                    row["stale_at" if stale else "recovered_at"] = head.ts
                    row["latest_seq"] = head.seq
            case e.AttemptEnded():
                row = _row(rows, run, task, event.attempt)
                if row is not None and not event.late:
                    row.update(_ended(head, event))
            case e.AttemptLost():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    row.update(_judged(head, event.receipt, event.retry_after), exit=UNKNOWN)
                    row["ended"] = f"lost: {event.why}"
            case e.AttemptProgressed():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    row["latest_seq"] = head.seq
                    row.update(_progress(row, event))
            case e.SecretsUsed():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    name = "verifier_secrets" if event.step else "secrets"
                    row[name] = {**row.get(name, {}), **event.secrets}
            case e.ReceiptRecorded():
                row = _row(rows, run, task, event.attempt)
                if row is not None:
                    row.setdefault("verdicts", []).append(verdict(head, event))
                    row["latest_seq"] = head.seq
    return [rows[number] for number in sorted(rows)]


def _row(
    rows: dict[int, dict[str, Any]], run: str, task: str, attempt: str
) -> dict[str, Any] | None:
    of_run, of_task, number = split_attempt(attempt)
    if (of_run, of_task) != (run, task):
        return None
    return rows.setdefault(number, {"id": attempt, "attempt": number})


def _progress(row: dict[str, Any], event: e.AttemptProgressed) -> dict[str, Any]:
    made: dict[str, Any] = {"verifying": event.step} if event.step else {}
    if event.agent != e.AgentFacts():
        made["told"] = facts(event.agent)
    if event.percent is not None or event.note:
        made["progress"] = told(event.percent, event.note)
    if event.checkpoint is not None:
        made["checkpoint"] = event.checkpoint.sha256
    if event.warn:
        made["warned"] = [*row.get("warned", ()), *event.warn]
    return made


def _ended(head: e.Envelope, event: e.AttemptEnded) -> dict[str, Any]:
    row = _judged(head, event.receipt, event.retry_after)
    row.update(worker=event.worker, seconds=event.seconds, ended=how_ended(event))
    for key in ("exit", "signal", "cpu"):
        value = getattr(event, key)
        if value is not None:
            row[key] = value
    if event.unknown:
        row["exit"] = UNKNOWN
    if not event.unstarted:
        row["rss_kb"] = event.rss_kb
    if event.agent is not None:
        row["told"] = facts(event.agent)
    if event.quota is not None:
        row["quota"] = to_builtins(event.quota)
    for key in ("why", "cap", "oom", "stragglers", "missing", "artifact_errors"):
        if value := getattr(event, key):
            row[key] = value
    row.pop("verifying", None)
    if event.steps:
        row["steps"] = [_step(step) for step in event.steps]
    row["logs"] = {name: _log(log) for name, log in event.logs.items()}
    row["artifacts"] = [_artifact(one) for one in event.artifacts]
    for key in ("isolated", "base", "unsaved", "notes"):
        if value := getattr(event, key):
            row[key] = value
    if event.evidence:
        row["evidence"] = {path: _evidence(one) for path, one in event.evidence.items()}
    return row


def _judged(head: e.Envelope, receipt: e.Receipt, again: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "ended_at": head.ts,
        "ended_seq": head.seq,
        "latest_seq": head.seq,
        "result": receipt.result,
        "source": receipt.source,
        "scorer": receipt.scorer,
        "reason": receipt.reason,
    }
    for key in ("feedback", "quotes"):
        if value := getattr(receipt, key):
            row[key] = value
    if again is not None:
        row["retry_after"] = again
    return row


def verdict(head: e.Envelope, event: e.ReceiptRecorded) -> dict[str, Any]:
    """A later verdict: who gave it, when, and on what it rests."""
    made: dict[str, Any] = {
        "seq": head.seq,
        "at": head.ts,
        "by": head.by,
        "result": event.receipt.result,
        "reason": event.receipt.reason,
    }
    if event.evidence is not None:
        made["evidence"] = _evidence(event.evidence)
    return made


def _step(step: e.Step) -> dict[str, Any]:
    """A process that verified; keys that mean nothing for it are left out."""
    made: dict[str, Any] = {"kind": step.kind, "seconds": step.seconds}
    for key in ("exit", "signal", "unstarted", "why"):
        value = getattr(step, key)
        if value not in (None, ""):
            made[key] = value
    if step.agent is not None:
        made["told"] = facts(step.agent)
    if step.logs:
        made["logs"] = {name: _log(log) for name, log in step.logs.items()}
    for key in ("verdict", "seen"):
        kept = getattr(step, key)
        if kept is not None:
            made[key] = _evidence(kept)
    return made


def _log(log: e.Log) -> dict[str, Any]:
    made = {"path": log.path, "size": log.size, "dropped": log.dropped, "sha256": log.sha256}
    for name in ("redacted", "withheld"):
        if count := getattr(log, name):
            made[name] = count
    return made


def _artifact(one: e.Artifact) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "path": one.path,
        "sha256": one.sha256,
        "mime": one.mime,
        "size": one.size,
    }


def _evidence(one: e.Evidence) -> dict[str, Any]:
    made = {"sha256": one.sha256, "size": one.size, "error": one.error}
    return {**made, "redacted": one.redacted} if one.redacted else made


def references(row: dict[str, Any], prefix: str = ".fleet") -> list[dict[str, Any]]:
    """Everything an ended attempt has left, as artifact references: logs, artifacts, evidence.

    `prefix` is the fleet directory as seen from the workspace. A reference has kind, path,
    size_bytes, and where known checksum and mime_type.
    """
    found = []
    steps = row.get("steps", [])
    for log in [log for one in (row, *steps) for log in one.get("logs", {}).values()]:
        reference = _reference("log", f"{prefix}/{log['path']}", log, "text/plain")
        if log["dropped"]:
            reference["dropped_bytes"] = log["dropped"]
        found.append(reference)
    for one in row.get("artifacts", ()):
        path = f"{prefix}/{one['path']}" if one["kind"] == PROMPT else one["path"]
        found.append(_reference(one["kind"], path, one, one["mime"]))
    evidence = dict(row.get("evidence", {}))
    for number, step in enumerate(steps, 1):
        evidence.update(
            (f"step {number}, {name}", step[name]) for name in ("seen", "verdict") if name in step
        )
    for given in row.get("verdicts", ()):
        if "evidence" in given:
            evidence[f"verdict #{given['seq']}"] = given["evidence"]
    for path, one in evidence.items():
        if not one["error"]:
            kept = f"{prefix}/evidence/{one['sha256']}"
            found.append({**_reference("evidence", kept, one, ""), "of": path})
    return found


def _reference(kind: str, path: str, one: dict[str, Any], mime: str) -> dict[str, Any]:
    made = {"kind": kind, "path": path}
    if one["sha256"]:
        made["checksum"] = f"sha256:{one['sha256']}"
    if mime:
        made["mime_type"] = mime
    return {**made, "size_bytes": one["size"]}
