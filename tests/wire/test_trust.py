"""Policies, grants and roles at load: what is wrong, what a spec may not widen, what needs a
sandbox."""

import json
from typing import Any

import pytest
from msgspec import convert

from codewhale_fleet.agents.roster import Roster
from codewhale_fleet.core.posture import decode_policy
from codewhale_fleet.core.spec_hosts import SecretRef, SecurityPolicy
from codewhale_fleet.core.tasks import decode_task
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.problems import SpecProblems
from codewhale_fleet.wire.specfile import LoadedSpec, load
from codewhale_fleet.wire.trust import narrowed

from .builders import a_spec, a_task

NO_SANDBOX = "bubblewrap is not installed; install it: apt-get install bubblewrap"


def spec(document: Any, toml: str = "", *waivers: str, lacks: str = "") -> LoadedSpec:
    file = fleetfile.parse(toml.encode())
    return load(
        json.dumps(document).encode(),
        file="spec.json",
        waivers=waivers,
        roster=lambda: Roster(written=file.agents),
        trust=file.trust,
        lacking=lambda: lacks,
    )


def refused(document: Any, toml: str = "", *waivers: str, lacks: str = "") -> tuple[str, str, str]:
    with pytest.raises(SpecProblems) as caught:
        spec(document, toml, *waivers, lacks=lacks)
    (one,) = caught.value.problems
    return one.field, one.message, one.hint


def in_file(toml: str) -> tuple[int, str, str, str]:
    with pytest.raises(SpecProblems) as caught:
        fleetfile.parse(toml.encode())
    (one,) = caught.value.problems
    return one.line, one.field, one.message, one.hint


def governed(**fields: Any) -> dict[str, Any]:
    return a_spec(security_policy=fields)


# Policies -------------------------------------------------------------------------------------


def test_a_default_above_the_maximum_is_refused() -> None:
    field, message, hint = refused(governed(default_trust_level="local", max_trust_level="sandbox"))
    assert field == "security_policy.default_trust_level"
    assert message == "local is above max_trust_level, which is sandbox"
    assert "sandbox, local, remote_verified, operator" in hint
    line, field, _, _ = in_file(
        '[security_policy]\nmax_trust_level = "local"\ndefault_trust_level = "operator"\n'
    )
    assert (line, field) == (3, "security_policy.default_trust_level")


@pytest.mark.parametrize(
    ("grant", "field", "words"),
    [
        ({"capability": "netwrk"}, "capability", "is no capability; did you mean network?"),
        ({"capability": "fly"}, "capability", '"fly" is no capability'),
        ({"capability": "release"}, "capability", "nothing tells a release from other work"),
        ({"capability": "network", "scope": "a.org"}, "scope", "as a whole or not at all"),
        ({"capability": "git-push", "scope": "a.org"}, "scope", "as a whole or not at all"),
        ({"capability": "workspace-write", "scope": "src/*.py"}, "scope", "a path"),
        ({"capability": "workspace-write", "scope": "../x"}, "scope", "leave the workspace"),
        ({"capability": "provider-secrets", "scope": " "}, "scope", "must not be blank"),
    ],
)
def test_a_grant_that_nobody_defined_is_refused(
    grant: dict[str, str], field: str, words: str
) -> None:
    found, message, hint = refused(governed(capability_grants=[grant]))
    assert found == f"security_policy.capability_grants[0].{field}"
    assert words in message
    if field == "capability":
        assert "network, git-push, provider-secrets, workspace-write" in hint


def test_a_level_that_needs_a_host_key_is_refused_as_long_as_there_are_none() -> None:
    field, message, _ = refused(governed(default_trust_level="remote_verified"))
    assert field == "security_policy.default_trust_level"
    assert "verified host key" in message
    assert spec(governed(default_trust_level="local", max_trust_level="remote_verified"))


def test_a_run_has_the_policy_of_its_spec_or_of_fleet_toml_or_none() -> None:
    assert spec(a_spec()).policy == b"null"
    own = decode_policy(spec(governed(default_trust_level="local")).policy)
    assert own is not None and own.default_trust_level == "local"
    ours = decode_policy(spec(a_spec(), '[security_policy]\nmax_trust_level = "local"\n').policy)
    assert ours is not None and ours.default_trust_level == "sandbox"


def test_a_spec_narrows_what_fleet_toml_gives() -> None:
    toml = '[security_policy]\ndefault_trust_level = "local"\nmax_trust_level = "local"\n'
    made = decode_policy(spec(governed(capability_grants=[{"capability": "network"}]), toml).policy)
    assert made is not None
    assert (made.default_trust_level, made.max_trust_level) == ("sandbox", "local")
    assert made.capability_grants[0].capability == "network"


@pytest.mark.parametrize(
    ("fields", "where", "words"),
    [
        ({"default_trust_level": "local"}, "default_trust_level", "more than fleet.toml gives"),
        (
            {"capability_grants": [{"capability": "git-push"}]},
            "capability_grants[0]",
            "git-push is not granted",
        ),
        (
            {"capability_grants": [{"capability": "workspace-write", "scope": "src"}]},
            "capability_grants[0]",
            'workspace-write for "src" is not granted',
        ),
        ({"allow_parallel_reads": True}, "allow_parallel_reads", "does not allow it"),
    ],
)
def test_a_spec_may_not_widen_what_fleet_toml_gives(
    fields: dict[str, Any], where: str, words: str
) -> None:
    toml = (
        "[security_policy]\n[[security_policy.capability_grants]]\n"
        'capability = "workspace-write"\nscope = "docs/**"\n'
    )
    field, message, hint = refused(governed(**fields), toml)
    assert field == f"security_policy.{where}"
    assert words in message and hint
    below = {"capability": "workspace-write", "scope": "docs/api"}
    assert spec(governed(capability_grants=[below]), toml)


# Roles ----------------------------------------------------------------------------------------


STRICT = """
[roles.linter]
tool_profile = "read-only"
tools = ["ruff", "git"]
capabilities = ["python"]
timeout_seconds = 60
model = "small"
instructions = "Say only what you are sure of."
[roles.builder]
timeout_seconds = 90
"""


def worker_of(made: LoadedSpec) -> dict[str, Any]:
    task: dict[str, Any] = json.loads(made.tasks[0])
    return {**task["worker"], "timeout_seconds": task.get("timeout_seconds")}


def test_a_role_fills_in_what_a_task_does_not_say() -> None:
    made = spec(a_spec(a_task(worker={"role": "linter"})), STRICT)
    assert worker_of(made) == {
        "role": "linter", "tool_profile": "read-only", "tools": ["ruff", "git"],
        "capabilities": ["python"], "timeout_seconds": 60.0,
    }  # fmt: skip
    assert list(made.roles) == ["linter"]


def test_what_a_task_says_itself_wins_and_capabilities_add_up() -> None:
    worker = {
        "role": "linter", "tool_profile": "read-write", "tools": ["true"], "capabilities": ["gpu"],
    }  # fmt: skip
    said = worker_of(spec(a_spec(a_task(worker=worker, timeout_seconds=5)), STRICT))
    assert said == {**worker, "capabilities": ["gpu", "python"], "timeout_seconds": 5.0}


def test_fleet_toml_is_laid_over_a_preset() -> None:
    said = worker_of(spec(a_spec(a_task(worker={"role": "builder"})), STRICT))
    assert (said["tool_profile"], said["timeout_seconds"]) == ("read-write", 90.0)
    assert worker_of(spec(a_spec(a_task(worker={"role": "Reviewer"}))))["timeout_seconds"] == 600


def test_a_saved_profile_is_a_role_that_the_role_itself_goes_before() -> None:
    both = {"role": "builder", "agent_profile": "linter"}
    said = worker_of(spec(a_spec(a_task(worker=both, command=["ruff"])), STRICT))
    assert (said["timeout_seconds"], said["tool_profile"]) == (90.0, "read-write")
    assert said["tools"] == ["ruff", "git"]
    known = worker_of(spec(a_spec(a_task(worker={"agent_profile": "scout"}))))
    assert known["tool_profile"] == "read-only"
    field, message, hint = refused(a_spec(a_task(worker={"profile": "lintr"})), STRICT)
    assert field == "tasks[0].worker.agent_profile"
    assert message == '"lintr" is no saved profile; did you mean linter?'
    assert "[roles.lintr]" in hint


def test_a_model_is_for_agents_only() -> None:
    agent = {"id": "a", "agent": "claude", "instructions": "x", "worker": {"role": "linter"}}
    assert worker_of(spec(a_spec(agent), STRICT))["model"] == "small"


def test_an_unknown_role_is_refused_where_it_matters() -> None:
    field, message, hint = refused(a_spec(a_task(worker={"role": "release-checker"})))
    assert field == "tasks[0].worker.role"
    assert message == '"release-checker" is no role, and says nothing to a command'
    assert "smoke-runner, reviewer, builder, read-only" in hint
    agent = {"id": "a", "agent": "claude", "instructions": "x"}
    assert spec(a_spec({**agent, "worker": {"role": "release-checker"}}))
    _, message, _ = refused(a_spec({**agent, "worker": {"role": "reviwer"}}))
    assert message == '"reviwer" is no role, so it could write; did you mean reviewer?'


def test_a_role_above_the_ceiling_is_refused() -> None:
    below = {"default_trust_level": "sandbox", "max_trust_level": "sandbox"}
    document = {**a_spec(a_task(worker={"role": "builder"})), "security_policy": below}
    field, message, hint = refused(document)
    assert field == "tasks[0].worker.role"
    assert message == "the role builder asks for the trust local, and max_trust_level is sandbox"
    assert hint == 'lower it: [roles.builder] trust_level = "sandbox" in fleet.toml'
    toml = '[security_policy]\nmax_trust_level = "sandbox"\n'
    assert spec(a_spec(a_task(worker={"role": "builder"})),
                toml + '[roles.builder]\ntrust_level = "sandbox"\n')  # fmt: skip
    line, field, message, _ = in_file(toml + '[roles.x]\ntrust_level = "operator"\n')
    assert (line, field) == (4, "roles.x.trust_level")


def test_a_role_is_defined_with_known_fields() -> None:
    assert in_file("[roles.x]\ntool_profil = 1\n")[:2] == (2, "roles.x.tool_profil")
    assert in_file('[roles.x]\ntool_profile = "custom"\n')[:2] == (2, "roles.x.tool_profile")
    assert in_file('[roles.x]\ninstructions = " "\n')[:2] == (2, "roles.x.instructions")
    assert in_file('[roles."a b"]\n')[:2] == (1, 'roles."a b"')


# Tools of commands ----------------------------------------------------------------------------


def test_tools_of_a_command_are_names_of_programs_its_own_among_them() -> None:
    assert spec(a_spec(a_task(worker={"tools": ["git"]})))
    field, message, _ = refused(a_spec(a_task(worker={"tools": ["/bin/ls"]})))
    assert (field, message) == (
        "tasks[0].worker.tools[0]", '"/bin/ls" is no program\'s name',
    )  # fmt: skip
    field, message, _ = refused(a_spec(a_task(command=["make", "x"], worker={"tools": ["git"]})))
    assert field == "tasks[0].worker.tools"
    assert '"make"' in message


# What needs a sandbox -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "where", "name", "words"),
    [
        (
            {"workspace": {"writable_paths": ["out"]}},
            "workspace.writable_paths",
            "workspace.writable_paths",
            "is held by a sandbox",
        ),
        (
            {"worker": {"tool_profile": "read-only"}},
            "worker.tool_profile",
            "worker.tool_profile",
            "read-only is held by a sandbox",
        ),
        (
            {"worker": {"role": "scout"}},
            "worker.role",
            "worker.tool_profile",
            "read-only is held by a sandbox",
        ),
    ],
)
def test_without_a_sandbox_what_it_would_hold_is_refused_or_waived_by_name(
    task: dict[str, Any], where: str, name: str, words: str
) -> None:
    document = a_spec(a_task(**task))
    assert spec(document).waived == []
    assert spec(document, "", name).waived == []
    field, message, hint = refused(document, lacks=NO_SANDBOX)
    assert field == f"tasks[0].{where}"
    assert message == f"{words}, and bubblewrap is not installed"
    assert hint == f"install it: apt-get install bubblewrap; or --allow-unenforced {name}"
    assert spec(document, "", name, lacks=NO_SANDBOX).waived == [name]
    toml = f'[fleet]\nallow_unenforced = ["{name}"]\n'
    assert spec(document, toml, lacks=NO_SANDBOX).waived == [name]


def test_a_sandbox_by_default_is_missed_once_and_by_a_role_at_its_task() -> None:
    many = {**a_spec(a_task(id="a"), a_task(id="b")), "security_policy": {}}
    field, message, hint = refused(many, lacks=NO_SANDBOX)
    assert (field, message) == (
        "tasks[0]", "the trust sandbox needs a sandbox, and bubblewrap is not installed",
    )  # fmt: skip
    name = "security_policy.default_trust_level"
    assert hint.endswith(name)
    assert spec(many, "", name, lacks=NO_SANDBOX).waived == [name]
    role = a_spec(a_task(worker={"role": "read-only"}))
    assert refused(role, lacks=NO_SANDBOX)[0] == "tasks[0].worker.role"
    names = ("worker.role", "worker.tool_profile")
    assert spec(role, "", *names, lacks=NO_SANDBOX).waived == list(names)


def test_what_goes_to_other_machines_only_is_confined_there_whatever_is_lacking_here() -> None:
    there = {"id": "w", "host": "w"}
    document = {**governed(default_trust_level="sandbox"), "workers": [there]}
    name = "security_policy.default_trust_level"
    assert spec(document, "", name, lacks=NO_SANDBOX).waived == []
    document["workers"] = [there, {"id": "local", "host": {"kind": "local"}}]
    assert "needs a sandbox" in refused(document, lacks=NO_SANDBOX)[1]


def test_a_machine_is_not_asked_for_what_no_task_needs() -> None:
    def never() -> str:
        raise AssertionError

    document = a_spec(a_task(workspace={"root": "x", "isolation": "copy"}))
    assert load(json.dumps(document).encode(), file="spec.json", lacking=never).policy == b"null"


def test_an_unknown_name_in_allow_unenforced_has_its_line() -> None:
    line, field, message, hint = in_file('[fleet]\nallow_unenforced = ["reuse", "tols"]\n')
    assert (line, field) == (2, "fleet.allow_unenforced[1]")
    assert message == '"tols" is no field that could be allowed unheld'
    assert hint == "Nearest: --allow-unenforced tools"


# Agents in the sandbox ------------------------------------------------------------------------


def test_an_agent_that_could_do_nothing_in_the_sandbox_is_refused() -> None:
    agent = {"id": "a", "agent": "claude", "instructions": "x"}
    field, message, hint = refused({**a_spec(agent), "security_policy": {}})
    assert field == "tasks[0].agent"
    assert "reaches its model over the network" in message and '"network"' in hint
    network = {"capability_grants": [{"capability": "network"}]}
    assert spec({**a_spec(agent), "security_policy": network})
    toml = '[agents.own]\ncommand = ["own"]\nsecrets = ["OWN_TOKEN"]\n'
    allowed = {"allowed_secrets": ["OWN_TOKEN"]}
    judged = {"kind": "code_whale_verifier_prompt", "prompt": "good?", "agent": "own"}
    for task, place in (
        ({**agent, "agent": "own"}, "agent"),
        ({"id": "a", "command": "true", "scorer": judged}, "scorer.agent"),
    ):
        field, message, hint = refused({**a_spec(task), "security_policy": allowed}, toml)
        assert field == f"tasks[0].{place}"
        assert message == (
            "agent own gets it: the trust sandbox knows no secrets, and OWN_TOKEN was not granted"
        )
        assert '"provider-secrets"' in hint
        grant = {"capability_grants": [{"capability": "provider-secrets"}], **allowed}
        assert spec({**a_spec(task), "security_policy": grant}, toml)


@pytest.mark.parametrize(
    ("own", "ceiling", "both"),
    [
        (["A", "B"], ["B", "C"], ["B"]),
        (["NPM_*"], ["NPM_TOKEN"], ["NPM_TOKEN"]),
        (["NPM_TOKEN"], ["*"], ["NPM_TOKEN"]),
        (["A"], [{"key": "A", "source": "keyring"}], [SecretRef(key="A", source="keyring")]),
        (["A_*"], ["A_*"], ["A_*"]),
        (["A"], [], []),
    ],
)
def test_a_spec_and_fleet_toml_allow_the_secrets_that_both_do(
    own: list[Any], ceiling: list[Any], both: list[Any]
) -> None:
    policies = [convert({"allowed_secrets": one}, SecurityPolicy) for one in (own, ceiling)]
    found = narrowed(*policies, {"allowed_secrets"})[0]
    assert found is not None and found.allowed_secrets == both


def test_what_a_spec_leaves_out_of_its_policy_is_as_in_fleet_toml() -> None:
    toml = (
        "[security_policy]\ndefault_trust_level = 'local'\nmax_trust_level = 'local'\n"
        "allowed_secrets = ['A_KEY']\n"
        "[[security_policy.capability_grants]]\ncapability = 'network'\n"
    )

    def policy(own: dict[str, Any], **task: Any) -> SecurityPolicy:
        found = decode_policy(spec(a_spec(a_task(**task), security_policy=own), toml).policy)
        assert found is not None
        return found

    for more in ({}, {"max_trust_level": "local"}):
        own = {"default_trust_level": "local", **more}
        found = policy(own, secrets=["A_KEY"])
        assert found.allowed_secrets == ["A_KEY"], own
        assert (found.default_trust_level, found.max_trust_level) == ("local", "local")
        assert [one.capability for one in found.capability_grants] == ["network"]
    assert policy({}).default_trust_level == "sandbox"
    assert policy({"capability_grants": []}).capability_grants == []


def test_git_push_brings_the_socket_of_the_persons_keys() -> None:
    grants = {"capability_grants": [{"capability": "git-push"}]}
    assert spec(governed(**grants)).environment == ["SSH_AUTH_SOCK"]
    assert spec(governed()).environment == []


def test_a_settled_task_is_what_its_digest_is_of() -> None:
    document = a_spec(a_task(worker={"role": "linter"}))
    assert decode_task(spec(document, STRICT).tasks[0]).timeout_seconds == 60
    assert spec(document, STRICT).digest != spec(document, STRICT.replace("60", "61")).digest
