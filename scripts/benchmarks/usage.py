"""How fast the streams of agents are read: a log of each preset's lines, by its own reader.

Promises lines of the shapes that the real programs print, texts, tool calls and their results with
usage in them, and that what was counted is right. Knows no aims.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import HOME, Unable

sys.path.insert(0, str(HOME))

from msgspec import to_builtins

from codewhale_fleet.agents.usage import READERS
from codewhale_fleet.worker.usage import Reader

TURNS = 12_000
"""Answers in a log, each with a text, a tool call and its result."""

WORDS = "The parser reads each header twice; the second time it must not trust the length. " * 5
CODE = 'def read(stream):\n    head = stream.read(4)\n    return int.from_bytes(head, "big")\n' * 12

Line = dict[str, Any]


def claude(turn: int) -> list[Line]:
    usage = {
        "input_tokens": 3, "cache_creation_input_tokens": 90, "cache_read_input_tokens": 900,
        "output_tokens": 7,
    }  # fmt: skip
    of = {"parent_tool_use_id": None, "session_id": "7d1f0a52-2b1e-4e6a-9d3c-0d6f6c1f2a11"}

    def said(content: Line) -> Line:
        message = {"id": f"msg_{turn}", "model": "claude-sonnet", "usage": usage}
        return {"type": "assistant", "message": {**message, "content": [content]}, **of}

    call = {"type": "tool_use", "id": f"toolu_{turn}", "name": "Read", "input": {"file_path": "a"}}
    result = {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": CODE}
    return [
        said({"type": "text", "text": WORDS}),
        said(call),
        {"type": "user", "message": {"role": "user", "content": [result]}, **of},
    ]


def opencode(turn: int) -> list[Line]:
    tokens = {"input": 93, "output": 7, "reasoning": 0, "cache": {"read": 900, "write": 0}}
    state = {"status": "completed", "title": "a", "input": {"filePath": "a"}, "output": CODE}
    parts: list[tuple[str, Line]] = [
        ("text", {"id": f"t{turn}", "text": WORDS}),
        ("tool_use", {"id": f"u{turn}", "callID": f"c{turn}", "tool": "read", "state": state}),
        ("step_finish", {"id": f"s{turn}", "tokens": tokens, "cost": 0.001}),
    ]
    return [{"type": kind, "sessionID": "ses_1", "part": part} for kind, part in parts]


SHAPES: dict[str, Callable[[int], list[Line]]] = {
    "claude-stream-json": claude,
    "opencode-json": opencode,
}


def speed(place: Path, name: str) -> float:
    """Megabytes a second at which the reader `name` takes a log of its lines."""
    place.mkdir(parents=True, exist_ok=True)
    log = place / f"{name}.jsonl"
    if not log.exists():
        with log.open("w") as file:
            for turn in range(TURNS):
                file.writelines(json.dumps(line) + "\n" for line in SHAPES[name](turn))
    size = log.stat().st_size
    reader = Reader(to_builtins(READERS[name]), {"out": str(log)})
    began = time.perf_counter()
    while reader.read():
        pass
    seconds = time.perf_counter() - began
    if reader.numbers["tokens_in"] != 993 * TURNS or reader.numbers["tool_calls"] != TURNS:
        raise Unable(f"{name} counted {reader.numbers}")
    return size / seconds / 1e6
