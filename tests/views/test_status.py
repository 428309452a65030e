from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.liveness import seconds_of
from codewhale_fleet.views.status import NEVER, STALE_SECONDS, good_until, status
from codewhale_fleet.views.workers import AWAY_SECONDS
from tests.core.crew import Crew, tasks, worker
from tests.core.playbook import FAIL, TRANSPORT

from .story import Story

MANUAL = e.Receipt(result="partial", source="human", scorer="manual", reason="waits for a person")


def elected(story: Story, epoch: int = 1) -> None:
    manager = e.ManagerElected(
        epoch=epoch, pid=9, host="h", boot="b", version="1", device=1, inode=1
    )
    story.ask(c.Elect(elected=manager))


def test_counts_are_exact_and_add_up() -> None:
    story = Story()
    elected(story)
    retried = {"max_attempts": 2, "initial_backoff_seconds": 60}
    story.run(
        {"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d", "retry_policy": retried}, {"id": "e"},
        workers=2,
    )  # fmt: skip
    story.place()
    story.ended("r/a@1")
    story.ended("r/b@1", FAIL)
    story.place()
    story.ended("r/c@1", MANUAL)
    story.ended("r/d@1", TRANSPORT)
    story.place()
    answer = status(story.state, alive=True, now=story.now)
    assert answer["counts"] == {
        "runs": 1, "queued": 1, "running": 1, "completed": 1, "partial": 1, "failed": 1,
        "restarted": 1, "escalated": 1, "cancelled": 0, "stale": 0,
    }  # fmt: skip
    assert {name: count for name, count in answer["failures"].items() if count} == {"task": 1}


def test_failures_count_no_task_that_waits_for_a_person_or_was_cancelled() -> None:
    story = Story()
    run = story.run({"id": "a"}, {"id": "b"}, {"id": "c"}, workers=2)
    story.place()
    story.ended("r/a@1", MANUAL)
    story.ended("r/b@1", FAIL)
    story.ask(c.StopRun(run="r", reason="enough"))
    for attempt in list(run.flights):
        story.ended(attempt, e.Receipt(result="skip", source="human"), why="stopped", signal=2)
    answer = status(story.state, alive=True, now=story.now)
    assert answer["counts"]["partial"] == answer["counts"]["cancelled"] == 1
    assert {name: count for name, count in answer["failures"].items() if count} == {"task": 1}
    assert answer["runs"][0]["sources"] == {"task": 1}


def test_a_task_leased_behind_another_on_its_slot_is_queued() -> None:
    story = Story()
    run = story.run(*({"id": f"t{n}"} for n in range(8)), workers=2)
    story.place()
    story.ended("r/t0@1", seconds=0.01)
    story.place()
    assert len(run.flights) == 6
    counts = status(story.state, alive=True, now=story.now)["counts"]
    assert (counts["running"], counts["queued"], counts["completed"]) == (2, 5, 1)


def test_an_attempt_nobody_has_heard_of_for_five_minutes_is_stale() -> None:
    story = Story()
    story.run({"id": "a"})
    story.place()
    began = story.now
    assert good_until(story.state, began) == began + STALE_SECONDS
    before = status(story.state, alive=False, now=began + STALE_SECONDS - 1)
    after = status(story.state, alive=False, now=began + STALE_SECONDS)
    assert (before["counts"]["stale"], after["counts"]["stale"]) == (0, 1)
    story.later(100).ask(c.ReportBeat(workers=("r-local-1",)))
    assert good_until(story.state, story.now) == began + 100 + STALE_SECONDS
    story.ended("r/a@1")
    assert good_until(story.state, story.now) == NEVER


def test_what_needs_a_person_is_named_with_what_to_type() -> None:
    story = Story()
    elected(story)
    story.run({"id": "a"}, {"id": "b"})
    story.place()
    story.ended("r/a@1", MANUAL)
    answer = status(story.state, alive=False, now=story.now)
    assert answer["runs"][0]["status"] == "left alone"
    assert answer["manager"]["state"] == "dead"
    assert answer["needs"] == [
        {"id": "r", "why": "is open, and nobody manages it", "next": "fleet resume r"},
        {"id": "r/a", "why": "waits for a person", "next": "fleet verify r/a@1 --pass"},
    ]
    story.ended("r/b@1")
    story.ask(c.FinishRun(run="r", seconds=3.0))
    story.ask(c.Leave(epoch=1))
    answer = status(story.state, alive=False, now=story.now)
    assert answer["manager"]["state"] == "left"
    assert answer["needs"] == [
        {"id": "r", "why": "1 task waits for somebody's verdict", "next": "fleet inspect r"}
    ]


def test_a_paused_run_says_why_and_how_it_goes_on() -> None:
    story = Story()
    elected(story)
    story.run({"id": "a"})
    story.ask(c.PauseRun(run="r", reason="quota: claude"))
    answer = status(story.state, alive=True, now=story.now)
    assert answer["runs"][0]["status"] == "paused"
    assert answer["needs"] == [
        {"id": "r", "why": "is paused: quota: claude", "next": "fleet resume r"}
    ]


def test_a_fleet_without_runs_has_an_answer_too() -> None:
    answer = status(Story().state, alive=False, now=0.0)
    assert (answer["runs"], answer["manager"]["state"]) == ([], "none")


def test_a_clock_that_jumps_ahead_of_a_live_manager_makes_nothing_stale() -> None:
    story = Story()
    story.run({"id": "a"})
    story.place()
    later = story.now + 86_400
    assert status(story.state, alive=True, now=later)["counts"]["stale"] == 0
    assert status(story.state, alive=False, now=later)["counts"]["stale"] == 1


def test_what_hangs_and_what_used_up_its_attempts_needs_a_person_first() -> None:
    story = Story()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0}
    spent = [{"id": f"t{n}", "retry_policy": policy} for n in range(2)]
    story.run({"id": "hangs"}, *spent, workers=3)
    for attempt in story.place()[1:]:
        story.ended(attempt, FAIL)
    story.ask(c.ReportQuiet(attempt="r/hangs@1", worker="r-local-1", quiet=9.0, src=("rt", 9)))
    first, second = story.place()
    story.facts = 9
    story.ended(first, FAIL)
    one = status(story.state, alive=True, now=story.now)
    assert [(need["id"], need["next"]) for need in one["needs"]] == [
        ("r/hangs", "fleet inspect r/hangs@1"),
        ("r/t0", "fleet explain r/t0"),
    ]
    assert one["counts"]["stale"] == 1
    story.ended(second, FAIL)
    both = status(story.state, alive=True, now=story.now)["needs"]
    assert both[1]["why"] == "2 tasks failed with their attempts used up"


def test_agents_that_rest_after_a_usage_limit_are_named_until_they_may_go_on() -> None:
    story = Story()
    elected(story)
    story.run({"id": "a", "agent": "claude", "command": None})
    story.place()
    quota = e.Quota(agent="claude", seconds=600, words="resets 3pm")
    story.ended("r/a@1", FAIL, agent=e.AgentFacts(), quota=quota, exit=1)
    until = story.now + 600
    answer = status(story.state, alive=True, now=story.now)
    assert answer["resting"] == [
        {"agent": "claude", "until": until, "words": "resets 3pm", "attempt": "r/a@1", "seq": 8}
    ]
    assert good_until(story.state, story.now) == until
    assert status(story.state, alive=True, now=until)["resting"] == []


def test_what_runs_on_a_worker_that_is_away_needs_a_person_once_it_is_no_blip() -> None:
    crew = Crew()
    crew.crew(*tasks(3), workers={"web1": worker("web1", 2), "web2": worker("web2", 1)})
    crew.up("web1", slots=2)
    crew.place()
    crew.down("web1", "web2")
    gone = crew.now
    assert good_until(crew.state, gone) == gone + AWAY_SECONDS
    crew.later(AWAY_SECONDS - 1)
    assert status(crew.state, alive=True, now=crew.now)["needs"] == []
    (need,) = status(crew.state, alive=True, now=gone + AWAY_SECONDS)["needs"]
    assert need == {
        "id": "web1", "why": "web1 cannot be reached; 2 attempts run there",
        "next": "fleet worker test web1", "since": need["since"],
    }  # fmt: skip
    assert seconds_of(need["since"]) == gone
    assert status(crew.state, alive=True, now=gone + 99, only="r")["needs"] == [need]
    (left,) = status(crew.state, alive=False, now=gone + 99)["needs"]
    assert left["next"] == "fleet resume r"
    crew.up("web1", slots=2)
    assert status(crew.state, alive=True, now=gone + 99)["needs"] == []


def test_an_attempt_that_is_not_heard_of_any_more_is_said_to_be_that() -> None:
    crew = Crew()
    crew.crew(*tasks(1), workers={"web1": worker("web1", 1)})
    crew.up("web1")
    crew.place()
    crew.ask(c.ReportStill(attempt="r/t1@1", worker="r-web1-1", quiet=300.0))
    (need,) = status(crew.state, alive=True, now=crew.now)["needs"]
    assert need["why"] == "is stale: no sign of life"
