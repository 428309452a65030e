"""Commands and agents that verify: what their answers are worth, and chains of scorers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.core.events import AgentFacts, AttemptEnded, Evidence, Receipt, Step
from codewhale_fleet.core.spec import (
    CommandScorer,
    ExitCode,
    FileExists,
    JsonPath,
    Manual,
    RegexMatch,
    Scorer,
    Task,
    VerifierPrompt,
    Verify,
)
from codewhale_fleet.scoring.verdict import FEEDBACK_BYTES
from codewhale_fleet.worker import verdict as finder

from .builders import Kept, a_task, an_end, judged, told

COMMAND = CommandScorer(command="make check", timeout_seconds=5)
AGENT = VerifierPrompt(prompt="Is it right?", agent="judge", timeout_seconds=60)
SEEN = "The attempt r/t@1 ended with exit 0.\n  all 12\n\ttests passed  \n"


class Verified(Kept):
    """Steps with their kept answers."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def step(self, answer: str | bytes | None = None, **fields: Any) -> Verified:
        if not fields.keys() & {"exit", "signal", "unstarted"}:
            fields["exit"] = 0
        if answer is not None:
            fields["verdict"] = self.put("answer", answer).evidence["answer"]
        self.steps.append(Step(**{"kind": "command", "seconds": 1.0, **fields}))
        return self

    def agent(self, answer: str | bytes | None = None, **fields: Any) -> Verified:
        seen = self.put("seen", SEEN).evidence["seen"]
        return self.step(answer, kind="agent", seen=seen, **fields)

    def end(self, **fields: Any) -> AttemptEnded:
        return an_end(steps=self.steps, **fields)

    def judged(self, task: Task, **fields: Any) -> Receipt:
        return judged(task, self.end(**fields), self.read)


def by_command(answer: str | bytes | None = None, **fields: Any) -> Receipt:
    return Verified().step(answer, **fields).judged(a_task(COMMAND))


def by_agent(answer: str | bytes | None = None, **fields: Any) -> Receipt:
    return Verified().agent(answer, **fields).judged(a_task(AGENT))


def says(word: str, **more: Any) -> str:
    return json.dumps({"verdict": word, **more})


def chain(*steps: Scorer, **fields: Any) -> Task:
    return a_task(None, verify=Verify(steps=list(steps), **fields))


# Commands -------------------------------------------------------------------------------------


def test_exit_zero_passes_and_the_attempts_own_exit_does_not_matter() -> None:
    assert told(by_command()) == ("pass", "")
    task = a_task(COMMAND)
    assert Verified().step().judged(task, exit=1).result == "pass"


@pytest.mark.parametrize("end", [{"exit": 3}, {"signal": 11}])
def test_another_exit_fails_the_task_with_the_commands_last_words(end: dict[str, int]) -> None:
    words = f"2 tests failed\n{finder.LAST_WORDS}"
    receipt = by_command(words, **end)
    assert told(receipt) == ("fail", "task") and receipt.scorer == "command"
    assert "make check" in receipt.reason
    assert receipt.feedback.endswith("2 tests failed")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"unstarted": "its program make is not found"}, "could not be started: its program make"),
        ({"why": "timeout", "signal": 2}, "longer than its timeout_seconds = 5"),
        ({"why": "flood", "signal": 9}, "was ended: flood"),
    ],
)
def test_what_did_not_come_to_its_own_end_has_judged_nothing(
    fields: dict[str, Any], words: str
) -> None:
    receipt = by_command(**fields)
    assert told(receipt) == ("fail", "verifier") and words in receipt.reason


def test_a_step_that_was_not_performed_is_the_verifiers_failure() -> None:
    assert told(Verified().judged(a_task(COMMAND))) == ("fail", "verifier")


def test_a_verdict_in_json_outweighs_the_exit() -> None:
    receipt = by_command(says("pass", reason="a known flake"), exit=1)
    assert (receipt.result, receipt.reason) == ("pass", "a known flake")
    receipt = by_command(says("fail", reason="too slow", feedback="use a cache"))
    assert told(receipt) == ("fail", "task")
    assert (receipt.reason, receipt.feedback) == ("too slow", "use a cache")
    receipt = by_command(says("partial", reason="look at the colours"))
    assert told(receipt) == ("partial", "verifier") and receipt.reason == "look at the colours"


@pytest.mark.parametrize("answer", ['{"verdict": "maybe"}', '{"verdict": 1}', '{"verdict": null}'])
def test_a_verdict_that_is_none_of_three_words_is_named(answer: str) -> None:
    receipt = by_command(answer)
    assert told(receipt) == ("fail", "verifier")
    assert "cannot be used" in receipt.reason and "$.verdict" in receipt.reason


# Agents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "I looked at it.\n{}",
        "So:\n```json\n{}\n```\nThat is all.",
        "So:\n```\n{}\n```",
        'First {{"a": 1}}, and then {}. Done.',
    ],
)
def test_a_verdict_is_found_in_what_an_agent_says(frame: str) -> None:
    verdict = says("pass", reason="right", quotes=["all 12 tests passed"])
    receipt = by_agent(frame.format(verdict))
    assert told(receipt) == ("pass", "")
    assert receipt.quotes == ["all 12 tests passed"]


def test_the_last_verdict_counts() -> None:
    both = f"```json\n{says('pass', quotes=['exit 0'])}\n```\n```json\n{says('fail')}\n```\nbye"
    assert told(by_agent(both)) == ("fail", "task")


def test_a_quote_that_is_not_there_is_the_verifiers_failure() -> None:
    receipt = by_agent(says("pass", quotes=["all 12 tests passed", "all 13 tests passed"]))
    assert told(receipt) == ("fail", "verifier")
    assert "quotes evidence that is not there" in receipt.reason and "13" in receipt.reason


def test_a_pass_needs_a_quote_and_a_fail_does_not() -> None:
    assert "quotes no evidence" in by_agent(says("pass")).reason
    assert told(by_agent(says("fail", reason="nothing there"))) == ("fail", "task")
    assert told(by_agent(says("fail", quotes=["  "]))) == ("fail", "verifier")


@pytest.mark.parametrize("answer", [None, "", "It is fine.", "{}", "[1]", '{"verdict": "pass"'])
def test_an_answer_without_a_verdict_is_the_verifiers_failure(answer: str | None) -> None:
    receipt = by_agent(answer)
    assert told(receipt) == ("fail", "verifier") and "cannot be used" in receipt.reason


def test_an_agent_that_fails_is_told_with_its_own_words() -> None:
    facts = AgentFacts(error="API Error: overloaded")
    receipt = by_agent(says("pass", quotes=["exit 0"]), exit=1, agent=facts)
    assert told(receipt) == ("fail", "verifier")
    assert "exit 1: API Error: overloaded" in receipt.reason
    assert "overloaded" in by_agent("", agent=facts).reason


def test_an_agents_work_that_failed_is_not_blamed_on_its_verifier() -> None:
    task = a_task(AGENT, command=None, agent="worker", instructions="do it")
    receipt = Verified().judged(task, exit=1)
    assert told(receipt) == ("fail", "task") and receipt.scorer == "exit_code"


def test_kept_files_that_are_gone_are_the_verifiers_failure() -> None:
    def gone(evidence: Evidence) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    end = Verified().agent(says("pass", quotes=["exit 0"])).end()
    assert told(judged(a_task(AGENT), end, gone)) == ("fail", "verifier")


def test_feedback_is_bounded_and_fit_for_a_prompt() -> None:
    receipt = by_agent(says("fail", feedback="é" * 5000 + "\0"))
    assert len(receipt.feedback.encode()) <= FEEDBACK_BYTES and "\0" not in receipt.feedback
    assert by_agent(says("fail", feedback="a\0b\nc\x1b[1m")).feedback == "a b\nc [1m"


# Chains ---------------------------------------------------------------------------------------


def test_the_last_scorer_of_a_chain_that_passes_is_named() -> None:
    task = chain(ExitCode(), COMMAND, AGENT)
    found = Verified().step().agent(says("pass", quotes=["exit 0"]))
    receipt = found.judged(task)
    assert (receipt.result, receipt.scorer) == ("pass", "code_whale_verifier_prompt")


def test_the_first_that_does_not_pass_decides() -> None:
    task = chain(ExitCode(), FileExists(path="report"), COMMAND, AGENT)
    assert Verified().judged(task, exit=2).scorer == "exit_code"
    missing = {"report": Evidence(error="missing")}
    receipt = Verified().judged(task, evidence=missing)
    assert receipt.scorer == "file_exists" and "report does not exist" in receipt.feedback
    there = Verified().put("report", "x")
    there.step(exit=1)  # type: ignore[attr-defined]
    assert there.judged(task, evidence=there.evidence).scorer == "command"  # type: ignore[attr-defined]


def test_files_are_judged_in_their_place_of_the_chain() -> None:
    task = chain(
        JsonPath(path="r.json", expression="$.ok"), RegexMatch(path="r.txt", pattern="done")
    )
    kept = Kept().put("r.json", '{"ok": true}').put("r.txt", "not yet")
    receipt = judged(task, an_end(evidence=kept.evidence), kept.read)
    assert told(receipt) == ("fail", "task") and receipt.scorer == "regex_match"


def test_a_person_comes_last_and_only_if_all_else_passes() -> None:
    task = chain(ExitCode(), COMMAND, Manual())
    receipt = Verified().step().judged(task)
    assert told(receipt) == ("partial", "human") and receipt.scorer == "manual"
    assert told(Verified().step(exit=1).judged(task)) == ("fail", "task")


def test_what_was_quoted_on_the_way_stands_in_the_receipt_of_the_chain() -> None:
    task = chain(AGENT, Manual())
    receipt = Verified().agent(says("pass", quotes=["exit 0"])).judged(task)
    assert told(receipt) == ("partial", "human") and receipt.quotes == ["exit 0"]


def test_an_interrupted_verification_is_an_interrupted_attempt() -> None:
    receipt = (
        Verified().step(signal=2, why="interrupted").judged(a_task(COMMAND), why="interrupted")
    )
    assert told(receipt) == ("skip", "human")


# Anything at all ------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["{", "}", "[", "]", '"', "```", "```json", "\n", '"verdict"', ":", '"pass"', '"fail"', ",",
     '"quotes"', "null", "exit 0", "\\u0000", "\\ud800", '{"verdict":"pass"}', "1e999", "NaN",
     "\ud800", "\0", "{" * 300, "[" * 3000, '{"a":' * 500]
)  # fmt: skip
TEXTS = st.text(max_size=50) | st.lists(WORDS, max_size=20).map("".join)


@given(text=TEXTS)
def test_no_text_is_too_much_for_the_finder(text: str) -> None:
    for found in (finder.at_the_end(text), finder.anywhere(text)):
        assert found is None or "verdict" in json.loads(found)
        assert isinstance(finder.word_of(found), str)
    assert finder.word_of(text) in ("", "pass", "fail")


@given(text=TEXTS, exit=st.sampled_from([0, 1, None]))
def test_whatever_a_verifier_writes_becomes_a_receipt(text: str, exit: int | None) -> None:
    end = {"exit": exit} if exit is not None else {"signal": 9}
    data = text.encode("utf-8", "replace")
    for receipt in (by_command(data, **end), by_agent(data, **end)):
        assert receipt.result in ("pass", "fail", "partial")
        assert receipt.reason.isprintable() and all(one.isprintable() for one in receipt.quotes)


@given(data=st.binary(max_size=60))
def test_whatever_bytes_stand_in_a_verdict_become_a_receipt(data: bytes) -> None:
    framed = b'{"verdict": "fail", "reason": "' + data + b'", "feedback": "' + data + b'"}'
    for answer in (data, framed, b"```json\n" + framed + b"\n```"):
        for receipt in (by_command(answer), by_agent(answer)):
            assert receipt.reason.isprintable()
