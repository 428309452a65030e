from collections.abc import Callable

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.placement import Waiting
from codewhale_fleet.views.explain import explain_run, explain_task
from tests.core.playbook import FAIL, PASS

from .story import Story


def drafted() -> Story:
    story = Story()
    created = e.RunCreated(name="r", digest="", max_workers=1, workspace="/w")
    story.ask(c.CreateRun(run="r", created=created))
    story.ask(c.AddTasks(run="r", tasks=(b'{"id":"a","command":"true"}',)))
    return story


def paused() -> Story:
    story = Story()
    story.run({"id": "a"})
    story.ask(c.PauseRun(run="r", reason="lunch"))
    return story


def stopped() -> Story:
    """A task can only be queued in a run that is stopping when its attempt was withdrawn."""
    story = Story()
    run = story.run({"id": "a"})
    run.status, run.reason = "stopping", "enough"
    return story


def backing_off() -> Story:
    story = Story()
    policy = {"max_attempts": 3, "initial_backoff_seconds": 10, "jitter": 0}
    story.run({"id": "a", "retry_policy": policy})
    story.place()
    story.ended("r/a@1", FAIL)
    return story


def claimed() -> Story:
    story = Story()
    workspace = {"writable_paths": ["out"]}
    story.run({"id": "b", "workspace": workspace}, {"id": "a", "workspace": workspace})
    story.place()
    return story


def busy() -> Story:
    story = Story()
    story.run({"id": "b"}, {"id": "a"}, workers=1)
    story.place()
    return story


def next_in_line() -> Story:
    story = Story()
    story.run({"id": "a"})
    return story


SCENES: dict[Waiting, tuple[Callable[[], Story], str, int | None]] = {
    Waiting.DRAFT: (drafted, "it waits: its run was never started", 2),
    Waiting.PAUSED: (paused, "it waits: its run is paused: lunch", None),
    Waiting.STOPPED: (stopped, "it waits: its run was stopped: enough", None),
    Waiting.BACKOFF: (
        backing_off,
        "it waits: attempt 1 failed; the next may start after a pause (in 10 s)",
        7,
    ),
    Waiting.CLAIM: (claimed, "it waits: r/b holds a claim on the same writable paths", 6),
    Waiting.SLOTS: (
        busy,
        "it waits: all 1 worker slots are busy (max_workers = 1)",
        None,
    ),
    Waiting.NEXT: (
        next_in_line,
        "it waits: it is next: a slot is free and the manager will place it",
        None,
    ),
}


@pytest.mark.parametrize("waiting", list(Waiting))
def test_each_reason_to_wait_is_explained_with_what_it_rests_on(waiting: Waiting) -> None:
    scene, sentence, seq = SCENES[waiting]
    story = scene()
    run = story.state.runs["r"]
    made = explain_task(run, run.tasks["a"], story.records, alive=True, now=story.now)
    assert made["waiting"] == waiting.value
    last = made["lines"][-1]
    assert last["sentence"] == sentence
    assert last.get("seq") == seq


def lines(story: Story, task: str = "a", number: int = 0, alive: bool = True) -> list[str]:
    run = story.state.runs["r"]
    made = explain_task(
        run, run.tasks[task], story.records, alive=alive, now=story.now, number=number
    )
    return [f"{line['sentence']}  {line.get('seq', '-')}" for line in made["lines"]]


def test_a_failed_task_tells_its_story_record_by_record() -> None:
    story = backing_off()
    story.later(10).place()
    story.ended("r/a@2", FAIL, exit=1, missing=["report"], stragglers=2)
    story.later(100).place()
    story.ended("r/a@3", FAIL)
    assert lines(story) == [
        "attempt 1 went to r-local-1: free slot  6",
        "attempt 1 failed (task): exit 1 after 9.0 s, judged by exit_code  7",
        "the task was queued again, to start after 10 s (retry_policy)  7",
        "attempt 2 went to r-local-1: free slot  8",
        "attempt 2 failed (task): exit 1 after 9.0 s, judged by exit_code  9",
        "promised and missing: report  9",
        "it left 2 processes behind, and that was ended  9",
        "the task was queued again, to start after 20 s (retry_policy)  9",
        "attempt 3 went to r-local-1: free slot  10",
        "attempt 3 failed (task): exit 1 after 9.0 s, judged by exit_code  11",
        "no attempt is left: max_attempts = 3  -",
    ]
    assert lines(story, number=1)[:2] == [
        "attempt 1 went to r-local-1: free slot  6",
        "attempt 1 failed (task): exit 1 after 9.0 s, judged by exit_code  7",
    ]


def test_a_failure_that_is_not_retried_says_so() -> None:
    story = Story()
    story.run({"id": "a"}, {"id": "b", "retry_policy": {"retry_on": ["transport"]}})
    story.place()
    story.ended("r/a@1", FAIL)
    story.ended("r/b@1", FAIL)
    assert lines(story)[-1] == "no attempt is left: without a retry_policy there is one  -"
    assert lines(story, "b")[-1] == (
        "no attempt is left: task failures are not retried (transport are)  -"
    )


def test_a_used_up_budget_is_named() -> None:
    story = Story()
    policy = {"max_attempts": 9, "initial_backoff_seconds": 0}
    story.run({"id": "a", "retry_policy": policy, "budget": {"max_seconds": 5}})
    story.place()
    story.ended("r/a@1", FAIL)
    assert lines(story)[-1] == "no attempt is left: budget.max_seconds = 5 is used up  -"


def test_controls_are_told_with_who_asked() -> None:
    story = Story()
    story.run({"id": "a"})
    story.place()
    story.ask(c.Interrupt(run="r", tasks=("a",), reason="wrong branch"))
    story.ended("r/a@1", e.Receipt(result="skip"), why="interrupted", signal=2)
    assert lines(story)[1:] == [
        "cli:user asked to interrupt it: wrong branch  7",
        "attempt 1 was cancelled (human): interrupted on request (signal 2) after 9.0 s  8",
    ]
    run = story.state.runs["r"]
    story.ask(c.Restart(run="r", tasks=("a",), reason="again, please"))
    assert lines(story)[3].startswith("it was queued again: again, please")
    story.ask(c.StopRun(run="r", reason="enough"))
    made = explain_task(run, run.tasks["a"], story.records, alive=True, now=story.now)
    assert made["headline"] == "r/a was cancelled (human)."
    assert made["lines"][-1]["sentence"] == "its run was stopped (human): enough"
    assert made["next"][-1] == "To run what was cancelled: fleet resume r"


def test_a_task_that_waits_for_a_person_says_that_nobody_has_verified_it() -> None:
    story = Story()
    story.run({"id": "a"})
    story.place()
    story.ended("r/a@1", e.Receipt(result="partial", source="human", scorer="manual"), exit=0)
    assert lines(story)[-1].startswith("nobody has verified it")


def test_without_a_manager_the_explanation_ends_with_that() -> None:
    story = busy()
    assert lines(story, "b", alive=False)[-1] == (
        "nobody manages its run, so nothing moves until somebody does  -"
    )


def test_a_lost_attempt_and_a_late_one_are_told_apart() -> None:
    story = Story()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0}
    story.run({"id": "a", "retry_policy": policy})
    story.place()
    lost = e.Receipt(result="fail", source="transport", reason="the machine was restarted")
    story.ask(c.ReportLost(attempt="r/a@1", why="the machine was restarted", receipt=lost))
    story.ended("r/a@1", PASS, exit=0)
    told = lines(story)
    assert told[1] == "attempt 1 was lost: the machine was restarted  7"
    assert told[2] == "the task was queued again, to start at once  7"
    assert told[3].startswith(
        "attempt 1 passed (exit 0) after 9.0 s, judged by exit_code, too late"
    )


def test_a_run_counts_what_holds_its_tasks_up() -> None:
    story = Story()
    run = story.run(*({"id": f"t{n}"} for n in range(5)), workers=2)
    story.place()
    made = explain_run(run, story.records, alive=True, now=story.now)
    assert made["headline"] == "r is running."
    assert [line["sentence"] for line in made["lines"]] == [
        "it was started with 5 tasks",
        "3 tasks wait: all 2 worker slots are busy (max_workers = 2)",
        "2 of 2 worker slots are busy",
    ]


def test_a_stopped_run_says_who_stopped_it_and_what_failed() -> None:
    story = Story()
    run = story.run({"id": "a"}, {"id": "b"}, workers=1, max_failures=1)
    story.place()
    story.ended("r/a@1", FAIL)
    story.place()
    story.ask(c.FinishRun(run="r", seconds=9.0))
    made = explain_run(run, story.records, alive=True, now=story.now)
    assert made["headline"] == "r has finished: failed."
    assert [line["sentence"] for line in made["lines"]] == [
        "it was started with 2 tasks",
        "it was stopped (policy): max_failures = 1 was reached",
        "it finished as failed after 9.0 s",
        "a failed (task): exit 1",
    ]
    assert made["next"] == ["To run what failed again: fleet resume r --failed"]
