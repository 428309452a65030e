from collections.abc import Callable

import pytest
from msgspec import structs

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.placement import Waiting
from codewhale_fleet.views.explain import explain_task
from codewhale_fleet.views.explain_run import explain_run, explain_worker
from tests.core.crew import Crew
from tests.core.crew import worker as defined
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
    run = story.run({"id": "a"}, {"id": "b"}, workers=1)
    (attempt,) = story.place()
    story.ask(c.StopRun(run="r", reason="enough"))
    run.tasks["a"].status = "queued"
    assert attempt == "r/a@1"
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


def limited() -> Story:
    story = Story()
    story.run({"id": "a", "agent": "claude", "command": None})
    story.place()
    quota = e.Quota(agent="claude", seconds=600, words="resets 3pm")
    story.ended("r/a@1", FAIL, agent=e.AgentFacts(), quota=quota, exit=1)
    return story


def next_in_line() -> Story:
    story = Story()
    story.run({"id": "a"})
    return story


def on_workers(*events: c.Command, up: str = "", **asked: object) -> Callable[[], Crew]:
    """A run of `a` and an earlier `b` on web1 and web2, to which these things have happened."""

    def scene() -> Crew:
        crew = Crew()
        workers = {name: defined(name) for name in ("web1", "web2")}
        crew.crew({"id": "b"}, {"id": "a", "requires": asked}, workers=workers)
        crew.up(*up.split())
        crew.place()
        for event in events:
            crew.ask(event)
        return crew

    return scene


SCENES: dict[Waiting, tuple[Callable[[], Story | Crew], str, int | None]] = {
    Waiting.DRAFT: (drafted, "it waits: its run was never started", 2),
    Waiting.PAUSED: (paused, "it waits: its run is paused: lunch", 6),
    Waiting.STOPPED: (stopped, "it waits: its run was stopped: enough", 7),
    Waiting.BACKOFF: (
        backing_off,
        "it waits: attempt 1 failed; the next may start after a pause (in 10 s)",
        7,
    ),
    Waiting.QUOTA: (
        limited,
        "it waits: claude has reached a usage limit: resets 3pm (in 10 min)",
        7,
    ),
    Waiting.CLAIM: (claimed, "it waits: r/b holds a claim on the same writable paths", 6),
    Waiting.DISK: (next_in_line, "it waits: only 3.00 MB are free on the fleet's disk", None),
    Waiting.SLOTS: (
        busy,
        "it waits: all 1 worker slots are busy (max_workers = 1)",
        5,
    ),
    Waiting.WORKERS: (
        on_workers(platform="plan9", up="web1 web2"),
        "it waits: no worker matches: web1, web2: it is linux, not plan9",
        None,
    ),
    Waiting.BUSY: (
        on_workers(up="web1"),
        "it waits: every worker that matches is busy\n"
        "web1 is busy: r/b@1 runs there\nweb2 was not tried yet",
        None,
    ),
    Waiting.UNTRIED: (on_workers(), "it waits: web1, web2 were not tried yet", None),
    Waiting.DRAINING: (
        on_workers(c.Drain(worker="web1", reason="new disk"), target="web1"),
        "it waits: web1 gets nothing new: new disk",
        5,
    ),
    Waiting.UNREACHABLE: (
        on_workers(c.ReportUnreachable(worker="web2", why="no route"), target="web2"),
        "it waits: web2 can't be reached since 2027-01-15T08:00:00Z: no route",
        5,
    ),
    Waiting.NEXT: (
        next_in_line,
        "it waits: it is next: a slot is free and the manager will place it",
        5,
    ),
}


@pytest.mark.parametrize("waiting", list(Waiting))
def test_each_reason_to_wait_is_explained_with_what_it_rests_on(waiting: Waiting) -> None:
    scene, sentence, seq = SCENES[waiting]
    story = scene()
    run = story.state.runs["r"]
    full = "only 3.00 MB are free on the fleet's disk" if waiting is Waiting.DISK else ""
    made = explain_task(
        run,
        run.tasks["a"],
        story.records,
        alive=True,
        now=story.now,
        full=full,
        breakers=story.state.breakers,
        workers=story.state.workers,
        runs=story.state.open_runs.values(),
    )
    assert made["waiting"] == waiting.value
    last = made["lines"][-len(sentence.splitlines()) :]
    assert "\n".join(one["sentence"] for one in last) == sentence
    assert last[0].get("seq") == seq


def lines(story: Story, task: str = "a", number: int = 0, alive: bool = True) -> list[str]:
    run = story.state.runs["r"]
    made = explain_task(
        run, run.tasks[task], story.records, alive=alive, now=story.now, number=number
    )
    return [f"{line['sentence']}  {line.get('seq', '-')}" for line in made["lines"]]


def test_a_usage_limit_and_a_warning_are_told_with_their_records() -> None:
    story = limited()
    story.later(600).place()
    story.ask(
        c.ReportProgress(
            attempt="r/a@2",
            worker="r-local-1",
            src=("rt", 9),
            agent=e.AgentFacts(),
            warn=("max_tokens", "run.max_cost_usd"),
        )
    )
    told = lines(story)
    rests = "claude has reached a usage limit and rests for 10 min: resets 3pm  7"
    assert rests in told
    warned = "attempt 2 has used 80 % of budget.max_tokens and the run's budget.max_cost_usd  9"
    assert warned in told


RETRIED = "task failures are retried, with max_attempts = 3 (retry_policy)"


def test_a_failed_task_tells_its_story_record_by_record() -> None:
    story = backing_off()
    story.later(10).place()
    story.ended("r/a@2", FAIL, exit=1, missing=["report"], stragglers=2)
    story.later(100).place()
    story.ended("r/a@3", FAIL)
    assert lines(story) == [
        "attempt 1 went to r-local-1: free slot  6",
        "attempt 1 failed (task): exit 1 after 9.0 s, judged by exit_code  7",
        f"the task was queued again, to start after 10 s: {RETRIED}  7",
        "attempt 2 went to r-local-1: free slot  8",
        "attempt 2 failed (task): exit 1 after 9.0 s, judged by exit_code  9",
        "promised and missing: report  9",
        "it left 2 processes behind, and that was ended  9",
        f"the task was queued again, to start after 20 s: {RETRIED}  9",
        "attempt 3 went to r-local-1: free slot  10",
        "attempt 3 failed (task): exit 1 after 9.0 s, judged by exit_code  11",
        "no attempt is left: max_attempts = 3  11",
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
    assert lines(story)[-1] == "no attempt is left: without a retry_policy there is one  8"
    assert lines(story, "b")[-1] == (
        "no attempt is left: task failures are not retried (transport are)  9"
    )


def test_a_used_up_budget_is_named() -> None:
    story = Story()
    policy = {"max_attempts": 9, "initial_backoff_seconds": 0}
    story.run({"id": "a", "retry_policy": policy, "budget": {"max_seconds": 5}})
    story.place()
    story.ended("r/a@1", FAIL)
    assert lines(story)[-1] == "no attempt is left: budget.max_seconds = 5 is used up (9)  7"


def test_who_has_spent_a_budget_is_not_sent_into_it_again() -> None:
    story = Story()
    story.run({"id": "a"}, {"id": "b"})
    story.place()
    story.ended("r/a@1", structs.replace(FAIL, source="budget"))
    run = story.state.runs["r"]

    def of_task(name: str) -> str:
        return explain_task(run, run.tasks[name], [], alive=True, now=0.0)["next"][-1]

    def of_run() -> list[str]:
        return explain_run(run, [], alive=True, now=0.0)["next"]

    spent = "Its budget is spent: give it a larger one in the spec, then: fleet run SPEC"
    assert of_task("a") == spent
    assert of_run() == [spent]
    story.ended("r/b@1", FAIL)
    again = "To run what failed again: fleet resume r --failed"
    assert of_task("b") == again
    assert of_run() == [again]


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
    assert lines(story)[3].startswith("cli:user queued it again: again, please")
    story.ask(c.StopRun(run="r", reason="enough"))
    made = explain_task(run, run.tasks["a"], story.records, alive=True, now=story.now)
    assert made["headline"] == "r/a was cancelled (human)."
    assert made["lines"][-1]["sentence"] == "its run was stopped by cli:user (human): enough"
    assert made["next"][-1] == "To run what was cancelled: fleet resume r"


def test_a_task_that_waits_for_a_person_says_that_nobody_has_verified_it() -> None:
    story = Story()
    story.run({"id": "a"})
    story.place()
    story.ended("r/a@1", e.Receipt(result="partial", source="human", scorer="manual"), exit=0)
    assert lines(story)[-1].startswith("waits for somebody's verdict; fleet verify r/a@1 --pass")


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
    assert told[2] == (
        "the task was queued again, to start at once: transport failures are retried, "
        "with max_attempts = 2 (retry_policy)  7"
    )
    assert told[3].startswith(
        "attempt 1 passed (exit 0) after 9.0 s, judged by exit_code, too late"
    )


def test_of_work_whose_machine_cannot_be_reached_that_is_said() -> None:
    crew = on_workers(c.ReportUnreachable(worker="web1", why="no route"), up="web1")()
    run = crew.state.runs["r"]
    made = explain_task(
        run, run.tasks["b"], crew.records, alive=True, now=crew.now, workers=crew.state.workers
    )
    assert made["lines"][-1]["sentence"] == (
        "its worker can't be reached since 2027-01-15T08:00:00Z: no route; it may still run there"
    )


def test_a_run_counts_what_holds_its_tasks_up() -> None:
    story = Story()
    run = story.run(*({"id": f"t{n}"} for n in range(5)), workers=2)
    story.place()
    made = explain_run(run, story.records, alive=True, now=story.now)
    assert made["headline"] == "r is running."
    assert [line["sentence"] for line in made["lines"]] == [
        "cli:user started it with 5 tasks",
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
        "cli:user started it with 2 tasks",
        "it was stopped by cli:user (policy): max_failures = 1 was reached",
        "it finished as failed after 9.0 s",
        "a failed (task): exit 1",
    ]
    assert made["next"] == ["To run what failed again: fleet resume r --failed"]


def quiet(story: Story, attempt: str, *, moves: bool = False) -> None:
    story.facts += 1
    src = ("rt", story.facts)
    worker = story.state.runs["r"].flights[attempt].worker
    story.ask(c.ReportQuiet(attempt=attempt, worker=worker, quiet=60.0, src=src, moves=moves))


def test_a_hung_attempt_and_its_recovery_are_told_with_their_records() -> None:
    story = Story()
    run = story.run({"id": "a"})
    story.place()
    quiet(story, "r/a@1")
    assert lines(story)[1] == ("attempt 1 went stale: no output and no processor time for 1 min  7")
    made = explain_task(run, run.tasks["a"], story.records, alive=True, now=story.now)
    assert made["stale_since"] == story.ts()
    of_run = explain_run(run, story.records, alive=True, now=story.now)
    assert of_run["lines"][-1] == {
        "sentence": "a is stale: no output and no processor time", "seq": 7,
    }  # fmt: skip
    quiet(story, "r/a@1", moves=True)
    assert lines(story)[2] == "attempt 1 moved again after 1 min  8"
    made = explain_task(run, run.tasks["a"], story.records, alive=True, now=story.now)
    assert "stale_since" not in made


def test_a_failure_of_an_agent_is_shown_by_what_it_said_and_not_by_a_line_of_its_stream() -> None:
    story = Story()
    run = story.run({"id": "a"})
    story.place()
    said = e.AgentFacts(note="I give up")
    story.ended("r/a@1", FAIL, exit=1, logs={"err": e.Log(path="e", size=3)}, agent=said)
    told = explain_task(
        run, run.tasks["a"], story.records, alive=True, now=story.now,
        last_words=lambda log: '{"type": "result"}',
    )["lines"]  # fmt: skip
    assert told[2]["sentence"] == "its agent said last: I give up"
    assert "result" not in str(told)


def test_a_failure_is_shown_by_its_last_line_or_by_what_was_judged() -> None:
    story = Story()
    run = story.run({"id": "a"}, {"id": "b"})
    story.place()
    logs = {"out": e.Log(path="o", size=3), "err": e.Log(path="e", size=3)}
    story.ended("r/a@1", FAIL, exit=1, logs=logs)
    kept = {"r.json": e.Evidence(sha256="ab", size=1200)}
    story.ended("r/b@1", FAIL, exit=0, evidence=kept)

    def told(task: str, words: dict[str, str]) -> list[dict[str, object]]:
        return explain_task(  # type: ignore[no-any-return]
            run, run.tasks[task], story.records, alive=True, now=story.now,
            last_words=lambda log: words.get(log.path, ""),
        )["lines"]  # fmt: skip

    assert told("a", {"e": "no such file", "o": "begun"})[2] == {
        "sentence": "its last line on stderr: no such file", "seq": 8,
        "evidence": "e", "text": "no such file",
    }  # fmt: skip
    assert told("a", {"o": "begun"})[2]["sentence"] == "its last line on stdout: begun"
    assert told("b", {})[2] == {
        "sentence": "evidence: r.json: 1,200 bytes, kept as evidence/ab", "seq": 9,
        "evidence": "r.json",
    }  # fmt: skip


def worker(story: Story, slot: int = 1, alive: bool = True) -> tuple[str, list[str]]:
    run = story.state.runs["r"]
    made = explain_worker(run, f"r-local-{slot}", story.records, alive=alive, now=story.now)
    return made["headline"], [f"{one['sentence']}  {one.get('seq', '-')}" for one in made["lines"]]


def test_a_worker_says_what_it_does_and_how_that_came_to_it() -> None:
    story = busy()
    assert worker(story) == (
        "r-local-1 is busy with r/b@1.",
        ["it was enrolled: 1 worker slot on h  5", "r/b@1 came to it: free slot  6"],
    )
    assert worker(story, alive=False)[0] == "r-local-1 is offline: nobody manages its run."
    story.ended("r/b@1", FAIL)
    story.place()
    story.ended("r/a@1", PASS)
    story.ask(c.FinishRun(run="r", seconds=1.0))
    headline, told = worker(story)
    assert headline == "r-local-1 is gone: its run has finished."
    assert told[-1] == "r/a@1 passed  9"


def test_an_idle_worker_says_why_nothing_comes_to_it() -> None:
    story = claimed()
    assert worker(story, 2) == (
        "r-local-2 is idle.",
        [
            "it was enrolled: 2 worker slots on h  5",
            "1 task waits: r/b holds a claim on the same writable paths  6",
        ],
    )
    story.ended("r/b@1", PASS)
    story.ended(story.place()[0], PASS)
    assert worker(story, 2)[1][-1] == "no task of its run waits  -"


def test_a_slot_of_another_machine_is_explained_by_how_that_stands() -> None:
    crew = on_workers(c.ReportUnreachable(worker="web1", why="no route"), up="web1 web2")()
    run, known = crew.state.runs["r"], crew.state.workers
    made = explain_worker(run, "r-web1-1", crew.records, alive=True, now=crew.now, workers=known)
    told = [one["sentence"] for one in made["lines"]]
    assert told == [
        f"web1 is h: linux, 4 cores, seen {crew.ts()}",
        f"web1 can't be reached since {crew.ts()}: no route",
        "r/b@1 came to it: least loaded of 2 with a free slot",
    ]
    whole = explain_run(run, crew.records, alive=True, now=crew.now, workers=known)
    assert "it holds 2 slots of 2 workers" in [one["sentence"] for one in whole["lines"]]


def test_tasks_that_no_worker_could_be_given_are_explained_with_the_record() -> None:
    crew = on_workers(target="web2")()
    crew.strand({"web2": "no route"})
    run = crew.state.runs["r"]
    made = explain_task(run, run.tasks["a"], crew.records, alive=True, now=crew.now)
    first = made["lines"][0]
    assert first == {"sentence": "no worker could be given it: web2: no route", "seq": 5}
