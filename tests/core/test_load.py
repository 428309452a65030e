"""The index of worker slots by load answers what a look at every slot would."""

from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.core.load import least_loaded, occupy, slot_of, vacate, worker_of
from codewhale_fleet.core.state import Run


def a_run(slots: int) -> Run:
    return Run(id="r-1", name="r", seq=1, ts="", max_workers=slots, workspace="/w", slots=slots)


def looked_up(run: Run) -> tuple[str, int]:
    """The slot with the fewest attempts in flight, by asking each."""
    loads = [(run.load.get(worker_of(run, slot), 0), slot) for slot in range(1, run.slots + 1)]
    load, slot = min(loads)
    return worker_of(run, slot), load


@given(
    slots=st.integers(1, 70),
    steps=st.lists(
        st.one_of(
            st.just(("place", 0)),
            st.tuples(st.just("leave"), st.integers(0, 10**6)),
            st.tuples(st.just("elsewhere"), st.integers(1, 90)),
            st.tuples(st.just("slots"), st.integers(1, 90)),
        ),
        max_size=300,
    ),
)
def test_the_index_answers_what_a_look_at_every_slot_would(
    slots: int, steps: list[tuple[str, int]]
) -> None:
    run = a_run(slots)
    held: list[str] = []
    for verb, number in steps:
        if verb == "place":
            worker, load = least_loaded(run)
            assert (worker, load) == looked_up(run)
            occupy(run, worker)
            held.append(worker)
        elif verb == "elsewhere":
            occupy(run, worker_of(run, number))
            held.append(worker_of(run, number))
        elif verb == "slots":
            run.slots = number
        elif held:
            vacate(run, held.pop(number % len(held)))
        assert least_loaded(run) == looked_up(run)
        assert sum(run.load.values()) == len(held)


def test_a_worker_of_another_road_counts_and_takes_no_slot() -> None:
    run = a_run(2)
    for worker in ("build-box", "r-1-local-x", "r-2-local-1", "r-1-local-"):
        assert slot_of(run, worker) == 0
        occupy(run, worker)
    assert least_loaded(run) == ("r-1-local-1", 0)
    assert sum(run.load.values()) == 4
    vacate(run, "build-box")
    assert "build-box" not in run.load


def test_slots_are_numbered_from_one() -> None:
    run = a_run(3)
    assert [slot_of(run, worker_of(run, number)) for number in (1, 2, 30)] == [1, 2, 30]
