"""The Responses API, as codex speaks it."""

import json
from collections.abc import Iterator
from typing import Any

from tests.agents.dialects.common import (
    Json,
    Refusal,
    numbers,
    offered,
    pieces,
    rounds,
    sse,
    within,
)
from tests.agents.scenarios import Answer, Shell, Write

WINDOW = 200_000
"""Tokens that fit any model's window."""


class Responses:
    """OpenAI's Responses API (codex)."""

    name = "responses"

    def is_main(self, request: Json) -> bool:
        return bool(request.get("tools")) or any(
            item.get("type") == "additional_tools" for item in request["input"]
        )

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def rounds(self, request: Json) -> int:
        return rounds([self._kind(item) for item in request["input"]])

    @staticmethod
    def _kind(item: Json) -> str:
        if item.get("type", "").endswith("_call_output"):
            return "results"
        return "prompt" if item.get("role") == "user" else "else"

    def stream(self, request: Json, answer: Answer) -> Iterator[bytes]:
        whole = self.whole(request, answer)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        yield self._event("response.created", response=begun)
        for index, item in enumerate(whole["output"]):
            empty = {**item, "content": []} if item["type"] == "message" else item
            yield self._event("response.output_item.added", output_index=index, item=empty)
            if item["type"] == "message":
                for piece in pieces(answer.text):
                    yield self._event(
                        "response.output_text.delta",
                        item_id=item["id"],
                        output_index=index,
                        content_index=0,
                        delta=piece,
                    )
            yield self._event("response.output_item.done", output_index=index, item=item)
        yield self._event("response.completed", response=whole)

    @staticmethod
    def _event(kind: str, **more: Any) -> bytes:
        return sse({"type": kind, **more}, kind)

    def whole(self, request: Json, answer: Answer) -> Json:
        text = {"type": "output_text", "text": answer.text, "annotations": []}
        message: Json = {"type": "message", "id": f"msg_{next(numbers)}", "role": "assistant"}
        output = [{**message, "status": "completed", "content": [text]}]
        output += [self._call(request, call) for call in answer.calls]
        usage = within(WINDOW, answer)
        return {
            "id": f"resp_{next(numbers)}",
            "object": "response",
            "status": "completed",
            "model": request["model"],
            "output": output,
            "usage": {
                "input_tokens": usage.fresh + usage.cached,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.out,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.fresh + usage.cached + usage.out,
            },
        }

    def _call(self, request: Json, call: Write | Shell) -> Json:
        number = next(numbers)
        base: Json = {"id": f"fc_{number}", "call_id": f"call_{number}", "status": "completed"}
        match call:
            case Write(path, text):
                added = "".join(f"+{line}\n" for line in text.splitlines())
                patch = f"*** Begin Patch\n*** Add File: {path}\n{added}*** End Patch\n"
                name = offered(request, "apply_patch")
                return {**base, "type": "custom_tool_call", "name": name, "input": patch}
            case Shell(command):
                name = offered(request, "exec_command", "shell_command", "shell")
                given: Json = {"command": command}
                if name == "exec_command":
                    given = {"cmd": command}
                elif name == "shell":
                    given = {"command": ["sh", "-c", command]}
                return {
                    **base,
                    "type": "function_call",
                    "name": name,
                    "arguments": json.dumps(given),
                }

    def limit(self, key: str, resets_at: int) -> Refusal:
        return Refusal(
            429,
            {
                "error": {
                    "type": "usage_limit_reached",
                    "message": "The usage limit has been reached",
                    "plan_type": "plus",
                    "resets_at": resets_at,
                }
            },
        )

    def overload(self) -> Refusal:
        message = "The server is overloaded or not ready yet."
        return Refusal(503, {"error": {"type": "server_error", "code": None, "message": message}})
