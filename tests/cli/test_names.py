import pytest

from codewhale_fleet.cli import names
from codewhale_fleet.errors import FleetError

from .scene import FAIL, RUN, Scene


def found(scene: Scene, text: str) -> str:
    return names.resolve(scene.ledger, text).id


@pytest.fixture(autouse=True)
def _runs(scene: Scene) -> None:
    scene.run("t1", name="demo-xyz567")
    scene.ended(scene.place("t1", run="demo-xyz567"))
    scene.finish("demo-xyz567")
    scene.run("lint", "unit-a", "unit-b", "unit-a-b")
    scene.ended(scene.place("lint"), FAIL)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (RUN, RUN),
        ("demo-a", RUN),
        ("@last", RUN),
        ("@last/lint", f"{RUN}/lint"),
        ("demo-a/l", f"{RUN}/lint"),
        ("demo-a/unit-a", f"{RUN}/unit-a"),
        ("demo-a/lint@1", f"{RUN}/lint@1"),
        ("lint", f"{RUN}/lint"),
        ("lint@1", f"{RUN}/lint@1"),
        (f"{RUN}-local-2", f"{RUN}-local-2"),
        ("demo-a-local-1", f"{RUN}-local-1"),
        ("demo-xyz567/t1", "demo-xyz567/t1"),
    ],
)
def test_an_id_may_be_cut_as_long_as_it_stays_unique(scene: Scene, text: str, meant: str) -> None:
    assert found(scene, text) == meant


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ("demo-", '"demo-" fits 2 runs.', "Which one: demo-xyz567, demo-abc234?"),
        ("deno", '"deno" is no run. Nearest: demo-', "fleet status lists the runs."),
        ("", '"" is no run.', "fleet status lists the runs."),
        ("@last/unit", f'"{RUN}/unit" fits 3 tasks.', f"Which one: {RUN}/unit-a, "),
        ("@last/lynt", f'{RUN} has no task "lynt". Nearest: {RUN}/lint.', "fleet inspect demo-abc"),
        ("@last/lint@2", f'"{RUN}/lint@2" is no attempt.', "has had attempts 1 to 1."),
        ("@last/unit-b@1", f'"{RUN}/unit-b@1" is no attempt.', "has had no attempt yet."),
        (f"{RUN}-local-9", f'"{RUN}-local-9" is no worker of {RUN}.', "demo-abc234-local-2"),
    ],
)
def test_a_name_of_nothing_is_answered_with_the_nearest(
    scene: Scene, text: str, sentence: str, hint: str
) -> None:
    with pytest.raises(FleetError) as caught:
        found(scene, text)
    assert caught.value.sentence.startswith(sentence)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_where_a_run_is_needed_a_task_is_refused(scene: Scene) -> None:
    with pytest.raises(FleetError, match="names a task, and this needs a run"):
        names.run_of(scene.ledger, "@last/lint")


@pytest.mark.parametrize("text", ["far-abc234-web-01-2", "far-web-01-2"])
def test_a_slot_of_another_machine_is_found_by_its_run_and_its_worker(
    scene: Scene, text: str
) -> None:
    scene.run("t", name="far-abc234")
    scene.ledger.state.runs["far-abc234"].workers["web-01"] = b"{}"
    assert found(scene, text) == "far-abc234-web-01-2"
    with pytest.raises(FleetError):
        found(scene, "far-web-02-2")
