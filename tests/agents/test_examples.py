"""The examples of the fleet format's own guide, word for word, with real agents.

They load as they stand there and end as the guide says: what a person or a verifier must judge is
partial until then. `examples/` holds them unchanged; only the agent comes from fleet.toml. codex
knows no list of tools, and says so: that one field is waived by name.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import scenarios
from tests.agents.driving import Drive, driving
from tests.agents.scenarios import Answer, Scenario, Shell, Usage

pytestmark = [pytest.mark.slow, pytest.mark.agents]

EXAMPLES = Path(__file__).parent / "examples"
SMALL = Usage(fresh=900, cached=1000, out=100)
"""Tokens of one answer: what the examples allow suffices for four."""
FINDING = "crates/protocol/src/fleet.rs:1 lacks a serde default."
VERDICT = {
    "verdict": "pass",
    "reason": "There is a concrete finding.",
    "quotes": ["crates/protocol/src/fleet.rs:1"],
}
NEEDED = (
    *("Cargo.toml", "CHANGELOG.md", ".github/AUTHOR_MAP"),
    *("crates/protocol/src/fleet.rs", "crates/tui/src/fleet/mod.rs", "crates/tui/src/main.rs"),
)
WAIVED = {"claude": (), "codex": ("--allow-unenforced", "worker.tools")}


@pytest.fixture(params=("claude", "codex"))
def drive(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Drive]:
    """A project as the examples expect it, and an agent that reviews it."""
    with driving(tmp_path, request.param) as made:
        for name in NEEDED:
            path = made.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"This is {name}.\n")
        plays(monkeypatch, Answer("I look.", (Shell("git --version"),), SMALL), said(FINDING))
        yield made


def said(text: str) -> Answer:
    return Answer(text, usage=SMALL)


def plays(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> None:
    monkeypatch.setitem(scenarios.SCENARIOS, "review", Scenario(answers))


def play(drive: Drive, example: str, code: int) -> list[dict[str, Any]]:
    """Run an example to its end: the ends of its attempts, in the order of its tasks."""
    for path in EXAMPLES.iterdir():
        (drive.work / path.name).write_bytes(path.read_bytes())
    drive.settle("review")
    waived = WAIVED[drive.cli.name]
    drive.fleet("check", example, *waived)
    drive.fleet("run", example, *waived, code=code)
    order = [task["id"] for task in json.loads((EXAMPLES / example).read_bytes())["tasks"]]
    return sorted(
        drive.ended(), key=lambda one: order.index(one["attempt"].partition("/")[2].split("@")[0])
    )


def report_of(drive: Drive, ended: dict[str, Any]) -> str:
    (digest,) = [one["sha256"] for one in ended["artifacts"] if one["kind"] == "report"]
    return Path(drive.work, ".fleet", "evidence", digest).read_text()


def test_local_smoke_is_partial_as_nobody_verifies_it(drive: Drive) -> None:
    (ended,) = play(drive, "local-smoke.json", 3)
    assert (ended["receipt"]["result"], ended["exit"]) == ("partial", 0)


def test_release_triage_passes_by_its_exit_code_and_leaves_a_report(drive: Drive) -> None:
    (ended,) = play(drive, "release-triage.json", 0)
    assert (ended["receipt"]["result"], ended["receipt"]["scorer"]) == ("pass", "exit_code")
    assert report_of(drive, ended) == FINDING + "\n"
    assert (drive.work / ".codewhale" / "fleet").is_dir()  # its writable path
    receipts = drive.fleet("receipts", "@last", "--json").stdout
    assert ("worker.tools" in receipts) == (drive.cli.name == "codex")


@pytest.mark.parametrize("drive", ["claude"], indirect=True)
def test_release_triage_does_not_begin_without_its_required_files(drive: Drive) -> None:
    (drive.work / "CHANGELOG.md").unlink()
    ends = play(drive, "release-triage.json", 1)
    assert {"required files are missing" in one["unstarted"] for one in ends} == {True}
    assert drive.api.requests == []


def test_the_code_review_swarm_is_partial_until_it_is_verified(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verifier is the same agent: its verdict passes the first task, a person the second."""
    plays(monkeypatch, said(f"{FINDING}\n\n```json\n{json.dumps(VERDICT)}\n```"))
    protocol, tui = play(drive, "code-review-swarm.json", 3)
    assert protocol["receipt"]["scorer"] == "code_whale_verifier_prompt"
    assert protocol["receipt"]["result"] == "pass"
    assert protocol["receipt"]["quotes"] == VERDICT["quotes"]
    (step,) = protocol["steps"]
    assert step["agent"]["usage"]["tokens_in"] == 1900  # it is counted as the attempt's own is
    asked = (drive.work / ".fleet" / "evidence" / step["seen"]["sha256"]).read_text()
    assert FINDING in asked
    assert (tui["receipt"]["result"], tui["receipt"]["scorer"]) == ("partial", "manual")
    assert FINDING in report_of(drive, tui)
    drive.fleet("verify", "@last/tui-review", "--pass", "--note", "read it")
    assert "completed" in drive.fleet("status", "@last").stdout
    (record,) = drive.records("receipt.recorded")
    assert record["receipt"]["result"] == "pass"


def test_a_verifier_that_says_no_verdict_has_not_failed_the_task(drive: Drive) -> None:
    protocol, _ = play(drive, "code-review-swarm.json", 1)
    assert protocol["receipt"]["result"] == "fail"
    assert protocol["receipt"]["source"] == "verifier"
    assert "no verdict in JSON" in protocol["receipt"]["reason"]
