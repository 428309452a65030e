"""Where a run may go: `--on`, workers of a spec, and what tasks require; before anything is run."""

import json
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import worker_commands as w
from codewhale_fleet.core.spec_hosts import SshHost, Worker
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.wire.inventory import encode_worker

from .driver import look, spec, tasks

FLEET_TOML = """
[[workers]]
id = "web[01-03]"
groups = ["webs"]
labels = { role = "web" }

[[workers]]
id = "db01"
labels = { role = "db" }
max_concurrent_tasks = 4
cores = 8

[inventory.cloud]
command = "echo asked >> asked; echo cloud01"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(FLEET_TOML)
    return tmp_path


def planned(here: Path, *words: str, text: str = tasks("true", "true")) -> dict[str, Any]:
    done = look(here, "run", spec(here, text), "--dry-run", "--json", *words)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def places(made: dict[str, Any]) -> dict[str, list[str] | None]:
    return {row["id"]: row.get("on") for row in made["tasks"]}


def test_a_plain_run_stays_here_and_no_command_is_asked(here: Path) -> None:
    made = planned(here)
    assert places(made) == {"t1": None, "t2": None}
    assert made["max_workers"] == 4
    assert not (here / "asked").exists()


def test_tasks_go_to_any_of_the_chosen_workers(here: Path) -> None:
    made = planned(here, "--on", "webs and not web02, cloud01")
    assert places(made) == {"t1": ["web01", "web03"], "t2": ["web01", "web03"]}
    assert planned(here, "--on", "all")["max_workers"] == 3 + 4 + 1
    assert planned(here, "--on", "all", "-j", "2")["max_workers"] == 2
    assert (here / "asked").read_text() == "asked\n" * 3  # no fleet yet that could keep an answer


def test_what_a_task_requires_takes_it_elsewhere_and_the_rest_stays(here: Path) -> None:
    text = tasks("true") + '[[tasks]]\nid = "m"\ncommand = "true"\nrequires.labels.role = "db"\n'
    made = planned(here, text=text)
    assert places(made) == {"t1": ["local"], "m": ["db01"]}
    assert made["max_workers"] == 4 + 4
    assert places(planned(here, "--only", "t*", text=text)) == {"t1": ["local"]}


def test_what_this_machine_cannot_do_is_looked_for_elsewhere(here: Path) -> None:
    (here / "fleet.toml").write_text(
        '[fleet]\ncapabilities = ["docs"]\n[[workers]]\nid = "gpu01"\ncapabilities = ["cuda"]\n'
    )
    wish = '[[tasks]]\nid = "a"\ncommand = "true"\nworker = { capabilities = ["cuda"] }\n'
    assert "among the capabilities of this" in look(here, "check", spec(here, wish)).stdout
    assert places(planned(here, "--on", "all,local", text=wish)) == {"a": ["gpu01"]}
    assert places(planned(here, text=wish + "requires = { cores = 1 }\n")) == {"a": ["gpu01"]}


def test_a_spec_may_bring_its_own_workers(here: Path) -> None:
    text = '[[workers]]\nid = "mine[1-2]"\n' + tasks("true")
    assert places(planned(here, text=text)) == {"t1": ["mine1", "mine2"]}
    assert places(planned(here, "--on", "mine2", text=text)) == {"t1": ["mine2"]}
    assert not (here / "asked").exists()


def test_commands_for_lines_may_go_elsewhere_too(here: Path) -> None:
    (here / "lines").write_text("a\nb\n")
    done = look(here, "run", "--each", "lines", "--on", "db01", "--dry-run", "--json", "--", "echo")
    assert places(json.loads(done.stdout)) == {"line-00001": ["db01"], "line-00002": ["db01"]}


def test_check_explains_where_each_task_may_go(here: Path) -> None:
    text = tasks("true") + '[[tasks]]\nid = "m"\ncommand = "true"\nrequires.target = "web02"\n'
    done = look(here, "check", spec(here, text), "--explain")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert lines["t1"].endswith("on local")
    assert lines["m"].endswith("on web02")
    made = json.loads(look(here, "check", "tasks.toml", "--explain", "--json").stdout)
    assert places(made) == {"t1": ["local"], "m": ["web02"]}


def test_workers_that_were_registered_are_there_and_retired_ones_are_not(here: Path) -> None:
    raw = encode_worker(Worker(id="added", name="added", host=SshHost(host="a")))
    with Ledger.open(here / ".fleet", create=True) as ledger:
        with ledger.transaction("test") as transaction:
            transaction.submit(w.Register(worker="added", definition=raw, origin="test"))
            transaction.submit(w.Retire(worker="web01"))
            transaction.submit(w.Drain(worker="web03"))
        ledger.sync()
    assert places(planned(here, "--on", "all"))["t1"] == [
        "web02", "web03", "db01", "added", "cloud01",
    ]  # fmt: skip
    assert places(planned(here, "--on", "webs and not draining"))["t1"] == ["web02"]
    assert (here / "asked").read_text() == "asked\n"


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (["--on", "web04"], 'no worker and no group is called "web04"', "Nearest: "),
        (["--on", "role=mail"], '"role=mail" selects no worker', "There are workers web01"),
        (["--on", "web01 web02"], "needs and, or or a comma", "such as web01"),
        (["--on", ""], "selects nothing: it is empty", "all selects every worker"),
    ],
)
def test_a_selection_of_nobody_is_refused_before_anything_is_recorded(
    here: Path, words: list[str], sentence: str, hint: str
) -> None:
    done = look(here, "run", spec(here, tasks("true")), *words)
    assert done.returncode == 2
    assert sentence in done.stderr and hint in done.stderr
    ledger = here / ".fleet" / "fleet.jsonl"  # begun where a command had to be asked first
    assert not ledger.exists() or b"run." not in ledger.read_bytes()


def test_a_task_that_nobody_could_run_is_refused_at_load_with_its_line(here: Path) -> None:
    text = tasks("true") + '[[tasks]]\nid = "m"\ncommand = "true"\nrequires.cores = 9\n'
    text += 'requires.labels.role = "db"\n'
    done = look(here, "check", spec(here, text))
    assert done.returncode == 2
    assert "tasks.toml:7" in done.stdout
    assert "9 cores are more than any worker has" in done.stdout
    assert "most has db01: 8" in done.stdout


def test_a_command_that_fails_is_told_of_and_no_run_is_recorded(here: Path) -> None:
    (here / "fleet.toml").write_text('[inventory.x]\ncommand = "echo why >&2; exit 7"\n')
    done = look(here, "run", spec(here, tasks("true")), "--on", "all")
    assert done.returncode == 2
    assert "inventory x ended with exit status 7: why" in done.stderr
    assert b"run." not in (here / ".fleet" / "fleet.jsonl").read_bytes()


def test_a_variable_that_a_task_requires_must_reach_where_it_may_go(here: Path) -> None:
    text = (here / "fleet.toml").read_text()
    passes = 'id = "db01"\nhost = { kind = "ssh", env_allowlist = ["HUE"] }\n'
    (here / "fleet.toml").write_text(text.replace('id = "db01"\n', passes))
    need = tasks("true") + 'workspace = { environment = { required = ["HUE"] } }\n'
    for words, code in (("db01",), 0), (("local",), 0), (("db01,web02",), 2):
        done = look(here, "run", spec(here, need), "--dry-run", "--on", *words, HUE="x")
        assert done.returncode == code, done.stderr
    assert "requires HUE, and may go to web02, whose host.env_allowlist lacks it" in done.stderr
    assert 'env_allowlist = ["HUE"]' in done.stderr
