"""Placement on several workers, as conversations: who gets what, and who waits for what."""

from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core.greeting import Greeting, on_greeting, on_takeover
from codewhale_fleet.core.rebuild import rebuild
from codewhale_fleet.core.spread import is_hopeless, wanted

from .crew import HERE, Crew, tasks, worker
from .playbook import FAIL, TRANSPORT
from .test_liveness import elected

WEB = {"web1": worker("web1"), "web2": worker("web2")}


def test_the_least_loaded_worker_gets_the_next_and_the_first_by_id_among_equals() -> None:
    crew = Crew()
    crew.crew(*tasks(5), workers={"b": worker("b", 2), "a": worker("a", 2)})
    crew.up("a", "b")
    assert crew.place() == ["t1 a-1", "t2 b-1", "t3 a-2", "t4 b-2"]
    crew.end("t2")
    assert crew.place() == ["t5 b-1"]


def test_only_who_is_connected_gets_work() -> None:
    crew = Crew()
    crew.crew(*tasks(3), workers=WEB)
    assert crew.place() == []
    crew.up("web2")
    assert crew.place() == ["t1 web2-1"]
    crew.up("web1")
    assert crew.place() == ["t2 web1-1"]
    crew.down("web1")
    crew.end("t2")
    assert crew.place() == []


def test_a_task_goes_where_it_asks_to_go() -> None:
    crew = Crew()
    wanted_by = [
        {"requires": {"target": "web2"}},
        {"requires": {"labels": {"role": "db"}}},
        {"worker": {"name": "The database"}},
        {"worker": {"capabilities": ["docker"]}},
        {"requires": {"platform": "Darwin"}},
    ]
    crew.crew(
        *({"id": f"t{number}", **asked} for number, asked in enumerate(wanted_by, 1)),
        workers={
            "db": worker("db", 9, name="The database", labels={"role": "db"}),
            "mac": worker("mac", 9),
            "web1": worker("web1", 9, capabilities=["docker"]),
            "web2": worker("web2", 9),
        },
    )
    crew.up("db", "web1", "web2")
    crew.up("mac", platform="darwin")
    assert crew.place() == ["t1 web2-1", "t2 db-1", "t3 db-2", "t4 web1-1", "t5 mac-1"]


def test_tasks_that_ask_for_nothing_stay_here_unless_the_run_is_spread() -> None:
    crew = Crew()
    crew.crew(*tasks(2), {"id": "w", "requires": {"target": "web1"}}, workers=WEB, spread=False)
    crew.up("web1", "web2", "local")
    assert crew.place() == ["t1 local-1", "t2 local-2", "w web1-1"]
    crew.crew(*tasks(1), workers=WEB, name="s")
    assert crew.place("s") == ["t1 web2-1"]


def test_this_machine_is_a_worker_like_another_where_the_run_names_it() -> None:
    crew = Crew()
    crew.crew(*tasks(5), workers={"local": HERE, "web1": worker("web1", 2)}, most=4)
    crew.up("web1", "local")
    assert crew.place() == ["t1 local-1", "t2 web1-1", "t3 local-2", "t4 web1-2"]


def test_cores_memory_and_gpus_are_packed_over_all_runs() -> None:
    crew = Crew()
    box = {"box": worker("box", 9)}
    crew.crew(*tasks(3, requires={"cores": 2, "memory_mb": 3000}), workers=box)
    crew.crew(*tasks(3, requires={"memory_mb": 2000}), workers=box, name="s")
    crew.up("box", cores=5, memory_mb=8000)
    assert crew.place() == ["t1 box-1", "t2 box-2"]
    assert crew.place("s") == ["t1 box-1"]
    crew.end("t1")
    assert crew.place("s") == ["t2 box-2"]
    assert crew.place() == []
    crew.end("t2", run="s")
    assert crew.place() == ["t3 box-1"]


def test_gpus_are_leased_one_by_one_and_given_back() -> None:
    crew = Crew()
    crew.crew(*tasks(3, requires={"gpus": 2}), workers={"box": worker("box", 9, gpus=5)})
    crew.up("box")
    assert [event.gpus for event in crew.due()] == [[0, 1], [2, 3]]
    crew.end("t1")
    (event,) = crew.due()
    assert event.gpus == [0, 1]
    assert crew.state.runs["r"].flights["r/t3@1"].gpus == [0, 1]
    assert crew.state.workers["box"].gpus_taken == 0b1111


def test_slots_of_a_worker_are_shared_by_all_runs() -> None:
    crew = Crew()
    crew.crew(*tasks(3), workers={"web1": worker("web1", 2)})
    crew.crew(*tasks(3), workers={"web1": worker("web1", 2)}, name="s")
    crew.up("web1")
    assert crew.place() == ["t1 web1-1", "t2 web1-2"]
    assert crew.place("s") == []
    crew.end("t1")
    assert crew.everywhere() == ["t1 web1-1"]
    assert crew.state.runs["s"].flights and crew.state.workers["web1"].busy == 2


def test_runs_that_want_the_same_slot_get_it_in_turn() -> None:
    crew = Crew()
    for name in ("r", "s"):
        crew.crew(*tasks(4), workers={"web1": worker("web1")}, name=name)
    crew.up("web1")
    served = []
    for _ in range(6):
        crew.everywhere()
        ((attempt, _),) = [
            flight for run in crew.state.runs.values() for flight in run.flights.items()
        ]
        served.append(attempt[0])
        crew.ended(attempt, exit=0)
    assert served == ["r", "s", "r", "s", "r", "s"]


def test_a_run_holds_no_more_slots_than_it_may() -> None:
    crew = Crew()
    crew.crew(*tasks(9), workers={"a": worker("a", 9), "b": worker("b", 9)}, most=3)
    crew.up("a", "b", ahead=1)
    assert crew.place() == ["t1 a-1", "t2 b-1", "t3 a-2"]
    crew.end("t1", seconds=0.01)
    assert crew.place() == ["t4 a-1", "t5 b-1", "t6 a-1", "t7 a-2"]
    assert len(crew.state.runs["r"].load) == 3


def test_attempts_are_leased_ahead_while_tasks_are_short_and_nobody_else_is_there() -> None:
    crew = Crew()
    crew.crew(*tasks(9), workers=WEB)
    crew.up("web1", ahead=2)
    crew.up("web2")
    assert crew.place() == ["t1 web1-1", "t2 web2-1"]
    crew.end("t1", seconds=0.01)
    assert crew.place() == ["t3 web1-1", "t4 web1-1", "t5 web1-1"]
    crew.crew(*tasks(1), workers=WEB, name="s")
    crew.place("s")
    crew.end("t3", seconds=0.01)
    assert crew.place() == []
    crew.end("t4", seconds=0.01)
    crew.end("t5", seconds=0.01)
    assert crew.everywhere()[:1] == ["t1 web1-1"]


def test_a_task_too_large_for_what_is_left_keeps_one_worker_for_itself() -> None:
    crew = Crew()
    crew.crew(
        *tasks(2, requires={"cores": 1}),
        {"id": "large", "requires": {"cores": 4}},
        {"id": "later", "requires": {"cores": 1}},
        {"id": "plain"},
        workers={"a": worker("a", 9), "b": worker("b", 9, cores=3)},
    )
    crew.up("a", "b")
    assert crew.place() == ["t1 a-1", "t2 b-1", "later b-2", "plain b-3"]
    crew.end("t2")
    assert crew.place() == []
    crew.end("t1")
    assert crew.place() == ["large a-1"]


def test_what_another_run_holds_keeps_no_worker_free() -> None:
    crew = Crew()
    box = {"box": worker("box", 9)}
    crew.crew(*tasks(1, requires={"cores": 3}), workers=box, name="s")
    crew.crew({"id": "large", "requires": {"cores": 4}}, *tasks(1), workers=box)
    crew.up("box")
    assert crew.place("s") == ["t1 box-1"]
    assert crew.place() == ["t1 box-1"]


def test_priority_backoff_and_claims_hold_as_they_do_here() -> None:
    crew = Crew()
    claim = {"workspace": {"writable_paths": ["out"]}}
    retry = {"retry_policy": {"initial_backoff_seconds": 5, "jitter": 0}}
    crew.crew(
        {"id": "a", **claim},
        {"id": "b", **claim},
        {"id": "c", "priority": -1, **retry},
        workers={"box": worker("box", 3)},
    )
    crew.up("box")
    assert crew.place() == ["c box-1", "a box-2"]
    crew.end("c", FAIL)
    assert crew.place() == []
    crew.end("a")
    assert crew.place() == ["b box-1"]
    assert crew.later(6).place() == ["c box-2"]


def test_a_drained_worker_gets_nothing_new_and_what_it_runs_goes_on() -> None:
    crew = Crew()
    crew.crew(*tasks(4), workers=WEB, patience=60)
    crew.up("web1", "web2")
    crew.place()
    crew.ask(c.Drain(worker="web1", reason="new disk"))
    crew.end("t1")
    crew.end("t2")
    assert crew.place() == ["t3 web2-1"]
    assert crew.strand({"web2": "no route"}) == {}
    crew.ask(c.Drain(worker="web1", on=False))
    assert crew.place() == ["t4 web1-1"]


def test_a_run_without_patience_does_not_wait_for_a_drained_worker() -> None:
    crew = Crew()
    crew.crew(*tasks(2, requires={"target": "web1"}), workers=WEB)
    crew.up("web1", "web2")
    assert crew.place() == ["t1 web1-1"]
    crew.ask(c.Drain(worker="web1", reason="new disk"))
    assert crew.strand({}) == {"t2": "web1: it is drained: new disk"}
    assert crew.state.runs["r"].tasks["t1"].status == "leased"


def test_of_what_nobody_knows_the_size_one_task_at_a_time_has_it() -> None:
    crew = Crew()
    crew.crew(*tasks(2, requires={"memory_mb": 100}), workers={"box": worker("box", 9)})
    crew.up("box", memory_mb=0)
    assert crew.place() == ["t1 box-1"]
    crew.end("t1")
    assert crew.place() == ["t2 box-1"]


def test_a_worker_of_too_low_trust_gets_no_task_that_needs_more() -> None:
    crew = Crew()
    made = {"low": worker("low"), "top": worker("top", trust_level="operator")}
    crew.crew(*tasks(2), workers=made, policy=Raw(b'{"default_trust_level":"operator"}'))
    crew.up("low", "top")
    assert crew.place() == ["t1 top-1"]


def test_the_engine_connects_to_as_many_as_the_tasks_fill() -> None:
    crew = Crew()
    many = {f"w{number}": worker(f"w{number}", 2) for number in range(1, 10)}
    run = crew.crew(*tasks(3), workers={**many, "local": HERE})
    assert wanted(crew.state, run) == {"w1", "w2"}
    crew.down("w1", "w2")
    assert wanted(crew.state, run) == {"w3", "w4"}
    crew.up("w7", "w8")
    assert wanted(crew.state, run) == {"w7", "w8"}
    crew.place()
    crew.ask(c.PauseRun(run="r", reason="x"))
    assert wanted(crew.state, run) == {"w7", "w8"}
    crew.end("t1")
    crew.end("t3")
    assert wanted(crew.state, run) == {"w8"}


def test_workers_nobody_can_reach_are_tried_where_no_other_would_do() -> None:
    crew = Crew()
    run = crew.crew(*tasks(2), {"id": "x", "requires": {"target": "web2"}}, workers=WEB)
    crew.down("web1", "web2")
    assert wanted(crew.state, run) == {"web1", "web2"}
    crew.up("web1")
    assert wanted(crew.state, run) == {"web1", "web2"}
    crew.strand({"web2": "no route"})
    assert wanted(crew.state, run) == {"web1", "web2"}


def test_tasks_that_only_the_dead_could_run_fail_with_the_reason() -> None:
    crew = Crew()
    crew.crew(
        *tasks(2),
        {"id": "x", "requires": {"target": "web2"}},
        {"id": "y", "requires": {"platform": "darwin"}},
        workers=WEB,
    )
    crew.up("web1")
    assert crew.place() == ["t1 web1-1"]
    assert crew.strand({}) == {}
    assert crew.strand({"web2": "no route"}) == {
        "x": "web2: no route",
        "y": "web2: no route",
    }
    assert crew.strand({"web2": "no route"}) == {}
    assert crew.strand({"web1": "refused", "web2": "no route"}) == {
        "t2": "none of the 2 workers that match can be reached: web1: refused; web2: no route"
    }
    assert crew.task("x").source == "transport"


def test_tasks_that_no_worker_turns_out_to_match_fail_with_the_reason_of_each() -> None:
    crew = Crew()
    crew.crew({"id": "y", "requires": {"cores": 64}}, workers=WEB)
    crew.up("web1", "web2")
    assert is_hopeless(crew.state, crew.state.runs["r"]) and crew.place() == []
    assert crew.strand({}) == {"y": "no worker matches: web1, web2: it has 4 cores, not 64"}
    assert not is_hopeless(crew.state, crew.state.runs["r"])
    crew.ask(c.Restart(run="r", tasks=("y",), reason="again"))
    assert crew.place() == [] and is_hopeless(crew.state, crew.state.runs["r"])


def test_a_retired_worker_is_dead_to_what_waits_for_it() -> None:
    crew = Crew()
    crew.crew(*tasks(1), {"id": "x", "requires": {"target": "web1"}}, workers=WEB)
    crew.up("web1", "web2")
    crew.place()
    crew.down("web1")
    crew.ask(c.Retire(worker="web1", reason="sold"))
    assert crew.strand({}) == {"x": "web1: it was retired: sold"}
    assert list(crew.state.runs["r"].flights) == ["r/t1@1"]


def test_only_attempts_of_the_worker_that_greets_are_lost_to_its_reboot() -> None:
    crew = Crew()
    crew.ask(elected(1))
    crew.crew(*tasks(3), workers={**WEB, "local": HERE})
    crew.up("web1", "web2", "local")
    assert crew.place() == ["t1 local-1", "t2 web1-1", "t3 web2-1"]
    again = Greeting(runtime="x", boot="boot-new", journal=0, open=frozenset())
    found = {
        name: [one.attempt for one in on_greeting(crew.state, again, name)]  # type: ignore[attr-defined]
        for name in ("web1", "local")
    }
    assert found == {"web1": ["r/t2@1"], "local": ["r/t1@1"]}
    gone = on_takeover(crew.state, "boot-new", 1, 7, fleet="fl-new")
    assert [one.attempt for one in gone] == ["r/t1@1"]  # type: ignore[attr-defined]


def test_a_lost_attempt_goes_to_another_worker() -> None:
    crew = Crew()
    crew.crew({"id": "a", "retry_policy": {"initial_backoff_seconds": 0}}, workers=WEB)
    crew.up("web1", "web2")
    assert crew.place() == ["a web1-1"]
    crew.down("web1")
    crew.ask(c.ReportLost(attempt="r/a@1", why="x", receipt=TRANSPORT))
    assert crew.place() == ["a web2-1"]


def test_after_a_snapshot_the_board_is_what_it_was() -> None:
    crew = Crew()
    crew.crew(*tasks(6, requires={"cores": 2}), workers={"a": worker("a", 9), "b": worker("b", 9)})
    crew.up("a", "b")
    assert len(crew.place()) == 4
    rebuild(crew.state)
    assert crew.state.workers["a"].cores_taken == 4
    crew.end("t1")
    assert crew.place() == ["t5 a-1"]


def test_a_run_that_goes_on_with_more_at_once_forgets_no_task() -> None:
    crew = Crew()
    crew.crew(*tasks(4), workers={"a": worker("a", 9)}, most=1)
    crew.up("a")
    assert crew.place() == ["t1 a-1"]
    crew.ask(c.PauseRun(run="r", reason="x"))
    crew.ask(c.ResumeRun(run="r", max_workers=3))
    assert crew.place() == ["t2 a-2", "t3 a-3"]
