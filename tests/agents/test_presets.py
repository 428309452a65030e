"""Presets over recorded streams of the real programs: what their readers and patterns find there.

Quick: nothing is started. That the programs still speak so is for test_real_clis.py.
"""

from pathlib import Path
from typing import Any

import pytest
import re2  # type: ignore[import-untyped]
from msgspec import to_builtins

from codewhale_fleet.agents.definition import Agent
from codewhale_fleet.agents.presets import PRESETS
from codewhale_fleet.agents.roster import resolve
from codewhale_fleet.worker.usage import Reader

SAMPLES = Path(__file__).parent / "samples"
RECORDED = ("claude", "codex", "gemini", "opencode")
EDITS = {"tokens_in": 3 * 4200, "tokens_out": 3 * 45, "tokens_cached": 3 * 3000, "tool_calls": 2}
CODEX_LOG = (
    'INFO codex_otel.trace_safe: event.name="codex.sse_event" event.kind=response.completed '
    "input_token_count=4200 output_token_count=45 cached_token_count=3000\n"
)


def read(name: str, scenario: str, place: Path, errors: str = "") -> Reader:
    """What the preset's reader makes of a recorded stream."""
    reader = resolve(name, Agent()).reader
    assert reader is not None
    paths = {"out": str(SAMPLES / f"{name}-{scenario}.jsonl"), "err": str(place / "err")}
    (place / "err").write_text(errors)
    found = Reader(to_builtins(reader), paths, answer=True)
    while found.read():
        pass
    found.finish()
    return found


def facts(reader: Reader) -> dict[str, Any]:
    found: dict[str, Any] = reader.facts()
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_usage_is_counted_once(name: str, tmp_path: Path) -> None:
    log = 3 * CODEX_LOG if name == "codex" else ""
    told = facts(read(name, "edits", tmp_path, log))
    usage = told["usage"]
    assert {field: usage[field] for field in EDITS} == EDITS
    assert ("cost_usd" in usage) == (name in ("claude", "opencode"))
    assert told["session"]
    assert told["note"] == "All done: the notes are written."
    assert "error" not in told


@pytest.mark.parametrize("name", RECORDED)
def test_the_last_message_is_the_answer(name: str, tmp_path: Path) -> None:
    assert read(name, "edits", tmp_path).answer == "All done: the notes are written."


def test_a_resumed_conversation_counts_its_own_part_only(tmp_path: Path) -> None:
    for name in RECORDED:
        log = CODEX_LOG if name == "codex" else ""
        usage = facts(read(name, "resumed", tmp_path, log))["usage"]
        assert (usage["tokens_in"], usage["tokens_out"]) == (4200, 45), name


@pytest.mark.parametrize("name", RECORDED)
def test_what_went_wrong_is_said_in_the_agents_own_words(name: str, tmp_path: Path) -> None:
    assert facts(read(name, "limit", tmp_path))["error"]


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_a_stream_that_breaks_for_good_ends_in_words_too(name: str, tmp_path: Path) -> None:
    assert facts(read(name, "broken-for-good", tmp_path))["error"]


@pytest.mark.parametrize(
    ("name", "scenario", "until"),
    [
        ("claude", "limit", True),
        ("claude", "limit-subscription", True),
        ("codex", "limit", True),
        ("gemini", "limit", False),
        ("opencode", "limit", False),
    ],
)
def test_a_usage_limit_is_known_by_its_words(
    name: str, scenario: str, until: bool, tmp_path: Path
) -> None:
    words = facts(read(name, scenario, tmp_path))["error"]
    quota = PRESETS[name].quota
    assert quota is not None
    hits = [hit for pattern in quota.patterns if (hit := re2.search(pattern, words))]
    assert hits, words
    assert bool(hits[0].groupdict().get("until")) == until


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("scenario", ["overload", "broken-for-good"])
def test_other_trouble_is_no_usage_limit(name: str, scenario: str, tmp_path: Path) -> None:
    quota = PRESETS[name].quota
    assert quota is not None
    words = facts(read(name, scenario, tmp_path)).get("error", "")
    assert not [one for one in quota.patterns if re2.search(one, words)]


def of_aider(scenario: str) -> dict[str, Any]:
    """What the reader of its two streams makes of a run by hand: no test drives the program."""
    reader = resolve("aider", Agent()).reader
    assert reader is not None
    paths = {"out": f"aider-{scenario}.txt", "err": f"aider-{scenario}-err.jsonl"}
    found = Reader(to_builtins(reader), {name: str(SAMPLES / paths[name]) for name in paths})
    while found.read():
        pass
    found.finish()
    return facts(found)


def test_aider_ends_with_0_whatever_happens_and_its_words_tell() -> None:
    done = of_aider("edits")
    assert done == {
        "usage": {"tokens_in": 4200, "tokens_out": 45},
        "note": "Applied edit to notes.txt",
    }
    assert "error" not in of_aider("overload")
    limit = of_aider("limit")
    assert limit["error"].startswith("litellm.RateLimitError: RateLimitError: OpenAIException")
    quota = PRESETS["aider"].quota
    assert quota is not None and re2.search(quota.patterns[0], limit["error"])
    assert "usage" not in limit


LOGGED = 'level=ERROR run=1 message="stream error" small=false error.error="AI_APICallError: {}"\n'


@pytest.mark.parametrize(
    ("words", "until"),
    [
        ("You exceeded your current quota, please check your plan and billing details.", ""),
        ("You exceeded your current quota. Please retry in 3h2m5.1s.", "3h2m5.1s"),
        ("The usage limit has been reached", ""),
    ],
)
def test_a_limit_that_opencode_waits_out_stands_in_its_log(
    words: str, until: str, tmp_path: Path
) -> None:
    found = read("opencode", "hang", tmp_path, LOGGED.format(words))
    assert found.texts["limit"] == f"AI_APICallError: {words}"
    quota = PRESETS["opencode"].quota
    assert quota is not None
    hits = [hit for one in quota.patterns if (hit := re2.search(one, found.texts["limit"]))]
    assert (hits[0].groupdict().get("until") or "") == until
    passing = read("opencode", "hang", tmp_path, LOGGED.format("Rate limit reached, wait 20 s"))
    assert "limit" not in passing.texts
    assert passing.texts["note"] == "stream error AI_APICallError: Rate limit reached, wait 20 s"


def test_a_subscriptions_limit_says_when_it_ends(tmp_path: Path) -> None:
    found = read("claude", "limit-subscription", tmp_path)
    assert found.numbers["resets_at"] > 1_700_000_000
