"""Secrets in specs and in fleet.toml: what may be said of them, and what a policy allows."""

import json
from typing import Any

import pytest

from codewhale_fleet.core.parts import SecretName
from codewhale_fleet.core.spec_hosts import SecretRef
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.problems import SpecProblems
from codewhale_fleet.wire.specfile import LoadedSpec, load

from .builders import a_spec, a_task, loaded, problem_of, problems_of

OWN = '[agents.own]\ncommand = ["own"]\n'


def with_agents(text: str, *tasks: dict[str, Any], **fields: Any) -> LoadedSpec:
    data = json.dumps({**fields, "tasks": tasks}).encode()
    return load(data, file="s.json", roster=lambda: fleetfile.parse(text.encode()).roster)


def flaw(text: str, *tasks: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Field and message of the one thing that is wrong."""
    with pytest.raises(SpecProblems) as caught:
        with_agents(text, *tasks, **fields)
    (one,) = caught.value.problems
    return one.field, one.message


def asks(*secrets: Any, **fields: Any) -> dict[str, Any]:
    return a_spec(a_task(secrets=list(secrets), **fields))


def policy(*allowed: Any) -> dict[str, Any]:
    return {"default_trust_level": "local", "allowed_secrets": list(allowed)}


def test_the_names_of_all_secrets_are_the_runs_and_no_more_than_names() -> None:
    spec = loaded(
        a_spec(
            a_task(secrets=["B", {"key": "A", "source": "env", "as": "X"}]),
            a_task(id="two", secrets=[{"key": "B", "deliver": "file", "as": "PATH_OF_B"}]),
        )
    )
    assert spec.secrets == [SecretName(key="A", source="env"), SecretName(key="B")]


@pytest.mark.parametrize(
    ("secret", "field", "message"),
    [
        (
            {"key": "A", "source": "vault"},
            ".source",
            'must be one of env, file, keyring, not "vault"',
        ),
        ({"key": "A", "deliver": "fd"}, ".deliver", 'must be one of env, file, not "fd"'),
        ({"key": "A", "value": "x"}, ".value", "unknown field"),
        ("", "", '"" can be no secret\'s name'),
        ("../A", "", '"../A" can be no secret\'s name'),
        ({"key": "-A", "as": "A"}, ".key", '"-A" can be no secret\'s name'),
        ("npm-token", "", '"npm-token" is no variable\'s name'),
        ({"key": "A", "as": "A B"}, ".as", '"A B" is no variable\'s name'),
        ("FLEET_TOKEN", "", "FLEET_TOKEN is the fleet's own"),
        ({"key": "A", "as": "FLEET_SOCKET"}, ".as", "FLEET_SOCKET is the fleet's own"),
        ({"key": "A", "as": "PATH"}, ".as", "PATH is a variable that every task has"),
        ({"key": "A", "as": "LC_ALL"}, ".as", "LC_ALL is a variable that every task has"),
    ],
)
def test_a_reference_that_cannot_be_delivered_is_refused(
    secret: Any, field: str, message: str
) -> None:
    found = problem_of(asks(secret))
    assert found[0] == f"tasks[0].secrets[0]{field}"
    assert found[1].startswith(message)


def test_two_secrets_under_one_variable_are_refused() -> None:
    found = problem_of(asks("A", {"key": "B", "as": "A"}))
    assert found == (
        "tasks[0].secrets[1]",
        "A is already the variable of the secret A",
    )


@pytest.mark.parametrize("field", ["required", "allowlist"])
def test_a_variable_that_is_passed_on_carries_no_secret_besides(field: str) -> None:
    where, message = problem_of(asks("A", workspace={"environment": {field: ["A"]}}))
    assert (where, message) == (
        "tasks[0].secrets[0]",
        f"A is also in workspace.environment.{field}",
    )


def test_one_key_has_one_source_in_a_run() -> None:
    two = a_spec(
        a_task(secrets=[{"key": "A", "source": "env"}]),
        a_task(id="two", secrets=[{"key": "A", "source": "keyring"}]),
    )
    assert problem_of(two) == (
        "tasks[1].secrets[0]",
        "A comes from keyring here and from env elsewhere in this run",
    )


# Agents ---------------------------------------------------------------------------------------


def test_what_an_agent_gets_is_named_with_it_and_counts_for_its_tasks_and_verdicts() -> None:
    text = OWN + 'secrets = ["K"]\n'
    does = {"id": "a", "agent": "own", "instructions": "x"}
    judge = {"kind": "code_whale_verifier_prompt", "prompt": "good?", "agent": "own"}
    for task in (does, {"id": "a", "command": "true", "scorer": judge}):
        assert with_agents(text, task).secrets == [SecretName(key="K")]
    assert with_agents(text, {"id": "a", "command": "true"}).secrets == []


def test_a_key_that_a_preset_passes_on_comes_as_a_secret_once_it_is_named_as_one() -> None:
    text = '[agents.claude]\nsecrets = ["ANTHROPIC_API_KEY"]\n'
    spec = with_agents(text, {"id": "a", "agent": "claude", "instructions": "x"})
    assert spec.secrets == [SecretName(key="ANTHROPIC_API_KEY")]
    assert "ANTHROPIC_API_KEY" not in spec.environment


@pytest.mark.parametrize(
    ("more", "field", "message"),
    [
        ('secrets = ["a-b"]', "secrets[0]", '"a-b" is no variable\'s name'),
        ('secrets = ["K"]\nenv = {K = "1"}', "secrets[0]", "K is also in env of this agent"),
        (
            'secrets = ["K"]\nenvironment = {allowlist = ["K"]}',
            "secrets[0]",
            "K is also in environment.allowlist of this agent",
        ),
        (
            'secrets = [{key = "K", source = "safe"}]',
            "secrets[0].source",
            'must be one of env, file, keyring, not "safe"',
        ),
    ],
)
def test_an_agents_secrets_follow_the_same_rules(more: str, field: str, message: str) -> None:
    with pytest.raises(SpecProblems) as caught:
        fleetfile.parse(f"{OWN}{more}\n".encode())
    (one,) = caught.value.problems
    assert one.field == f"agents.own.{field}"
    assert one.message.startswith(message)


def test_a_task_and_its_agent_may_name_the_same_secret_but_not_the_same_variable_twice() -> None:
    text = OWN + 'secrets = ["K"]\n'
    task = {"id": "a", "agent": "own", "instructions": "x"}
    assert with_agents(text, {**task, "secrets": ["K"]}).secrets == [SecretName(key="K")]
    found = flaw(text, {**task, "secrets": [{"key": "L", "as": "K"}]})
    assert found == ("tasks[0].secrets[0]", "K is the variable of another secret of agent own")
    place = {"environment": {"allowlist": ["K"]}}
    where, message = flaw(text, {**task, "workspace": place})
    assert where == "tasks[0].agent"
    assert message.startswith("K carries a secret of agent own, and is also in workspace.")


# Policy ---------------------------------------------------------------------------------------


def test_with_a_policy_a_secret_must_be_in_its_list() -> None:
    spec = asks("A", "B")
    assert problem_of({**spec, "security_policy": policy("A")}) == (
        "tasks[0].secrets[1]",
        "B is not in security_policy.allowed_secrets",
    )
    assert loaded({**spec, "security_policy": policy("A", "B")}).secrets
    assert loaded(spec).secrets, "without a policy none is asked"
    assert set(problems_of({**spec, "security_policy": policy()})) == {
        "tasks[0].secrets[0]",
        "tasks[0].secrets[1]",
    }


@pytest.mark.parametrize(
    ("allowed", "ref", "holds"),
    [
        ("NPM_*", "NPM_TOKEN", True),
        ("NPM_*", "GH_TOKEN", False),
        ("NPM_?", "NPM_A", True),
        ("npm_token", "NPM_TOKEN", False),
        ({"key": "A", "source": "keyring"}, {"key": "A", "source": "keyring"}, True),
        ({"key": "A", "source": "keyring"}, {"key": "A", "source": "env"}, False),
        ({"key": "A", "source": "keyring"}, "A", False),
        ("A", {"key": "A", "source": "env"}, True),
    ],
)
def test_a_policy_allows_by_name_by_pattern_and_by_source(
    allowed: Any, ref: Any, holds: bool
) -> None:
    found = problems_of({**asks(ref), "security_policy": policy(allowed)})
    assert (found == {}) is holds


def test_a_policy_says_which_secrets_and_not_how_they_come() -> None:
    allowed = {"key": "A", "as": "B", "deliver": "file"}
    found = problems_of({**asks("A"), "security_policy": policy(allowed)})
    place = "security_policy.allowed_secrets[0]"
    assert set(found) == {f"{place}.as", f"{place}.deliver"}
    assert problem_of(a_spec(security_policy=policy("a b")))[0] == place


def test_what_an_agent_gets_must_be_allowed_too() -> None:
    task = {"id": "a", "agent": "own", "instructions": "x"}
    found = flaw(OWN + 'secrets = ["K"]\n', task, security_policy=policy("L"))
    assert found == (
        "tasks[0].agent",
        "agent own gets it: K is not in security_policy.allowed_secrets",
    )


def test_a_reference_is_shown_by_its_name() -> None:
    from codewhale_fleet.core.secrets import shown

    assert shown(SecretRef(key="K")) == "<secret:K>"
    assert shown(SecretName(key="K", source="env")) == "<secret:env.K>"
