from codewhale_fleet.cli.explain import draw

from .scene import FAIL, RUN, Scene, the_usual


def test_a_failure_is_explained_with_record_numbers(scene: Scene) -> None:
    the_usual(scene)
    assert scene.fleet("explain", "unit").out == (
        "demo-abc234/unit has failed (task).\n"
        "\n"
        "  attempt 1 went to demo-abc234-local-1: free slot                  record 8\n"
        "  attempt 1 failed (task): exit 3 after 1.2 s, judged by exit_code  record 9\n"
        "  no attempt is left: without a retry_policy there is one           record 9\n"
        "\n"
        "To see what it wrote: fleet logs demo-abc234/unit\n"
        "To run what failed again: fleet resume demo-abc234 --failed\n"
    )


def test_a_run_an_attempt_and_a_worker_can_be_explained(scene: Scene) -> None:
    scene.run("a", "b", workers=1)
    scene.place("a")
    run = scene.fleet("explain", "@last", "--json").json
    assert [line.get("waiting") for line in run["lines"]] == [None, "slots", None, None]
    attempt = scene.fleet("explain", "a@1").out
    assert attempt.startswith("demo-abc234/a@1, an attempt of a task that is starting.\n")
    worker = scene.fleet("explain", f"{RUN}-local-1", "--json").json
    assert worker["id"] == f"{RUN}-local-1" and worker["attempts"] == [f"{RUN}/a@1"]
    assert worker["headline"] == f"{RUN}-local-1 is offline: nobody manages its run."
    assert [line["seq"] for line in worker["lines"]] == [5, 6]


def test_a_failure_is_told_with_the_last_line_that_it_wrote(scene: Scene) -> None:
    scene.run("a")
    attempt = scene.place("a")
    text = "fine so far\n\x1b[31mboom: no such thing\x1b[0m\n\n"
    scene.ended(attempt, FAIL, logs=scene.log(attempt, text, "err"))
    shown = scene.fleet("explain", "a").out
    assert "its last line on stderr: " in shown and "boom: no such thing" in shown
    assert "\x1b" not in shown and "\x07" not in shown
    line = scene.fleet("explain", "a", "--json").json["lines"][2]
    assert line["seq"] == 7 and line["evidence"] == f"logs/{RUN}/a.1.err"


def test_records_are_numbered_as_people_write_numbers(scene: Scene) -> None:
    answer = {"headline": "h", "lines": [{"sentence": "s", "seq": 1042}], "next": []}
    assert "s  record 1,042\n" in draw(answer).text()
