"""What agents used and cost: verifiers apart, running attempts too, detail that was dropped."""

from typing import Any

import pytest
from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.summary import Summary
from codewhale_fleet.core.summed import expanded
from codewhale_fleet.views.cost import cost, uses
from codewhale_fleet.views.usage import count, money
from tests.core.playbook import FAIL, PASS

from .story import Story

SCORER = {"kind": "code_whale_verifier_prompt", "prompt": "is it right?", "agent": "judge"}
TASK: dict[str, Any] = {"agent": "claude", "command": None, "scorer": SCORER}


def facts(tokens: int, usd: float = 0.0, model: str = "", unread: int = 0) -> e.AgentFacts:
    usage = e.Usage(tokens_in=tokens, cost_usd=usd)
    return e.AgentFacts(usage=usage, model=model, unread=unread)


def story() -> Story:
    made = Story()
    made.run({"id": "a", **TASK}, {"id": "b", **TASK}, workers=1)
    made.place()
    step = e.Step(kind="agent", exit=0, agent=facts(30, 0.5, "small"))
    made.ended("r/a@1", PASS, agent=facts(100, 1.0, "large"), steps=[step], exit=0)
    made.place()
    return made


def told(made: Story, only: str = "") -> dict[str, Any]:
    run = made.state.runs["r"]
    return cost([(run, uses(run, made.records))], only=only)


def test_verifiers_are_counted_and_named() -> None:
    answer = told(story())
    assert answer["total"]["cost_usd"] == 1.5
    assert answer["verifiers"]["tokens"] == 30
    assert [(row["agent"], row["tokens"]) for row in answer["by_agent"]] == [
        ("claude", 100), ("judge", 30),
    ]  # fmt: skip
    assert [row["model"] for row in answer["by_model"]] == ["large", "small"]
    assert answer["by_task"][0]["cost_per_passed_usd"] == 1.5


def test_an_attempt_that_runs_counts_by_what_it_told_last() -> None:
    made = story()
    for number, tokens in ((51, 5), (52, 9)):
        progress = c.ReportProgress(
            attempt="r/b@1", worker="r-local-1", src=("rt", number), agent=facts(tokens)
        )
        made.ask(progress)
    answer = told(made, only="b")
    assert (answer["total"]["tokens"], answer["total"]["passed"]) == (9, 0)
    made.ended("r/b@1", FAIL, agent=facts(12), exit=1, fact=60)
    assert told(made, only="b")["total"]["tokens"] == 12


def test_a_cost_that_nobody_told_is_not_guessed() -> None:
    made = story()
    made.ended("r/b@1", FAIL, agent=facts(12, unread=7), exit=1)
    answer = told(made)
    assert (answer["total"]["unpriced"], answer["total"]["cost_usd"]) == (1, 1.5)
    assert {row["task"]: row["cost_usd"] for row in answer["by_task"]}["r/b"] is None
    assert answer["no_cost"] == {"claude": 1}
    assert answer["total"]["unread"] == 7


def test_what_stays_of_a_run_without_its_detail_still_tells_its_cost() -> None:
    made = story()
    made.ended("r/b@1", PASS, agent=facts(12, 0.25), exit=0)
    run = made.state.runs["r"]
    summary = Summary()
    for head, event in made.records:
        summary.take(head, event)
    head = e.Envelope(k="run.summarized", seq=99, ts="", d=Raw(b"{}"), run="r")
    kept = [
        one
        for pack in summary.packs(run)
        for one in expanded(head, e.RunSummarized(on="", tasks=pack))
    ]
    answer = cost([(run, uses(run, kept))])
    assert (answer["total"]["tokens"], answer["total"]["cost_usd"]) == (142, 1.75)
    assert answer["verifiers"]["cost_usd"] == 0.5


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (812, "812"), (1000, "1k"), (12_400, "12.4k"), (999_960, "1M"), (2.5e9, "2.5G")],
)
def test_large_numbers_are_said_shortly(number: float, words: str) -> None:
    assert count(number) == words


@pytest.mark.parametrize(
    ("usd", "words"),
    [(0, "$0.00"), (0.06, "$0.06"), (0.0125, "$0.0125"), (0.18, "$0.18"), (1234.5, "$1,234.50")],
)
def test_money_is_said_in_dollars(usd: float, words: str) -> None:
    assert money(usd) == words
