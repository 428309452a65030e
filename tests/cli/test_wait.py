import subprocess

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e

from .driver import FLEET, environment
from .scene import FAIL, PASS, RUN, WAITS, Scene, the_usual


@pytest.mark.parametrize(("receipt", "code"), [(PASS, 0), (FAIL, 1), (WAITS, 3)])
def test_the_exit_code_is_the_runs(scene: Scene, receipt: e.Receipt, code: int) -> None:
    scene.run("a")
    scene.ended(scene.place("a"), receipt)
    scene.finish()
    assert scene.fleet("wait", "@last").code == code
    assert scene.fleet("wait", "a").code == code
    assert scene.fleet("wait", "a", "--json").json["exit_code"] == code


def test_how_it_ended_is_said_in_a_line_each(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("wait", "@last", "lint", "unit")
    assert told.code == 1
    assert told.out == (
        "demo-abc234 finished in 4.5 s: 1 passed, 1 failed, 1 waiting for a person\n"
        "demo-abc234/lint passed after 1.2 s\n"
        "demo-abc234/unit failed (task) after 1.2 s: exit 3\n"
    )


def test_time_that_runs_out_has_a_code_of_its_own(scene: Scene) -> None:
    scene.run("a")
    told = scene.fleet("wait", "@last", "--timeout", "0.1")
    assert told.code == 124
    assert "fleet: demo-abc234 has not ended within 0.1 s.\n" in told.err
    assert "Nobody manages demo-abc234; it goes on with: fleet resume demo-abc234\n" in told.err


def test_waiting_ends_with_what_is_waited_for(scene: Scene) -> None:
    scene.run("a", "b")
    attempt = scene.place("a")
    process = subprocess.Popen(
        [*FLEET, "wait", "@last/a"],
        cwd=scene.root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()  # it waits: it has looked whether anybody manages the run
    scene.ended(attempt)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"demo-abc234/a passed after 1.2 s\n")


def test_a_paused_run_waits_for_a_person(scene: Scene) -> None:
    scene.run("a")
    scene.ask(c.PauseRun(run=RUN, reason="lunch"))
    assert scene.fleet("wait", "@last").code == 3


def test_a_worker_cannot_be_waited_for(scene: Scene) -> None:
    scene.run("a")
    assert "is a worker" in scene.fleet("wait", f"{RUN}-local-1").err


def test_waiting_ends_with_a_question_where_that_was_asked_for(scene: Scene) -> None:
    scene.run("a", "b")
    attempt = scene.place("b")
    worker = f"{RUN}-local-1"
    asked = c.ReportAsked(
        attempt=attempt, worker=worker, src=("rt", 77), number=1, text="Which site?",
        choices=("eu", "us"),
    )  # fmt: skip
    scene.ask(asked, by="manager")
    told = scene.fleet("wait", "@last", "--asked")
    assert told.code == 3
    assert told.out.startswith(f"{attempt} asks: Which site? (eu, us)\n")
    assert f'fleet answer {attempt} "eu"' in told.out
    made = scene.fleet("wait", "@last/b", "--asked", "--json").json
    assert made["asked"][0]["next"] == f'fleet answer {attempt} "eu"' and made["exit_code"] == 3
    assert scene.fleet("wait", "@last/a", "--asked", "--timeout", "0.05").code == 124
    assert scene.fleet("wait", "@last", "--timeout", "0.05").code == 124
