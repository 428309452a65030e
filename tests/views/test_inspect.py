from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.views.inspect import (
    inspect_attempt,
    inspect_run,
    inspect_task,
    inspect_worker,
)
from tests.core.crew import Crew, worker
from tests.core.playbook import FAIL

from .story import LOGS, REPORT, Story

ASKED = {
    "id": "a",
    "name": "Check the links",
    "objective": "no dead link",
    "worker": {"role": "reviewer"},
    "scorer": {"kind": "exit_code"},
}


def a_story() -> Story:
    story = Story()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 60, "jitter": 0}
    story.run({**ASKED, "retry_policy": policy}, {"id": "b"}, {"id": "c"})
    story.place()
    story.ended("r/a@1", FAIL, exit=1, logs=LOGS, artifacts=[REPORT])
    return story


def test_a_task_shows_state_goal_place_and_what_it_left() -> None:
    story = a_story()
    run = story.state.runs["r"]
    made = inspect_task(
        story.state, run, run.tasks["a"], story.records, alive=True, now=story.now, prefix=".fleet"
    )
    assert made["status"] == "queued"
    assert (made["name"], made["objective"]) == ("Check the links", "no dead link")
    assert (made["role"], made["scorer"]) == ("reviewer", "exit_code")
    assert (made["worker"], made["host"]) == ("r-local-1", "h")
    assert made["heartbeat"] is None
    assert made["latest_event"] == {
        "seq": 8,
        "word": "attempt.ended",
        "at": "2027-01-15T08:00:00Z",
        "says": "r/a@1 failed (task): exit 1 after 9.0 s; again in 1 min",
    }
    assert [one["kind"] for one in made["artifacts"]] == ["log", "report"]
    assert made["receipt"] is None
    assert made["last_error"] == "task: exit 1"
    assert made["alert"] is None
    assert made["waiting"]["reason"] == "backoff"
    assert made["next"] == ["fleet explain r/a"]


def test_what_a_task_is_for_is_its_objective_or_else_its_description() -> None:
    story = Story()
    story.run({**ASKED, "description": "for people"}, {"id": "b", "description": "for people"})
    run = story.state.runs["r"]
    shown = [
        inspect_task(
            story.state, run, row, story.records, alive=True, now=story.now, prefix=".fleet"
        )["objective"]
        for row in run.order
    ]
    assert shown == ["no dead link", "for people"]


def test_a_task_in_flight_says_when_its_worker_was_heard_of() -> None:
    story = a_story()
    run = story.state.runs["r"]
    story.later(30).ask(c.ReportBeat(workers=("r-local-2",)))
    made = inspect_task(
        story.state, run, run.tasks["b"], story.records, alive=True, now=story.now, prefix=".fleet"
    )
    assert made["heartbeat"] == "2027-01-15T08:00:30Z"
    assert made["next"] == ["fleet logs r/b --follow"]


def test_a_settled_task_shows_its_receipt_and_no_old_error() -> None:
    story = a_story()
    run = story.state.runs["r"]
    story.later(61).place()
    story.ended("r/a@2", exit=0)
    made = inspect_task(
        story.state, run, run.tasks["a"], story.records, alive=True, now=story.now, prefix=".fleet"
    )
    assert made["receipt"] == {"result": "pass", "terminal_seq": run.tasks["a"].seq}
    assert made["last_error"] is None
    assert [row["attempt"] for row in made["attempts"]] == [1, 2]


def test_an_attempt_is_shown_alone() -> None:
    story = a_story()
    run = story.state.runs["r"]
    made = inspect_attempt(story.state, run, run.tasks["a"], 1, story.records, prefix="/elsewhere")
    assert made is not None
    assert (made["id"], made["status"], made["exit"]) == ("r/a@1", "failed", 1)
    assert made["placed"] == "free slot"
    assert made["artifacts"][0]["path"] == "/elsewhere/logs/r/a.1.out"
    assert inspect_attempt(story.state, run, run.tasks["a"], 2, story.records, prefix="") is None


def test_a_worker_shows_what_it_does_now() -> None:
    story = a_story()
    run = story.state.runs["r"]

    def look(worker: str, alive: bool = True) -> dict[str, object]:
        return inspect_worker(story.state, run, worker, story.records, alive=alive, prefix="")

    busy = look("r-local-2")
    assert (busy["status"], busy["task"], busy["attempts"]) == ("busy", "b", ["r/b@1"])
    assert busy["heartbeat"] == "2027-01-15T08:00:00Z"
    idle = look("r-local-1")
    assert (idle["status"], idle["task"], idle["last_error"]) == ("online", "a", "task: exit 1")
    assert look("r-local-2", alive=False)["status"] == "offline"


def test_a_run_names_what_needs_attention_first() -> None:
    story = a_story()
    run = story.state.runs["r"]
    story.ended("r/b@1", e.Receipt(result="partial", source="human", scorer="manual"), exit=0)
    made = inspect_run(story.state, run, story.records, alive=True)
    assert [row["task"] for row in made["task_rows"]] == ["b", "a", "c"]
    assert (made["host"], made["tasks"], made["done"]) == ("h", 3, 1)


def test_a_run_with_workers_shows_what_each_has_done_and_an_attempt_the_host_it_was_on() -> None:
    crew = Crew()
    workers = {name: worker(name, 2) for name in ("web1", "web2", "web3")}
    run = crew.crew({"id": "a"}, {"id": "b"}, {"id": "c"}, workers=workers)
    crew.up("web1", host="box-1")
    crew.up("web2", host="box-2")
    crew.place()
    crew.end("a")
    crew.down("web2")
    made = inspect_run(crew.state, run, crew.records, alive=True)
    assert made["workers"] == [
        {"worker": "web1", "tasks": {"completed": 1, "leased": 1}, "host": "box-1"},
        {"worker": "web2", "tasks": {"leased": 1}, "host": "box-2", "unreachable": "no route"},
        {"worker": "web3", "tasks": {}},
    ]
    assert made["workers_total"] == 3
    shown = inspect_attempt(crew.state, run, run.tasks["b"], 1, crew.records, prefix=".fleet")
    assert shown is not None and (shown["worker"], shown["host"]) == ("r-web2-1", "box-2")
    slot = inspect_worker(crew.state, run, "r-web1-2", crew.records, alive=True, prefix=".fleet")
    assert (slot["host"], slot["attempts"]) == ("box-1", ["r/c@1"])
