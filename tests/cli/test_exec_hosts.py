"""`fleet exec` on machines that a real sshd stands in for: one run, one receipt a host."""

import json
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..hosts.sshd import Sshd, serving
from .driver import FLEET, environment, fleet

pytestmark = pytest.mark.slow

NAMES = ["web01", "web02", "web03", "db1"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with serving(tmp_path_factory.mktemp("sshd") / "server") as one:
        yield one


@pytest.fixture
def here(tmp_path: Path, server: Sshd) -> Path:
    """A fleet that knows four hosts, and one on whose port nobody listens."""
    knows(tmp_path, server, NAMES)
    return tmp_path


def knows(where: Path, server: Sshd, names: list[str], **host: object) -> None:
    """Write a fleet.toml with these hosts and `dead`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
    rows = [(name, server.port) for name in names] + [("dead", nobody)]
    text = ""
    for name, port in rows:
        fields = {
            "kind": "ssh", "host": "127.0.0.1", "port": port, "user": "root",
            "identity": str(server.folder / "id"), "known_hosts": str(server.folder / "known"),
            "working_directory": str(server.work), **host,
        }  # fmt: skip
        inner = ", ".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
        role = "web" if name.startswith("web") else "other"
        text += f'[[workers]]\nid = "{name}"\nname = "{name}"\nlabels = {{ role = "{role}" }}\n'
        text += f"host = {{ {inner} }}\n"
    (where / "fleet.toml").write_text(text)


def rows(
    done: "subprocess.CompletedProcess[str]",
) -> tuple[dict[str, dict[str, object]], dict[str, object]]:
    *each, whole = map(json.loads, done.stdout.splitlines())
    return {one["id"]: one for one in each}, whole


def test_one_command_is_one_run_with_a_receipt_for_each_host(here: Path, server: Sshd) -> None:
    done = fleet(here, "exec", "--on", "web[01-03],db1", "--", "pwd")
    assert done.returncode == 0, done.stdout + done.stderr
    title, *lines = done.stdout.splitlines()
    assert title.startswith("all 4 hosts passed in ")
    assert lines[1:3] == ["4 hosts: db1,web[01-03]", f"  {server.work}"]
    found = json.loads(fleet(here, "receipts", "@last", "--json").stdout)["receipts"]
    assert sorted(one["task_id"] for one in found) == sorted(NAMES)
    assert all(one["worker_id"].endswith(f"-{one['task_id']}-1") for one in found)
    assert len(json.loads(fleet(here, "status", "--json").stdout)["runs"]) == 1


def test_a_host_that_cannot_be_reached_costs_its_own_receipt_only(here: Path) -> None:
    done = fleet(here, "exec", "--on", "all", "--json", "--", 'test "$FLEET_TASK_ID" != web02')
    told, whole = rows(done)
    first = whole["run"]
    assert done.returncode == whole["exit_code"] == 1
    assert {id: (one["result"], one["source"]) for id, one in told.items()} == {
        "web01": ("pass", ""), "web02": ("fail", "task"), "web03": ("pass", ""),
        "db1": ("pass", ""), "dead": ("fail", "transport"),
    }  # fmt: skip
    assert "refuses" in str(told["dead"]["reason"])
    again = fleet(here, "exec", "--on", "@failed:@last", "--json", "--", "true")
    told, whole = rows(again)
    assert {id: one["result"] for id, one in told.items()} == {"web02": "pass", "dead": "fail"}
    (here / "t.toml").write_text('[[tasks]]\nid = "once-more"\ncommand = "true"\n')
    assert fleet(here, "run", "t.toml", "--on", "@failed:@last and not dead").returncode == 2
    done = fleet(here, "run", "t.toml", "--on", f"@failed:{first} and not dead")
    assert done.returncode == 0, done.stderr
    text = fleet(here, "exec", "--on", "role=web,dead", "--", "echo fine").stdout
    assert "3 hosts: web[01-03]\n  fine\n" in text
    assert "1 host unreachable: dead\n  dead  transport: " in text
    assert "fleet worker test dead says what to do" in text


def test_where_nobody_can_be_reached_the_exit_code_is_6(here: Path) -> None:
    done = fleet(here, "exec", "--on", "dead", "--json", "--", "true")
    told, whole = rows(done)
    assert (done.returncode, whole["exit_code"]) == (6, 6)
    assert told["dead"]["source"] == "transport"
    why = fleet(here, "explain", "@last/dead")
    assert why.returncode == 0 and "refuses" in why.stdout


def test_in_order_each_host_is_told_after_the_one_before(here: Path) -> None:
    words = ("exec", "--on", "role=web", "--keep-order", "--")
    script = 'case $FLEET_TASK_ID in web01) sleep 0.5;; esac; echo "I am $FLEET_TASK_ID"'
    done = fleet(here, *words, script)
    assert done.stdout.splitlines() == [
        "== web01", "I am web01", "== web02", "I am web02", "== web03", "I am web03",
    ]  # fmt: skip


def test_a_script_goes_to_each_host_once_and_runs_by_its_first_line(
    here: Path, server: Sshd
) -> None:
    (here / "which.py").write_text(
        "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], sys.argv[0][-64:])\n"
    )
    done = fleet(here, "exec", "--on", "role=web", "--script", "which.py", "--", "a b", "$HOME")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 hosts: web[01-03]\n  ['a b', '$HOME'] " in done.stdout
    assert str(here) not in done.stdout


def test_one_takes_one_of_several_and_says_how_all_are_reached(here: Path) -> None:
    done = fleet(here, "exec", "--on", "role=web", "--one", "--json", "--", "echo $FLEET_TASK_ID")
    told, whole = rows(done)
    assert list(told) == ["web01"] and told["web01"]["stdout"] == "web01\n"
    assert whole["hint"] == (
        "3 workers match, and --one took web01; all of them: "
        "fleet exec --on role=web -- 'echo $FLEET_TASK_ID'"
    )
    done = fleet(here, "exec", "--on", "role=web", "--one", "--", "hostname")
    assert "all of them: fleet exec --on role=web -- hostname\n" in done.stderr


@pytest.mark.alone
def test_many_callers_at_once_share_the_hosts_and_nobody_is_turned_away(here: Path) -> None:
    words = ("exec", "--on", "role=web,db1", "--one", "--json", "--", "true")
    with (here / "fleet.toml").open("a") as file:
        file.write("[inventory.more]\ncommand = 'echo once >> asked; echo web09'\n")
    callers = [
        subprocess.Popen(
            [*FLEET, *words], cwd=here, env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(60)
    ]  # fmt: skip
    answers = [(one.communicate(timeout=110), one.returncode) for one in callers]
    wrong = [(code, said[0][-300:], said[1][-600:]) for said, code in answers if code]
    assert not wrong
    took = Counter(json.loads(said[0].splitlines()[0])["id"] for said, _ in answers)
    assert set(took) == set(NAMES) and max(took.values()) <= 20
    assert (here / "asked").read_text() == "once\n"
    fleet(here, "ledger", "verify")


def test_a_variable_goes_where_the_host_takes_it(here: Path, server: Sshd) -> None:
    words = ("exec", "--on", "web01", "--env", "COLOUR", "--", "echo $COLOUR")
    done = fleet(here, *words, COLOUR="blue")
    assert done.returncode == 2 and 'env_allowlist = ["COLOUR"]' in done.stderr
    knows(here, server, NAMES, env_allowlist=["COLOUR"])
    assert fleet(here, *words, COLOUR="blue").stdout == "blue\n"


def test_ctrl_c_ends_the_command_on_the_hosts(here: Path, server: Sshd) -> None:
    words = ("exec", "--on", "role=web", "--", "echo $$ > pid.$FLEET_TASK_ID; exec sleep 300")
    call = subprocess.Popen(
        [*FLEET, *words], cwd=here, env=environment(), stdout=subprocess.PIPE, text=True
    )
    pids = [server.work / f"pid.web0{n}" for n in (1, 2, 3)]
    waited = fleet(here, "--help")
    while not all(path.exists() and path.read_text() for path in pids):
        assert call.poll() is None and waited.returncode == 0
    numbers = [int(path.read_text()) for path in pids]
    call.send_signal(signal.SIGINT)
    out, _ = call.communicate(timeout=60)
    assert call.returncode == 130, out
    assert not any(Path(f"/proc/{pid}").exists() for pid in numbers)


def test_this_machine_can_be_one_of_the_targets(here: Path, server: Sshd) -> None:
    done = fleet(here, "exec", "--on", "web01,local", "--keep-order", "--", "pwd")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.split()) == sorted(
        ["==", "local", str(here), "==", "web01", str(server.work)]
    )


def test_a_drained_host_is_not_waited_for(here: Path) -> None:
    assert fleet(here, "worker", "drain", "web02", "--reason", "new kernel").returncode == 0
    done = fleet(here, "exec", "--on", "role=web", "--json", "--", "true")
    told, whole = rows(done)
    assert (done.returncode, whole["counts"]) == (1, {"completed": 2, "failed": 1})
    assert told["web02"]["source"] == "transport"
    assert told["web02"]["reason"] == "web02: it is drained: new kernel"
    done = fleet(here, "exec", "--on", "web02", "--", "true")
    assert done.returncode == 6
    assert "\nweb02: transport: it is drained: new kernel\n" in done.stderr
    assert "/web02 says why" in done.stderr and "says what to do" not in done.stderr
    assert "fleet worker test web02" in fleet(here, "explain", "@last/web02").stdout
    done = fleet(here, "exec", "--on", "role=web and not draining", "--", "true")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_was_dropped_of_a_long_answer_is_counted(here: Path) -> None:
    words = ("--", "yes abcdefg | head -c 20000000")
    alone = fleet(here, "exec", "--on", "db1", *words)
    assert alone.returncode == 0
    left = 20_000_000 - alone.stdout.count("abcdefg\n") * 8
    assert "bytes of db1's stdout were dropped\n" in alone.stderr and left > 8_000_000
    several = fleet(here, "exec", "--on", "db1,web01", *words).stdout
    assert "all of it" not in several
    assert "  more of it (11," in several and " bytes were dropped): fleet logs " in several


def test_what_never_came_from_a_lost_host_is_not_said_to_be_removed(tmp_path: Path) -> None:
    with serving(tmp_path / "server") as gone:
        knows(tmp_path, gone, ["web01"])
        words = [*FLEET, "exec", "--on", "web01", "--", "echo > began; exec sleep 30"]
        call = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE)
        while not (gone.work / "began").exists():
            assert call.poll() is None
        gone.stop()
        while call.poll() is None:
            call.send_signal(signal.SIGINT)
            fleet(tmp_path, "status")
    told = fleet(tmp_path, "logs", "@last/web01")
    assert told.returncode == 2 and "lost before they came from its worker" in told.stderr
