"""Which worker an attempt went to and why, from the records alone; and by worker, why one waits."""

from typing import Any

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.views.explain import explain_task
from tests.core.crew import HERE, Crew, worker
from tests.core.playbook import FAIL

WORKERS = {
    **{f"web{n}": worker(f"web{n}", labels={"role": "web"}) for n in range(1, 7)},
    **{f"db{n}": worker(f"db{n}", labels={"role": "db"}) for n in (1, 2)},
    "mac": worker("mac"),
    "local": HERE,
}
WEB = {"labels": {"role": "web"}}


def explained(crew: Crew, task: str = "a", number: int = 0) -> list[str]:
    run = crew.state.runs["r"]
    words = ("worker.draining", "worker.retired", "worker.registered", "worker.unreachable",
             "worker.enrolled")  # fmt: skip
    made: dict[str, Any] = explain_task(
        run,
        run.tasks[task],
        crew.records,
        alive=True,
        now=crew.now,
        number=number,
        workers=crew.state.workers,
        runs=crew.state.open_runs.values(),
        of_workers=[one for one in crew.records if one[0].k in words],
    )
    return [f"{one['sentence']}  {one.get('seq', '-')}" for one in made["lines"]]


def test_what_spoke_for_a_worker_is_told_with_what_the_others_did_at_that_moment() -> None:
    crew = Crew()
    crew.crew(
        {"id": "b", "requires": WEB}, {"id": "a", "requires": {**WEB, "cores": 2}}, workers=WORKERS
    )
    crew.up("web1", "web2", "web3", "db1", "local")
    crew.ask(c.Drain(worker="web4", reason="new kernel"))
    crew.down("web5", why="no route")
    crew.place()
    crew.ask(c.Drain(worker="web4", on=False))
    crew.up("web5")
    assert explained(crew)[:6] == [
        "attempt 1 went to web2: it asks for role=web, 2 cores; "
        "least loaded of 2 with a free slot; 1 busy, 2 not connected, 1 out of use  13",
        "web4 got nothing new: new kernel  10",
        "web5 could not be reached since 2027-01-15T08:00:00Z: no route  11",
        "db[1-2] did not match: its label role is db, not web  -",
        "mac did not match: it has no label role  -",
        "it was given to the worker, which has not said that it runs  13",
    ]


def test_a_later_attempt_tells_of_the_others_only_what_has_changed() -> None:
    crew = Crew()
    policy = {"max_attempts": 3, "initial_backoff_seconds": 0, "retry_on": ["task"]}
    two = {name: WORKERS[name] for name in ("web1", "web2", "db1")}
    crew.crew({"id": "a", "requires": WEB, "retry_policy": policy}, workers=two)
    crew.up("web1", "web2", "db1")
    for _ in range(2):
        crew.place()
        crew.end("a", FAIL)
    crew.ask(c.Drain(worker="web1"))
    crew.place()
    told = [one for one in explained(crew) if " went to " in one or "match" in one or "got " in one]
    why = "it asks for role=web; least loaded of 2 with a free slot"
    assert told == [
        f"attempt 1 went to web1: {why}  8",
        "db1 did not match: its label role is db, not web  -",
        f"attempt 2 went to web1: {why}  10",
        "attempt 3 went to web2: it asks for role=web; the only one with a free slot; "
        "1 out of use  13",
        "web1 got nothing new  12",
        "db1 did not match: its label role is db, not web  -",
    ]
    assert explained(crew, number=2)[0] == f"attempt 2 went to web1: {why}  10"


def test_a_task_that_names_its_worker_or_none_says_just_that() -> None:
    crew = Crew()
    crew.crew(
        {"id": "a", "requires": {"target": "web3"}}, {"id": "b"}, workers=WORKERS, spread=False
    )
    crew.up("web3", "local")
    crew.place()
    (first, *_) = explained(crew)
    assert first.startswith("attempt 1 went to web3: it asks for web3  ")
    (first, second, *_) = explained(crew, "b")
    assert first.startswith("attempt 1 went to this machine: it asks for no worker; ")
    assert "match" not in second


def test_what_waits_says_by_worker_for_what_and_many_that_are_alike_share_a_line() -> None:
    crew = Crew()
    names = [f"w{n:02}" for n in range(40)]
    fields = [{"id": f"t{n}", "requires": {"cores": 2}} for n in range(9)]
    crew.crew(*fields, {"id": "a", "requires": {"cores": 2}},
              workers={name: worker(name) for name in names})  # fmt: skip
    crew.up(*names[:8])
    crew.up("w08", cores=1)
    crew.down(*names[9:30], why="no route")
    crew.place()
    assert explained(crew) == [
        "it waits: every worker that matches is busy  -",
        "w00 is busy: r/t0@1 runs there  -",
        "w01 is busy: r/t1@1 runs there  -",
        "w02 is busy: r/t2@1 runs there  -",
        "5 more are busy  -",
        f"w[09-29] can't be reached since {crew.ts()}: no route  14",
        "w[30-39] were not tried yet  -",
        "w08 does not match: it has 1 core, not 2  -",
    ]


def test_another_run_that_holds_the_only_worker_is_named() -> None:
    crew = Crew()
    one = {"web1": worker("web1")}
    crew.crew({"id": "x"}, workers=one, name="s")
    crew.crew({"id": "a"}, workers=one)
    crew.up("web1")
    crew.place("s")
    assert explained(crew) == ["it waits: web1 is busy: s/x@1 runs there  -"]


def test_an_attempt_that_was_leased_ahead_says_so() -> None:
    crew = Crew()
    crew.crew({"id": "z"}, {"id": "b"}, {"id": "a"}, workers={"web1": worker("web1")})
    crew.up("web1", ahead=3)
    crew.place()
    crew.end("z", seconds=0.01)
    crew.place()
    assert explained(crew)[0].startswith(
        "attempt 1 went to web1: leased ahead: tasks here are short  "
    )
    assert isinstance(crew.records[-1][1], e.AttemptDispatched)
