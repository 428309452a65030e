"""What a run on other machines waits for is said once, when it has lasted."""

import pytest

from codewhale_fleet.cli import waits
from codewhale_fleet.cli.waits import LOOK_SECONDS, Waits
from codewhale_fleet.core import commands as c
from tests.core.crew import Crew, tasks, worker

WEB = {"web1": worker("web1"), "web2": worker("web2")}


class Said:
    """What was said of the run `s` at looks, each so long after the other."""

    def __init__(self, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
        self.crew, self.now = crew, 0.0
        monkeypatch.setattr(waits.time, "monotonic", lambda: self.now)
        self.waits = Waits("s")

    def looks(self, count: int = 2) -> list[str]:
        said: list[str] = []
        for _ in range(count):
            self.now += LOOK_SECONDS
            self.waits.look(self.crew.state, said.append)
        return said


@pytest.fixture
def crew() -> Crew:
    """The run `r` holds both slots; `s` waits."""
    made = Crew()
    made.crew(*tasks(2), workers=WEB)
    made.up("web1", "web2")
    made.place()
    made.crew(*tasks(2), workers=WEB, name="s", patience=60.0)
    assert made.place("s") == []
    return made


def test_slots_that_another_run_holds_are_told_once_with_what_to_type(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said(crew, monkeypatch)
    assert said.looks(1) == []
    assert said.looks(2) == [
        "waiting for a slot on web[1-2], held by r; fleet status r shows it, fleet stop r ends it"
    ]
    assert said.looks(5) == []


def test_a_wait_that_does_not_last_or_is_for_the_run_itself_is_not_told(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said(crew, monkeypatch)
    assert said.looks(1) == []
    crew.end("t1")
    assert len(crew.place("s")) == 1
    assert said.looks(3) == []


def test_a_run_whose_workers_get_nothing_new_says_so(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in WEB:
        crew.ask(c.Drain(worker=one, reason="new disk"))
    (told,) = Said(crew, monkeypatch).looks(3)
    assert told.startswith("waiting: no worker that matches can be used now: web1 gets nothing")
    assert told.endswith("; fleet worker drain web1 --off gives it work")


def test_who_is_away_with_work_of_the_run_is_told_and_so_is_that_it_is_back(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew.end("t1")
    crew.end("t2")
    crew.place("s")
    said = Said(crew, monkeypatch)
    crew.down("web1")
    assert said.looks(3) == [
        "web1 cannot be reached; 1 attempt runs there, and the run waits for that: "
        "fleet worker test web1"
    ]
    crew.up("web1")
    assert said.looks(3) == ["web1 is there again"]
    crew.down("web1")
    assert len(said.looks(3)) == 1
