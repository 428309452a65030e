"""Controls as typed: what they refuse, what they say, and what they record without a manager."""

import os
from pathlib import Path

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e

from .scene import FAIL, RUN, Scene, told

OTHER = "docs-xyz777"


def finished(scene: Scene) -> None:
    scene.run("lint", "unit")
    scene.ended(scene.place("lint"))
    scene.ended(scene.place("unit"), FAIL)
    scene.finish()


def drafted(scene: Scene) -> None:
    created = e.RunCreated(name="d", digest="", max_workers=1, workspace=str(scene.root))
    scene.ask(c.CreateRun(run=RUN, created=created))


VERBS = ("interrupt", "restart", "stop", "pause")


@pytest.mark.parametrize("verb", VERBS)
def test_what_does_not_exist_is_answered_with_the_nearest(scene: Scene, verb: str) -> None:
    scene.run("lint")
    said = scene.fleet(verb, "dem-abc234")
    assert (said.code, said.err) == (
        2,
        f'fleet: "dem-abc234" is no run. Nearest: {RUN}.\n       fleet status lists the runs.\n',
    )


@pytest.mark.parametrize("verb", VERBS)
def test_a_prefix_of_two_runs_is_asked_back(scene: Scene, verb: str) -> None:
    scene.run("lint", name="demo-abc234")
    scene.run("lint", name="demo-abd567")
    said = scene.fleet(verb, "demo-ab", "--json")
    assert (said.code, said.error["code"]) == (2, "ambiguous")
    assert "demo-abc234, demo-abd567" in said.error["hint"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_draft_is_refused(scene: Scene, verb: str) -> None:
    drafted(scene)
    before = scene.ledger.seq
    said = scene.fleet(verb, RUN)
    assert (said.code, said.err) == (
        4,
        f'fleet: "{RUN}" was never started.\n       fleet run SPEC makes it anew.\n',
    )
    scene.ledger.refresh()
    assert scene.ledger.seq == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("stop", "@last"), f'"{RUN}" has finished; there is nothing to stop.'),
        (("pause", "@last"), f'"{RUN}" has finished; only a running run can be paused.'),
        (("interrupt", "@last"), f"nothing of {RUN} is running."),
        (("interrupt", "lint"), f"{RUN}/lint has ended (passed); there is nothing to interrupt."),
        (("interrupt", "lint@1"), f"{RUN}/lint@1 has ended; there is nothing to interrupt."),
        (("interrupt", f"{RUN}-local-1"), f"{RUN}-local-1 is idle; nothing runs there."),
        (("resume", "@last"), f'"{RUN}" has finished; there is nothing to resume.'),
    ],
)
def test_what_has_finished_is_refused_and_nothing_is_recorded(
    scene: Scene, words: tuple[str, ...], sentence: str
) -> None:
    finished(scene)
    before = scene.ledger.seq
    said = scene.fleet(*words)
    assert (said.code, said.err.splitlines()[0]) == (4, f"fleet: {sentence}")
    scene.ledger.refresh()
    assert scene.ledger.seq == before


def test_one_refusal_among_several_ids_leaves_nothing_recorded(scene: Scene) -> None:
    scene.run("lint", "unit")
    scene.ended(scene.place("lint"))
    before = scene.ledger.seq
    assert scene.fleet("interrupt", "unit", "lint").code == 4
    scene.ledger.refresh()
    assert scene.ledger.seq == before


def test_an_older_attempt_is_not_restarted(scene: Scene) -> None:
    scene.run("lint")
    scene.ended(scene.place("lint"), FAIL)
    scene.ask(c.Restart(run=RUN, tasks=("lint",), reason="again"))
    scene.place("lint")
    said = scene.fleet("restart", "lint@1")
    assert (said.code, "that is demo-abc234/lint@2" in said.err) == (4, True)


def test_interrupting_a_queued_task_cancels_it_and_says_how_to_run_it(scene: Scene) -> None:
    scene.run("lint", "unit")
    said = scene.fleet("interrupt", "unit")
    assert (said.code, said.out) == (
        0,
        "demo-abc234/unit  cancelled; it was queued\n\n"
        "fleet restart demo-abc234/unit runs it again\n",
    )
    scene.ledger.refresh()
    assert scene.ledger.state.runs[RUN].tasks["unit"].status == "cancelled"


def test_interrupting_the_last_queued_task_finishes_the_run(scene: Scene) -> None:
    scene.run("lint")
    said = scene.fleet("interrupt", "lint", "--json").json
    assert (said["runs"][0]["status"], said["cancelled"]) == ("finished", [f"{RUN}/lint"])


def test_stopping_what_only_waits_needs_no_manager(scene: Scene) -> None:
    scene.run("lint", "unit")
    scene.ended(scene.place("lint"))
    said = scene.fleet("stop", "@last")
    assert (said.code, said.out.splitlines()[0]) == (0, f"{RUN} is stopped: 1 passed, 1 cancelled")
    assert f"fleet resume {RUN}" in said.out


def test_stop_all_stops_every_open_run_and_then_has_nothing_to_do(scene: Scene) -> None:
    scene.run("lint")
    scene.run("lint", name=OTHER)
    said = scene.fleet("stop", "--all", "--json").json
    assert [run["status"] for run in said["runs"]] == ["finished", "finished"]
    again = scene.fleet("stop", "--all")
    assert (again.code, again.err) == (0, "No run is open, so there is nothing to stop.\n")


@pytest.mark.parametrize("words", [("stop",), ("stop", "--all", RUN), ("stop", f"{RUN}/lint")])
def test_stop_is_told_what_to_stop(scene: Scene, words: tuple[str, ...]) -> None:
    scene.run("lint")
    said = scene.fleet(*words)
    assert (said.code, said.err.startswith("fleet: ")) == (2, True)


def test_pausing_twice_is_harmless_and_says_so(scene: Scene) -> None:
    scene.run("lint")
    assert scene.fleet("pause", "@last").out.startswith(f"{RUN} is paused\n")
    scene.ledger.refresh()
    before = scene.ledger.seq
    said = scene.fleet("pause", "@last")
    assert said.out.startswith(f"{RUN} is paused already: paused on request\n")
    assert (said.code, scene.fleet("pause", "@last", "--json").json["runs"][0]["already"]) == (
        0,
        True,
    )
    scene.ledger.refresh()
    assert scene.ledger.seq == before


def test_a_restart_that_nobody_can_place_pauses_the_run_and_says_what_to_type(
    scene: Scene,
) -> None:
    finished(scene)
    said = scene.fleet("restart", "unit")
    assert said.code == 3
    assert said.out.splitlines() == [
        "demo-abc234/unit  queued again",
        "demo-abc234 is paused: its environment is gone; from a shell that has it: fleet resume"
        " demo-abc234",
        "",
        "fleet resume demo-abc234 goes on with it",
    ]


def test_another_users_fleet_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".fleet").mkdir()
    os.chown(tmp_path / ".fleet", 12345, 12345)
    for verb in VERBS:
        said = told(verb, "@last", "--dir", str(tmp_path))
        assert (said.code, "belongs to another user" in said.err) == (4, True)
