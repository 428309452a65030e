"""Files with secrets: where they lie, who may read them, and that nothing of them is left."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker import secrets
from codewhale_fleet.worker.attempts import Attempt, Run, kept_of
from codewhale_fleet.worker.launch import Unstarted


def a_run(**values: str) -> Run:
    run = Run("r-1")
    run.base, run.secrets = {}, values
    return run


def a_secret(key: str, *, file: bool = True) -> dict[str, Any]:
    return {"key": key, "source": "", "as": f"{key}_PLACE", "file": file}


@pytest.fixture
def plan() -> Iterator[dict[str, Any]]:
    made: dict[str, Any] = {"secrets": [a_secret("A"), a_secret("B", file=False)]}
    yield made
    secrets.remove(made.get("secrets_dir", ""))


def test_the_name_of_the_directory_is_known_before_it_is_made(plan: dict[str, Any]) -> None:
    environment: dict[str, str] = {}
    secrets.deliver(a_run(A="1", B="2"), plan, environment)
    place = Path(plan["secrets_dir"])
    assert environment == {"A_PLACE": f"{place}/A_PLACE", "B_PLACE": "2"}
    assert not place.exists()
    attempt = Attempt("r-1/a@1", a_run(), "s", kept_of(plan), 0.0)
    assert attempt.secrets_dir == str(place), "the journal has it, so that it can be swept"
    other: dict[str, Any] = {"secrets": plan["secrets"]}
    secrets.deliver(a_run(A="1", B="2"), other, {})
    assert other["secrets_dir"] != plan["secrets_dir"]


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_nobody_else_can_read_it_whatever_the_umask(plan: dict[str, Any], umask: int) -> None:
    run = a_run(A="value\n", B="2")
    secrets.deliver(run, plan, {})
    before = os.umask(umask)
    try:
        secrets.lay(run, plan)
    finally:
        os.umask(before)
    place = Path(plan["secrets_dir"])
    assert place.stat().st_mode & 0o777 == 0o700
    assert {one.name: one.stat().st_mode & 0o777 for one in place.iterdir()} == {"A_PLACE": 0o600}
    assert (place / "A_PLACE").read_text() == "value\n"


def test_on_a_disk_no_secret_is_written(plan: dict[str, Any], tmp_path: Path) -> None:
    plan["secrets_dir"] = f"{tmp_path}/{secrets.NAME}x"
    with pytest.raises(Unstarted, match="is not in memory: no secret is written there"):
        secrets.lay(a_run(A="1", B="2"), plan)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_gone_starts_nothing(plan: dict[str, Any]) -> None:
    run = a_run(A="1")
    assert run.lacks(plan) and not run.lacks({"secrets": [a_secret("A")]})
    assert run.lacks({"steps": [{"secrets": [a_secret("B")]}]})
    with pytest.raises(Unstarted, match="the secret B is not in memory any more"):
        secrets.deliver(run, plan, {})


def test_whatever_the_task_put_there_goes_and_no_link_is_followed(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    run = a_run(A="1", B="2")
    secrets.deliver(run, plan, {})
    secrets.lay(run, plan)
    (tmp_path / "kept").write_text("x")
    place = Path(plan["secrets_dir"])
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "er" / "file").write_text("x")
    (place / "out").symlink_to(tmp_path)
    secrets.remove(str(place))
    assert not place.exists() and (tmp_path / "kept").exists()
    secrets.remove(str(place))
    place.symlink_to(tmp_path)
    secrets.remove(str(place))
    assert (tmp_path / "kept").exists() and not place.is_symlink()


def test_a_path_that_is_not_ours_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    secrets.remove(str(tmp_path))
    assert (tmp_path / "file").exists()


def test_the_files_of_a_step_lie_below_those_of_its_attempt(plan: dict[str, Any]) -> None:
    run = a_run(A="1", B="2")
    steps = [{"secrets": [a_secret("A")]}]
    mine: dict[str, Any] = {"secrets": [], "steps": steps}
    secrets.deliver(run, mine, {})
    own = {**steps[0], "secrets_dir": mine["secrets_dir"] + "/step1"}
    plan["secrets_dir"] = mine["secrets_dir"]
    secrets.lay(run, own)
    assert Path(own["secrets_dir"], "A_PLACE").read_text() == "1"
    assert Path(mine["secrets_dir"]).stat().st_mode & 0o777 == 0o700
    secrets.remove(own["secrets_dir"])
    assert list(Path(mine["secrets_dir"]).iterdir()) == []
