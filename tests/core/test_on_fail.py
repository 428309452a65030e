"""What follows when a chain of verification fails a task."""

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e

from .playbook import Playbook

CHAIN = {"steps": [{"kind": "command", "command": "check"}]}
FEEDBACK = {**CHAIN, "on_fail": "retry_with_feedback"}
POLICY = {"max_attempts": 2, "initial_backoff_seconds": 0}
FOUND = e.Receipt(
    result="fail", source="task", scorer="command", reason="check: exit 1", feedback="say more"
)


def after(receipt: e.Receipt, verify: object, **policy: object) -> Playbook:
    book = Playbook()
    book.run({"id": "a", "verify": verify, "retry_policy": {**POLICY, **policy}})
    book.place()
    book.ended("r/a@1", receipt)
    return book


def test_stop_means_that_what_the_chain_found_decides_the_task() -> None:
    assert after(FOUND, CHAIN).task("a").status == "failed"


def test_feedback_goes_to_the_next_attempt_while_there_is_one() -> None:
    book = after(FOUND, FEEDBACK)
    more = book.task("a").more
    assert book.task("a").status == "queued" and more and more.feedback == "say more"
    book.place()
    book.ended("r/a@2", FOUND)
    assert book.task("a").status == "failed"


def test_feedback_is_followed_whatever_else_is_retried() -> None:
    assert after(FOUND, FEEDBACK, retry_on=["transport"]).task("a").status == "queued"


@pytest.mark.parametrize("verify", [CHAIN, FEEDBACK])
def test_a_verifier_that_failed_itself_is_retried_only_where_the_policy_says_so(
    verify: object,
) -> None:
    broken = e.Receipt(result="fail", source="verifier", scorer="command", reason="timed out")
    assert after(broken, verify).task("a").status == "failed"
    assert after(broken, verify, retry_on=["verifier"]).task("a").status == "queued"


@pytest.mark.parametrize("verify", [CHAIN, FEEDBACK])
def test_what_no_scorer_found_follows_the_policy(verify: object) -> None:
    late = e.Receipt(result="timeout", source="task", reason="ran too long")
    lost = e.Receipt(result="fail", source="transport", scorer="exit_code", reason="unknown")
    for receipt in (late, lost):
        assert after(receipt, verify).task("a").status == "queued"


def test_a_person_who_refuses_tells_the_next_attempt_why() -> None:
    book = Playbook()
    book.run({"id": "a", "scorer": {"kind": "manual"}})
    book.place()
    book.ended("r/a@1", e.Receipt(result="partial", source="human", reason="waits"), exit=0)
    no = e.Receipt(result="fail", source="human", reason="too long", feedback="too long")
    book.ask(c.Judge(run="r", attempt="r/a@1", receipt=no))
    more = book.task("a").more
    assert more and more.feedback == "too long"


def test_a_step_that_takes_a_while_is_known_until_the_end() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ask(c.ReportProgress(attempt="r/a@1", worker="r-local-1", src=("rt", 1), step=2))
    assert book.state.runs["r"].flights["r/a@1"].step == 2
