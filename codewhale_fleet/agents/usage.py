"""What an agent's streams say, as data: declarations of usage readers.

The declaration (this file, JSON-able) and the engine that runs it (`worker/usage.py`, standard
library only) meet in this agreement.

A reader is `{FIELD: [RULE, …], "formats": {"out": "json", "err": "pairs"}}`. `formats` says which
streams are read, and how a line of each becomes an object; absent: `{"out": "json"}`.

    json      the line is one JSON object
    pairs     `key=value key="a value"` anywhere in the line; other words are passed over; numbers
              are numbers; dots in a key are those of a path
    text      the line as it is, under the key `text`

A line that gives no object is passed over. Fields:

    numbers   tokens_in (all input, that from a cache too), tokens_out, tokens_cached, tool_calls,
              cost_usd, resets_at (Unix seconds at which a usage limit that was met ends)
    texts     session, model, note (what goes on), error (the agent's words of failure), limit (its
              words that it has reached a usage limit and waits that out by itself: it is ended at
              once, and rests), answer (its last message, whole)

A rule is an object of these keys:

    stream    out (the default) or err
    when      {path: value}; the rule is tried on lines for which all hold. A value that is a list
              means one of it; {"not": value} means anything else that is there; {"has": text}
              a text that this one, or one of a list, stands in, in small letters or capitals.
              Without `when`: every line.
    each      path of a list (or an object, whose values are meant) in the line: the rule looks at
              each item by itself, and `where`, `path` and `once_per` begin there. Without it the
              line itself is the only item.
    where     like `when`, for items.
    path      where the value is; a list of paths: of numbers their sum, of texts those that are
              there, with a space between. `*` in a path steps over all items of a list or values
              of an object (their sum, or joined). Not needed for take = "count".
    take      sum    add the value of every item (the default for numbers)
              last   the latest value (the default for texts)
              first  the first value; later ones are not looked at
              max    the largest value
              append this text after what is there; clear: nothing is there any more (no path)
              count  the number of items
    once_per  path of an id in the item: of items with the same id only the latest counts, for sum
              and count. An item without the id counts for itself.

A path is keys with dots between: `message.usage.input_tokens`; digits index a list. Whatever is
absent, or not of the right type (a number that is negative, not finite or a boolean; a text that is
none), is no value. Of a list of paths it is enough that one is there.

Numbers: the value of a field is that of the **first** rule in its list that has found anything in
this attempt. So what is authoritative and comes at the end stands first; what is known while the
agent works stands after it. Texts: a line replaces the field by what the first rule finds in it;
with `first` what is there stays.

Figures that are told while an attempt runs never go backwards: the highest so far counts. A reader
that comes to a stream late (an adopted attempt) reads it from its start.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from typing import Annotated, Any, Literal

from msgspec import Meta, convert

from ..core.spec_hosts import Written

Path = Annotated[str, Meta(min_length=1)]
Stream = Literal["out", "err"]
Format = Literal["json", "pairs", "text"]

NUMBERS = ("tokens_in", "tokens_out", "tokens_cached", "tool_calls", "cost_usd", "resets_at")
TEXTS = ("session", "model", "note", "error", "limit", "answer")


class Rule(Written, frozen=True, kw_only=True):
    """How one value is found; see the module's docstring."""

    stream: Stream = "out"
    when: dict[str, Any] = {}
    each: Path | None = None
    where: dict[str, Any] = {}
    path: Path | list[Path] | None = None
    take: Literal["sum", "last", "first", "max", "count", "append", "clear"] | None = None
    once_per: Path | None = None


class Reader(Written, frozen=True, kw_only=True):
    """A declaration: fields of `AgentFacts` and its usage, each with the rules that find it."""

    formats: dict[Stream, Format] = {}
    tokens_in: list[Rule] = []
    tokens_out: list[Rule] = []
    tokens_cached: list[Rule] = []
    tool_calls: list[Rule] = []
    cost_usd: list[Rule] = []
    resets_at: list[Rule] = []
    session: list[Rule] = []
    model: list[Rule] = []
    note: list[Rule] = []
    error: list[Rule] = []
    limit: list[Rule] = []
    answer: list[Rule] = []


_ANSWER = {"type": "assistant", "message.model": {"not": "<synthetic>"}}
_PER_MODEL = "model_usage_since_last_result.*."
_LIVE = "message.usage."

CLAUDE: dict[str, Any] = {
    "tokens_in": [
        {
            "when": {"type": "result"},
            "path": [
                _PER_MODEL + "inputTokens",
                _PER_MODEL + "cacheReadInputTokens",
                _PER_MODEL + "cacheCreationInputTokens",
            ],
        },
        {
            "when": _ANSWER,
            "path": [
                _LIVE + "input_tokens",
                _LIVE + "cache_read_input_tokens",
                _LIVE + "cache_creation_input_tokens",
            ],
            "once_per": "message.id",
        },
    ],
    "tokens_out": [
        {"when": {"type": "result"}, "path": _PER_MODEL + "outputTokens"},
        {"when": _ANSWER, "path": _LIVE + "output_tokens", "once_per": "message.id"},
    ],
    "tokens_cached": [
        {"when": {"type": "result"}, "path": _PER_MODEL + "cacheReadInputTokens"},
        {"when": _ANSWER, "path": _LIVE + "cache_read_input_tokens", "once_per": "message.id"},
    ],
    "tool_calls": [
        {
            "when": {"type": "assistant"},
            "each": "message.content",
            "where": {"type": "tool_use"},
            "take": "count",
            "once_per": "id",
        },
    ],
    "cost_usd": [{"when": {"type": "result"}, "path": _PER_MODEL + "costUSD"}],
    "resets_at": [
        {
            "when": {"type": "rate_limit_event", "rate_limit_info.status": "rejected"},
            "path": "rate_limit_info.resetsAt",
            "take": "last",
        },
    ],
    "session": [{"path": "session_id"}],
    "model": [
        {"when": {"type": "system", "subtype": "init"}, "path": "model"},
        {"when": _ANSWER, "path": "message.model", "take": "first"},
    ],
    "note": [
        {
            "when": {"type": "assistant"},
            "each": "message.content",
            "where": {"type": "tool_use"},
            "path": ["name", "input.file_path", "input.command", "input.pattern"],
        },
        {
            "when": _ANSWER,
            "each": "message.content",
            "where": {"type": "text"},
            "path": "text",
        },
        {
            "when": {"type": "system", "subtype": "api_retry"},
            "path": ["subtype", "error"],
        },
    ],
    "error": [
        {"when": {"type": "result", "is_error": True}, "path": "result"},
        {"when": {"type": "result", "is_error": True}, "path": "errors.*"},
        {"when": {"type": "result", "is_error": True}, "path": "subtype"},
    ],
    "answer": [{"when": {"type": "result", "is_error": False}, "path": "result"}],
}
"""claude -p --output-format stream-json --verbose. Cost is known at the end only; output tokens are
exact at the end only (lines in between say how many there were when a message began)."""

_TOKENS = {"event.kind": "response.completed", "event.name": "codex.sse_event"}
_DONE = {"type": "turn.completed"}
_CALLS = ["command_execution", "file_change", "mcp_tool_call", "web_search"]
_ITEM = {"type": "item.completed", "item.type": "agent_message"}

CODEX: dict[str, Any] = {
    "formats": {"out": "json", "err": "pairs"},
    "tokens_in": [
        {"stream": "err", "when": _TOKENS, "path": "input_token_count"},
        {"when": _DONE, "path": "usage.input_tokens", "take": "last"},
    ],
    "tokens_out": [
        {"stream": "err", "when": _TOKENS, "path": "output_token_count"},
        {"when": _DONE, "path": "usage.output_tokens", "take": "last"},
    ],
    "tokens_cached": [
        {"stream": "err", "when": _TOKENS, "path": "cached_token_count"},
        {"when": _DONE, "path": "usage.cached_input_tokens", "take": "last"},
    ],
    "tool_calls": [
        {
            "when": {"type": "item.completed", "item.type": _CALLS},
            "take": "count",
            "once_per": "item.id",
        },
    ],
    "session": [{"when": {"type": "thread.started"}, "path": "thread_id"}],
    "model": [{"stream": "err", "when": _TOKENS, "path": "model"}],
    "note": [
        {"when": _ITEM, "path": "item.text"},
        {
            "when": {"type": "item.started", "item.type": _CALLS},
            "path": ["item.type", "item.command", "item.tool", "item.query"],
        },
        {
            "when": {"type": "item.completed", "item.type": "file_change"},
            "path": ["item.type", "item.changes.*.path"],
        },
        {"when": {"type": "error"}, "path": "message"},
    ],
    "error": [{"when": {"type": "turn.failed"}, "path": "error.message"}],
    "answer": [{"when": _ITEM, "path": "item.text"}],
}
"""codex exec --json. Its events tell tokens at the end only, and those of a resumed conversation
all together; so they are read from its log on standard error, answer by answer
(RUST_LOG=codex_otel.trace_safe=info)."""

_TEXT = {"type": "message", "role": "assistant"}

GEMINI: dict[str, Any] = {
    "tokens_in": [{"when": {"type": "result"}, "path": "stats.input_tokens"}],
    "tokens_out": [{"when": {"type": "result"}, "path": "stats.output_tokens"}],
    "tokens_cached": [{"when": {"type": "result"}, "path": "stats.cached"}],
    "tool_calls": [{"when": {"type": "tool_use"}, "take": "count", "once_per": "tool_id"}],
    "session": [{"when": {"type": "init"}, "path": "session_id"}],
    "model": [{"when": {"type": "init"}, "path": "model"}],
    "note": [
        {
            "when": {"type": "tool_use"},
            "path": ["tool_name", "parameters.file_path", "parameters.command"],
        },
        {"when": _TEXT, "path": "content"},
        {"when": {"type": "error"}, "path": "message"},
    ],
    "error": [{"when": {"type": "result", "status": "error"}, "path": "error.message"}],
    "answer": [
        {"when": {"type": "tool_use"}, "take": "clear"},
        {"when": _TEXT, "path": "content", "take": "append"},
    ],
}
"""gemini --output-format stream-json. Tokens are known at the end only."""

_STEP = {"type": "step_finish"}
OPENCODE_LIMITS = ["exceeded your current quota", "usage limit", "usage_limit"]
"""What providers say where trying again within a minute is in vain."""

_RETRIED = {"message": "stream error"}

OPENCODE: dict[str, Any] = {
    "formats": {"out": "json", "err": "pairs"},
    "tokens_in": [
        {
            "when": _STEP,
            "path": ["part.tokens.input", "part.tokens.cache.read", "part.tokens.cache.write"],
            "once_per": "part.id",
        },
    ],
    "tokens_out": [
        {
            "when": _STEP,
            "path": ["part.tokens.output", "part.tokens.reasoning"],
            "once_per": "part.id",
        },
    ],
    "tokens_cached": [{"when": _STEP, "path": "part.tokens.cache.read", "once_per": "part.id"}],
    "tool_calls": [{"when": {"type": "tool_use"}, "take": "count", "once_per": "part.callID"}],
    "cost_usd": [{"when": _STEP, "path": "part.cost", "once_per": "part.id"}],
    "session": [{"path": "sessionID"}],
    "note": [
        {
            "when": {"type": "tool_use"},
            "path": ["part.tool", "part.state.title", "part.state.input.command"],
        },
        {"when": {"type": "text"}, "path": "part.text"},
        {"stream": "err", "when": _RETRIED, "path": ["message", "error.error"]},
    ],
    "error": [
        {"when": {"type": "error"}, "path": "error.data.message"},
        {"when": {"type": "error"}, "path": "error.name"},
    ],
    "limit": [
        {
            "stream": "err",
            "when": {**_RETRIED, "error.error": {"has": OPENCODE_LIMITS}},
            "path": "error.error",
        },
    ],
    "answer": [{"when": {"type": "text"}, "path": "part.text"}],
}
"""opencode run --format json: tokens and cost of each step as it ends. What it tries again by
itself, a usage limit too, however long that lasts, is told by its log on standard error only
(OPENCODE_PRINT_LOGS=1, OPENCODE_LOG_LEVEL=ERROR)."""

CODEWHALE: dict[str, Any] = {
    "tool_calls": [{"when": {"type": "tool_use"}, "take": "count", "once_per": "id"}],
    "model": [
        {"when": {"type": "metadata", "meta.receipt_kind": "terminal"}, "path": "meta.model"}
    ],
    "note": [
        {"when": {"type": "tool_use"}, "path": "name"},
        {"when": {"type": "content"}, "path": "content"},
    ],
    "error": [
        {"when": {"type": "error"}, "path": "error"},
        {"when": {"type": "error"}, "path": "message"},
    ],
    "answer": [
        {"when": {"type": "tool_use"}, "take": "clear"},
        {"when": {"type": "content"}, "path": "content", "take": "append"},
    ],
}
"""codewhale exec --output-format stream-json: as far as its lines are described; tokens are not."""

_SENT = {"event": "message_send"}

AIDER: dict[str, Any] = {
    "formats": {"out": "text", "err": "json"},
    "tokens_in": [{"stream": "err", "when": _SENT, "path": "properties.prompt_tokens"}],
    "tokens_out": [{"stream": "err", "when": _SENT, "path": "properties.completion_tokens"}],
    "cost_usd": [{"stream": "err", "when": _SENT, "path": "properties.cost"}],
    "note": [{"path": "text"}],
    "error": [
        {"when": {"text": {"has": "litellm."}}, "path": "text"},
        {"stream": "err", "when": _SENT, "take": "clear"},
    ],
}
"""aider --analytics-log /dev/stderr: tokens and cost of each answer; what failed is told in its
words only, as it ends with 0 all the same."""

READERS: dict[str, Reader] = {
    name: convert(declared, Reader)
    for name, declared in (
        ("claude-stream-json", CLAUDE),
        ("codex-json", CODEX),
        ("gemini-stream-json", GEMINI),
        ("opencode-json", OPENCODE),
        ("aider-text", AIDER),
        ("codewhale-stream-json", CODEWHALE),
    )
}
"""Readers by the names that a definition may say."""

NO_READER = "none"
"""Said where an agent's stream is not to be read, whatever its preset says."""
