"""Going on with a run: really run, because what it does is start things."""

import json
import os
import select
import signal
from pathlib import Path

from .driver import fleet, spec, words_of
from .scene import Scene, the_usual


def test_a_finished_run_without_anything_to_do_is_refused(scene: Scene) -> None:
    scene.run("a")
    scene.ended(scene.place("a"))
    scene.finish()
    told = scene.fleet("resume", "@last")
    assert (told.code, told.err) == (
        4,
        'fleet: "demo-abc234" has finished; there is nothing to resume.\n',
    )


def test_a_finished_run_with_failures_says_how_they_run_again(scene: Scene) -> None:
    the_usual(scene)
    assert "fleet resume demo-abc234 --failed" in scene.fleet("resume", "@last").err


def test_failed_tasks_run_again_when_asked(tmp_path: Path) -> None:
    name = spec(tmp_path, '[[tasks]]\nid = "a"\ncommand = "test -e now"\n')
    assert fleet(tmp_path, "run", name).returncode == 1
    (tmp_path / "now").touch()
    told = fleet(tmp_path, "resume", "@last", "--failed")
    assert (told.returncode, "1 passed" in told.stdout) == (0, True)


def test_a_run_whose_manager_was_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    text = (
        '[[tasks]]\nid = "a"\ncommand = "echo once >> ran; until test -e go; do sleep 0.05; done"\n'
    )
    told = fleet(tmp_path, "run", spec(tmp_path, text), "--detach")
    assert told.returncode == 0, told.stderr
    status = json.loads(fleet(tmp_path, "status", "--json").stdout)
    while not (tmp_path / "ran").exists():
        pass
    manager = os.pidfd_open(status["manager"]["pid"])
    signal.pidfd_send_signal(manager, signal.SIGKILL)
    assert select.select([manager], [], [], 20)[0]
    os.close(manager)
    assert "left alone" in fleet(tmp_path, "status").stdout
    (tmp_path / "go").touch()
    told = fleet(tmp_path, "resume", "@last")
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "ran").read_text() == "once\n"
    assert words_of(tmp_path).count("attempt.dispatched") == 1


def test_resuming_from_a_shell_without_the_variables_is_refused_and_records_nothing(
    tmp_path: Path,
) -> None:
    text = (
        '[[tasks]]\nid = "a"\ncommand = "exit 3"\n'
        '[tasks.workspace.environment]\nrequired = ["DEMO_KEY"]\n'
    )
    name = spec(tmp_path, text)
    assert fleet(tmp_path, "run", name, DEMO_KEY="1").returncode == 1
    before = words_of(tmp_path)
    told = fleet(tmp_path, "resume", "@last", "--failed")
    assert (told.returncode, "DEMO_KEY (required by a)" in told.stderr) == (2, True), told.stderr
    assert "DEMO_KEY=… fleet resume" in told.stderr
    assert words_of(tmp_path) == before
