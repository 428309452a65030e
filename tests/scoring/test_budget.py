"""Receipts of attempts that crossed a cap, and of agents whose streams tell of a failure."""

from msgspec import structs

from codewhale_fleet.core import events as e
from codewhale_fleet.scoring import budget, judge
from tests.core.playbook import Playbook

AGENT = {"agent": "claude", "command": None}


def facts(tokens: int = 0, cost: float = 0.0, error: str = "") -> e.AgentFacts:
    return e.AgentFacts(usage=e.Usage(tokens_in=tokens, cost_usd=cost), error=error)


def ended(**more: object) -> e.AttemptEnded:
    blank = e.AttemptEnded(
        attempt="r/a@1", worker="w", src=("rt", 1), seconds=1.0, receipt=e.Receipt(result="pass")
    )
    return structs.replace(blank, **more)


def receipt_of(book: Playbook, end: e.AttemptEnded) -> e.Receipt:
    from codewhale_fleet.core.tasks import decode_task

    run, row = book.state.runs["r"], book.task("a")
    return budget.judge(run, row, decode_task(row.raw), end)


def test_it_names_the_cap_the_limit_and_what_was_used() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT, "budget": {"max_tokens": 1000}})
    receipt = receipt_of(book, ended(why="budget", cap="max_tokens", agent=facts(1200)))
    assert (receipt.result, receipt.source) == ("fail", "budget")
    assert receipt.reason == "used more than budget.max_tokens = 1,000 (1,200 in all attempts)"


def test_a_cap_of_the_run_is_named_as_such() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT}, budget={"max_cost_usd": 2.5})
    receipt = receipt_of(book, ended(why="budget", cap="run.max_cost_usd", agent=facts(1, 2.75)))
    told = "the tasks of its run used more than the run's budget.max_cost_usd = 2.5"
    assert receipt.reason == f"{told} (2.75 recorded)"
    receipt = receipt_of(book, ended(why="budget", cap="run.max_cost_usd", agent=facts(1, 1)))
    assert receipt.reason == told


def test_what_never_started_for_want_of_budget_did_not_fail() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT}, budget={"max_tokens": 5})
    end = ended(why="budget", cap="run.max_tokens", unstarted="was used up before it started")
    assert receipt_of(book, end).result == "skip"


def test_an_agent_that_exits_0_with_an_error_in_its_stream_has_failed() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT})
    from codewhale_fleet.core.tasks import decode_task

    task = decode_task(book.task("a").raw)
    receipt = judge(task, ended(exit=0, agent=facts(error="overloaded")), lambda kept: b"")
    assert (receipt.result, receipt.source, receipt.reason) == ("fail", "task", "overloaded")
    receipt = judge(task, ended(exit=1, agent=facts(error="overloaded")), lambda kept: b"")
    assert receipt.reason == "exit 1: overloaded"
    receipt = judge(task, ended(exit=0, agent=facts()), lambda kept: b"")
    assert receipt.result == "partial"


def test_done_work_whose_verifier_crossed_a_cap_waits_with_the_figures() -> None:
    from codewhale_fleet.core.tasks import decode_task

    judge_of = {"kind": "code_whale_verifier_prompt", "prompt": "Is it?", "agent": "claude"}
    book = Playbook()
    book.run({"id": "a", **AGENT, "budget": {"max_tokens": 100}, "scorer": judge_of})
    run, row = book.state.runs["r"], book.task("a")
    task = decode_task(row.raw)

    def receipt_with(**more: object) -> e.Receipt:
        step = e.Step(kind="agent", why="budget", cap="max_tokens", **more)  # type: ignore[arg-type]
        end = ended(exit=0, agent=facts(60), steps=[step])
        return budget.unverified(run, row, task, end, judge(task, end, lambda kept: b""))

    receipt = receipt_with(signal=2, agent=facts(45))
    assert (receipt.result, receipt.source, receipt.feedback) == ("partial", "budget", "")
    assert receipt.reason == (
        "not verified: with its verifier it used more than budget.max_tokens = 100 "
        "(105 in all attempts)"
    )
    receipt = receipt_with(unstarted="budget.max_tokens was used up before it began")
    assert receipt.reason == "not verified: budget.max_tokens was used up before it began"
    missing = ended(exit=0, missing=["report"], steps=[e.Step(kind="agent", why="budget")])
    assert judge(task, missing, lambda kept: b"").source == "task"  # what it owes, it owes
