"""What records are made of: the head, the base of all payloads, receipts, logs, artifacts, usage.

Values without a life of their own; `events.py` has the words. Like payloads they leave defaults
out.
"""

from typing import ClassVar

from msgspec import Raw, Struct


class Envelope(Struct, gc=False):
    """A ledger line as read: header fields, and the payload still undecoded."""

    k: str
    seq: int
    ts: str
    d: Raw
    v: int = 1
    run: str = ""
    by: str = ""
    id: str = ""
    c: str = ""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all payloads."""

    word: ClassVar[str]
    payload_version: ClassVar[int] = 1


class SecretName(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret of a run by name: its value stands nowhere. `source` is empty: wherever it is."""

    key: str
    source: str = ""


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The judgement of one attempt: `result`, whose fault a failure was, and on what it rests.

    `result` is pass, fail, partial, skip or timeout; `source` is transport, task, verifier, budget,
    policy or human and stands beside every result but pass; `scorer` names what judged. `feedback`
    is for the next attempt, `quotes` are lines of the evidence that a verifier rests on.
    """

    result: str
    source: str = ""
    scorer: str = ""
    reason: str = ""
    feedback: str = ""
    quotes: list[str] = []


class Log(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A log stream: path below the fleet directory, bytes written, bytes punched out."""

    path: str
    size: int
    dropped: int = 0
    redacted: int = 0
    """Secret values that were taken out, as far as it is known."""
    withheld: int = 0
    """Bytes that are not shown: the values of the run's secrets were not known when it ended."""
    sha256: str = ""


class Artifact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that an attempt promised: path below the workspace root, size in bytes."""

    kind: str
    path: str
    sha256: str = ""
    mime: str = ""
    size: int = 0


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that a scorer asked for: kept by digest, or why it could not be."""

    sha256: str = ""
    size: int = 0
    error: str = ""
    redacted: list[str] = []
    """Keys of the secrets whose values were taken out."""


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent used: tokens read (those from a cache too), written, read from a cache; calls.

    A cap on tokens counts `tokens_in` and `tokens_out`. What an agent does not report stays 0.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tool_calls: int = 0
    cost_usd: float = 0.0

    def __bool__(self) -> bool:
        return self != _NONE

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            tokens_cached=self.tokens_cached + other.tokens_cached,
            tool_calls=self.tool_calls + other.tool_calls,
            cost_usd=round(self.cost_usd + other.cost_usd, 9),
        )

    def of(self, cap: str) -> float:
        """How much of what the cap `max_…` counts was used."""
        if cap == "max_tokens":
            return self.tokens_in + self.tokens_out
        return self.tool_calls if cap == "max_tool_calls" else self.cost_usd


_NONE = Usage()


class AgentFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent's stream says: usage, session, model, its last line, its own words of failure.

    `note` and `error` are one line each, of at most 200 and 500 characters. `resets_at` (seconds
    since the epoch): when the usage limit that it met ends. `unread`: bytes of its stream that
    could not be read; it may have used more.
    """

    usage: Usage = _NONE
    session: str = ""
    model: str = ""
    note: str = ""
    error: str = ""
    resets_at: float = 0.0
    unread: int = 0


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process of a chain of verification, run where its attempt ran, after it.

    `kind` is command or agent. `verdict` is what it answered, `seen` what an agent was shown.
    `cap`: which limit ended it, where `why` is budget.
    """

    kind: str
    seconds: float = 0.0
    exit: int | None = None
    signal: int | None = None
    unstarted: str = ""
    why: str = ""
    cap: str = ""
    logs: dict[str, Log] = {}
    verdict: Evidence | None = None
    seen: Evidence | None = None
    agent: AgentFacts | None = None


class Quota(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A usage limit: `agent` may not be asked for `seconds` more; `words` are the agent's own.

    `verifier`: the agent that was to judge the attempt met it, so nobody has.
    """

    agent: str
    seconds: float
    words: str = ""
    verifier: bool = False
