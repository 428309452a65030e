"""The types of a spec by themselves: limits, defaults, claims."""

import msgspec
import pytest

from codewhale_fleet.core.spec import Task, Workspace, claims_of, clean_path


def a_task(**fields: object) -> Task:
    return msgspec.convert({"id": "build", **fields}, Task)


def test_a_task_is_written_without_its_defaults() -> None:
    task = a_task(command="true", tags=[], timeout_seconds=None, when="success", reuse=False)

    assert msgspec.json.encode(task) == b'{"id":"build","command":"true"}'


def test_an_empty_retry_policy_brings_the_documented_defaults() -> None:
    policy = a_task(retry_policy={}).retry_policy

    assert policy is not None
    assert (policy.max_attempts, policy.initial_backoff_seconds) == (3, 5)
    assert (policy.max_backoff_seconds, policy.backoff_multiplier) == (300, 2)
    assert policy.retry_on == ("transport", "task")


@pytest.mark.parametrize("id", ["", "a/b", "a b", "a\n", "é", "x" * 129, "a@1"])
def test_an_id_of_other_characters_is_refused(id: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        a_task(id=id)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_limit_is_a_positive_finite_number(seconds: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        a_task(timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        (".", "."),
        ("", "."),
        ("./", "."),
        ("a//b/./c/", "a/b/c"),
        (r"a\b", "a/b"),
        ("a..b", "a..b"),
        ("...", "..."),
    ],
)
def test_a_path_has_one_spelling(written: str, clean: str) -> None:
    assert clean_path(written) == clean


@pytest.mark.parametrize(
    "path", ["/a", r"\a", "a/../b", "..", "C:/a", r"c:\a", "a\nb", "a\0", "\r"]
)
def test_a_path_out_of_the_workspace_is_refused_with_its_reason(path: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        clean_path(path)


def test_claims_are_the_writable_paths_below_root() -> None:
    task = a_task(workspace={"root": "web", "writable_paths": ["out", "./out/", ".", "a/b"]})

    assert claims_of(task) == ("web/out", "web", "web/a/b")


def test_claims_include_contracts_by_name() -> None:
    task = a_task(metadata={"coordination_contracts": [" schema ", "schema", "docs"]})

    assert claims_of(task) == ("contract:schema", "contract:docs")


def test_a_task_that_names_nothing_to_write_claims_nothing() -> None:
    assert claims_of(a_task(workspace={"root": "web"})) == ()
    assert claims_of(a_task()) == ()


def test_the_workspace_is_the_default_root() -> None:
    assert Workspace().root == "."
