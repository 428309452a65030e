"""A plan's prompt: written before the spawn, given as it says, kept though the file changes."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from tests.worker.driver import Manager, Message

TEXT = "# Do it\n\né and 🐋, and no last newline"


def a_prompt(text: str = TEXT, *, stdin: bool = True) -> dict[str, Any]:
    return {"text": text, "path": "prompts/r/a.1.md", "stdin": stdin}


def kept(manager: Manager, end: Message) -> bytes:
    """The bytes of the prompt that an end names, by their digest."""
    (one,) = [one for one in end["artifacts"] if one["kind"] == "prompt"]
    data = (manager.root / ".fleet" / "evidence" / one["sha256"]).read_bytes()
    assert (len(data), sha256(data).hexdigest()) == (one["size"], one["sha256"])
    assert (one["path"], one["mime"]) == ("prompts/r/a.1.md", "text/markdown")
    return data


@pytest.mark.parametrize("text", [TEXT, "", "x" * 3_000_000])
def test_a_prompt_of_any_length_is_standard_input(manager: Manager, text: str) -> None:
    end = manager.run("a", ["cat"], prompt=a_prompt(text))
    assert end["logs"]["out"]["size"] == len(text.encode()) if text else "logs" not in end
    assert kept(manager, end) == text.encode()


def test_a_prompt_that_goes_another_way_leaves_standard_input_empty(manager: Manager) -> None:
    path = manager.root / ".fleet" / "prompts" / "r" / "a.1.md"
    end = manager.run("a", ["sh", "-c", f"cat; cat {path}"], prompt=a_prompt(stdin=False))
    assert manager.out(end) == TEXT
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_given_is_told_though_the_task_writes_over_it(manager: Manager) -> None:
    path = manager.root / ".fleet" / "prompts" / "r" / "a.1.md"
    end = manager.run("a", ["sh", "-c", f"echo other > {path}"], prompt=a_prompt())
    assert kept(manager, end) == TEXT.encode()


def test_what_was_given_is_told_by_a_runtime_that_did_not_give_it(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up")
    script = "echo > up; read line < go; cat"
    attempt = manager.start("a", ["sh", "-c", script], prompt=a_prompt())
    manager.until_up("up")
    manager.kill_runtime()
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert kept(manager, end) == TEXT.encode()
    assert manager.out(end) == TEXT


def test_a_prompt_that_cannot_be_written_is_told_and_nothing_starts(manager: Manager) -> None:
    (manager.root / ".fleet" / "prompts").write_text("in the way")
    end = manager.run("a", ["touch", "ran"], prompt=a_prompt())
    assert "cannot be written" in end["unstarted"]
    assert not (manager.root / "ran").exists()


# The last message -------------------------------------------------------------------------------

READS = {"answer": [{"when": {"type": "said"}, "path": "text"}], "error": [{"path": "error"}]}
REPORT = {"kind": "report", "path": "prompts/r/a.1.report.md"}


def test_a_promised_report_is_the_last_message_where_no_file_is_it(manager: Manager) -> None:
    lines = '{"type":"said","text":"first"}\n{"type":"said","text":"All is well.\\nReally."}'
    more: dict[str, Any] = {"usage": READS, "answer": REPORT, "expected": ["report"]}
    end = manager.run("a", ["printf", "%s\n", lines], **more)
    (report,) = end["artifacts"]
    assert report == {**report, **REPORT, "mime": "text/markdown", "size": 21}
    fleet_dir = manager.root / ".fleet"
    for path in (fleet_dir / REPORT["path"], fleet_dir / "evidence" / report["sha256"]):
        assert path.read_text() == "All is well.\nReally.\n"
    assert "missing" not in end

    more["artifacts"] = {"report": ["own.md"]}
    command = f"echo mine > own.md; printf '%s\\n' '{lines}'"
    end = manager.run("b", ["sh", "-c", command], **more)
    assert [one["path"] for one in end["artifacts"]] == ["own.md"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"type":"said","text":"It broke."}', 1),
        ('{"type":"said","text":"It broke.","error":"no more"}', 0),
        ('{"type":"said","text":"  "}', 0),
        ('{"type":"else"}', 0),
    ],
)
def test_what_is_said_in_a_failure_is_no_report(manager: Manager, line: str, code: int) -> None:
    more: dict[str, Any] = {"usage": READS, "answer": REPORT, "expected": ["report"]}
    end = manager.run("a", ["sh", "-c", f"echo '{line}'; exit {code}"], **more)
    assert end["missing"] == ["report"] and "artifacts" not in end
