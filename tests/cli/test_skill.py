"""The runbook for agents: every call in it works, and it overwrites nothing of others."""

import importlib.util
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from msgspec import json, yaml

from codewhale_fleet.cli import skill

from .driver import REPOSITORY, look

_found = importlib.util.spec_from_file_location(
    "typed_pages", REPOSITORY / "scripts" / "pages" / "typed.py"
)
assert _found and _found.loader
pages = importlib.util.module_from_spec(_found)
_found.loader.exec_module(pages)

CALLS = re.compile(r"`((?:… \| )?fleet [^`]*)`")
"""What stands in the text to be typed, with capital letters for what is meant."""


def test_the_head_is_as_skills_have_it() -> None:
    _, head, body = skill.whole().split("---\n", 2)
    made = yaml.decode(head)
    assert made["name"] == skill.NAME and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", made["name"])
    assert len(made["description"]) <= 1024
    assert body.strip().startswith(skill.BEGIN)
    assert len(skill.whole()) < 10_000


def test_it_is_printed_in_both_formats_and_as_json(tmp_path: Path) -> None:
    assert look(tmp_path, "skill").stdout == skill.whole()
    assert look(tmp_path, "skill", "--format", "agents").stdout == skill.section()
    assert skill.NAME in look(tmp_path, "skill", "--json").stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", [".agents", ".claude"])
def test_it_is_written_where_agents_look(tmp_path: Path, home: str) -> None:
    (tmp_path / home).mkdir()
    told = look(tmp_path, "skill", "--write")
    file = tmp_path / home / "skills" / skill.NAME / "SKILL.md"
    assert file.read_text() == skill.whole()
    assert told.stdout == f"{file.relative_to(tmp_path)}: written.\n"
    assert look(tmp_path, "skill", "--write").stdout.endswith("already as it should be.\n")
    assert file.read_text() == skill.whole()


def test_of_an_agents_file_only_the_marked_section_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "AGENTS.md"
    file.write_bytes("# Ours é\r\n\r\nnever touch this".encode())
    file.chmod(0o640)
    assert look(tmp_path, "skill", "--format", "agents", "--write").returncode == 0
    once = file.read_bytes()
    assert once.startswith("# Ours é\r\n\r\nnever touch this\n\n<!--".encode())
    old = once.replace(b"## To watch", b"## As it was once \\1") + b"after it\n"
    file.write_bytes(old)
    told = look(tmp_path, "skill", "--write", "AGENTS.md")
    assert told.stdout == "AGENTS.md: its section was renewed.\n"
    assert file.read_bytes() == once + b"after it\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["AGENTS.md"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SKILL.md", "---\nname: mine\n---\n"),
        ("AGENTS.md", f"{skill.BEGIN}\nits end is gone\n"),
        ("AGENTS.md", f"{skill.section()}\n{skill.section()}"),
        ("AGENTS.md", f"{skill.END}\n{skill.BEGIN}\n"),
        ("notes.bin", "\udcff\udcfe"),
    ],
)
def test_what_others_wrote_and_what_is_unclear_is_refused(
    tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / name
    before = text.encode(errors="surrogateescape")
    file.write_bytes(before)
    told = look(tmp_path, "skill", "--write", name)
    assert told.returncode == 4 and "\n       " in told.stderr
    assert file.read_bytes() == before


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("ours\n")
    (tmp_path / "CLAUDE.md").symlink_to("AGENTS.md")
    look(tmp_path, "skill", "--write", "CLAUDE.md")
    assert (tmp_path / "CLAUDE.md").is_symlink()
    assert skill.BEGIN in (tmp_path / "AGENTS.md").read_text()


@pytest.mark.parametrize(
    "words", [("x.md",), ("--format", "toml"), ("--write", "/dev/null/x.md"), ("--write", ".")]
)
def test_what_cannot_be_meant_is_a_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    told = look(tmp_path, "skill", *words)
    assert told.returncode == 2 and told.stderr.startswith("fleet: "), told.stderr


@pytest.mark.slow
def test_its_example_works_from_top_to_bottom(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(skill.whole())
    (tmp_path / "room").mkdir()
    printed = pages.carry_out(page, tmp_path / "room")
    assert printed.status == 0, printed.errs
    assert "exit code 1" in printed.outs[0] and '"line-00003"' not in printed.errs[0]


@pytest.mark.slow
def test_every_call_that_stands_in_it_is_understood_by_a_fleet(tmp_path: Path) -> None:
    """In a fleet with a task that failed and one that waits; 1, 3 and 4 answer the request, too."""
    text = skill.whole()
    page = tmp_path / "page.md"
    page.write_text(
        "\n".join(f"```{kind}\n{block}```" for kind, block in pages.BLOCK.findall(text))
    )
    (tmp_path / "room").mkdir()
    pages.carry_out(page, tmp_path / "room")
    here, env = tmp_path / "room" / "place", pages_env(tmp_path / "other")
    calls = CALLS.findall(text)
    assert len(calls) > 25
    run = json.decode(look(here, "inspect", "@last", "--json").stdout)["run"]  # others will follow
    means = {
        "RUN/TASK@1": f"{run}/line-00001@1", "RUN/TASK": f"{run}/line-00001", "RUN": run,
        "SPEC": "checks.toml", "ID": run, "HOST": "127.0.0.{}:1", "CMD": "echo",
        "TEXT": "yes", "WHY": "read", "COMMAND": "run", "SELECTOR": "local",
    }  # fmt: skip
    hosts = itertools.count(2)
    for call in calls:
        line = re.sub("|".join(means), lambda found: means[found[0]].format(next(hosts)), call)
        line = line.replace("… |", "echo one |")
        done = subprocess.run(
            ["sh", "-c", line], cwd=here, env=env, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        ends = {0, 1, 3, 4} | ({6} if call.startswith("fleet worker") else set())
        if call.startswith("fleet worker retire "):
            ends.add(2)  # this machine stays
        assert done.returncode in ends, f"{shlex.quote(line)}\n{done.stdout}{done.stderr}"


def pages_env(room: Path) -> dict[str, str]:
    room.mkdir()
    _, env = pages.place(room)
    return dict(env)
