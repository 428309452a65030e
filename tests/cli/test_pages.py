"""README and docs do as they say: each command runs, each output shown is what comes, each table
in the reference is what the source says. scripts/pages/typed.py says how a page is carried out.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .driver import REPOSITORY

_found = importlib.util.spec_from_file_location(
    "typed_pages", REPOSITORY / "scripts" / "pages" / "typed.py"
)
assert _found and _found.loader
pages = importlib.util.module_from_spec(_found)
_found.loader.exec_module(pages)

EXAMPLES = re.compile(r"^Example: `(.+)`$", re.MULTILINE)
WATCHING = ("fleet status --watch",)
"""Examples that go on until somebody ends them."""


@pytest.mark.slow
@pytest.mark.parametrize("page", pages.pages(), ids=str)
def test_what_a_page_says_works_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    blocks = pages.blocks_of(page)
    printed = pages.carry_out(page, tmp_path)
    last = [text for kind, text in blocks if kind == "sh"][len(printed.outs) - 1]
    assert printed.status == 0, f"{last}\n{printed.outs[-1]}\n{printed.errs[-1]}"
    at = -1
    for kind, text in blocks:
        at += kind == "sh"
        if kind == "text" and at >= 0:
            out, err = printed.outs[at], printed.errs[at]
            assert pages.holds(text, out, err), f"scripts/docs --typed\n\n{text}\n{out}{err}"


def test_the_commands_left_to_people_are_two_of_the_readme() -> None:
    left = [
        line
        for page in pages.pages()
        for kind, text in pages.blocks_of(page)
        if kind == "sh"
        for line, done in zip(text.splitlines(), pages.typed(text).splitlines(), strict=True)
        if line != done
    ]
    assert left == ["./scripts/fleet run specs/checks.toml --max-workers 4", "./scripts/test"]


@pytest.mark.slow
def test_the_example_of_every_command_is_a_request_that_fleet_understands(tmp_path: Path) -> None:
    """In a directory with the files and tasks that the examples name; 4 is: nothing to do here."""
    page = (REPOSITORY / "docs" / "reference" / "commands.md").read_text()
    examples = EXAMPLES.findall(page)
    assert len(examples) == page.count("\n### fleet ")
    here, env = pages.place(tmp_path)
    tasks = sorted(set(re.findall(r"@last/([\w.-]+)", page)))
    (here / "specs").mkdir()
    (here / "specs" / "checks.toml").write_text(
        "".join(f'[[tasks]]\nid = "{task}"\ncommand = "echo {task}"\n' for task in tasks)
    )
    for example in examples:
        line = f"timeout 2 {example}" if example in WATCHING else example
        line = f"echo value | {line}" if example.startswith("fleet secret set") else line
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=here,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if example.startswith("fleet exec "):  # a run of its own: @last is the checks' again
            subprocess.run(["fleet", "run", "specs/checks.toml"], cwd=here, env=env, check=True)
        ends = {124} if example in WATCHING else {0, 4}
        if example.startswith("fleet worker test "):
            ends.add(6)  # nobody need listen there
        if example.startswith("fleet data ") or "is for tasks" in done.stderr:
            ends.add(2)
        assert done.returncode in ends, f"{example}\n{done.stdout}{done.stderr}"


def test_the_tables_of_the_reference_are_what_the_source_says() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "pages", "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
