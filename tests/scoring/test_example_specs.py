"""The specs in specs/: each loads, runs offline, and says no where the world is not in order."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.wire import specfile
from tests.cli.driver import fleet

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "specs").glob("*.toml"))
OFFLINE = [path for path in SPECS if path.stem != "checks"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout without its environment, its git directory and its outputs."""
    for part in ("codewhale_fleet", "docs", "specs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, tmp_path)
    return tmp_path


def task_of(spec: str, task: str) -> dict[str, Any]:
    """A task as written."""
    tasks = tomllib.loads((ROOT / "specs" / f"{spec}.toml").read_text())["tasks"]
    return next(found for found in tasks if found["id"] == task)


def run_task(where: Path, spec: str, task: str) -> subprocess.CompletedProcess[str]:
    """A task's command without a fleet."""
    found = task_of(spec, task)
    for path in found.get("workspace", {}).get("writable_paths", []):
        (where / path).mkdir(parents=True, exist_ok=True)
    command = found["command"]
    argv = ["sh", "-c", command] if isinstance(command, str) else command
    return subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_it_loads_without_a_waiver_and_editors_find_its_schema(path: Path) -> None:
    data = path.read_bytes()
    loaded = specfile.load(data, file=path.name)
    assert loaded.waived == []
    assert loaded.name == path.stem
    schema = data.decode().splitlines()[0].removeprefix("#:schema ")
    assert (path.parent / schema).is_file()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_it_writes_below_build_and_every_task_is_bounded(path: Path) -> None:
    for task in tomllib.loads(path.read_text())["tasks"]:
        written = json.dumps([task.get("artifacts"), task.get("scorer"), task.get("workspace")])
        paths = re.findall(r'"((?:build|out|\.\.|/)[^"]*)"', written)
        assert all(found.startswith("build/") for found in paths)
        assert "timeout_seconds" in task


@pytest.mark.slow
@pytest.mark.parametrize("path", OFFLINE, ids=lambda path: path.name)
def test_it_runs_to_receipts_twice_in_the_same_workspace(path: Path, workspace: Path) -> None:
    if path.stem == "check-links":  # what the pages point to lies outside of the copy
        (workspace / "README.md").write_text("[here](#title) is `specs/flaky.toml`\n\n# Title\n")
        for page in [*workspace.glob("[!R]*.md"), *workspace.glob("docs/**/*.md")]:
            page.unlink()
    for _ in range(2):
        done = fleet(workspace, "run", f"specs/{path.name}")
        assert done.returncode == 0, done.stdout + done.stderr
    receipts = fleet(workspace, "receipts", "@last")
    assert receipts.stdout.count("pass") >= len(tomllib.loads(path.read_text())["tasks"])


def test_the_checks_are_those_of_the_test_script() -> None:
    script = (ROOT / "scripts" / "test").read_text()
    spec = (ROOT / "specs" / "checks.toml").read_text()
    checks = re.findall(r"^check '.*?' (.+)$", script, re.MULTILINE)
    assert len(checks) >= 4
    for check in (*checks, "lint_imports_command", "pytest -n 2"):
        assert set(check.split()) <= set(re.findall(r"[\w./-]+", spec)), check
    assert "not slow" in script and "not slow" in spec


def test_every_link_of_this_checkout_resolves(workspace: Path) -> None:
    for name in ("LICENSE", ".gitignore", "pyproject.toml"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, workspace)
    for name in ("scripts", "tests", ".ci"):
        (workspace / name).symlink_to(ROOT / name)
    done = run_task(workspace, "check-links", "links")
    assert done.returncode == 0, done.stderr
    assert ", 0 broken" in done.stdout, done.stdout


def test_broken_links_are_found_and_code_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "# One: a title\n[a](docs/gone.md) [b](#one-a-title) [c](docs/x.md#no) [d](https://x.y/z)\n"
        "```\n[code](nowhere.md)\n```\n`[code](nowhere.md)`\n"
    )
    (tmp_path / "docs" / "x.md").write_text("[up](../README.md#one-a-title)\n")
    done = run_task(tmp_path, "check-links", "links")
    assert done.stdout.splitlines() == [
        "README.md: docs/gone.md does not exist",
        "README.md: docs/x.md#no has no such heading",
        "4 links, 2 broken, 1 to other sites",
    ]
    assert json.loads((tmp_path / "build/check-links/links.json").read_text())["ok"] is False


def test_a_spec_that_the_docs_only_dream_of_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("Try specs/dream.toml\n")
    done = run_task(tmp_path, "check-links", "named-specs")
    assert done.stdout == "specs/dream.toml does not exist\n1 named, 1 missing\n"


def hashed(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    tool = ROOT / "specs" / "tools" / "hash_tree.py"
    argv = [sys.executable, str(tool), "tree", "--report", "report.json", *words]
    return subprocess.run(argv, cwd=where, capture_output=True, text=True, check=False)


def test_what_changed_in_a_tree_is_named(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("same", "other", "gone"):
        (tmp_path / "tree" / name).write_text(name)
    first = json.loads(hashed(tmp_path, "--previous", "before.json").stdout)
    assert (first["compared"], first["changed"]) == ("this is the first run", [])
    (tmp_path / "tree" / "other").write_text("new")
    (tmp_path / "tree" / "gone").unlink()
    (tmp_path / "tree" / "added").write_text("")
    second = json.loads(hashed(tmp_path, "--previous", "before.json").stdout)
    assert second["changed"] == ["added", "gone", "other"]
    assert second["digest"] != first["digest"]


def test_a_copy_is_compared_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "file").write_text("x")
    assert json.loads(hashed(tmp_path, "--copy-to", "copy").stdout)["equal"] is True
    assert not (tmp_path / "copy").exists()


def test_an_empty_tree_is_not_called_equal(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert hashed(tmp_path, "--copy-to", "copy").returncode == 1


def compiled(where: Path, python: str) -> subprocess.CompletedProcess[str]:
    tool = ROOT / "specs" / "tools" / "compile_with.py"
    argv = [sys.executable, str(tool), python, "tree", "out/report.txt"]
    return subprocess.run(argv, cwd=where, capture_output=True, text=True, check=False)


def test_a_version_that_is_not_there_is_said_so_and_never_counted_as_compiled(
    tmp_path: Path,
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("x = 1\n")
    done = compiled(tmp_path, "python3.99")
    assert (done.returncode, done.stdout) == (0, "python3.99 is not installed\n")


def test_a_version_that_refuses_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("x = 1\ndef :\n")
    done = compiled(tmp_path, "python3")
    assert done.returncode == 1
    assert re.fullmatch(r"python3 \S+ refused tree/a\.py:2: .+\n", done.stdout)
    pattern = task_of("python-matrix", "python-3.12")["scorer"]["pattern"]
    assert not re.search(pattern, done.stdout)


def test_every_version_of_the_matrix_looks_at_its_own_report() -> None:
    tasks = tomllib.loads((ROOT / "specs" / "python-matrix.toml").read_text())["tasks"]
    for task in tasks[1:]:
        version = task["id"].removeprefix("python-")
        assert task["command"][2] == f"python{version}"
        report = f"build/python-matrix/{version}.txt"
        assert (
            task["command"][-1] == task["scorer"]["path"] == task["artifacts"]["report"] == report
        )
