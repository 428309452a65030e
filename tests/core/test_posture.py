"""What a task may read, write, reach and know: levels, grants, profiles, and what a plan says."""

from typing import Any

import pytest
from msgspec import convert

from codewhale_fleet.core.posture import (
    Doer,
    Posture,
    allows,
    in_plan,
    judge_of,
    lower,
    posture_of,
    scope_path,
)
from codewhale_fleet.core.roles import PRESETS, Role, profile_of
from codewhale_fleet.core.spec import Task
from codewhale_fleet.core.spec_hosts import SecretRef, SecurityPolicy


def a_task(**fields: Any) -> Task:
    return convert({"id": "a", "command": "true", **fields}, Task)


def a_policy(*grants: str | dict[str, str], **fields: Any) -> SecurityPolicy:
    given = [one if isinstance(one, dict) else {"capability": one} for one in grants]
    return convert({"capability_grants": given, **fields}, SecurityPolicy)


def held(
    policy: SecurityPolicy | None = None,
    role: Role | None = None,
    agent: Doer | None = None,
    waived: tuple[str, ...] = (),
    **fields: Any,
) -> Posture:
    roles = [("r", role)] if role is not None else []
    return posture_of(a_task(**fields), policy, roles, agent, waived)


# Levels ---------------------------------------------------------------------------------------


def test_without_a_policy_a_task_is_local_and_nothing_holds_it() -> None:
    made = held()
    assert (made.level, made.confined, in_plan(made)) == ("local", False, {})


def test_a_policy_means_sandbox_unless_it_or_a_role_says_more() -> None:
    local = Role(trust_level="local")
    assert held(a_policy()).level == "sandbox"
    assert held(a_policy(default_trust_level="local")).level == "local"
    assert held(a_policy(), local).level == "local"
    assert held(a_policy(max_trust_level="sandbox"), local).level == "sandbox"
    assert held(None, PRESETS["read-only"]).level == "sandbox"


def test_levels_rise_from_sandbox_to_operator() -> None:
    assert lower("operator", "remote_verified") == "remote_verified"
    assert lower("local", "sandbox") == "sandbox"


# The file system ------------------------------------------------------------------------------


def test_the_sandbox_has_no_network_no_home_and_writes_nothing() -> None:
    assert in_plan(held(a_policy())) == {
        "sandbox": {
            "level": "sandbox", "network": "none", "workspace": "read", "write": [], "read": [],
            "keep": [], "home": "hidden",
        }
    }  # fmt: skip


def test_writable_paths_confine_at_every_level_and_start_at_the_tasks_root() -> None:
    place = {"root": "web", "writable_paths": ["out"]}
    for policy in (None, a_policy(), a_policy(default_trust_level="operator")):
        made = held(policy, workspace=place)
        assert (made.confined, made.workspace, made.write) == (True, False, ("web/out",))
    assert held(workspace={"writable_paths": ["."]}).workspace
    sandbox = in_plan(held(workspace=place))["sandbox"]
    assert (sandbox["level"], sandbox["network"], sandbox["home"]) == ("local", "host", "read")


def test_a_command_that_only_reads_is_confined_by_its_profile_or_its_role() -> None:
    for worker in ({"tool_profile": "read-only"}, {"role": "Scout"}):
        made = held(worker=worker)
        assert (made.confined, made.workspace, made.write) == (True, False, ())
    assert not held(worker={"role": "scout", "tool_profile": "read-write"}).confined
    assert profile_of(a_task(worker={"role": "release-triage"}).worker) == "read-write"


def test_what_is_read_only_may_still_write_the_paths_it_names() -> None:
    worker = {"tool_profile": "read-only"}
    assert held(worker=worker, workspace={"writable_paths": ["notes"]}).write == ("notes",)


def test_a_directory_of_its_own_is_writable_even_in_the_sandbox() -> None:
    for kind in ("copy", "worktree"):
        assert held(a_policy(), workspace={"isolation": kind}).workspace
        one = held(a_policy(), workspace={"isolation": kind, "writable_paths": ["src"]})
        assert (one.workspace, one.write) == (False, ("src",))


def test_what_was_waived_does_not_confine() -> None:
    place = {"writable_paths": ["out"]}
    assert not held(waived=("workspace.writable_paths",), workspace=place).confined
    worker = {"tool_profile": "read-only"}
    assert not held(waived=("worker.tool_profile",), worker=worker).confined
    assert held(a_policy(), waived=("security_policy.default_trust_level",)).level == "local"


# Grants ---------------------------------------------------------------------------------------


def test_grants_add_to_the_sandbox_and_only_there() -> None:
    assert held(a_policy("network")).network
    assert held(a_policy("workspace-write")).workspace
    some = held(a_policy({"capability": "workspace-write", "scope": "docs/**"}))
    assert (some.workspace, some.write) == (False, ("docs",))
    pushes = held(a_policy("git-push"))
    assert pushes.network and pushes.sees_git and "~/.ssh" in pushes.read
    assert not held(a_policy("git-push", default_trust_level="local")).confined


def test_a_grant_does_not_widen_what_a_task_says_of_itself() -> None:
    policy = a_policy("workspace-write")
    assert held(policy, workspace={"writable_paths": ["out"]}).write == ("out",)
    assert not held(policy, worker={"tool_profile": "read-only"}).workspace


def test_a_scope_is_a_path_below_the_workspace() -> None:
    assert [scope_path(one) for one in ("docs", "docs/**", "a/b/*", "**")] == [
        "docs", "docs", "a/b", ".",
    ]  # fmt: skip
    for wrong in ("src/*.py", "../x", "/etc"):
        with pytest.raises(ValueError, match=r"path|leave"):
            scope_path(wrong)


def test_secrets_are_known_as_far_as_level_grants_and_policy_say() -> None:
    token, other = SecretRef(key="GH_TOKEN"), SecretRef(key="OTHER")
    allowed = {"allowed_secrets": ["GH_TOKEN", "OTHER"]}
    local = a_policy(default_trust_level="local", **allowed)
    assert held(local).may_know(local, token)
    assert not held(local).may_know(local, SecretRef(key="X"))
    shut = a_policy(**allowed)
    assert not held(shut).may_know(shut, token)
    some = a_policy({"capability": "provider-secrets", "scope": "GH_*"}, **allowed)
    assert held(some).may_know(some, token)
    assert not held(some).may_know(some, other)
    assert held().may_know(None, token)
    operator = a_policy(default_trust_level="operator")
    assert held(operator).may_know(operator, token)
    assert allows(SecretRef(key="K", source="file"), SecretRef(key="K", source="file"))
    assert not allows(SecretRef(key="K", source="file"), SecretRef(key="K", source="env"))


def test_variables_that_look_secret_are_not_seen_in_the_sandbox() -> None:
    shut = a_policy()
    names = ["LANG", "MY_TOKEN"]
    assert held(shut).visible(shut, names, lambda name: "TOKEN" in name) == ["LANG"]
    assert held().visible(None, names, lambda name: True) == names
    pushes = a_policy("git-push")
    assert held(pushes).visible(pushes, [], lambda name: False) == ["SSH_AUTH_SOCK"]


# Agents and tools -----------------------------------------------------------------------------


def test_an_agent_that_reads_is_confined_where_it_is_known_what_it_needs() -> None:
    worker = {"tool_profile": "read-only"}
    flags = frozenset(("read-only",))
    assert not held(agent=Doer(profiles=flags), worker=worker).confined
    made = held(agent=Doer(profiles=flags, keeps=("~/.own",)), worker=worker)
    assert (made.confined, made.keep, made.read) == (True, ("~/.own",), ())
    assert held(agent=Doer(), worker=worker).confined
    shut = held(a_policy(), agent=Doer(reads=("~/.conf",), keeps=("~/.own",)))
    assert (shut.read, shut.keep) == (("~/.conf",), ("~/.own",))


def test_tools_are_the_programs_of_a_command_and_the_flags_of_an_agent() -> None:
    worker = {"tools": ["git", "rg"]}
    assert in_plan(held(worker=worker)) == {"tools": ["git", "rg"]}
    assert in_plan(held(a_policy(), worker=worker))["sandbox"]["tools"] == ["git", "rg"]
    assert in_plan(held(agent=Doer(), worker=worker)) == {}


def test_an_agent_that_verifies_changes_nothing_where_the_task_is_confined() -> None:
    made = held(a_policy("git-push", "workspace-write"))
    judge = judge_of(made, Doer(reads=("~/.conf",), keeps=("~/.own",)))
    assert (judge.workspace, judge.write, judge.keep) == (False, (), ("~/.own",))
    assert judge.read[0] == "~/.conf" and judge.sees_git and judge.network
    assert judge_of(held(), Doer()).confined is False


def test_an_agents_configuration_is_read_only_even_where_home_is_seen() -> None:
    agent = Doer(reads=("~/.own/config",), keeps=("~/.own/",))
    made = held(agent=agent, workspace={"writable_paths": ["out"]})
    assert (made.home, made.read, made.keep) == (True, ("~/.own/config",), ("~/.own/",))
