"""Runs of tasks that take some of the workspace along."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .driver import fleet, spec
from .test_fields import outcomes, results

pytestmark = pytest.mark.slow


def included(where: Path, include: list[str], command: str, more: str = "") -> str:
    text = f'[[tasks]]\nid = "a"\ncommand = {json.dumps(command)}\n{more}'
    return spec(where, f"{text}[tasks.workspace]\ninclude = {json.dumps(include)}\n")


def test_a_task_runs_where_nothing_is_but_what_it_includes(tmp_path: Path) -> None:
    for name in ("src/a.py", "src/b.txt", "other"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    text = """
[[tasks]]
id = "a"
command = "find . -type f | sort; mkdir out; echo made > out/report.md; echo changed > src/a.py"
artifacts = { report = "out/*.md" }
expected_artifacts = ["report"]
[tasks.workspace]
include = ["src/**/*.py"]
required_files = ["other"]
"""
    assert outcomes(tmp_path, text)["a"]["result"] == "pass"
    assert fleet(tmp_path, "logs", "@last/a").stdout == "./other\n./src/a.py\n"
    assert not (tmp_path / "out").exists() and (tmp_path / "src/a.py").read_text() == "src/a.py"
    fleet(tmp_path, "artifacts", "@last", "--copy-to", "got")
    (copied,) = (tmp_path / "got").rglob("report.md")
    assert copied.read_text() == "made\n"
    assert not list((tmp_path / ".fleet").glob("worktrees/*/*"))


def test_with_isolation_by_copy_its_changes_can_be_applied(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\n")
    (tmp_path / "other").write_text("other\n")
    text = """
[[tasks]]
id = "a"
command = "ls; echo two > file; echo new > added"
workspace = { isolation = "copy", include = ["file"] }
"""
    assert outcomes(tmp_path, text)["a"]["result"] == "pass"
    assert fleet(tmp_path, "logs", "@last/a").stdout == "file\n"
    done = fleet(tmp_path, "apply", "@last/a")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "two\n"
    assert (tmp_path / "added").read_text() == "new\n"
    assert (tmp_path / "other").read_text() == "other\n"


def test_paths_of_a_bundle_are_below_the_root_of_its_task(tmp_path: Path) -> None:
    (tmp_path / "web/src").mkdir(parents=True)
    (tmp_path / "web/src/x").write_text("x")
    text = """
[[tasks]]
id = "a"
command = "pwd; find .. -type f"
workspace = { root = "web", include = ["src"], writable_paths = ["cache"] }
"""
    assert outcomes(tmp_path, text)["a"]["result"] == "pass"
    place, *files = fleet(tmp_path, "logs", "@last/a").stdout.splitlines()
    assert place.endswith("/web") and files == ["../web/src/x"]


def test_a_confined_task_has_its_bundle_for_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x\n")
    (tmp_path / "other").write_text("not for it")
    text = f"""
[security_policy]
default_trust_level = "sandbox"
[[tasks]]
id = "a"
command = "ls; echo y > file && cat file; cat {tmp_path}/other"
workspace = {{ include = ["file"] }}
scorer = {{ kind = "regex_match", path = "file", pattern = "y" }}
"""
    found = results(tmp_path, text)
    assert found["a"][0] == "pass", found
    assert fleet(tmp_path, "logs", "@last/a").stdout.startswith("file\ny\n")
    assert (tmp_path / "file").read_text() == "x\n"


def test_what_is_wrong_with_its_files_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/.env").write_text("SECRET=1")
    (tmp_path / "out").symlink_to("/etc/passwd")
    for include, words in (
        (["conf"], "conf takes in conf/.env, which looks like a secret"),
        (["src/*.py"], "src/*.py matches no file of"),
        (["out"], "out is a link that leads out of the workspace"),
        (["../x"], "'..' would leave the workspace"),
    ):
        name = included(tmp_path, include, "true")
        for command in ("run", "check"):
            done = fleet(tmp_path, command, name)
            assert done.returncode == 2, done.stdout
            assert words in done.stdout + done.stderr
            assert f"{name}:4" in done.stdout + done.stderr or f"{name}:5" in (
                done.stdout + done.stderr
            )
    both = '[[tasks]]\nid = "a"\ncommand = "true"\nworkspace = { isolation = "worktree", '
    done = fleet(tmp_path, "check", spec(tmp_path, both + 'include = ["conf/.env"] }\n'))
    assert done.returncode == 2 and 'isolation = "copy"' in done.stdout


def test_a_file_that_was_mended_is_in_the_bundle_of_the_next_attempt(tmp_path: Path) -> None:
    (tmp_path / "tool.sh").write_text("exit 1\n")
    name = included(tmp_path, ["tool.sh"], "sh tool.sh")
    assert fleet(tmp_path, "run", name).returncode == 1
    (tmp_path / "tool.sh").write_text("exit 0\n")
    assert fleet(tmp_path, "restart", "@last/a").returncode == 0
    assert fleet(tmp_path, "wait", "@last").returncode == 0
    (tmp_path / "tool.sh").unlink()
    fleet(tmp_path, "restart", "@last/a")
    assert fleet(tmp_path, "wait", "@last").returncode == 1
    (receipt,) = json.loads(fleet(tmp_path, "receipts", "@last", "--json").stdout)["receipts"]
    assert "tool.sh matches no file" in json.dumps(receipt)


def test_attempts_of_one_bundle_share_what_is_kept_of_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(1 << 20))
    lines = "".join(
        f'[[tasks]]\nid = "t{n}"\ncommand = "test -s data"\nworkspace = {{ include = ["data"] }}\n'
        for n in range(40)
    )
    assert {one["result"] for one in outcomes(tmp_path, lines).values()} == {"pass"}
    kept = [path.stat().st_size for path in (tmp_path / ".fleet/evidence").iterdir()]
    assert kept.count(1 << 20) == 1
