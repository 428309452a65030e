"""How fast the streams of agents are read: logs of each preset's lines, by its own reader.

Promises lines of the shapes that the real programs print, texts, tool calls and their results with
usage in them, on the streams where they print them, and that what was counted is right. Knows no
aims.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
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


def codex(turn: int) -> list[Line]:
    call = {"id": f"item_{turn}", "type": "command_execution", "command": "/bin/bash -lc 'cat a'"}
    done = {**call, "aggregated_output": CODE, "exit_code": 0, "status": "completed"}
    said = {"id": f"said_{turn}", "type": "agent_message", "text": WORDS}
    return [
        {"type": "item.completed", "item": said},
        {"type": "item.started", "item": {**call, "status": "in_progress"}},
        {"type": "item.completed", "item": done},
    ]


_STAMP = "2026-11-21T23:33:15.138562Z  INFO codex_otel.trace_safe: "
_WHO = (
    "event.timestamp=2026-11-21T23:33:15.138Z conversation.id=01a20074-cf8a-7641-9892-ae5f74280fee "
    "app.version=0.169.0 originator=codex_exec terminal.type=unknown model=gpt-5.5 slug=gpt-5.5\n"
)


def codex_log(turn: int) -> list[str]:
    """Its log: most of its lines tell of a piece of an answer, one of a turn tells what it took."""
    kinds = ["created", "in_progress", *["output_text.delta"] * 12, "output_item.done"]
    event = _STAMP + 'event.name="codex.sse_event" event.kind=response.'
    used = "input_token_count=993 output_token_count=7 cached_token_count=900 "
    result = f'event.name="codex.tool_result" tool_name=shell call_id=c{turn} success="true" '
    return [
        *(f"{event}{kind} duration_ms=3 {_WHO}" for kind in kinds),
        f"{event}completed {used}reasoning_token_count=0 tool_token_count=1000 {_WHO}",
        _STAMP + result + _WHO,
    ]


def gemini(turn: int) -> list[Line]:
    at = {"timestamp": "2026-11-21T20:02:59.994Z"}
    said = {"type": "message", **at, "role": "assistant", "delta": True}
    call = {"type": "tool_use", **at, "tool_name": "read_file", "tool_id": f"read_file_{turn}"}
    told = {"type": "tool_result", **at, "tool_id": f"read_file_{turn}", "status": "success"}
    lines: list[Line] = [
        *({**said, "content": WORDS[part : part + 80]} for part in range(0, len(WORDS), 80)),
        {**call, "parameters": {"file_path": "a"}},
        {**told, "output": CODE},
    ]
    if turn == TURNS - 1:
        used = {"input_tokens": 993 * TURNS, "output_tokens": 7 * TURNS, "cached": 900 * TURNS}
        lines.append({"type": "result", **at, "status": "success", "stats": used})
    return lines


def lines_of(shape: Callable[[int], list[Line]]) -> Callable[[int], Iterable[str]]:
    return lambda turn: (json.dumps(line) + "\n" for line in shape(turn))


CASES: dict[str, tuple[str, dict[str, Callable[[int], Iterable[str]]]]] = {
    "claude": ("claude-stream-json", {"out": lines_of(claude)}),
    "codex": ("codex-json", {"out": lines_of(codex), "err": codex_log}),
    "codex, its log alone": ("codex-json", {"err": codex_log}),
    "gemini": ("gemini-stream-json", {"out": lines_of(gemini)}),
    "opencode": ("opencode-json", {"out": lines_of(opencode)}),
}


def speed(place: Path, name: str, *, answer: bool = False) -> float:
    """Megabytes a second at which a preset's reader takes logs of its lines."""
    place.mkdir(parents=True, exist_ok=True)
    kind, streams = CASES[name]
    logs = {stream: place / f"{name}.{stream}" for stream in streams}
    for stream, log in logs.items():
        if not log.exists():
            with log.open("w") as file:
                for turn in range(TURNS):
                    file.writelines(streams[stream](turn))
    size = sum(log.stat().st_size for log in logs.values())
    paths = {stream: str(log) for stream, log in logs.items()}
    reader = Reader(to_builtins(READERS[kind]), paths, answer=answer)
    began = time.perf_counter()
    while reader.read():
        pass
    seconds = time.perf_counter() - began
    calls = TURNS if "out" in streams else 0
    counted = reader.numbers
    if counted["tokens_in"] != 993 * TURNS or counted.get("tool_calls", 0) != calls:
        raise Unable(f"{name} counted {counted}")
    return size / seconds / 1e6
