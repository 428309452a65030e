"""Verification in specs: what loads, what is refused, and the names of agents that verify."""

from typing import Any

import pytest

from codewhale_fleet.agents.definition import Agent
from codewhale_fleet.agents.roster import Roster
from codewhale_fleet.core.spec import VerifierPrompt
from codewhale_fleet.core.tasks import decode_task
from codewhale_fleet.wire.specfile import LoadedSpec, SpecProblems, load

from .builders import a_spec, a_task, loaded, problem_of, problems_of, toml_text

EXIT: dict[str, Any] = {"kind": "exit_code"}
MANUAL: dict[str, Any] = {"kind": "manual"}
COMMAND: dict[str, Any] = {"kind": "command", "command": "make check"}
PROMPT: dict[str, Any] = {"kind": "code_whale_verifier_prompt", "prompt": "Is it right?"}
POLICY: dict[str, Any] = {"max_attempts": 3}


def chain(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    on_fail = {"on_fail": fields.pop("on_fail")} if "on_fail" in fields else {}
    return a_spec(a_task(verify={"steps": list(steps), **on_fail}, **fields))


def with_roster(document: dict[str, Any], default: str | None = None) -> LoadedSpec:
    roster = Roster(written={"judge": Agent(command=["judge"])}, default=default)
    return load(toml_text(document), file="spec.toml", roster=lambda: roster)


def verifier_of(spec: LoadedSpec) -> str | None:
    task = decode_task(spec.tasks[0])
    scorer = task.verify.steps[-1] if task.verify else task.scorer
    assert isinstance(scorer, VerifierPrompt)
    return scorer.agent


def test_a_chain_of_every_kind_loads() -> None:
    steps = [
        EXIT,
        {"kind": "file_exists", "path": "./a//b"},
        {"kind": "regex_match", "path": "a", "pattern": "x"},
        {"kind": "json_path", "path": "a", "expression": "$.x"},
        {**COMMAND, "args": ["-j"], "timeout_seconds": 5},
        {**PROMPT, "agent": "judge"},
        MANUAL,
    ]
    spec = with_roster(chain(*steps, on_fail="retry_with_feedback", retry_policy=POLICY))
    verify = decode_task(spec.tasks[0]).verify
    assert verify and verify.on_fail == "retry_with_feedback" and len(verify.steps) == 7
    assert verify.steps[1].path == "a/b"  # type: ignore[union-attr]
    assert spec.waived == [] and list(spec.agents) == ["judge"]


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (chain(), "tasks[0].verify.steps", "must not be empty"),
        (chain(EXIT, scorer=EXIT), "tasks[0].verify", "not allowed together with scorer"),
        (chain(MANUAL, COMMAND), "tasks[0].verify.steps[0].kind", "must be the last step"),
        (
            chain(COMMAND, on_fail="retry_with_feedback"),
            "tasks[0].verify.on_fail",
            "there is no retry_policy",
        ),
        (
            chain(COMMAND, on_fail="retry_with_feedback", retry_policy={"max_attempts": 1}),
            "tasks[0].verify.on_fail",
            "max_attempts is 1",
        ),
        (chain(COMMAND, on_fail="give_up"), "tasks[0].verify.on_fail", "retry_with_feedback"),
        (chain({**COMMAND, "command": "a\0b"}), "tasks[0].verify.steps[0].command", "NUL"),
        (chain({**COMMAND, "command": " "}), "tasks[0].verify.steps[0].command", "blank"),
        (chain({**COMMAND, "args": ["\0"]}), "tasks[0].verify.steps[0].args[0]", "NUL"),
        (chain({**COMMAND, "command": "x" * 140_000}), "tasks[0].verify.steps[0].command", "bytes"),
        (chain({**COMMAND, "timeout_seconds": 0}), "tasks[0].verify.steps[0].timeout_seconds", "0"),
        (chain({"kind": "file_exists", "path": "../x"}), "tasks[0].verify.steps[0].path", ".."),
        (a_spec(a_task(scorer={**PROMPT, "prompt": " "})), "tasks[0].scorer.prompt", "blank"),
        (a_spec(a_task(scorer={**COMMAND, "args": ["\0"]})), "tasks[0].scorer.args[0]", "NUL"),
    ],
)
def test_what_could_not_be_performed_is_refused(
    document: dict[str, Any], field: str, words: str
) -> None:
    found = problems_of(document)
    assert field in found and words in found[field]


def test_a_verifier_is_the_one_named_or_the_tasks_own_or_the_default() -> None:
    named = with_roster(chain({**PROMPT, "agent": "judge"}))
    assert verifier_of(named) == "judge"
    own = with_roster(
        a_spec({"id": "t", "agent": "judge", "instructions": "do it", "scorer": PROMPT})
    )
    assert verifier_of(own) == "judge"
    default = with_roster(chain(PROMPT), default="judge")
    assert verifier_of(default) == "judge" and list(default.agents) == ["judge"]


def test_a_verifier_that_is_nowhere_is_refused_with_what_would_help() -> None:
    with pytest.raises(SpecProblems) as caught:
        with_roster(chain(PROMPT))
    problem = caught.value.problems[0]
    assert problem.field == "tasks[0].verify.steps[0].agent"
    assert "default_agent" in problem.hint
    with pytest.raises(SpecProblems) as caught:
        with_roster(chain({**PROMPT, "agent": "jugde"}))
    assert "did you mean judge?" in caught.value.problems[0].message


def test_a_spec_without_a_verifier_asks_for_no_agents() -> None:
    assert loaded(chain(COMMAND)).agents == {}


def test_a_person_alone_needs_nothing_else() -> None:
    assert decode_task(loaded(chain(EXIT, MANUAL)).tasks[0]).verify
    assert problem_of(chain(MANUAL, MANUAL))[0] == "tasks[0].verify.steps[0].kind"
