"""Where the fleet is: named, or the nearest parent, and never another user's."""

import os
from pathlib import Path

import pytest

from codewhale_fleet.cli.common import (
    Context,
    find_root,
    fleet_dir_of,
    manager_answers,
    nearest,
)
from codewhale_fleet.errors import FleetError, Refused


def below(root: Path, path: str) -> str:
    folder = root / path
    folder.mkdir(parents=True)
    return str(folder)


def test_the_nearest_parent_with_a_fleet_is_found(tmp_path: Path) -> None:
    deep = below(tmp_path, "a/b/c")
    (tmp_path / ".fleet").mkdir()
    assert find_root(None, {}, deep) == str(tmp_path)
    (tmp_path / "a" / "fleet.toml").touch()
    assert find_root(None, {}, deep) == str(tmp_path / "a")


@pytest.mark.parametrize("stop", ["git", "home"])
def test_the_search_ends_at_a_checkout_and_at_home(tmp_path: Path, stop: str) -> None:
    deep = below(tmp_path, "a/b")
    (tmp_path / ".fleet").mkdir()
    environ = {}
    if stop == "git":
        (tmp_path / "a" / ".git").mkdir()
    else:
        environ["HOME"] = str(tmp_path / "a")
    assert find_root(None, environ, deep) is None
    (tmp_path / "a" / ".fleet").mkdir()
    assert find_root(None, environ, deep) == str(tmp_path / "a")


def test_an_option_wins_over_the_environment_and_that_over_the_parents(tmp_path: Path) -> None:
    here, there, option = (below(tmp_path, name) for name in ("here", "there", "option"))
    (tmp_path / "here" / ".fleet").mkdir()
    assert find_root(None, {"FLEET_DIR": there}, here) == there
    assert find_root(option, {"FLEET_DIR": there}, here) == option
    assert find_root("../option", {}, here) == option
    assert find_root(str(tmp_path / "here" / ".fleet"), {}, there) == here


def test_a_name_that_is_no_directory_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="--dir names /nowhere, and that is no directory"):
        find_root("/nowhere", {}, str(tmp_path))
    with pytest.raises(FleetError, match="FLEET_DIR names /nowhere"):
        find_root(None, {"FLEET_DIR": "/nowhere"}, str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_another_users_fleet_is_passed_over_and_when_named_refused(tmp_path: Path) -> None:
    deep = below(tmp_path, "a")
    (tmp_path / ".fleet").mkdir()
    os.chown(tmp_path / ".fleet", 12345, 12345)
    assert find_root(None, {}, deep) is None
    with pytest.raises(Refused, match="belongs to another user"):
        find_root(str(tmp_path), {}, deep)


def test_a_fleet_may_be_a_file_that_names_its_directory(tmp_path: Path) -> None:
    (tmp_path / ".fleet").write_text("dir: elsewhere\n")
    assert fleet_dir_of(str(tmp_path)) == str(tmp_path / "elsewhere")
    (tmp_path / ".fleet").write_text("what?")
    with pytest.raises(FleetError, match="where dir: PATH should stand"):
        fleet_dir_of(str(tmp_path))


def test_where_there_is_no_fleet_the_hint_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(FleetError) as caught:
        Context(environ={}, cwd=str(tmp_path)).fleet_dir()
    assert caught.value.sentence == f"no fleet in {tmp_path} or above."
    assert "fleet init" in caught.value.hint


def test_nobody_answers_where_no_manager_listens(tmp_path: Path) -> None:
    assert not manager_answers(str(tmp_path / "missing"))
    assert not manager_answers(str(tmp_path))
    (tmp_path / "manager.sock").touch()
    assert not manager_answers(str(tmp_path))


def test_a_listening_manager_answers_under_a_path_of_any_length(tmp_path: Path) -> None:
    from codewhale_fleet.engine.sockets import listen

    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    server = listen(deep / "manager.sock")
    assert manager_answers(str(deep))
    server.close()
    assert not manager_answers(str(deep))


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("relese-triage", "release-triage-7k3f2a"),
        ("triage", "release-triage-7k3f2a"),
        ("nightly-q2m8xx", "nightly-q2m8xd"),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(wrong: str, meant: str) -> None:
    assert nearest(wrong, ["inbox-a81kz0", "release-triage-7k3f2a", "nightly-q2m8xd"])[0] == meant


def test_nothing_is_near_to_nonsense() -> None:
    assert nearest("zzzzzz", ["inbox-a81kz0"]) == nearest("", ["a"]) == []
