from .scene import RUN, Scene, the_usual


def test_a_failure_is_explained_with_record_numbers(scene: Scene) -> None:
    the_usual(scene)
    assert scene.fleet("explain", "unit").out == (
        "demo-abc234/unit has failed (task).\n"
        "\n"
        "  attempt 1 went to demo-abc234-local-1: free slot                  #8\n"
        "  attempt 1 failed (task): exit 3 after 1.2 s, judged by exit_code  #9\n"
        "  no attempt is left: without a retry_policy there is one\n"
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
    assert worker["id"] == f"{RUN}/a@1"
