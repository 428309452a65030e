"""The scorer `file_exists`."""

import pytest

from codewhale_fleet import scoring
from codewhale_fleet.core.events import Evidence
from codewhale_fleet.core.spec import FileExists

from .builders import Kept, a_task, an_end, judged, of_file, told

SCORER = FileExists(path="out/report.md")


def _with(error: str) -> tuple[str, str, str]:
    ended = an_end(evidence={"out/report.md": Evidence(error=error)})
    receipt = judged(a_task(SCORER), ended)
    return receipt.result, receipt.source, receipt.reason


def test_it_asks_for_that_one_file() -> None:
    assert scoring.wanted(a_task(SCORER)) == [{"path": "out/report.md", "cap": 1_000_000}]


def test_a_file_that_is_there_passes_even_an_empty_one() -> None:
    receipt = of_file(SCORER, "")
    assert told(receipt) == ("pass", "")
    assert (receipt.scorer, receipt.reason) == ("file_exists", "out/report.md is there, 0 bytes")


def test_its_content_is_not_read() -> None:
    kept = Kept().put("out/report.md", b"\xff\xfe")
    assert judged(a_task(SCORER), an_end(evidence=kept.evidence), kept.read).result == "pass"
    assert kept.reads == 0


def test_a_file_too_large_to_keep_is_still_there() -> None:
    assert _with("too large") == ("pass", "", "out/report.md is there")


def test_a_missing_file_is_the_tasks_fault() -> None:
    assert _with("missing") == ("fail", "task", "out/report.md does not exist")


@pytest.mark.parametrize("kind", ["a directory", "no regular file"])
def test_a_directory_or_a_device_is_no_file(kind: str) -> None:
    expected = ("fail", "task", "out/report.md is no regular file")
    assert _with(f"unreadable: it is {kind}") == expected


def test_a_file_behind_a_link_out_of_the_workspace_is_against_policy() -> None:
    assert _with("outside the workspace")[:2] == ("fail", "policy")


def test_another_read_error_is_the_verifiers_and_says_which() -> None:
    expected = ("fail", "verifier", "out/report.md: unreadable: Permission denied")
    assert _with("unreadable: Permission denied") == expected


def test_evidence_that_was_never_collected_is_the_transports() -> None:
    receipt = judged(a_task(SCORER), an_end(unknown=True))
    assert told(receipt) == ("fail", "transport")
    assert receipt.reason == "out/report.md was never collected"


def test_the_exit_status_does_not_matter() -> None:
    assert of_file(SCORER, "x", exit=1).result == "pass"
    assert of_file(SCORER, "x", signal=9).result == "pass"
    assert of_file(SCORER, "x", unknown=True).result == "pass"
