"""What agents use: sums, caps of tasks and runs, usage limits that burn no attempts."""

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.placement import Waiting, wake_at, why_waiting
from codewhale_fleet.core.usage import left_of

from .playbook import FAIL, PASS, Playbook

AGENT = {"agent": "claude", "command": None}
POLICY = {"max_attempts": 3, "initial_backoff_seconds": 5, "jitter": 0}


def facts(tokens: int = 0, cost: float = 0.0, session: str = "") -> e.AgentFacts:
    usage = e.Usage(tokens_in=tokens, tokens_out=tokens, tool_calls=1, cost_usd=cost)
    return e.AgentFacts(usage=usage, session=session)


def test_usage_is_summed_over_attempts_and_verifiers_into_task_and_run() -> None:
    book = Playbook()
    run = book.run({"id": "a", **AGENT, "retry_policy": POLICY}, {"id": "b", **AGENT})
    book.place()
    book.ended("r/a@1", FAIL, agent=facts(10, 0.5), exit=1)
    step = e.Step(kind="agent", exit=0, agent=facts(3, 0.25))
    book.ended("r/b@1", PASS, agent=facts(5, 0.125), steps=[step], exit=0)
    book.later(9).place()
    book.ended("r/a@2", PASS, agent=facts(1, 0.0, "s-2"), exit=0)
    more = book.task("a").more
    assert more and more.usage == e.Usage(tokens_in=11, tokens_out=11, tool_calls=2, cost_usd=0.5)
    assert more.session == "s-2"
    assert run.usage.of("max_tokens") == 38
    assert run.usage.cost_usd == 0.875
    finish = book.ask(c.FinishRun(run="r", seconds=1.0))
    assert isinstance(finish, e.RunFinished) and finish.usage == run.usage


def test_a_task_whose_budget_is_used_up_gets_no_other_attempt() -> None:
    book = Playbook()
    budget = {"max_tokens": 20, "max_cost_usd": 1}
    book.run({"id": "a", **AGENT, "retry_policy": POLICY, "budget": budget})
    book.place()
    ended = book.ended("r/a@1", FAIL, agent=facts(9), exit=1)
    assert isinstance(ended, e.AttemptEnded) and ended.retry_after == 5
    book.later(5).place()
    ended = book.ended("r/a@2", FAIL, agent=facts(1), exit=1)
    assert isinstance(ended, e.AttemptEnded) and ended.retry_after is None


def test_what_is_left_of_each_cap_is_told_to_the_host() -> None:
    from codewhale_fleet.core.spec import Budget

    used = e.Usage(tokens_in=30, tokens_out=90, tool_calls=7, cost_usd=0.4)
    budget = Budget(max_tokens=100, max_tool_calls=10, max_cost_usd=1.0, max_seconds=9)
    left = {"max_tokens": 0, "max_tool_calls": 3, "max_cost_usd": 0.6}
    assert left_of(budget, used) == left
    assert left_of(None, used) == {}


def test_a_run_stops_when_its_budget_is_used_up() -> None:
    book = Playbook()
    tasks = [{"id": name, **AGENT} for name in "abc"]
    run = book.run(*tasks, workers=1, budget={"max_cost_usd": 1.0})
    assert book.place() == ["r/a@1"]
    book.ended("r/a@1", PASS, agent=facts(1, 0.6), exit=0)
    assert book.place() == ["r/b@1"]
    book.ended("r/b@1", PASS, agent=facts(1, 0.4), exit=0)
    assert book.place() == []
    assert run.status == "stopping"
    assert run.stop_source == "budget"
    assert run.reason == "the run's budget.max_cost_usd = 1 is used up (1)"
    assert (book.task("c").result, book.task("c").source) == ("skip", "budget")


def test_seconds_of_all_tasks_count_for_the_budget_of_a_run() -> None:
    book = Playbook()
    run = book.run({"id": "a"}, {"id": "b"}, workers=1, budget={"max_seconds": 9})
    book.place()
    book.ended("r/a@1", seconds=9.5)
    book.place()
    assert run.reason == "the run's budget.max_seconds = 9 is used up (9.5)"


def test_a_usage_limit_burns_no_attempt_and_holds_back_the_agents_other_work() -> None:
    book = Playbook()
    run = book.run(
        {"id": "a", **AGENT}, {"id": "b", **AGENT}, {"id": "other", "command": "true"}, workers=1
    )
    assert book.place() == ["r/a@1"]
    limit = e.Quota(agent="claude", seconds=600, words="resets 15:00")
    ended = book.ended("r/a@1", FAIL, agent=facts(), quota=limit, exit=1)
    assert isinstance(ended, e.AttemptEnded)
    assert (ended.retry_after, ended.receipt.result, ended.receipt.source) == (
        600,
        "skip",
        "budget",
    )
    assert (book.task("a").failures, book.task("a").status) == (0, "queued")
    assert book.place() == ["r/other@1"]
    reason = why_waiting(run, book.task("b"), book.now, "", book.state.breakers)
    assert (reason.waiting, reason.until) == (Waiting.QUOTA, book.now + 600)
    assert reason.sentence == "claude has reached a usage limit: resets 15:00"
    book.ended("r/other@1")
    assert book.place() == []
    assert wake_at(book.state) == book.now + 600
    book.later(600)
    assert book.place() == ["r/a@2"]
    book.ended("r/a@2", PASS, agent=facts(1), exit=0)
    assert book.state.breakers == {}
    assert book.place() == ["r/b@1"]


def test_a_usage_limit_that_names_no_time_makes_longer_and_longer_waits() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT}, workers=1)
    waits = []
    for number in range(1, 9):
        assert book.place() == [f"r/a@{number}"]
        limit = e.Quota(agent="claude", seconds=0)
        ended = book.ended(f"r/a@{number}", FAIL, agent=facts(), quota=limit, exit=1)
        assert isinstance(ended, e.AttemptEnded) and ended.retry_after
        waits.append(ended.retry_after)
        book.later(ended.retry_after)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_progress_keeps_the_session_and_each_warning_once() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT})
    book.place()
    for number, warn in ((51, ("max_tokens",)), (52, ()), (51, ("max_tokens",))):
        src = ("rt", number)
        book.ask(
            c.ReportProgress(
                attempt="r/a@1", worker="r-local-1", src=src, agent=facts(1, 0, "s"), warn=warn
            )
        )
    more = book.task("a").more
    assert more and (more.session, more.warned) == ("s", ["max_tokens"])


def test_a_conversation_knows_its_directory_until_the_work_in_it_has_passed() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT, "retry_policy": {**POLICY, "max_attempts": 9}})

    def place_after(number: int, result: e.Receipt, **more: object) -> tuple[str, str]:
        book.later(600).place()
        book.ended(f"r/a@{number}", result, agent=facts(5, session="s"), **more)
        row = book.task("a").more
        assert row
        return row.session, row.session_in

    first = "worktrees/r/a.1"
    assert place_after(1, FAIL, exit=1, isolated=first) == ("s", first)
    assert place_after(2, FAIL, exit=1, isolated=first) == ("s", first)
    assert place_after(3, PASS, exit=0, isolated=first) == ("", "")
    book.ask(c.Restart(run="r", tasks=("a",), reason="again"))
    assert place_after(4, PASS, exit=0) == ("s", "")


def test_a_conversation_in_which_nothing_was_said_is_forgotten_but_not_after_a_limit() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT, "retry_policy": {**POLICY, "max_attempts": 9}})

    def session_after(number: int, agent: e.AgentFacts | None, **more: object) -> str:
        book.later(600).place()
        book.ended(f"r/a@{number}", FAIL, agent=agent, **more)
        row = book.task("a").more
        assert row
        return row.session

    assert session_after(1, facts(5, session="s-1"), exit=1) == "s-1"
    assert session_after(2, facts(0, session="s-1"), signal=9, why="stalled") == "s-1"
    assert session_after(3, None, exit=1) == ""  # it was not there any more
    assert session_after(4, facts(0, session="s-2"), exit=1) == ""
    assert session_after(5, facts(5, session="s-3"), exit=1) == "s-3"
    limit = e.Quota(agent="claude", seconds=5, words="no more")
    assert session_after(6, facts(0, session="s-3"), exit=1, quota=limit) == "s-3"


def test_a_usage_limit_of_an_agent_whose_stream_is_not_read_holds_and_ends_alike() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT}, {"id": "b", **AGENT}, workers=1)
    book.place()
    book.ended("r/a@1", FAIL, quota=e.Quota(agent="claude", seconds=600), exit=1)
    assert book.place() == []
    book.later(600)
    assert book.place() == ["r/a@2"]
    book.ended("r/a@2", PASS, exit=0)
    assert book.state.breakers == {}


def test_what_began_before_a_usage_limit_does_not_end_it() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT}, {"id": "b", **AGENT}, workers=2)
    book.place()
    book.ended("r/a@1", FAIL, agent=facts(), quota=e.Quota(agent="claude", seconds=600), exit=1)
    book.later(5)
    book.ended("r/b@1", PASS, agent=facts(1), exit=0)
    assert list(book.state.breakers) == ["claude"]
    assert book.place() == []


def test_a_usage_limit_of_the_verifier_leaves_the_work_to_somebodys_verdict() -> None:
    book = Playbook()
    judge = {"kind": "code_whale_verifier_prompt", "prompt": "ok?", "agent": "claude"}
    run = book.run(
        {"id": "a", "scorer": judge}, {"id": "b", "scorer": judge}, {"id": "c"}, workers=1
    )
    assert book.place() == ["r/a@1"]
    limit = e.Quota(agent="claude", seconds=600, words="resets 15:00", verifier=True)
    step = e.Step(kind="agent", exit=1, agent=e.AgentFacts(error="resets 15:00"))
    refused = e.Receipt(result="fail", source="verifier", reason="it ended with exit 1")
    book.ended("r/a@1", refused, steps=[step], quota=limit, exit=0)
    task = book.task("a")
    assert (task.status, task.source) == ("partial", "verifier")
    assert task.reason == "not verified: claude has reached a usage limit: resets 15:00"
    assert book.place() == ["r/c@1"]
    waits = why_waiting(run, book.task("b"), book.now, "", book.state.breakers)
    assert waits.waiting == Waiting.QUOTA
    book.ended("r/c@1")
    book.later(600)
    assert book.place() == ["r/b@1"]


def test_an_unrelated_tasks_end_does_not_close_the_breaker() -> None:
    book = Playbook()
    book.run({"id": "a", **AGENT}, {"id": "b", "agent": "codex", "command": None}, workers=2)
    book.place()
    limit = e.Quota(agent="claude", seconds=600)
    book.ended("r/a@1", FAIL, agent=facts(), quota=limit, exit=1)
    book.ended("r/b@1", PASS, agent=facts(), exit=0)
    assert list(book.state.breakers) == ["claude"]
