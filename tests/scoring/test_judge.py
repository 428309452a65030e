"""What the scorers share: ends from outside, artifacts, waiting for a person, and light imports."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet import scoring
from codewhale_fleet.core.events import Artifact, AttemptEnded, Evidence, Log, Step
from codewhale_fleet.core.spec import (
    Budget,
    FileExists,
    JsonPath,
    Manual,
    RegexMatch,
    Scorer,
    Task,
    VerifierPrompt,
)

from .builders import Kept, a_task, an_end, judged, told

ALL_SCORERS: list[Scorer | None] = [
    None,
    FileExists(path="f"),
    RegexMatch(path="f", pattern="x"),
    JsonPath(path="f", expression="$.x"),
    Manual(),
]


@pytest.mark.parametrize("scorer", ALL_SCORERS)
def test_a_timeout_is_a_timeout_whatever_the_scorer_would_say(scorer: Scorer | None) -> None:
    task = a_task(scorer, timeout_seconds=1800.0)
    receipt = judged(task, an_end(why="timeout", signal=9, missing=["report"]))
    assert told(receipt) == ("timeout", "task")
    assert receipt.reason == "ran longer than timeout_seconds = 1800"


def test_a_part_of_a_second_is_kept_in_the_words() -> None:
    receipt = judged(a_task(timeout_seconds=0.25), an_end(why="timeout", exit=0))
    assert receipt.reason == "ran longer than timeout_seconds = 0.25"


def test_a_spent_budget_is_a_failure_of_the_budget() -> None:
    receipt = judged(a_task(budget=Budget(max_seconds=60.0)), an_end(why="budget", signal=15))
    assert told(receipt) == ("fail", "budget")
    assert receipt.reason == "all attempts together ran longer than budget.max_seconds = 60"


def test_a_flood_of_output_is_against_policy() -> None:
    logs = {"out": Log(path="o", size=5), "err": Log(path="e", size=12_000_000_000)}
    receipt = judged(a_task(), an_end(why="flood", signal=9, logs=logs))
    assert told(receipt) == ("fail", "policy")
    assert receipt.reason == "wrote more output than a task may (12,000,000,000 bytes)"


@pytest.mark.parametrize("why", ["interrupted", "stopped", "withdrawn"])
def test_an_end_on_request_is_a_skip_for_a_person_to_explain(why: str) -> None:
    assert told(judged(a_task(), an_end(why=why, signal=2))) == ("skip", "human")
    assert told(judged(a_task(), an_end(why=why, unstarted="queued"))) == ("skip", "human")


def test_an_end_for_a_reason_this_version_does_not_know_is_the_transports() -> None:
    receipt = judged(a_task(), an_end(why="evicted", exit=0))
    assert told(receipt) == ("fail", "transport")
    assert receipt.reason == "its host ended it: evicted"


@pytest.mark.parametrize("scorer", ALL_SCORERS)
def test_what_never_started_is_the_tasks_fault_in_the_hosts_words(scorer: Scorer | None) -> None:
    receipt = judged(a_task(scorer), an_end(unstarted="its program nope does not exist"))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "its program nope does not exist"


def test_what_the_system_could_not_spawn_is_the_transports() -> None:
    receipt = judged(a_task(), an_end(unstarted="spawn: Resource temporarily unavailable"))
    assert told(receipt) == ("fail", "transport")
    assert receipt.reason == "Resource temporarily unavailable"


def test_a_missing_artifact_fails_a_pass_by_name() -> None:
    receipt = judged(a_task(), an_end(missing=["report", "patch"]))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "promised artifact missing: report, patch"


def test_a_missing_artifact_fails_what_waits_for_a_person() -> None:
    assert told(judged(a_task(Manual()), an_end(missing=["report"]))) == ("fail", "task")


def test_a_failure_keeps_its_own_source_and_names_the_missing_artifact_too() -> None:
    receipt = judged(a_task(), an_end(exit=2, missing=["report"]))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "exit 2; promised artifact missing: report"
    receipt = judged(a_task(), an_end(unknown=True, missing=["report"]))
    assert told(receipt) == ("fail", "transport")


def test_an_artifact_outside_the_workspace_is_against_policy() -> None:
    errors = ["log: a.log: unreadable: Permission denied", "report: b: outside the workspace"]
    receipt = judged(a_task(), an_end(artifact_errors=errors))
    assert told(receipt) == ("fail", "policy")
    assert receipt.reason == "artifact not kept: report: b: outside the workspace and 1 more"


def test_a_pattern_that_leads_out_of_the_workspace_is_against_policy() -> None:
    errors = ["report: the pattern ../x leads outside the workspace"]
    assert told(judged(a_task(), an_end(artifact_errors=errors))) == ("fail", "policy")


def test_an_artifact_that_is_missing_because_it_escaped_names_the_escape_first() -> None:
    ended = an_end(artifact_errors=["report: a: outside the workspace"], missing=["report"])
    assert judged(a_task(), ended).reason == (
        "artifact not kept: report: a: outside the workspace; promised artifact missing: report"
    )


def test_an_artifact_that_could_not_be_kept_fails_the_task_in_words() -> None:
    receipt = judged(a_task(), an_end(artifact_errors=["report: more than 1000 files"]))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "artifact not kept: report: more than 1000 files"


def test_artifacts_that_are_there_change_nothing() -> None:
    receipt = judged(a_task(), an_end(artifacts=[Artifact(kind="report", path="r")]))
    assert told(receipt) == ("pass", "")


def test_a_manual_scorer_waits_for_a_person() -> None:
    receipt = judged(a_task(Manual()), an_end(exit=1))
    assert told(receipt) == ("partial", "human")
    assert (receipt.scorer, receipt.reason) == ("manual", "waits for a person")


def test_an_agent_without_a_scorer_is_never_passed() -> None:
    task = a_task(command=None, instructions="do it", agent="a")
    assert told(judged(task, an_end(exit=0))) == ("partial", "human")
    assert told(judged(task, an_end(exit=1))) == ("fail", "task")
    assert told(judged(task, an_end(unknown=True))) == ("fail", "transport")


@pytest.mark.parametrize("scorer", [None, Manual()])
def test_scorers_that_look_at_no_file_want_no_evidence(scorer: Scorer | None) -> None:
    assert scoring.wanted(a_task(scorer)) == []


def test_the_placeholder_receipt_of_the_end_is_never_looked_at() -> None:
    assert told(judged(a_task(), an_end())) == ("pass", "")


ENDS: list[dict[str, Any]] = [
    {"exit": 0},
    {"exit": 7},
    {"signal": 11},
    {"unknown": True},
    {"unstarted": "x"},
]


@given(
    scorer=st.sampled_from(ALL_SCORERS),
    end=st.sampled_from(ENDS),
    why=st.sampled_from(["", "timeout", "budget", "flood", "interrupted", "?"]),
    content=st.binary(max_size=60),
    error=st.sampled_from(["", "missing", "too large", "outside the workspace", "unreadable: x"]),
    missing=st.sampled_from([[], ["report"]]),
)
def test_every_end_has_a_receipt_with_a_source(
    scorer: Scorer | None,
    end: dict[str, Any],
    why: str,
    content: bytes,
    error: str,
    missing: list[str],
) -> None:
    kept = Kept(f=content)
    evidence = {"f": Evidence(error=error)} if error else kept.evidence
    ended = an_end(**end, why=why, missing=missing, evidence=evidence)
    receipt = judged(a_task(scorer), ended, kept.read)
    if why or missing:
        assert receipt.result != "pass"


@given(pattern=st.text(max_size=20), content=st.text(max_size=40))
def test_no_pattern_and_no_expression_is_an_exception(pattern: str, content: str) -> None:
    kept = Kept(f=content)
    ended = an_end(evidence=kept.evidence)
    judged(a_task(RegexMatch(path="f", pattern=pattern)), ended, kept.read)
    judged(a_task(JsonPath(path="f", expression=f"${pattern}")), ended, kept.read)


@pytest.mark.parametrize(
    ("task", "ended"),
    [
        (a_task(RegexMatch(path="f", pattern="[\n")), an_end()),
        (a_task(JsonPath(path="f", expression="$[\n'a\n")), an_end()),
        (a_task(FileExists(path="a\nb")), an_end(evidence={"a\nb": Evidence(error="missing")})),
        (a_task(), an_end(unstarted="its program a\nb does not exist")),
        (a_task(), an_end(artifact_errors=["a\nb\x1b[31m is a directory"])),
        (a_task(), an_end(missing=["re\u2028port"])),
    ],
)
def test_a_reason_is_one_printable_line(task: Task, ended: AttemptEnded) -> None:
    receipt = judged(task, ended)
    assert receipt.result == "fail"
    assert receipt.reason.isprintable()


def test_a_command_without_a_scorer_imports_no_scorers_library() -> None:
    code = """
import sys
from codewhale_fleet import scoring
from tests.scoring.builders import a_task, an_end, judged

assert scoring.wanted(a_task()) == []
assert judged(a_task(), an_end()).result == "pass"
assert judged(a_task(), an_end(exit=1)).result == "fail"
print([name for name in sys.modules if "re2" in name or "json_path" in name or "jsonp" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hung_attempt_timed_out_by_its_own_limit() -> None:
    receipt = judged(a_task(stall_seconds=30.0), an_end(why="stall", signal=2))
    assert told(receipt) == ("timeout", "task")
    assert receipt.reason == "hung: no output and no processor time for stall_seconds = 30"


def test_a_start_that_a_killed_runtime_never_made_is_nobodys_failure() -> None:
    receipt = judged(a_task(), an_end(why="unspawned", unstarted="killed just before"))
    assert told(receipt) == ("skip", "transport") and receipt.reason == "killed just before"


def test_any_scorer_that_fails_a_task_out_of_memory_says_so() -> None:
    gone = {"f": Evidence(error="missing")}
    receipt = judged(a_task(FileExists(path="f")), an_end(signal=9, oom=True, evidence=gone))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason.endswith("; its process was killed: probably out of memory")


def test_an_agent_that_is_not_installed_is_named_with_where_to_look() -> None:
    said = "its program robot is not found on PATH (3 directories searched)"
    end = an_end(unstarted=said)
    reason = scoring.judge(
        Task(id="t", agent="robot", instructions="x"), end, lambda kept: b""
    ).reason
    assert reason == f'agent "robot": {said}; fleet doctor shows which are there'
    far = an_end(unstarted=said, worker="r-web-01-1")
    reason = scoring.judge(
        Task(id="t", agent="robot", instructions="x"), far, lambda kept: b""
    ).reason
    assert reason.endswith("; it has to be on web-01, on the PATH of a login there")
    assert scoring.judge(a_task(), end, lambda kept: b"").reason == said
    asks = VerifierPrompt(prompt="Is it?", agent="robot")
    end = an_end(steps=[Step(kind="agent", unstarted=said)])
    receipt = scoring.judge(a_task(asks), end, lambda kept: b"")
    assert receipt.source == "verifier"
    assert receipt.reason.endswith(f"{said}; fleet doctor shows which agents are there")
