"""`fleet secret`, as typed by people and by tasks; what outlives kills, hand-overs and shells."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .driver import FLEET, environment, fleet, look, spec
from .test_secrets import VALUE, holders, one, records
from .test_secrets import config as config

pytestmark = pytest.mark.slow


# Keeping ---------------------------------------------------------------------------------------


def test_a_secret_is_kept_without_the_newline_at_its_end_and_comes_from_there(
    tmp_path: Path, config: Path
) -> None:
    for given in (f"{VALUE}\n", f"{VALUE}\r\n", VALUE):
        done = fleet(tmp_path, "secret", "set", "KEY", "--source", "file", given=given.encode())
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"KEY is kept in {config}/secrets/KEY\n"
        assert (config / "secrets" / "KEY").read_text() == VALUE
    text = one('test "$KEY" = "$WANTED"', '"KEY"')
    text += "workspace = { environment = { required = ['WANTED'] } }\n"
    done = fleet(tmp_path, "run", spec(tmp_path, text), WANTED=VALUE, KEY="of the environment")
    assert done.returncode == 0, done.stdout
    assert holders(tmp_path, VALUE) == ["config/codewhale-fleet/secrets/KEY"]


def test_a_secret_of_several_lines_loses_only_the_last_newline(
    tmp_path: Path, config: Path
) -> None:
    fleet(tmp_path, "secret", "set", "PEM", "--source", "file", given=b"a\nb\n\n")
    assert (config / "secrets" / "PEM").read_bytes() == b"a\nb\n"


def test_names_are_listed_with_where_they_are_and_never_values(
    tmp_path: Path, config: Path
) -> None:
    assert fleet(tmp_path, "secret", "list").stdout == ""
    for key in ("B", "A"):
        fleet(tmp_path, "secret", "set", key, "--source", "file", given=VALUE.encode())
    ring = keyring_here(tmp_path)
    fleet(tmp_path, "secret", "set", "C", "--source", "keyring", given=VALUE.encode(), **ring)
    (config / "secrets" / "B").chmod(0o644)
    shown = fleet(tmp_path, "secret", "list", **ring).stdout
    assert [line.split()[:3] for line in shown.splitlines()] == [
        ["A", "file", "there"], ["B", "file", "not"], ["C", "keyring", "there"],
    ]  # fmt: skip
    assert "B can be read by others" in shown and VALUE not in shown
    told = json.loads(fleet(tmp_path, "secret", "list", "--json", **ring).stdout)["secrets"]
    assert [(row["key"], row["exists"]) for row in told] == [("A", True), ("B", False), ("C", True)]


def test_what_is_removed_is_kept_nowhere_any_more(tmp_path: Path, config: Path) -> None:
    ring = keyring_here(tmp_path)
    for source in ("file", "keyring"):
        fleet(tmp_path, "secret", "set", "KEY", "--source", source, given=VALUE.encode(), **ring)
    assert (
        "KEY too"
        in fleet(
            tmp_path, "secret", "set", "KEY", "--source", "file", given=VALUE.encode(), **ring
        ).stderr
    )
    done = fleet(tmp_path, "secret", "rm", "KEY", **ring)
    assert done.stdout == "KEY is removed (file, keyring)\n"
    done = fleet(tmp_path, "secret", "rm", "KEY", **ring)
    assert done.returncode == 2 and "no secret KEY is kept here" in done.stderr
    assert list((config / "secrets").iterdir()) == []


def keyring_here(where: Path) -> dict[str, str]:
    """Variables with which the keyring is a file of this test's own."""
    return {
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
        "XDG_DATA_HOME": str(where / "data"),
    }


def test_the_keyring_is_where_a_secret_goes_where_one_works_and_a_file_where_none_does(
    tmp_path: Path, config: Path
) -> None:
    none = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    ring = keyring_here(tmp_path)
    done = fleet(tmp_path, "secret", "set", "KEY", given=b"in the ring", **ring)
    assert done.stdout == "KEY is kept in the keyring\n", done.stderr
    text = spec(tmp_path, one('test "$KEY" = "in the ring"', '"KEY"'))
    assert fleet(tmp_path, "run", text, **ring).returncode == 0
    done = fleet(tmp_path, "run", text, **none)
    assert "there is no keyring on this machine that could have KEY" in done.stderr
    assert fleet(tmp_path, "secret", "set", "TWO", given=b"2", **none).returncode == 0
    assert (config / "secrets" / "TWO").read_text() == "2"


@pytest.mark.parametrize(
    ("words", "given", "says"),
    [
        (["a b"], b"x", '"a b" can be no secret\'s name'),
        (["../KEY"], b"x", "can be no secret's name"),
        (["KEY", "--source", "env"], b"x", '"env" is no place where a secret can be kept'),
        (["KEY"], b"", "no value came for KEY"),
        (["KEY"], b"\n", "no value came for KEY"),
        (["KEY"], b"\xff\xfe", "the value of KEY is not UTF-8"),
        (["KEY"], b"a\0b", "KEY in standard input has a NUL byte"),
        (["KEY"], b"x" * 65_537, "a secret may have 65,536"),
    ],
)
def test_what_cannot_be_kept_is_a_sentence(
    tmp_path: Path, config: Path, words: list[str], given: bytes, says: str
) -> None:
    done = fleet(tmp_path, "secret", "set", *words, given=given)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (config / "secrets").exists()


def test_a_person_types_a_value_that_is_not_shown(tmp_path: Path, config: Path) -> None:
    ours, theirs = pty.openpty()
    typing = subprocess.Popen(
        [*FLEET, "secret", "set", "KEY", "--source", "file"],
        cwd=tmp_path, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0),  # its controlling terminal
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"Value of KEY:" not in shown:
        shown += os.read(ours, 1024)
    os.write(ours, VALUE.encode() + b"\n")
    assert typing.wait(30) == 0
    while b"is kept in" not in shown:
        shown += os.read(ours, 1024)
    os.close(ours)
    assert VALUE.encode() not in shown
    assert (config / "secrets" / "KEY").read_text() == VALUE


# Asking, as a task -----------------------------------------------------------------------------

SELF = f"{sys.executable} -m codewhale_fleet"


def test_a_task_asks_for_what_it_was_granted_and_for_nothing_else(tmp_path: Path) -> None:
    command = (
        f'test "$({SELF} secret get KEY)" = "$WANTED" && {SELF} secret get KEY --json > told && '
        f"! {SELF} secret get OTHER 2> refused"
    )
    text = one(command, '"KEY"') + "workspace = { environment = { required = ['WANTED'] } }\n"
    text += "[[tasks]]\nid = 'other'\ncommand = 'true'\nsecrets = ['OTHER']\n"
    done = fleet(tmp_path, "run", spec(tmp_path, text), KEY=VALUE, OTHER="o", WANTED=VALUE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "told").read_text()) == {"key": "KEY", "value": VALUE}
    said = (tmp_path / "refused").read_text()
    assert "was not granted 'OTHER'; its spec grants it KEY" in said
    mine = [row["secrets"] for row in records(tmp_path, "secrets.used") if "/t@" in str(row)]
    assert mine == [{"KEY": "env"}, {"KEY": "get"}], "the second time is no news"
    assert "attempt 1 got KEY as it asked" in look(tmp_path, "explain", "@last/t").stdout


def test_outside_a_task_nobody_gets_a_value(tmp_path: Path) -> None:
    fleet(tmp_path, "secret", "set", "KEY", "--source", "file", given=VALUE.encode())
    done = fleet(tmp_path, "secret", "get", "KEY")
    assert done.returncode == 2 and "is for tasks" in done.stderr
    assert VALUE not in done.stdout + done.stderr


# What outlives what ----------------------------------------------------------------------------

FILED = "{ key = 'KEY', as = 'PLACE', deliver = 'file' }"


def kept_up(where: Path, command: str, secrets: str = "'KEY'") -> str:
    """A spec: `long` says where it is in `up` and waits for `go`; what it is to do follows."""
    for name in ("up", "go"):
        os.mkfifo(where / name)
    text = one(f'echo "$$ $PLACE" > up; read line < go; {command}', secrets).replace(
        "'t'", "'long'"
    )
    return spec(where, "max_workers = 1\n" + text)


def begin(where: Path, name: str, **more: str) -> tuple[int, Path]:
    """Run it detached; the pid of the task that is up, and where its secret lies."""
    done = fleet(where, "run", name, "--detach", **more)
    assert done.returncode == 0, done.stderr
    pid, _, place = (where / "up").read_text().strip().partition(" ")
    return int(pid), Path(place or "/nowhere")


def runtimes(where: Path) -> tuple[int, int]:
    """The keeper of this workspace, and its runtime."""
    keeper = int((where / ".fleet/runtime/lock").read_text())
    task = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return keeper, int(task[0])


def kill(*pids: int) -> None:
    for pid in pids:
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 20)
        os.close(process)


def manager_of(where: Path) -> int:
    made: int = json.loads(fleet(where, "status", "--json").stdout)["manager"]["pid"]
    return made


def holding(value: str) -> list[str]:
    """Processes that have a value in their command line or environment, but for this one's kin."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            for part in ("cmdline", "environ"):
                if value.encode() in (entry / part).read_bytes():
                    found.append(f"{entry.name} {part}")
        except OSError:
            continue
    return found


@pytest.mark.parametrize("source", ["env", "file"])
def test_a_detached_run_has_its_secrets_and_no_process_but_the_task_shows_them(
    tmp_path: Path, source: str
) -> None:
    more = {"KEY": VALUE} if source == "env" else {}
    fleet(tmp_path, "secret", "set", "KEY", "--source", "file", given=VALUE.encode())
    if source == "env":
        fleet(tmp_path, "secret", "rm", "KEY")
    pid, _ = begin(tmp_path, kept_up(tmp_path, 'test "$KEY" = ' + VALUE[:5] + "*"), **more)
    assert holding(VALUE) == [f"{pid} environ"]
    (tmp_path / "go").write_text("\n")
    fleet(tmp_path, "wait", "@last")
    assert holding(VALUE) == []
    assert holders(tmp_path / ".fleet", VALUE) == []


def test_a_secret_in_a_file_is_in_no_environment_at_all(tmp_path: Path) -> None:
    name = kept_up(tmp_path, 'test "$(cat "$PLACE")" = "$(cat wanted)"', FILED)
    (tmp_path / "wanted").write_text(VALUE)
    _, place = begin(tmp_path, name, KEY=VALUE)
    assert place.read_text() == VALUE and holding(VALUE) == []
    (tmp_path / "go").write_text("\n")
    assert fleet(tmp_path, "wait", "@last").returncode == 0
    assert not place.parent.exists()


def test_a_killed_runtime_loses_no_secret_and_leaves_no_file(tmp_path: Path) -> None:
    name = kept_up(tmp_path, f'test "$({SELF} secret get KEY)" = "$(cat "$PLACE")"', FILED)
    text = (tmp_path / name).read_text()
    spec(
        tmp_path, text + "[[tasks]]\nid = 'next'\ncommand = 'test -n \"$KEY\"'\nsecrets = ['KEY']\n"
    )
    _, place = begin(tmp_path, name, KEY=VALUE)
    kill(runtimes(tmp_path)[1])
    assert place.exists(), "its task still needs it"
    (tmp_path / "go").write_text("\n")
    assert fleet(tmp_path, "wait", "@last").returncode == 0
    assert not place.parent.exists()
    ended = [row["exit"] for row in records(tmp_path, "attempt.ended")]
    assert ended == [0, 0]


def test_when_its_values_are_gone_a_run_waits_for_a_shell_that_has_them(tmp_path: Path) -> None:
    name = kept_up(tmp_path, "true", FILED)
    text = (tmp_path / name).read_text()
    spec(
        tmp_path, text + "[[tasks]]\nid = 'next'\ncommand = 'test -n \"$KEY\"'\nsecrets = ['KEY']\n"
    )
    pid, place = begin(tmp_path, name, KEY=VALUE)
    run = str(records(tmp_path, "attempt.dispatched")[0]["attempt"]).partition("/")[0]
    kill(manager_of(tmp_path), *runtimes(tmp_path), pid)
    assert place.exists(), "nobody is left who could remove it"
    done = fleet(tmp_path, "resume", run)
    assert done.returncode == 2 and "KEY is not found" in done.stderr
    assert f"then: fleet resume {run}" in done.stderr
    done = fleet(tmp_path, "restart", f"{run}/next")
    assert done.returncode == 3 and "its environment is gone" in done.stdout, done.stdout
    done = fleet(tmp_path, "resume", run, KEY=VALUE)
    passed = {row["attempt"]: row.get("exit") for row in records(tmp_path, "attempt.ended")}
    assert passed[f"{run}/next@1"] == 0, done.stdout
    assert not place.parent.exists(), "the next runtime has swept it"


def test_a_run_that_another_manager_has_gets_its_own_secrets(tmp_path: Path) -> None:
    begin(tmp_path, kept_up(tmp_path, "true"), KEY="of the first")
    text = one('test "$KEY" = "of the second"', "'KEY'")
    done = fleet(tmp_path, "run", spec(tmp_path, text, "second.toml"), KEY="of the second")
    assert done.returncode == 0, done.stdout
    assert "another manager is at work" in done.stderr
    (tmp_path / "go").write_text("\n")
    first = str(records(tmp_path, "attempt.dispatched")[0]["attempt"]).partition("/")[0]
    assert fleet(tmp_path, "wait", first).returncode == 0


def test_a_secret_that_was_changed_counts_from_the_next_attempt_on(tmp_path: Path) -> None:
    command = 'echo "$KEY" >> seen; test "$KEY" = new'
    name = spec(tmp_path, one(command, "'KEY'"))
    assert fleet(tmp_path, "run", name, KEY="old").returncode == 1
    assert fleet(tmp_path, "resume", "@last", "--failed", KEY="new").returncode == 0
    assert (tmp_path / "seen").read_text() == "old\nnew\n"


def test_secrets_of_tasks_that_are_done_are_not_asked_for_again(tmp_path: Path) -> None:
    text = one("true", "'DONE'") + "[[tasks]]\nid = 'u'\ncommand = 'exit 3'\nsecrets = ['KEY']\n"
    assert fleet(tmp_path, "run", spec(tmp_path, text), DONE="1", KEY="1").returncode == 1
    done = fleet(tmp_path, "resume", "@last", "--failed", KEY="1")
    assert done.returncode == 1, done.stderr
    assert "needs a secret" not in done.stderr


def test_a_verifier_has_the_secrets_of_its_own_definition_and_none_of_the_tasks(
    tmp_path: Path,
) -> None:
    judge = (
        'cat > /dev/null; echo "judge [$KEY] [$MINE] $(cat "$PLACE")" >> seen; '
        """echo '{"verdict": "pass", "reason": "x", "quotes": ["hello"]}'"""
    )
    (tmp_path / "fleet.toml").write_text(
        f"[agents.judge]\ncommand = ['sh', '-c', {json.dumps(judge)}]\n"
        "secrets = ['MINE', {key = 'FILED', as = 'PLACE', deliver = 'file'}]\n"
    )
    text = (
        "[[tasks]]\nid = 't'\nsecrets = ['KEY']\n"
        """command = 'echo hello; echo "task [$KEY] [$MINE] [$PLACE]" >> seen'\n"""
        "[tasks.verify]\nsteps = [{ kind = 'command', command = "
        """'echo "step [$KEY] [$MINE] [$PLACE]" >> seen' }, """
        "{ kind = 'code_whale_verifier_prompt', prompt = 'good?', agent = 'judge' }]\n"
    )
    done = fleet(tmp_path, "run", spec(tmp_path, text), KEY="k", MINE="m", FILED="f")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "seen").read_text().splitlines() == [
        "task [k] [] []", "step [] [] []", "judge [] [m] f",
    ]  # fmt: skip
    used = [(row["secrets"], row.get("step")) for row in records(tmp_path, "secrets.used")]
    assert used == [({"KEY": "env"}, None), ({"MINE": "env", "FILED": "file"}, 2)]
    told = json.loads(look(tmp_path, "inspect", "@last/t", "--json").stdout)
    assert told["verifier_secrets"] == {"MINE": "env", "FILED": "file"}


# In the sandbox --------------------------------------------------------------------------------


def sandboxed(*grants: str) -> str:
    given = "".join(f'{{ capability = "provider-secrets", scope = "{one}" }}, ' for one in grants)
    return (
        "[security_policy]\nmax_trust_level = 'sandbox'\nallowed_secrets = ['*']\n"
        f"capability_grants = [{given}]\n"
    )


def test_a_sandboxed_task_gets_what_was_granted_in_each_way(tmp_path: Path) -> None:
    command = (
        f'test "$ONE" = 1 && test "$(cat "$PLACE")" = 2 && test "$({SELF} secret get ONE)" = 1 && '
        'test "$(ls -d /dev/shm/* /run/user/*/* 2> /dev/null | wc -l)" -le 1 && '
        '! echo x 2> /dev/null > "$PLACE"'
    )
    text = sandboxed("ONE", "T*") + one(
        command, "'ONE', { key = 'TWO', as = 'PLACE', deliver = 'file' }"
    )
    done = fleet(tmp_path, "run", spec(tmp_path, text), ONE="1", TWO="2")
    assert done.returncode == 0, done.stdout + fleet(tmp_path, "logs", "@last/t").stdout
    used = [row["secrets"] for row in records(tmp_path, "secrets.used")]
    assert used == [{"ONE": "env", "TWO": "file"}, {"ONE": "get"}]


def test_without_a_grant_the_sandbox_knows_no_secret(tmp_path: Path) -> None:
    text = sandboxed("OTHER") + one("true", "'ONE'")
    done = fleet(tmp_path, "run", spec(tmp_path, text), ONE="1")
    assert done.returncode == 2
    assert "the trust sandbox knows no secrets, and ONE was not granted" in done.stderr
    assert not (tmp_path / ".fleet").exists()
