"""What the dialects share: refusals, events of a stream, the place in a conversation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.agents.scenarios import Answer, Usage

Json = dict[str, Any]
numbers = count(1)
"""For ids; no two answers of a process have the same."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error."""

    status: int
    body: Json
    headers: dict[str, str] = field(default_factory=dict)


def sse(data: Json, event: str | None = None) -> bytes:
    """One event of a stream."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), 12):
        yield text[start : start + 12]


def rounds(kinds: list[str]) -> int:
    """Rounds of tool calls answered since the last prompt; kinds are `prompt`, `results`, else."""
    since = kinds[::-1]
    since = since[: since.index("prompt")] if "prompt" in since else since
    return sum(
        kind == "results" and (place == 0 or since[place - 1] != "results")
        for place, kind in enumerate(since)
    )


def offered(request: Json, *names: str) -> str:
    """The first of the names that the request offers as a tool."""
    given = request.get("tools", [])
    tools = {tool.get("name") or tool.get("function", {}).get("name") for tool in given}
    for name in names:
        if name in tools:
            return name
    raise LookupError(f"none of {names} among the tools offered: {sorted(map(str, tools))}")


def within(window: int, answer: Answer) -> Usage:
    """The answer's usage, at most `window` tokens of it while the conversation goes on.

    Some agents stop, or compact the conversation over and over, once a model's window is full.
    """
    usage = answer.usage
    if not answer.calls or usage.fresh + usage.cached + usage.out <= window:
        return usage
    out = min(usage.out, window // 100)
    return Usage((window - out) // 2, (window - out) // 2, out)
