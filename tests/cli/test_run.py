"""The main job, as typed."""

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..surroundings import NOBODY, small_disk
from .driver import FLEET, environment, fleet, look, spec, tasks, words_of


def test_a_spec_runs_to_receipts_and_a_summary(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("true", "echo hello")))
    assert done.returncode == 0, done.stderr
    assert "finished in" in done.stdout
    assert "2 passed" in done.stdout
    assert "passed t1" in done.stderr
    assert words_of(tmp_path)[-1] == "manager.left" or "run.finished" in words_of(tmp_path)
    assert (tmp_path / ".fleet").stat().st_mode & 0o777 == 0o700


def test_a_failed_task_is_named_with_the_command_that_shows_why(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("true", "exit 3")))
    assert done.returncode == 1
    run = done.stdout.split()[0]
    assert "1 passed, 1 failed" in done.stdout
    assert f"fleet logs {run}/t2" in done.stdout
    assert "exit 3" in done.stdout
    assert "fleet resume @last --failed" in done.stdout.splitlines()[-1]


def test_json_is_one_object_on_stdout_and_nothing_beside_it(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("true", "exit 3")), "--json")
    assert done.returncode == 1
    assert done.stderr == ""
    made = json.loads(done.stdout)
    assert made["status"] == "finished"
    assert made["result"] == "failed"
    assert made["counts"] == {"completed": 1, "failed": 1}
    assert made["sources"] == {"task": 1}
    assert made["exit_code"] == 1
    assert [row["task"] for row in made["failed"]] == ["t2"]


def test_quiet_says_nothing_when_all_is_well(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", "-q", spec(tmp_path, tasks("true")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_still_tells_a_failure(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", "-q", spec(tmp_path, tasks("false")))
    assert done.returncode == 1
    assert "t1" in done.stdout
    assert done.stderr == ""


def test_what_waits_for_a_person_ends_with_3(tmp_path: Path) -> None:
    text = tasks("true") + 'scorer = { kind = "manual" }\n'
    done = fleet(tmp_path, "run", spec(tmp_path, text))
    assert done.returncode == 3
    assert "waits" in done.stdout


def test_a_spec_comes_from_stdin_too(tmp_path: Path) -> None:
    given = json.dumps({"name": "piped", "tasks": [{"id": "a", "command": "true"}]}).encode()
    done = fleet(tmp_path, "run", "-", given=given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("piped-")


def test_only_the_tasks_that_were_named_run(tmp_path: Path) -> None:
    name = spec(tmp_path, tasks("true", "false", "true"))
    done = fleet(tmp_path, "run", name, "--only", "t1", "--only", "*3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"completed": 2}


def test_a_selection_that_matches_nothing_names_the_nearest(tmp_path: Path) -> None:
    text = '[[tasks]]\nid = "unit-tests"\ncommand = "true"\n'
    done = look(tmp_path, "run", spec(tmp_path, text), "--only", "unit-test")
    assert done.returncode == 2
    assert "Nearest: unit-tests" in done.stderr
    assert not (tmp_path / ".fleet").exists()


def test_a_dry_run_shows_the_plan_and_records_nothing(tmp_path: Path) -> None:
    text = tasks("make all") + "timeout_seconds = 90\nretry_policy = { max_attempts = 4 }\n"
    name = spec(tmp_path, text)
    done = look(tmp_path, "run", name, "--dry-run", "-j", "2")
    assert done.returncode == 0
    assert "2 at once" in done.stdout
    assert "make all  at most 1 min · 4 attempts" in done.stdout
    assert "Nothing was recorded." in done.stdout
    made = json.loads(look(tmp_path, "run", name, "--dry-run", "--json").stdout)
    assert made["tasks"][0]["command"] == "make all"
    assert not (tmp_path / ".fleet").exists()


def test_every_missing_variable_is_named_before_anything_is_recorded(tmp_path: Path) -> None:
    need = "workspace = { environment = { required = [%s] } }\n"
    text = tasks("true") + need % '"ONE_X", "TWO_X"' + tasks("true").replace("t1", "t2")
    done = look(tmp_path, "run", spec(tmp_path, text + need % '"TWO_X"'), ONE_X="")
    assert done.returncode == 2
    assert "TWO_X (required by t1, t2)" in done.stderr
    assert "ONE_X" not in done.stderr
    assert not (tmp_path / ".fleet").exists()


def test_a_variable_reaches_the_task_that_names_it_and_no_other(tmp_path: Path) -> None:
    allow = 'workspace = { environment = { allowlist = ["SHADE"] } }\n'
    text = tasks('test "$SHADE" = blue') + allow
    text += '[[tasks]]\nid = "blind"\ncommand = \'test -z "$SHADE"\'\n'
    done = fleet(tmp_path, "run", spec(tmp_path, text), SHADE="blue")
    assert done.returncode == 0, done.stdout
    assert "blue" not in (tmp_path / ".fleet" / "fleet.jsonl").read_text().split("run.started")[1]


@pytest.mark.parametrize(
    ("written", "asked", "fleet_toml", "workers"),
    [("", [], "", 4), ("", [], "3", 3), ("max_workers = 2\n", [], "3", 2),
     ("max_workers = 2\n", ["-j", "5"], "3", 5)],
)  # fmt: skip
def test_how_many_at_once_is_asked_then_written_then_the_fleets_then_four(
    tmp_path: Path, written: str, asked: list[str], fleet_toml: str, workers: int
) -> None:
    if fleet_toml:
        (tmp_path / "fleet.toml").write_text(f"[fleet]\nmax_workers = {fleet_toml}\n")
    done = look(
        tmp_path, "run", spec(tmp_path, written + tasks("true")), *asked, "--dry-run", "--json"
    )
    assert json.loads(done.stdout)["max_workers"] == workers


def test_labels_and_a_name_stand_in_the_ledger(tmp_path: Path) -> None:
    name = spec(tmp_path, 'labels = { a = "1", b = "1" }\n' + tasks("true"))
    done = fleet(tmp_path, "run", name, "--name", "Nightly Run", "--label", "b=2", "--json")
    assert json.loads(done.stdout)["run"].startswith("nightly-run-")
    line = next(
        json.loads(line)
        for line in (tmp_path / ".fleet" / "fleet.jsonl").read_text().splitlines()
        if '"run.created"' in line
    )
    assert line["d"]["labels"] == {"a": "1", "b": "2"}


def test_a_waiver_is_told_at_the_end(tmp_path: Path) -> None:
    name = spec(tmp_path, tasks("true") + "lease_seconds = 5\n")
    refused = fleet(tmp_path, "run", name)
    assert refused.returncode == 2
    assert "not enforced yet" in refused.stderr
    done = fleet(tmp_path, "run", name, "--allow-unenforced", "lease_seconds")
    assert done.returncode == 0, done.stderr
    assert "Not enforced in this run, as allowed: lease_seconds" in done.stdout


def test_a_detached_run_is_recorded_and_ends_without_its_asker(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("sleep 0.3")), "--detach", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    assert fleet(tmp_path, "wait", run, "--timeout", "30").returncode == 0
    assert "run.finished" in words_of(tmp_path)


def test_many_failures_are_counted_and_only_some_are_written_out(tmp_path: Path) -> None:
    lines = "".join(f"{number}\n" for number in range(130)).encode()
    done = fleet(tmp_path, "run", "--each", "-", "--", "false", given=lines)
    assert done.returncode == 1
    assert "and 110 more failed" in done.stdout
    done = fleet(tmp_path, "run", "--each", "-", "--json", "--", "false", given=lines)
    made = json.loads(done.stdout)
    assert len(made["failed"]) == 100
    assert made["failed_left_out"] == 30


def test_a_run_beside_a_live_manager_is_carried_out_by_it(tmp_path: Path) -> None:
    slow = fleet(tmp_path, "run", spec(tmp_path, tasks("sleep 3"), "slow.toml"), "--detach")
    assert slow.returncode == 0, slow.stderr
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("true", "true")))
    assert done.returncode == 0, done.stderr
    assert "2 passed" in done.stdout
    assert "waiting on it" in done.stderr
    assert words_of(tmp_path).count("manager.elected") == 1
    assert words_of(tmp_path).count("run.finished") == 1


# Ctrl-C ---------------------------------------------------------------------------------------


def _begun(where: Path, *words: str) -> subprocess.Popen[bytes]:
    """A run whose first task has been told to run."""
    running = subprocess.Popen(
        [*FLEET, "run", *words], cwd=where, env=environment(), bufsize=0,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stderr is not None
    _until(running, b"running")
    return running


def _until(running: subprocess.Popen[bytes], word: bytes) -> bytes:
    assert running.stderr is not None
    seen = b""
    while word not in seen:
        assert select.select([running.stderr], [], [], 20)[0], seen
        more = os.read(running.stderr.fileno(), 65536)
        assert more, seen
        seen += more
    return seen


@pytest.mark.slow
def test_ctrl_c_stops_in_order_and_resume_goes_on(tmp_path: Path) -> None:
    name = spec(tmp_path, "max_workers = 1\n" + tasks("test -e go || sleep 30", "true"))
    running = _begun(tmp_path, name)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert b"was interrupted after" in out
    assert b"2 cancelled" in out
    assert b"fleet resume @last" in out
    (tmp_path / "go").touch()
    assert fleet(tmp_path, "resume", "@last").returncode == 0


@pytest.mark.slow
def test_a_second_ctrl_c_kills_what_will_not_stop(tmp_path: Path) -> None:
    stubborn = "trap '' INT TERM; while :; do sleep 1; done"
    running = _begun(tmp_path, spec(tmp_path, tasks(stubborn)))
    running.send_signal(signal.SIGINT)
    _until(running, b"again to kill")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=8)
    assert running.returncode == 130


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("[[tasks\n", "not valid TOML"),
        (tasks("true") + tasks("true"), '"t1" is already the id of'),
        (tasks("true") + "timeout_secnds = 3\n", "timeout_seconds"),
        (tasks("true") + "timeout_seconds = -3\n", "timeout_seconds"),
        ('[[tasks]]\nid = "a/b"\ncommand = "true"\n', "tasks[0].id"),
        (tasks("true") + 'workspace = { root = "../up" }\n', "would leave the workspace"),
        (tasks("true") + 'scorer = { kind = "file_exists" }\n', "path"),
        (tasks("true") + 'scorer = { kind = "regex_match", path = "a", pattern = "(" }\n', "("),
    ],
)
def test_a_wrong_spec_is_a_sentence_and_exit_code_2(tmp_path: Path, text: str, says: str) -> None:
    done = look(tmp_path, "run", spec(tmp_path, text))
    assert done.returncode == 2
    assert says in done.stderr
    assert "tasks.toml" in done.stderr
    assert not (tmp_path / ".fleet").exists()


def test_a_spec_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(tasks("true").encode() + b"# \xff\n")
    done = look(tmp_path, "run", "bad.toml")
    assert done.returncode == 2
    assert "not UTF-8" in done.stderr
    assert "bad.toml:4" in done.stderr


def test_a_spec_over_64_mib_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    done = look(tmp_path, "run", "huge.toml")
    assert done.returncode == 2
    assert "64 MiB" in done.stderr


def test_a_directory_is_no_spec(tmp_path: Path) -> None:
    done = look(tmp_path, "run", ".")
    assert done.returncode == 2
    assert "is a directory" in done.stderr


def test_a_missing_spec_is_answered_with_the_nearest(tmp_path: Path) -> None:
    spec(tmp_path, tasks("true"), "release.toml")
    done = look(tmp_path, "run", "relese.toml", "--json")
    assert done.returncode == 2
    assert "release.toml" in json.loads(done.stderr)["error"]["hint"]


def test_nothing_and_too_much_are_told_apart(tmp_path: Path) -> None:
    assert "given nothing to run" in look(tmp_path, "run").stderr
    assert "one spec" in look(tmp_path, "run", "a.toml", "b.toml").stderr


def test_a_damaged_ledger_is_refused_with_5_and_left_as_it_is(tmp_path: Path) -> None:
    name = spec(tmp_path, tasks("true"))
    fleet(tmp_path, "run", name)
    ledger = tmp_path / ".fleet" / "fleet.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], lines[1].replace(b'"d"', b'"e"', 1), *lines[2:]])
    ledger.write_bytes(damaged)
    done = fleet(tmp_path, "run", name)
    assert done.returncode == 5, done.stderr
    assert "damaged" in done.stderr
    assert ledger.read_bytes() == damaged


def test_a_full_disk_is_told_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    name = spec(tmp_path, tasks("true"))
    (tmp_path / "disk").mkdir()
    fill = f"head -c 65000 /dev/zero > disk/fill; cp {name} disk/; cd disk; run;"
    wrapper = small_disk("disk", "64k", fill)
    done = fleet(tmp_path, "run", f"../{name}", "--dir", ".", before=wrapper)
    assert done.returncode == 5, done.stderr
    assert "space" in done.stderr


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that other users can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_fleet_is_refused_with_4(open_path: Path) -> None:
    name = spec(open_path, tasks("true"))
    fleet(open_path, "run", name)
    before = (open_path / ".fleet" / "fleet.jsonl").read_bytes()
    done = fleet(open_path, "run", name, "--dir", str(open_path), before=NOBODY)
    assert done.returncode == 4, done.stderr
    assert "another user" in done.stderr
    assert (open_path / ".fleet" / "fleet.jsonl").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_spec_that_may_not_be_read_is_told(open_path: Path) -> None:
    name = spec(open_path, tasks("true"))
    (open_path / name).chmod(0o600)
    done = fleet(open_path, "check", name, before=NOBODY)
    assert done.returncode == 2
    assert "may not be read by you" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_directory_that_may_not_be_written_is_told(open_path: Path) -> None:
    done = fleet(open_path, "run", spec(open_path, tasks("true")), before=NOBODY)
    assert done.returncode in (2, 4, 5)
    assert str(open_path) in done.stderr
    assert not (open_path / ".fleet").exists()
