"""OpenAI-compatible chat completions, as opencode and many others speak them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.agents.dialects.common import Json, Refusal, numbers, offered, pieces, rounds, sse
from tests.agents.scenarios import Answer, Shell, Usage, Write


class Chat:
    """OpenAI-compatible chat completions (opencode and many others)."""

    name = "chat"

    def is_main(self, request: Json) -> bool:
        return bool(request.get("tools"))

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def rounds(self, request: Json) -> int:
        kinds = {"tool": "results", "user": "prompt"}
        return rounds([kinds.get(message["role"], "else") for message in request["messages"]])

    def stream(self, request: Json, answer: Answer) -> Iterator[bytes]:
        whole = self.whole(request, answer)
        choice = whole["choices"][0]
        base = {**whole, "object": "chat.completion.chunk", "usage": None}

        def chunk(delta: Json, reason: str | None = None) -> bytes:
            return sse({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

        yield chunk({"role": "assistant", "content": ""})
        for piece in pieces(answer.text):
            yield chunk({"content": piece})
        for index, call in enumerate(choice["message"].get("tool_calls", [])):
            yield chunk({"tool_calls": [{"index": index, **call}]})
        yield chunk({}, choice["finish_reason"])
        yield sse({**base, "choices": [], "usage": whole["usage"]})
        yield b"data: [DONE]\n\n"

    def whole(self, request: Json, answer: Answer) -> Json:
        message: Json = {"role": "assistant", "content": answer.text}
        if answer.calls:
            message["tool_calls"] = [self._call(request, call) for call in answer.calls]
        reason = "tool_calls" if answer.calls else "stop"
        return {
            "id": f"chatcmpl-{next(numbers)}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": _chat_usage(answer.usage),
        }

    def _call(self, request: Json, call: Write | Shell) -> Json:
        match call:
            case Write(path, text):
                name, given = offered(request, "write"), {"filePath": path, "content": text}
            case Shell(command):
                name = offered(request, "bash")
                given = {"command": command, "description": "echo"}
        function = {"name": name, "arguments": json.dumps(given)}
        return {"id": f"call_{next(numbers)}", "type": "function", "function": function}

    def limit(self, key: str, resets_at: int) -> Refusal:
        message = "You exceeded your current quota, please check your plan and billing details."
        error = {"type": "insufficient_quota", "code": "insufficient_quota", "message": message}
        delay = max(1, resets_at - int(datetime.now(UTC).timestamp()))
        return Refusal(429, {"error": error}, {"retry-after": str(delay)})

    def overload(self) -> Refusal:
        message = "The server is overloaded or not ready yet."
        return Refusal(503, {"error": {"type": "server_error", "code": None, "message": message}})


def _chat_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.fresh + usage.cached,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens": usage.out,
        "completion_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.fresh + usage.cached + usage.out,
    }
