from .scene import FAIL, Scene, the_usual


def test_receipts_are_listed_with_source_and_record(scene: Scene) -> None:
    the_usual(scene)
    assert scene.fleet("receipts").out == (
        "pass     lint    1.2 s  exit_code                      2 files  #7\n"
        "fail     unit    1.2 s  exit_code  task: exit 3                 #9\n"
        "partial  review  1.2 s  manual     waits for a person           #11\n"
        "\n"
        "To see the files: fleet artifacts demo-abc234\n"
    )


def test_json_has_every_receipt_of_a_task(scene: Scene) -> None:
    scene.run("a")
    scene.ended(scene.place("a"), FAIL)
    answer = scene.fleet("receipts", "@last/a", "--json").json
    assert [one["result"] for one in answer["receipts"]] == ["fail"]
    assert answer["receipts"][0]["failure_kind"] == "task"


def test_waivers_are_said_once_for_people_and_on_each_in_json(scene: Scene) -> None:
    scene.run("a", "b", waived=["budget.max_tokens"])
    scene.ended(scene.place("a"))
    out = scene.fleet("receipts").out
    assert "Not enforced, as allowed, on each of these: budget.max_tokens\n" in out
    assert out.endswith("\n1 still to come: fleet wait demo-abc234\n")
    answer = scene.fleet("receipts", "--json").json
    assert answer["receipts"][0]["unenforced"] == ["budget.max_tokens"]


def test_a_run_without_an_end_has_no_receipt_yet(scene: Scene) -> None:
    scene.run("a")
    assert scene.fleet("receipts").out.startswith("demo-abc234 has no receipt yet.\n")
