"""The house itself: floors, sizes, lock files, scripts. Nothing here knows what fleet does."""

import ast
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "codewhale_fleet"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["requirements.lock", "requirements-dev.lock"]
NOT_OURS = {
    ".venv", ".fleet", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__",
    "build", "dist",
}  # fmt: skip
"""What an exported tree holds once it was used."""
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


def committed() -> list[Path]:
    """The files of the checkout that are committed, or will be; of an exported tree, all."""
    if not (ROOT / ".git").exists():
        kept = (path for path in ROOT.rglob("*") if not NOT_OURS.intersection(path.parts))
        return [path for path in kept if path.is_file() and not path.is_symlink()]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@cache
def texts() -> list[tuple[Path, str]]:
    paths = [*PACKAGE.rglob("*.py"), *(ROOT / "scripts" / "benchmarks").glob("*.py")]
    return [(path.relative_to(ROOT), path.read_text()) for path in paths]


@cache
def sources() -> list[tuple[Path, str, ast.Module]]:
    gc.disable()  # it would look again and again at trees that all stay
    try:
        return [(path, text, ast.parse(text)) for path, text in texts()]
    finally:
        gc.enable()


def test_no_file_is_longer_than_a_sitting() -> None:
    long = {str(path): lines for path, text in texts() if (lines := text.count("\n")) > 400}
    assert long == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{path}:{node.lineno} {node.name}": lines
        for path, _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 70
    }
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [
        str(path) for path, _, tree in sources() if tree.body and not ast.get_docstring(tree)
    ] == []


@pytest.mark.slow  # scripts/test asks the same before any test
def test_upper_floors_import_lower_ones_only() -> None:
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def imported(tree: ast.Module) -> Iterator[str]:
    """Absolute imports; those from the package itself with the name that they take."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def test_the_worker_runtime_imports_the_standard_library_only() -> None:
    own = f"{PACKAGE.name}.worker"
    allowed = {*sys.stdlib_module_names, "_sha2"}  # _sha2: part of it since 3.12
    foreign = {
        f"{path.name}: {name}"
        for path in (PACKAGE / "worker").rglob("*.py")
        for name in imported(ast.parse(path.read_text()))
        if name.partition(".")[0] not in allowed
        and name != f"{PACKAGE.name}.__version__"
        and not f"{name}.".startswith(f"{own}.")
    }
    assert foreign == set()


def locked(name: str) -> dict[str, Version]:
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(package): Version(version) for package, version in pins}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_names_packages_versions_and_digests_and_nothing_else(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    entry = re.compile(r"[\w.-]+==\S+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in entries if not entry.fullmatch(line)] == []
    assert "://" not in text


def test_the_lock_files_hold_what_the_project_asks_for() -> None:
    wanted = {
        "requirements.lock": PROJECT["project"]["dependencies"],
        "requirements-dev.lock": [
            *PROJECT["project"]["dependencies"],
            *PROJECT["dependency-groups"]["test"],
            *PROJECT["dependency-groups"]["check"],
        ],
    }
    missing = []
    for name, requirements in wanted.items():
        pins = locked(name)
        for requirement in map(Requirement, requirements):
            pin = pins.get(canonicalize_name(requirement.name))
            if pin is None or pin not in requirement.specifier:
                missing.append(f"{name}: {requirement} is {pin}")
    assert missing == []


def test_tests_run_on_the_versions_that_people_get() -> None:
    runtime, dev = (locked(name) for name in LOCKS)
    assert {name: dev.get(name) for name in runtime} == runtime


def test_no_file_names_a_package_host_or_this_checkout() -> None:
    hosts = r"(pypi|pythonhosted|debian|npmjs)\.(org|com)/"
    hidden = re.compile(rf"//[\w.-]*{hosts}|{re.escape(str(ROOT))}\b")
    found = {}
    for path in committed():
        text = path.read_bytes().decode(errors="replace")
        if match := hidden.search(text):
            found[str(path.relative_to(ROOT))] = match.group()
    assert found == {}


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_a_script_can_be_called(path: Path) -> None:
    first, _, text = path.read_text().partition("\n")
    assert os.access(path, os.X_OK)
    assert first.startswith("#!")
    if first.endswith("python3"):
        ast.parse(text)
    else:
        subprocess.run([first.split()[-1].split("/")[-1], "-n", path], check=True)


# scripts/fleet, in a checkout of its own


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the scripts and lock files, beside a command that prints what it was asked."""
    home = tmp_path / "a check out"
    (home / "scripts").mkdir(parents=True)
    for name in ("fleet", "bootstrap"):
        shutil.copy(ROOT / "scripts" / name, home / "scripts")
    for name in LOCKS:
        shutil.copy(ROOT / name, home)
    (home / "codewhale_fleet").mkdir()
    (home / "codewhale_fleet" / "__init__.py").touch()
    (home / "codewhale_fleet" / "cli.py").write_text(
        "import os, sys\ndef main():\n    print(os.getcwd(), sys.argv[1:])\n    return 7\n"
    )
    return home


def ready(home: Path) -> None:
    """Make .venv look set up, without the packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / ".venv"], check=True)
    site = next((home / ".venv" / "lib").glob("python3*")) / "site-packages"
    (site / "codewhale_fleet.pth").write_text("../../../..\n")
    shutil.copy(home / "requirements.lock", home / ".venv" / ".requirements.lock")


def call(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_fleet_keeps_the_callers_directory_arguments_and_exit_code(checkout: Path) -> None:
    ready(checkout)
    link = checkout.parent / "link"
    link.symlink_to(checkout / "scripts" / "fleet")
    scripts = checkout / "scripts"
    for command, cwd in [
        ([scripts / "fleet"], checkout.parent),
        (["./scripts/fleet"], checkout),
        (["scripts/fleet"], checkout),
        (["sh", "fleet"], scripts),
        (["../scripts/fleet"], scripts),
        ([link], checkout.parent),
    ]:
        done = call(*command, "a b", "", "*", cwd=cwd)
        assert (done.stdout, done.stderr, done.returncode) == (f"{cwd} ['a b', '', '*']\n", "", 7)


def test_fleet_imports_nothing_from_the_callers_directory(checkout: Path) -> None:
    ready(checkout)
    other = checkout.parent / "codewhale_fleet"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('wrong one')\n")
    done = call(checkout / "scripts" / "fleet", cwd=checkout.parent)
    assert done.returncode == 7


def test_a_ready_checkout_may_be_moved(checkout: Path) -> None:
    ready(checkout)
    moved = checkout.rename(checkout.parent / "elsewhere")
    assert call(moved / "scripts" / "fleet", cwd=moved).returncode == 7


def test_a_changed_lock_file_or_a_lost_python_is_set_up_again(checkout: Path) -> None:
    ready(checkout)
    bootstrap = checkout / "scripts" / "bootstrap"
    bootstrap.write_text("#!/bin/sh\necho set up >&2\nexit 1\n")
    lock = checkout / "requirements.lock"
    before = lock.read_text()
    lock.write_text(before + "# changed\n")
    done = call(checkout / "scripts" / "fleet", cwd=checkout)
    assert (done.stderr, done.returncode) == ("set up\n", 2)
    lock.write_text(before)
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    done = call(checkout / "scripts" / "fleet", cwd=checkout)
    assert (done.stderr, done.returncode) == ("set up\n", 2)


@pytest.mark.slow
def test_first_calls_at_once_after_an_interrupted_one_set_up_one_environment(
    checkout: Path,
) -> None:
    fleet = checkout / "scripts" / "fleet"
    interrupted = subprocess.Popen([fleet], cwd=checkout, start_new_session=True)
    unfinished = checkout / ".venv" / ".unfinished"
    until = time.monotonic() + 60
    while not unfinished.exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(interrupted.pid, signal.SIGKILL)
    assert interrupted.wait() == -signal.SIGKILL
    assert unfinished.exists()

    calls = [
        subprocess.Popen([fleet], cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    told = [done.communicate(timeout=110)[1].decode() for done in calls]
    assert [done.returncode for done in calls] == [7, 7, 7], told
    assert sum("setting up .venv from" in text for text in told) == 1
    assert not unfinished.exists()
    third = call(fleet, cwd=checkout)
    assert (third.returncode, third.stderr) == (7, "")


# scripts/bench


def test_the_floor_of_the_bench_writes_three_lines_a_task(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "benchmarks" / "floor.py"
    subprocess.run([sys.executable, "-I", script, "9", "4"], cwd=tmp_path, check=True)
    lines = (tmp_path / "floor.jsonl").read_text().splitlines()
    assert [sum(f'"k": "{word}"' in line for line in lines) for word in ("queued", "ended")] == [
        9,
        9,
    ]
    assert len(lines) == 27
    assert sum('"exit": 0' in line for line in lines) == 9


def test_the_bench_replaces_measured_sections_of_the_docs_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts" / "benchmarks")
    import report

    docs = tmp_path / "benchmarks.md"
    names = ["cold", "run1k", "growth"]
    report.write_docs(docs, names, {"growth": "## growth\n\nold\n", "cold": "## cold\n\nold\n"})
    report.write_docs(docs, names, {"cold": "## cold\n\nnew\n", "run1k": "## run1k\n\nnew\n"})
    sections = docs.read_text().split("## ")[1:]
    assert [section.split() for section in sections] == [
        ["cold", "new"],
        ["run1k", "new"],
        ["growth", "old"],
    ]
