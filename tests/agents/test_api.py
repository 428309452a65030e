"""The scripted API by itself: a test's far side must not be what is wrong with it."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.agents.api import Api

TOOLS = [{"name": "Write"}, {"name": "Bash"}]


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(resets_at=1_800_000_000) as api:
        yield api


def ask(api: Api, scenario: str, *turns: dict[str, Any], key: str = "", **more: Any) -> str:
    """A request of claude's kind; returns the whole answer."""
    body = {"model": "m", "tools": TOOLS, "messages": [said("user", "go"), *turns], **more}
    request = urllib.request.Request(
        api.url(scenario) + "/v1/messages?beta=true",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def round_of_calls() -> tuple[dict[str, Any], dict[str, Any]]:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "done"}
    return said("assistant", "…"), {"role": "user", "content": [result]}


def test_the_step_is_read_from_the_conversation_so_sessions_do_not_disturb_each_other(
    api: Api,
) -> None:
    assert "I write the notes." in ask(api, "edits")
    assert "All done" in ask(api, "edits", *round_of_calls(), *round_of_calls())
    assert "I add to them." in ask(api, "edits", *round_of_calls())
    resumed = (*round_of_calls(), *round_of_calls(), said("assistant", "…"), said("user", "more"))
    assert "I write the notes." in ask(api, "edits", *resumed)


def test_a_streamed_answer_says_what_the_whole_one_says(api: Api) -> None:
    whole = json.loads(ask(api, "edits"))
    events = [
        json.loads(line.removeprefix("data: "))
        for line in ask(api, "edits", stream=True).splitlines()
        if line.startswith("data: ")
    ]
    assert [event["type"] for event in events][:1] == ["message_start"]
    assert [event["type"] for event in events][-1:] == ["message_stop"]
    pieces = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    typed = "".join(piece.get("partial_json", "") for piece in pieces)
    assert json.loads(typed) == whole["content"][1]["input"]
    assert "".join(piece.get("text", "") for piece in pieces) == whole["content"][0]["text"]


def test_a_limit_speaks_to_keys_and_to_subscriptions_and_names_its_end(api: Api) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(api, "limit")
    assert refused.value.code == 400
    assert "2027-01-15 at 08:00 UTC" in refused.value.read().decode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(api, "limit", key="sk-ant-oat01-dummy")
    assert refused.value.code == 429
    assert refused.value.headers["anthropic-ratelimit-unified-reset"] == "1800000000"


def test_a_fault_that_passes_is_played_once(api: Api) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(api, "overload")
    assert refused.value.code == 529
    assert "All done" in ask(api, "overload")


def test_a_broken_stream_ends_without_its_end(api: Api) -> None:
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(api, "broken-for-good", stream=True)
    assert b"message_start" in broken.value.partial
    assert b"message_stop" not in broken.value.partial


def test_a_hang_lasts_until_the_agent_leaves_or_the_api_closes(api: Api) -> None:
    with pytest.raises(TimeoutError):
        body = {"model": "m", "tools": TOOLS, "messages": [said("user", "go")], "stream": True}
        request = urllib.request.Request(
            api.url("hang") + "/v1/messages", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=0.5) as answer:
            answer.read()
    api.close()


def test_the_log_says_what_arrived(api: Api) -> None:
    ask(api, "success")
    ask(api, "limit", tools=[])
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(api.url("success") + "/v1/models", timeout=10)
    work, aside, elsewhere = api.requests
    assert (work.method, work.path, work.dialect, work.main, work.model) == (
        "POST", "/v1/messages?beta=true", "anthropic", True, "m",
    )  # fmt: skip
    assert work.bytes > 100
    assert (aside.scenario, aside.main, aside.status) == ("limit", False, 200)
    assert (elsewhere.method, elsewhere.path, elsewhere.status) == ("GET", "/v1/models", 404)


def test_an_agent_that_does_not_offer_the_tool_is_told_so(api: Api) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(api, "edits", tools=[{"name": "Read"}])
    assert "none of ('Write',) among the tools offered: ['Read']" in refused.value.read().decode()
