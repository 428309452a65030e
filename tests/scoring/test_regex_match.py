"""The scorer `regex_match`."""

import time

import pytest

from codewhale_fleet import scoring
from codewhale_fleet.core.events import Evidence, Receipt
from codewhale_fleet.core.spec import RegexMatch

from .builders import a_task, an_end, judged, of_file, told


def _of(pattern: str, content: bytes | str) -> Receipt:
    return of_file(RegexMatch(path="log.txt", pattern=pattern), content)


def test_it_asks_for_its_file_up_to_a_million_bytes() -> None:
    task = a_task(RegexMatch(path="log.txt", pattern="x"))
    assert scoring.wanted(task) == [{"path": "log.txt", "cap": 1_000_000}]


def test_a_pattern_found_anywhere_passes_and_the_receipt_quotes_it() -> None:
    receipt = _of(r"\d+ passed", "noise\n12 passed in 3 s\n")
    assert told(receipt) == ("pass", "")
    assert (receipt.scorer, receipt.reason) == ("regex_match", "log.txt has “12 passed”")


def test_a_pattern_not_found_is_the_tasks_fault_and_shows_how_the_file_ends() -> None:
    receipt = _of("all good", "first\nlast line\n")
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "log.txt has no match for all good; it ends “first last line”"


def test_an_empty_file_is_said_to_be_empty() -> None:
    assert _of("x", "").reason == "log.txt has no match for x; it is empty"


def test_quotes_are_short_and_printable() -> None:
    reason = _of("nope", "x" * 5000 + "\x1b[31m\x00end").reason
    quoted = reason.partition("“")[2].rstrip("”")
    assert len(quoted) == 200
    assert quoted.startswith("…x") and quoted.endswith("end") and quoted.isprintable()
    assert len(_of("x+", "x" * 5000).reason) < 230


@pytest.mark.parametrize(
    ("pattern", "result"),
    [("^b", "fail"), ("(?m)^b", "pass"), ("a$", "fail"), ("(?m)a$", "pass"), ("b\n$", "pass")],
)
def test_anchors_are_the_ends_of_the_text_unless_flagged(pattern: str, result: str) -> None:
    assert _of(pattern, "a\nb\n").result == result


def test_letters_beyond_ascii_are_letters_not_bytes() -> None:
    assert _of("^Grü.e$", "Grüße").reason == "log.txt has “Grüße”"
    assert _of("^.{5}$", "Grüße").result == "pass"


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "[z-a]", "a{1001}"])
def test_a_bad_pattern_is_the_verifiers_fault(
    pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    receipt = _of(pattern, "ab")
    assert capfd.readouterr() == ("", ""), "the library must not write by itself"
    assert told(receipt) == ("fail", "verifier")
    assert receipt.reason.startswith(f"pattern {pattern} is no regular expression: ")


def test_a_pattern_that_ruins_other_engines_takes_linear_time() -> None:
    started = time.monotonic()
    assert _of("(a+)+$", "a" * 900_000 + "b").result == "fail"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("error", "source", "words"),
    [
        ("missing", "task", "log.txt does not exist"),
        ("too large", "verifier", "log.txt is larger than 1,000,000 bytes"),
        ("unreadable: it is a directory", "verifier", "log.txt: unreadable: it is a directory"),
        ("outside the workspace", "policy", "log.txt is outside the workspace"),
    ],
)
def test_a_file_that_was_not_kept_names_the_fault(error: str, source: str, words: str) -> None:
    task = a_task(RegexMatch(path="log.txt", pattern="x"))
    receipt = judged(task, an_end(evidence={"log.txt": Evidence(error=error)}))
    assert told(receipt) == ("fail", source)
    assert receipt.reason == words


def test_bytes_that_are_not_utf_8_are_the_verifiers() -> None:
    receipt = _of("x", b"xyz\xff")
    assert told(receipt) == ("fail", "verifier")
    assert receipt.reason == "log.txt is not UTF-8 at byte 3"


def test_a_kept_copy_that_is_gone_is_the_verifiers() -> None:
    def gone(evidence: Evidence) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    task = a_task(RegexMatch(path="log.txt", pattern="x"))
    receipt = judged(task, an_end(evidence={"log.txt": Evidence(sha256="0", size=1)}), gone)
    assert told(receipt) == ("fail", "verifier")
    assert receipt.reason == "the kept copy of log.txt: No such file or directory"


def test_the_exit_status_does_not_matter() -> None:
    scorer = RegexMatch(path="log.txt", pattern="ok")
    assert of_file(scorer, "ok", exit=3).result == "pass"
    assert told(of_file(scorer, "no", exit=0)) == ("fail", "task")
