"""Ends of attempts and tasks for the scoring tests, by what matters about them."""

import hashlib
from collections.abc import Callable
from typing import Any

from codewhale_fleet import scoring
from codewhale_fleet.core.events import AttemptEnded, Evidence, Receipt
from codewhale_fleet.core.spec import Scorer, Task

NOT_YET = Receipt(result="fail", source="transport", reason="placeholder")


def a_task(scorer: Scorer | None = None, **fields: Any) -> Task:
    """A command task."""
    return Task(**{"id": "t", "command": "true", "scorer": scorer, **fields})


def an_end(**fields: Any) -> AttemptEnded:
    """An end by exit 0 unless the fields say another one."""
    if not fields.keys() & {"exit", "signal", "unknown", "unstarted"}:
        fields["exit"] = 0
    head = {"attempt": "r/t@1", "worker": "r-local-1", "src": ("rt", 1), "seconds": 1.0}
    return AttemptEnded(**{**head, "receipt": NOT_YET, **fields})


class Kept:
    """Evidence as a host keeps it, by digest; counts how often it was read."""

    def __init__(self, **files: bytes | str) -> None:
        self.files: dict[str, bytes] = {}
        self.evidence: dict[str, Evidence] = {}
        self.reads = 0
        for path, content in files.items():
            self.put(path, content)

    def put(self, path: str, content: bytes | str) -> "Kept":
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        self.files[digest] = data
        self.evidence[path] = Evidence(sha256=digest, size=len(data))
        return self

    def read(self, evidence: Evidence) -> bytes:
        self.reads += 1
        return self.files[evidence.sha256]


def judged(
    task: Task, ended: AttemptEnded, read: Callable[[Evidence], bytes] | None = None
) -> Receipt:
    """The receipt; it must name a source of failure beside every result but pass."""
    receipt = scoring.judge(task, ended, read or _never)
    assert receipt.result in ("pass", "fail", "partial", "skip", "timeout")
    assert bool(receipt.source) == (receipt.result != "pass")
    assert receipt.result == "pass" or receipt.reason
    assert "\n" not in receipt.reason
    return receipt


def _never(evidence: Evidence) -> bytes:
    raise AssertionError("no evidence may be read here")


def of_file(scorer: Scorer, content: bytes | str, **fields: Any) -> Receipt:
    """The receipt of an attempt that left `content` where the scorer looks."""
    kept = Kept().put(scorer.path, content)  # type: ignore[union-attr]
    return judged(a_task(scorer), an_end(evidence=kept.evidence, **fields), kept.read)


def told(receipt: Receipt) -> tuple[str, str]:
    """Result and source: what the fleet acts on."""
    return receipt.result, receipt.source
