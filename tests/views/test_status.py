from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.views.status import NEVER, STALE_SECONDS, good_until, status
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
        "restarted": 1, "escalated": 0, "cancelled": 0, "stale": 0,
    }  # fmt: skip
    assert {name: count for name, count in answer["failures"].items() if count} == {
        "task": 1,
        "human": 1,
    }


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
        {"id": "r/a", "why": "waits for a person", "next": "fleet inspect r/a"},
    ]
    story.ended("r/b@1")
    story.ask(c.FinishRun(run="r", seconds=3.0))
    story.ask(c.Leave(epoch=1))
    answer = status(story.state, alive=False, now=story.now)
    assert answer["manager"]["state"] == "left"
    assert answer["needs"] == [
        {"id": "r", "why": "1 task waits for a person or a verifier", "next": "fleet inspect r"}
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
