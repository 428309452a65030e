"""The Messages API, as claude speaks it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tests.agents.dialects.common import Json, Refusal, numbers, offered, pieces, rounds, sse
from tests.agents.scenarios import Answer, Shell, Write


class Anthropic:
    """The Messages API (claude)."""

    name = "anthropic"

    def is_main(self, request: Json) -> bool:
        return bool(request.get("tools"))

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def rounds(self, request: Json) -> int:
        return rounds([self._kind(message) for message in request["messages"]])

    @staticmethod
    def _kind(message: Json) -> str:
        content = message["content"]
        blocks = content if isinstance(content, list) else []
        if any(block["type"] == "tool_result" for block in blocks):
            return "results"
        return "prompt" if message["role"] == "user" else "else"

    def stream(self, request: Json, answer: Answer) -> Iterator[bytes]:
        whole = self.whole(request, answer)
        begun = {**whole, "content": [], "stop_reason": None}
        begun["usage"] = {**whole["usage"], "output_tokens": 1}
        yield sse({"type": "message_start", "message": begun}, "message_start")
        for index, block in enumerate(whole["content"]):
            if block["type"] == "text":
                empty, key = {**block, "text": ""}, "text"
                parts = [{"type": "text_delta", key: piece} for piece in pieces(block["text"])]
            else:
                empty = {**block, "input": {}}
                parts = [
                    {"type": "input_json_delta", "partial_json": piece}
                    for piece in pieces(json.dumps(block["input"]))
                ]
            yield self._event("content_block_start", index=index, content_block=empty)
            for part in parts:
                yield self._event("content_block_delta", index=index, delta=part)
            yield self._event("content_block_stop", index=index)
        ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        used = {"output_tokens": answer.usage.out}
        yield self._event("message_delta", delta=ended, usage=used)
        yield self._event("message_stop")

    @staticmethod
    def _event(kind: str, **more: Any) -> bytes:
        return sse({"type": kind, **more}, kind)

    def whole(self, request: Json, answer: Answer) -> Json:
        content: list[Json] = [{"type": "text", "text": answer.text}]
        for call in answer.calls:
            name, given = self._call(request, call)
            number = f"toolu_{next(numbers):024}"
            content.append({"type": "tool_use", "id": number, "name": name, "input": given})
        return {
            "id": f"msg_{next(numbers):024}",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": content,
            "stop_reason": "tool_use" if answer.calls else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": answer.usage.fresh,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": answer.usage.cached,
                "output_tokens": answer.usage.out,
            },
        }

    def _call(self, request: Json, call: Write | Shell) -> tuple[str, Json]:
        match call:
            case Write(path, text):
                return offered(request, "Write"), {"file_path": path, "content": text}
            case Shell(command):
                return offered(request, "Bash"), {"command": command, "description": "echo"}

    def limit(self, key: str, resets_at: int) -> Refusal:
        """A subscription's limit for a bearer token, an organisation's for an API key."""
        if key.startswith("sk-ant-oat"):
            return Refusal(
                429,
                _anthropic_error("rate_limit_error", "This request would exceed your limit."),
                {
                    "anthropic-ratelimit-unified-status": "rejected",
                    "anthropic-ratelimit-unified-reset": str(resets_at),
                    "anthropic-ratelimit-unified-representative-claim": "five_hour",
                    "anthropic-ratelimit-unified-5h-status": "rejected",
                    "anthropic-ratelimit-unified-5h-reset": str(resets_at),
                    "retry-after": "3600",
                },
            )
        when = datetime.fromtimestamp(resets_at, UTC)
        return Refusal(
            400,
            _anthropic_error(
                "invalid_request_error",
                "You have reached your specified API usage limits. "
                f"You will regain access on {when:%Y-%m-%d} at {when:%H:%M} UTC.",
            ),
        )

    def overload(self) -> Refusal:
        return Refusal(529, _anthropic_error("overloaded_error", "Overloaded"))


def _anthropic_error(kind: str, message: str) -> Json:
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "request_id": f"req_{next(numbers):024}"}
