"""generateContent and streamGenerateContent, as gemini speaks them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from tests.agents.dialects.common import Json, Refusal, numbers, offered, rounds, sse, within
from tests.agents.scenarios import Answer, Shell, Write

WINDOW = 200_000
"""Tokens that fit any model's window."""


class Gemini:
    """generateContent and streamGenerateContent (gemini)."""

    name = "gemini"

    def is_main(self, request: Json) -> bool:
        return bool(request.get("tools"))

    def streams(self, path: str, request: Json) -> bool:
        return ":streamGenerateContent" in path

    def rounds(self, request: Json) -> int:
        return rounds([self._kind(content) for content in request["contents"]])

    @staticmethod
    def _kind(content: Json) -> str:
        if any("functionResponse" in part for part in content["parts"]):
            return "results"
        return "prompt" if content.get("role") == "user" else "else"

    def stream(self, request: Json, answer: Answer) -> Iterator[bytes]:
        whole = self.whole(request, answer)
        parts = whole["candidates"][0]["content"]["parts"]
        for part in parts:
            last = part is parts[-1]
            candidate: Json = {"content": {"role": "model", "parts": [part]}, "index": 0}
            if last:
                candidate["finishReason"] = "STOP"
            yield sse({**whole, "candidates": [candidate]})

    def whole(self, request: Json, answer: Answer) -> Json:
        parts: list[Json] = [{"text": answer.text}]
        parts += [{"functionCall": self._call(request, call)} for call in answer.calls]
        usage = within(WINDOW, answer)
        return {
            "candidates": [
                {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {
                "promptTokenCount": usage.fresh + usage.cached,
                "cachedContentTokenCount": usage.cached,
                "candidatesTokenCount": usage.out,
                "totalTokenCount": usage.fresh + usage.cached + usage.out,
            },
            "responseId": f"r{next(numbers)}",
        }

    def _call(self, request: Json, call: Write | Shell) -> Json:
        flat = {
            "tools": [
                one for tool in request["tools"] for one in tool.get("functionDeclarations", [])
            ]
        }
        match call:
            case Write(path, text):
                given = {"file_path": path, "content": text}
                return {"name": offered(flat, "write_file"), "args": given}
            case Shell(command):
                given = {"command": command, "description": "echo"}
                return {"name": offered(flat, "run_shell_command"), "args": given}

    def limit(self, key: str, resets_at: int) -> Refusal:
        delay = max(1, resets_at - int(datetime.now(UTC).timestamp()))
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
            "quotaId": "GenerateRequestsPerDayPerProjectPerModel",
            "quotaValue": "250",
        }
        kind = "type.googleapis.com/google.rpc."
        return Refusal(
            429,
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota. "
                    f"Please retry in {delay}.000000000s.",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {"@type": f"{kind}QuotaFailure", "violations": [violation]},
                        {"@type": f"{kind}RetryInfo", "retryDelay": f"{delay}s"},
                    ],
                }
            },
        )

    def overload(self) -> Refusal:
        error = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
        return Refusal(503, {"error": error})
