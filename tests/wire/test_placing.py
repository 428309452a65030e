"""Where tasks may go: candidates, what a task asks of them, and what is told where nobody fits."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from codewhale_fleet.core.fleet_words import WorkerRow
from codewhale_fleet.core.matching import level_of_worker, need_of, why_not
from codewhale_fleet.core.selectors import parse
from codewhale_fleet.core.spec import Task
from codewhale_fleet.core.spec_hosts import (
    LocalHost,
    SecurityPolicy,
    SshHost,
    Worker,
    decode_worker,
)
from codewhale_fleet.wire.placing import Facts, Fleet, Places


def a_worker(id: str, **fields: Any) -> Worker:
    return Worker(id=id, name=fields.pop("name", id), host=SshHost(host=id), **fields)


INVENTORY = {
    one.id: one
    for one in (
        a_worker("db01", labels={"role": "db"}, cores=8, memory_mb=4096),
        a_worker("gpu01", labels={"role": "ai"}, capabilities=["cuda"], gpus=2),
        a_worker("web01", labels={"role": "web"}, max_concurrent_tasks=4),
        a_worker("web02", labels={"role": "web"}, name="the second", trust_level="sandbox"),
    )
}
FACTS = {
    "local": Facts("linux", 2, 2048, 0),
    "db01": Facts("linux", 16, 64000, 0),
    "web01": Facts("darwin", 4, 8192, 0),
}


def a_fleet(**fields: Any) -> Fleet:
    return Fleet(workers=INVENTORY, facts=FACTS, slots_here=3, **fields)


def a_task(**fields: Any) -> Task:
    return convert({"id": "a", "command": "true", **fields}, Task)


def places(written: Mapping[str, Worker] | None = None, on: str = "", **fields: Any) -> Places:
    chosen = parse(on).choose if on else None
    return Places(written or {}, chosen, lambda _: a_fleet(**fields))


def goes(made: Places, **fields: Any) -> list[str]:
    found = list(made.problems(a_task(**fields)))
    assert not found, found
    return list(made.used())


def refused(made: Places, **fields: Any) -> tuple[str, str, str]:
    (found,) = made.problems(a_task(**fields))
    return ".".join(map(str, found.path)), found.message, found.hint


# Who may run it -------------------------------------------------------------------------------


def test_tasks_that_ask_for_nothing_stay_here_and_nobody_is_asked() -> None:
    made = Places({}, None, lambda _: pytest.fail("the inventory was read"))
    assert goes(made) == []
    assert (made.used(), made.spread) == ({}, False)


@pytest.mark.parametrize(
    ("requires", "ids"),
    [
        ({"target": "web01"}, ["web01"]),
        ({"target": "local"}, ["local"]),
        ({"labels": {"role": "db"}}, ["db01"]),
        ({"platform": "darwin"}, ["gpu01", "web01"]),
        ({"cores": 8}, ["db01", "gpu01"]),
        ({"cores": 4}, ["db01", "gpu01", "web01"]),
        ({"memory_mb": 4097}, ["gpu01", "web01"]),
        ({"gpus": 1}, ["gpu01"]),
        ({"cores": 2, "labels": {"role": "web"}}, ["web01"]),
    ],
)
def test_a_task_goes_where_what_it_requires_is_or_may_be(
    requires: dict[str, Any], ids: list[str]
) -> None:
    assert goes(places(), requires=requires) == ids


def test_a_worker_may_be_named_by_its_id_or_by_its_name() -> None:
    assert goes(places(), worker={"name": "web01"}) == ["web01"]
    second = Places({}, None, lambda _: Fleet(workers={"x": a_worker("x", name="the second")}))
    assert goes(second, requires={"target": "the second"}) == ["x"]


def test_capabilities_are_looked_for_where_a_task_may_go() -> None:
    wish: dict[str, Any] = {"worker": {"capabilities": ["cuda"]}}
    assert goes(places(on="all"), **wish) == ["gpu01"]
    assert goes(places(), **wish, requires={"cores": 1}) == ["local", "gpu01"]
    assert goes(places(capabilities_here=()), **wish, requires={"cores": 1}) == ["gpu01"]


def test_tasks_go_to_any_of_the_chosen_workers_or_of_the_specs_own() -> None:
    assert goes(places(on="web*,db01 and not web02")) == ["db01", "web01"]
    assert goes(places(on="local,web01")) == ["local", "web01"]
    own = {"mine": a_worker("mine"), "yours": a_worker("yours")}
    assert goes(places(own)) == ["mine", "yours"]
    assert goes(places(own, on="yours")) == ["yours"]


def test_a_run_knows_only_the_workers_that_a_task_of_it_may_use() -> None:
    made = places()
    assert goes(made, requires={"target": "db01"}) == ["db01"]
    assert goes(made, requires={"target": "gpu01"}) == ["db01", "gpu01"]
    assert goes(made) == ["local", "db01", "gpu01"]  # this one stays here


def test_this_machine_is_a_worker_with_its_slots_and_what_it_can_do() -> None:
    made = places()
    goes(made, requires={"target": "web01"})
    goes(made, worker={"capabilities": ["docs"]})
    here = decode_worker(made.used()["local"])
    assert (here.host, here.max_concurrent_tasks) == (LocalHost(), 3)
    assert here.capabilities == ["docs"]
    assert (here.cores, here.memory_mb, here.gpus) == (2, 2048, 0)
    assert made.slots() == 3 + 4


# Trust ----------------------------------------------------------------------------------------


def test_a_worker_is_trusted_as_it_says_or_by_the_road_to_it() -> None:
    strict = SecurityPolicy(require_identity_verification=True)
    here = Worker(id="local", name="x", host=LocalHost())
    pinned = Worker(id="p", name="p", host=SshHost(host="p", known_hosts="/k"))
    assert level_of_worker(here) == "operator"
    assert level_of_worker(INVENTORY["web02"]) == "sandbox"
    assert (
        level_of_worker(INVENTORY["web01"]) == level_of_worker(pinned, strict) == "remote_verified"
    )
    assert level_of_worker(INVENTORY["web01"], strict) == "sandbox"
    assert level_of_worker(a_worker("x", trust_level="operator"), strict) == "sandbox"


def test_no_task_goes_where_it_would_be_trusted_more_than_the_place() -> None:
    made = places(on="web02")
    (found,) = made.problems(a_task(), "local")
    assert found.message == "needs the trust local, and web02 has sandbox"
    assert not list(made.problems(a_task(), "sandbox"))


# Nobody fits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "message", "hint"),
    [
        ({"requires": {"target": "web0l"}}, "requires.target", 'called "web0l"', "did you mean "),
        ({"requires": {"target": "x"}}, "requires.target", 'called "x"', "There are workers"),
        ({"worker": {"name": "db1"}}, "worker.name", 'called "db1"', "did you mean db01?"),
        (
            {"requires": {"labels": {"role": "mail"}}},
            "requires.labels.role", "no worker has the label role=mail",
            "There are: role=ai, role=db, role=web",
        ),
        (
            {"requires": {"labels": {"rol": "db"}}},
            "requires.labels.rol", "no worker has the label rol=db", "labels there are: role",
        ),
        (
            {"requires": {"platform": "plan9", "target": "db01"}},
            "requires.platform", "no worker runs plan9", "There are: linux",
        ),
        (
            {"requires": {"cores": 64, "labels": {"role": "db"}}},
            "requires.cores", "64 cores are more than any worker has", "most has db01: 8",
        ),
        (
            {"requires": {"gpus": 3}},
            "requires.gpus", "3 GPUs are more than any worker has", "most has gpu01: 2",
        ),
        (
            {"requires": {"target": "web01"}, "worker": {"capabilities": ["cuda"]}},
            "worker.capabilities", 'web01 cannot do "cuda"', "no worker says what it can do",
        ),
        (
            {"requires": {"target": "web01"}, "worker": {"name": "db01"}},
            "worker.name", "contradicts requires.target, which is web01", "",
        ),
    ],
)  # fmt: skip
def test_a_task_that_nobody_could_run_is_told_what_there_is(
    fields: dict[str, Any], field: str, message: str, hint: str
) -> None:
    found = refused(Places({}, None, lambda _: Fleet(workers=INVENTORY, facts=FACTS,
                                                     capabilities_here=())), **fields)  # fmt: skip
    assert found[0] == field
    assert message in found[1]
    assert found[2].startswith(hint)


def test_a_worker_of_a_spec_may_not_be_another_machine_than_the_fleets() -> None:
    own = {"db01": Worker(id="db01", name="x", host=SshHost(host="elsewhere"))}
    (found,) = places(own).clashes()
    assert (found.path, found.message) == (
        ("workers", 0, "id"), '"db01" is another machine in this fleet',
    )  # fmt: skip
    assert not list(places({"db01": INVENTORY["db01"]}).clashes())


# Whatever is asked ----------------------------------------------------------------------------

_wishes = st.fixed_dictionaries(
    {},
    optional={
        "target": st.sampled_from(["web01", "the second", "gpu01", "nobody"]),
        "labels": st.dictionaries(st.just("role"), st.sampled_from(["web", "db", "none"])),
        "platform": st.sampled_from(["linux", "darwin"]),
        "cores": st.integers(1, 20),
        "gpus": st.integers(0, 3),
    },
)


@given(_wishes, st.sampled_from(["", "cuda"]))
def test_who_fits_at_load_is_who_fits_when_it_is_placed(wish: dict[str, Any], can: str) -> None:
    made = places()
    task = a_task(requires=wish, worker={"capabilities": [can] if can else []})
    told = list(made.problems(task))
    need = need_of(task, spread=made.spread)
    for id, worker in made.candidates.items():
        known = FACTS.get(id)
        row = WorkerRow()
        if known is not None:
            row = WorkerRow(boot="b", platform=known.platform, cores=known.cores,
                            memory_mb=known.memory_mb, gpus=known.gpus or 0)  # fmt: skip
        raw = made.used().get(id)
        if raw is not None:
            assert why_not(need, decode_worker(raw), row) == ""
        elif told or id != "local":
            assert why_not(need, worker, row) != ""


@given(_wishes)
def test_who_fits_has_everything_that_was_asked_for(wish: dict[str, Any]) -> None:
    made = places()
    task = a_task(requires=wish)
    if list(made.problems(task)):
        return
    for id in made.used():
        worker = made.candidates[id]
        assert wish.get("target", id) in (id, worker.name)
        assert wish.get("labels", {}).items() <= worker.labels.items()
        known = FACTS.get(id, Facts())
        assert wish.get("platform", known.platform) == known.platform or not known.platform
        assert wish.get("cores", 0) <= (worker.cores or known.cores or 20)
        assert wish.get("gpus", 0) <= (3 if worker.gpus is None and known.gpus is None else
                                       worker.gpus or known.gpus or 0)  # fmt: skip
