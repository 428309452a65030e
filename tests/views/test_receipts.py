from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.state import Run
from codewhale_fleet.views.receipts import receipts
from tests.core.playbook import FAIL

from .story import LOGS, REPORT, Story


def a_story() -> tuple[Story, Run]:
    story = Story()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0}
    run = story.run({"id": "a"}, {"id": "b", "retry_policy": policy}, {"id": "c"})
    story.place()
    story.ended("r/a@1", exit=0, logs=LOGS, artifacts=[REPORT])
    story.ended("r/b@1", FAIL)
    story.place()
    story.ended("r/b@2", FAIL, exit=1, missing=["report"])
    return story, run


def test_a_receipt_has_the_reference_fields() -> None:
    story, run = a_story()
    first = next(receipts(run, story.records))
    assert first == {
        "run_id": "r",
        "task_id": "a",
        "worker_id": "r-local-1",
        "attempt": 1,
        "terminal_seq": 8,
        "completed_at": "2027-01-15T08:00:00Z",
        "result": "pass",
        "scorer": "exit_code",
        "score": {"value": 1.0, "max": 1.0, "notes": ""},
        "exit": 0,
        "seconds": 9.0,
        "artifacts": [
            {
                "kind": "log",
                "path": ".fleet/logs/r/a.1.out",
                "checksum": "sha256:" + "ab" * 32,
                "mime_type": "text/plain",
                "size_bytes": 42,
                "dropped_bytes": 7,
            },
            {
                "kind": "report",
                "path": "out/r.md",
                "checksum": "sha256:" + "cd" * 32,
                "mime_type": "text/markdown",
                "size_bytes": 9,
            },
        ],
    }


def test_a_task_that_has_ended_has_exactly_one_deciding_receipt() -> None:
    story, run = a_story()
    made = [(one["task_id"], one["attempt"]) for one in receipts(run, story.records)]
    assert made == [("a", 1), ("b", 2)]
    story.ask(c.StopRun(run="r", reason="enough"))
    for attempt in list(run.flights):
        story.ended(attempt, e.Receipt(result="skip"), why="stopped", signal=2)
    made = [(one["task_id"], one["result"]) for one in receipts(run, story.records)]
    assert made == [("a", "pass"), ("b", "fail"), ("c", "skip")]


def test_repeated_attempts_show_theirs_when_asked() -> None:
    story, run = a_story()
    made = list(receipts(run, story.records, repeated=True))
    assert [(one["task_id"], one["attempt"], one.get("repeated", False)) for one in made] == [
        ("a", 1, False),
        ("b", 1, True),
        ("b", 2, False),
    ]
    failed = made[2]
    assert failed["failure_kind"] == "task"
    assert failed["missing"] == ["report"]
    assert failed["score"] == {"value": 0.0, "max": 1.0, "notes": "exit 1"}


def test_a_task_that_never_ran_is_skipped_without_an_attempt() -> None:
    story = Story()
    run = story.run({"id": "a"})
    story.ask(c.StopRun(run="r", reason="enough"))
    assert list(receipts(run, story.records)) == [
        {
            "run_id": "r",
            "task_id": "a",
            "worker_id": "",
            "terminal_seq": 6,
            "completed_at": "2027-01-15T08:00:00Z",
            "result": "skip",
            "score": None,
            "reason": "enough",
            "artifacts": [],
        }
    ]


def test_what_was_waived_stands_on_every_receipt() -> None:
    story, run = a_story()
    run.waived = ["budget.max_tokens"]
    assert [one["unenforced"] for one in receipts(run, story.records)] == [
        ["budget.max_tokens"],
        ["budget.max_tokens"],
    ]


def test_one_task_and_one_attempt_can_be_asked_for() -> None:
    story, run = a_story()
    assert [one["task_id"] for one in receipts(run, story.records, task="b")] == ["b"]
    one = list(receipts(run, story.records, task="b", number=1))
    assert [(made["attempt"], made["repeated"]) for made in one] == [(1, True)]
