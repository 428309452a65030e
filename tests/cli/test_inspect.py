from codewhale_fleet.cli.inspect import draw

from .scene import RUN, Scene, the_usual


def test_a_task_is_shown_in_lines_a_person_can_read(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("inspect", "@last/lint")
    assert told.code == 0
    assert told.out == (
        "demo-abc234/lint   task\n"
        "\n"
        "  worker        demo-abc234-local-1\n"
        "  status        passed\n"
        "  run           demo-abc234\n"
        "  name          lint\n"
        "  command       true\n"
        "  host          h\n"
        "  attempt       1\n"
        "  latest event  #7 demo-abc234/lint@1 passed after 1.2 s\n"
        "  receipt       pass, #7\n"
        "\n"
        "attempts\n"
        "  @1  passed  1.2 s  demo-abc234-local-1  #7\n"
        "\n"
        "artifacts\n"
        "  log  .fleet/logs/demo-abc234/lint.1.out  8 bytes\n"
        "  log  .fleet/logs/demo-abc234/lint.1.err  5 bytes\n"
        "\n"
        "fleet logs demo-abc234/lint\n"
    )


def test_a_run_names_its_tasks_and_what_to_type(scene: Scene) -> None:
    the_usual(scene)
    lines = scene.fleet("inspect", "@last").out.splitlines()
    at = lines.index("tasks")
    assert lines[at + 1 : at + 4] == [
        "  failed  unit    1.2 s  task: exit 3",
        "  waits   review  1.2 s  human: waits for a person",
        "  passed  lint    1.2 s",
    ]
    assert lines[-1] == (
        "fleet verify demo-abc234/review@1 --pass · fleet receipts demo-abc234"
        " · fleet resume demo-abc234 --failed"
    )


def test_attempts_and_workers_can_be_asked_for(scene: Scene) -> None:
    scene.run("a", "b")
    scene.place("a", slot=2)
    attempt = scene.fleet("inspect", "@last/a@1", "--json").json
    assert (attempt["kind"], attempt["status"], attempt["placed"]) == (
        "attempt", "leased", "free slot",
    )  # fmt: skip
    worker = scene.fleet("inspect", f"{RUN}-local-2", "--json").json
    assert (worker["kind"], worker["task"], worker["attempts"]) == ("worker", "a", [f"{RUN}/a@1"])
    assert worker["alert"] is None
    assert "worker" in draw(worker, 0.0).text()


def test_a_waiting_task_says_why(scene: Scene) -> None:
    scene.run("a", "b", workers=1)
    scene.place("a")
    out = scene.fleet("inspect", "b").out
    assert "  waiting       all 1 worker slots are busy (max_workers = 1)\n" in out
    assert out.endswith("\nfleet explain demo-abc234/b\n")
