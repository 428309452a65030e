"""Why a task of a run with workers waits, told for each thing that can keep it."""

from codewhale_fleet.core import commands as c
from codewhale_fleet.core.lookout import said
from codewhale_fleet.core.placement import Other, Waiting, watch, why_waiting

from .crew import HERE, Crew, tasks, worker

WEB = {"web1": worker("web1"), "web2": worker("web2")}


def why(crew: Crew, task: str) -> tuple[Waiting, str]:
    run = crew.state.runs["r"]
    look = watch(run, crew.state.workers, crew.state.runs.values())
    reason = why_waiting(run, run.tasks[task], crew.now, lookout=look)
    return reason.waiting, reason.sentence


def test_each_thing_that_keeps_a_task_waiting_is_told() -> None:
    crew = Crew()
    crew.crew(*tasks(4), {"id": "x", "requires": {"platform": "plan9"}}, workers=WEB, most=9)
    assert why(crew, "t1") == (Waiting.UNTRIED, "web1, web2 were not tried yet")
    crew.up("web1")
    assert why(crew, "t1")[0] is Waiting.NEXT
    crew.down("web2")
    crew.place()
    gone = f"web2 can't be reached since {crew.ts()}: no route"
    told = f"every worker that matches is busy: web1 is busy: r/t1@1 runs there; {gone}"
    assert why(crew, "t2") == (Waiting.BUSY, told)
    crew.ask(c.Drain(worker="web1", reason="new disk"))
    waiting, sentence = why(crew, "t2")
    assert waiting is Waiting.UNREACHABLE
    gone = "web1 gets nothing new: new disk; web2 can't be reached since"
    assert sentence.startswith(f"no worker that matches can be used now: {gone}")
    crew.up("web2")
    crew.ask(c.Drain(worker="web2"))
    assert why(crew, "t2") == (
        Waiting.DRAINING,
        "no worker that matches can be used now: "
        "web1 gets nothing new: new disk; web2 gets nothing new",
    )
    assert why(crew, "x") == (
        Waiting.WORKERS,
        "no worker matches: web1, web2: it is linux, not plan9",
    )


def test_what_is_taken_and_what_a_run_may_hold_is_told() -> None:
    crew = Crew()
    crew.crew(
        *tasks(3, requires={"memory_mb": 5000, "target": "box"}),
        workers={"box": worker("box", 9), "local": HERE},
        most=2,
    )
    crew.up("box", "local")
    crew.place()
    told = "box is busy: too little memory left beside r/t1@1"
    assert why(crew, "t2") == (Waiting.BUSY, told)
    crew.crew(*tasks(3), workers={"box": worker("box", 9)}, name="s", most=1)
    crew.place("s")
    run = crew.state.runs["s"]
    reason = why_waiting(run, run.tasks["t2"], crew.now, lookout=watch(run, crew.state.workers))
    assert reason.sentence == "its run holds 1 slots (max_workers = 1)"


def test_one_lookout_serves_a_thousand_tasks_each_of_its_own_worker() -> None:
    crew = Crew()
    names = [f"w{number:04}" for number in range(300)]
    run = crew.crew(
        *({"id": f"t-{name}", "requires": {"target": name}} for name in names),
        workers={name: worker(name) for name in names},
    )
    look = watch(run, crew.state.workers)
    assert look is not None
    found = {look(task).sentence for task in run.order}
    assert "w0007 was not tried yet" in found and len(found) == 300


def test_since_when_somebody_is_away_is_said_to_the_second() -> None:
    away = Other("web1", "unreachable", "no route", 5, "2026-11-22T10:10:08.546533Z")
    assert said(away) == "web1 can't be reached since 2026-11-22T10:10:08Z: no route"
