"""Secrets, as typed: from a person's store to a task, and nowhere else."""

import json
import os
from pathlib import Path

import pytest

from .driver import fleet, look, spec

VALUE = "s3cr3t-v4lu3-" + os.urandom(10).hex()
"""Nobody else's: processes are searched for it while other tests run."""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "codewhale-fleet"


def one(command: str, secrets: str) -> str:
    return f"[[tasks]]\nid = 't'\ncommand = '''{command}'''\nsecrets = [{secrets}]\n"


def holders(where: Path, value: str) -> list[str]:
    """The files below a directory that hold a value."""
    return [
        str(path.relative_to(where))
        for path in sorted(where.rglob("*"))
        if path.is_file() and not path.is_symlink() and value.encode() in path.read_bytes()
    ]


def records(where: Path, word: str) -> list[dict[str, object]]:
    lines = (where / ".fleet" / "fleet.jsonl").read_text().splitlines()
    return [row["d"] for row in map(json.loads, lines) if row["k"] == word]


def test_a_task_gets_its_own_secrets_and_no_others(tmp_path: Path) -> None:
    text = one('test "$KEY" = "$WANTED" && test -z "$OTHER"', '"KEY"')
    text += "workspace = { environment = { required = ['WANTED'] } }\n"
    text += (
        "[[tasks]]\nid = 'two'\ncommand = 'test \"$NAME\" = other && test -z \"$KEY\"'\n"
        "secrets = [{ key = 'OTHER', source = 'env', as = 'NAME' }]\n"
        "[[tasks]]\nid = 'three'\ncommand = 'test -z \"$KEY$OTHER$NAME\"'\n"
    )
    done = fleet(tmp_path, "run", spec(tmp_path, text), KEY=VALUE, WANTED=VALUE, OTHER="other")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["attempt"].rpartition("/")[2]: row["secrets"]  # type: ignore[attr-defined]
            for row in records(tmp_path, "secrets.used")} == {
        "t@1": {"KEY": "env"}, "two@1": {"OTHER": "env"},
    }  # fmt: skip
    (created,) = records(tmp_path, "run.created")
    assert created["secrets"] == [{"key": "KEY"}, {"key": "OTHER", "source": "env"}]
    assert holders(tmp_path, VALUE) == []


def test_who_got_which_secret_is_shown_by_name(tmp_path: Path) -> None:
    assert fleet(tmp_path, "run", spec(tmp_path, one("true", '"KEY"')), KEY=VALUE).returncode == 0
    assert "attempt 1 got KEY as a variable" in look(tmp_path, "explain", "@last/t").stdout
    told = json.loads(look(tmp_path, "inspect", "@last/t", "--json").stdout)
    assert told["secrets"] == {"KEY": "env"}
    assert "KEY (env)" in look(tmp_path, "inspect", "@last/t@1").stdout
    assert json.loads(look(tmp_path, "inspect", "@last", "--json").stdout)["secrets"] == ["KEY"]


def test_a_secret_may_come_as_a_file_that_is_gone_with_its_attempt(tmp_path: Path) -> None:
    command = (
        'test "$(cat "$PLACE")" = "$WANTED" && test "$(stat -c %a "$PLACE")" = 600 && '
        'test "$(stat -c %a "$(dirname "$PLACE")")" = 700 && '
        'test "$(stat -f -c %T "$PLACE")" = tmpfs && printf %s "$PLACE" > where'
    )
    text = one(command, "{ key = 'KEY', as = 'PLACE', deliver = 'file' }")
    text += "workspace = { environment = { required = ['WANTED'] } }\n"
    done = fleet(tmp_path, "run", spec(tmp_path, text), KEY=VALUE, WANTED=VALUE)
    assert done.returncode == 0, done.stdout + done.stderr
    place = Path((tmp_path / "where").read_text())
    assert place.name == "PLACE" and not place.parent.exists() and place.parent.parent.exists()
    assert records(tmp_path, "secrets.used")[0]["secrets"] == {"KEY": "file"}
    assert holders(tmp_path, VALUE) == []


def test_a_secret_that_is_not_found_stops_a_run_before_anything_is_recorded(
    tmp_path: Path, config: Path
) -> None:
    done = fleet(tmp_path, "run", spec(tmp_path, one("true", '"NO_SUCH_KEY"')))
    assert done.returncode == 2
    assert f"looked in the file store {config}/secrets and the environment" in done.stderr
    assert "fleet secret set NO_SUCH_KEY" in done.stderr
    assert not (tmp_path / ".fleet").exists()


def test_only_what_the_chosen_tasks_need_must_be_there(tmp_path: Path) -> None:
    text = one("true", '"KEY"') + "[[tasks]]\nid = 'u'\ncommand = 'true'\nsecrets = ['NO_SUCH']\n"
    name = spec(tmp_path, text)
    done = fleet(tmp_path, "run", name, "--only", "t", KEY=VALUE)
    assert done.returncode == 0, done.stderr
    assert records(tmp_path, "run.created")[0]["secrets"] == [{"key": "KEY"}]


def test_check_names_secrets_and_looks_for_none(tmp_path: Path) -> None:
    name = spec(tmp_path, one("true", '"NO_SUCH_KEY"'))
    assert look(tmp_path, "check", name).returncode == 0
    assert "gets NO_SUCH_KEY" in look(tmp_path, "check", name, "--explain").stdout


@pytest.mark.slow
def test_a_secret_that_is_removed_while_a_run_uses_it_is_still_that_runs(
    tmp_path: Path, config: Path
) -> None:
    for name in ("up", "go"):
        os.mkfifo(tmp_path / name)
    fleet(tmp_path, "secret", "set", "KEY", "--source", "file", given=VALUE.encode())
    text = one("echo > up; read line < go; fleet secret get KEY > /dev/null", '"KEY"')
    text += "[[tasks]]\nid = 'later'\ncommand = 'test -n \"$KEY\"'\nsecrets = ['KEY']\n"
    name = spec(tmp_path, text)
    made = fleet(tmp_path, "run", name, "--max-workers", "1", "--detach")
    assert made.returncode == 0, made.stderr
    (tmp_path / "up").read_text()
    gone = fleet(tmp_path, "secret", "rm", "KEY")
    assert gone.returncode == 0 and not (config / "secrets" / "KEY").exists()
    (tmp_path / "go").write_text("go\n")
    assert fleet(tmp_path, "wait", "@last").returncode == 0
    assert len(records(tmp_path, "secrets.used")) == 3
    refused = fleet(tmp_path, "run", name)
    assert refused.returncode == 2 and "fleet secret set KEY" in refused.stderr
