"""What a wrong command line is answered with: what is missing, and something to type."""

import pytest

from .scene import Scene, told


@pytest.mark.parametrize(
    ("line", "sentence", "hint"),
    [
        ("logs", "missing argument 'ID'", "Such as: fleet logs @last/ruff --follow"),
        ("wait", "missing argument 'ID…'", "Such as: fleet wait @last --timeout 600"),
        ("run --each -- wc -c", "or - for standard input", "fleet run --each - -- wc -c"),
        ("run --each - wc -c {}", "no such option: -c", "behind two dashes: -- CMD {}"),
        ("help nonsense", "no such command 'nonsense'", "fleet --help shows"),
    ],
)
def test_a_wrong_line_is_told_what_is_missing_and_what_to_type(
    line: str, sentence: str, hint: str
) -> None:
    answer = told(*line.split())
    assert answer.code == 2 and answer.out == ""
    first, _, rest = answer.err.partition("\n")
    assert sentence in first and hint in rest


@pytest.mark.parametrize("line", ["help", "help run", "help ledger verify"])
def test_who_asks_for_help_by_that_word_gets_it(line: str) -> None:
    answer = told(*line.split())
    assert answer.code == 0 and answer.out.startswith("Usage: fleet")


def test_a_log_without_a_last_newline_does_not_run_into_the_next_one(scene: Scene) -> None:
    run = scene.run("a", "b")
    for name in "ab":
        attempt = scene.place(name)
        scene.ended(attempt, logs=scene.log(attempt, f"of {name}"))
    assert scene.fleet("logs", run).out == f"== {run}/a@1\nof a\n== {run}/b@1\nof b\n"
    assert scene.fleet("logs", f"{run}/a").out == "of a"
