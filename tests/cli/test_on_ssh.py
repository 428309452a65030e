"""Runs that leave this machine, through real servers: where their tasks have been."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.sshd import Sshd, serving

from .driver import fleet, spec

pytestmark = pytest.mark.slow

WHERE = 'command = "pwd; sleep 0.3"\n'


def entry(name: str, server: Sshd, **more: str) -> str:
    host = server.host()
    fields = {
        "host": host.host,
        "port": host.port,
        "identity": host.identity,
        "known_hosts": host.known_hosts,
        "working_directory": host.working_directory,
    }
    inside = ", ".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
    lines = [f'id = "{name}"', f"host = {{ {inside} }}", *(f"{k} = {v}" for k, v in more.items())]
    return "\n".join(["[[workers]]", *lines, ""])


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Sshd]]:
    with serving(tmp_path / "one") as one, serving(tmp_path / "two") as two:
        yield [one, two]


@pytest.fixture
def here(tmp_path: Path, servers: list[Sshd]) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    (made / "fleet.toml").write_text(
        entry("web1", servers[0], max_concurrent_tasks="2", labels='{ role = "web" }')
        + entry("web2", servers[1], groups='["seconds"]')
    )
    return made


def been(here: Path) -> dict[str, Path]:
    """Task -> the directory in which its last attempt was."""
    lines = fleet(here, "logs", "@last").stdout.splitlines()
    return {
        head.partition("/")[2].partition("@")[0]: Path(where)
        for head, where in zip(lines[::2], lines[1::2], strict=True)
    }


def test_tasks_go_where_somebody_chose(here: Path, servers: list[Sshd]) -> None:
    many = "".join(f'[[tasks]]\nid = "t{number}"\n{WHERE}' for number in range(6))
    done = fleet(here, "run", spec(here, many), "--on", "all")
    assert done.returncode == 0, done.stderr
    assert set(been(here).values()) == {server.work for server in servers}

    done = fleet(here, "run", "tasks.toml", "--on", "seconds", "--only", "t1")
    assert done.returncode == 0, done.stderr
    assert been(here) == {"t1": servers[1].work}


def test_tasks_go_where_what_they_require_is_and_the_rest_stays(
    here: Path, servers: list[Sshd]
) -> None:
    text = (
        f'[[tasks]]\nid = "plain"\n{WHERE}'
        f'[[tasks]]\nid = "label"\n{WHERE}requires = {{ labels = {{ role = "web" }}, cores = 1 }}\n'
        f'[[tasks]]\nid = "name"\n{WHERE}worker = {{ name = "web2" }}\n'
        f'[[tasks]]\nid = "here"\n{WHERE}requires = {{ target = "local", memory_mb = 1 }}\n'
    )
    done = fleet(here, "run", spec(here, text))
    assert done.returncode == 0, done.stderr
    assert been(here) == {
        "plain": here,
        "label": servers[0].work,
        "name": servers[1].work,
        "here": here,
    }


def test_a_spec_brings_its_own_worker(here: Path, servers: list[Sshd]) -> None:
    (here / "fleet.toml").unlink()
    text = entry("mine", servers[1]) + f'[[tasks]]\nid = "a"\n{WHERE}'
    done = fleet(here, "run", spec(here, text))
    assert done.returncode == 0, done.stderr
    assert been(here) == {"a": servers[1].work}


def test_a_command_for_each_line_goes_elsewhere_too(here: Path, servers: list[Sshd]) -> None:
    done = fleet(
        here, "run", "--each", "-", "--on", "web2", "--", "sh", "-c", "pwd", given=b"a\nb\n"
    )
    assert done.returncode == 0, done.stderr
    assert set(been(here).values()) == {servers[1].work}


def test_what_was_learnt_of_a_worker_is_asked_of_at_the_next_load(here: Path) -> None:
    text = f'[[tasks]]\nid = "a"\n{WHERE}requires = {{ target = "web1", cores = 9999 }}\n'
    assert fleet(here, "check", spec(here, text)).returncode == 0  # nobody knows it yet
    fleet(here, "run", spec(here, f'[[tasks]]\nid = "a"\n{WHERE}', "one.toml"), "--on", "web1")
    done = fleet(here, "check", "tasks.toml")
    assert done.returncode == 2
    assert "9,999 cores are more than any worker has" in done.stdout
