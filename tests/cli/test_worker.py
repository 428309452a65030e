"""`fleet worker …`: machines are tried, made known, looked at and taken out of use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import Raw

from codewhale_fleet.cli.trials import Typed, checked, parsed
from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.errors import FleetError
from tests.hosts.sshd import Sshd, serving

from .scene import Scene, Told, a_scene, told


class Here:
    """A caller with an ssh config of their own, a directory, and a server."""

    def __init__(self, room: Path, server: Sshd) -> None:
        self.server = server
        self.place = room / "place"
        self.home = room / "me"
        self.place.mkdir()
        (self.home / ".ssh").mkdir(parents=True)
        reach = (
            f"  HostName 127.0.0.1\n  Port {server.port}\n  User root\n"
            f"  IdentityFile {server.folder}/id\n"
        )
        known = f"  UserKnownHostsFile {server.folder}/known\n"
        (self.home / ".ssh/config").write_text(
            f"Host web* db1\n{reach}{known}Host new\n{reach}"
            "Host down*\n  HostName 127.0.0.1\n  Port 1\n"
        )

    def fleet(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "codewhale_fleet", *words],
            cwd=self.place,
            env={**os.environ, "HOME": str(self.home)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=100,
        )


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with serving(tmp_path / "sshd") as server:
        yield Here(tmp_path, server)


# Trying ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_host_is_told_with_what_it_is_or_why_it_cannot_be_used(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd") as server:
        here = Here(tmp_path, server)
        good = f"127.0.0.1:{server.port}"
        keys = ["-i", str(server.folder / "id"), "--known-hosts", str(server.folder / "known")]
        done = here.fleet("worker", "test", *keys, good, "127.0.0.1:1")
        assert done.returncode == 6, done.stderr
        first, second = done.stdout.splitlines()
        assert first.startswith(good) and "  ok" in first and "Python 3." in first
        assert "127.0.0.1:1 refuses the connection." in second
        done = here.fleet("worker", "test", *keys, "--json", good)
        assert done.returncode == 0, done.stderr
        (one,) = json.loads(done.stdout)["hosts"]
        assert one["ok"] and one["directory"] == str(server.home) and one["round_trip"] > 0
        assert one["facts"]["cores"] > 0 and one["facts"]["memory_mb"] > 0
        left = list((server.home / ".local/state/codewhale-fleet").iterdir())
        assert left == [], "a test leaves a directory behind"
        assert not (here.place / ".fleet").exists()


@pytest.mark.slow
def test_many_hosts_that_are_alike_share_a_line(here: Here) -> None:
    done = here.fleet("worker", "add", "--no-test", "web[01-12]", "down1", "down2")
    assert done.returncode == 0, done.stderr
    done = here.fleet("worker", "test", "all")
    assert done.returncode == 6
    lines = done.stdout.splitlines()
    assert lines[0] == "12 of 14 hosts can be used"
    assert any(line.startswith("12  web[01-12]  ok") for line in lines)
    assert sum("refuses the connection" in line for line in lines) == 1, done.stdout
    assert "down[1-2]" in done.stdout
    done = here.fleet("worker", "list", "unreachable", "--json")
    rows = json.loads(done.stdout)["workers"]
    assert [row["worker"] for row in rows] == ["down1", "down2"]
    assert all("refuses" in row["unreachable"] and row["state"] == "offline" for row in rows)


# Adding ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_machine_that_was_tried_becomes_a_worker_with_what_it_is(here: Here) -> None:
    words = ("--label", "role=web", "--group", "prod", "--slots", "2")
    done = here.fleet("worker", "add", "web01", "down1", *words)
    assert done.returncode == 6, done.stderr
    assert "web01  added" in done.stdout
    assert "down1  not added  down1 refuses the connection." in done.stdout
    (row,) = json.loads(here.fleet("worker", "list", "prod", "--json").stdout)["workers"]
    assert (row["state"], row["slots"], row["labels"]) == ("online", 2, {"role": "web"})
    assert row["cores"] == len(os.sched_getaffinity(0)) and row["memory_mb"] and row["hostname"]
    assert 0 < row["seen_seconds"] < 60
    page = here.fleet("worker", "inspect", "web01").stdout
    assert "0 of 2 busy" in page and "web01 is a worker of this fleet" in page
    again = here.fleet("worker", "add", "web01", "--label", "zone=a")
    assert "web01  changed" in again.stdout
    (row,) = json.loads(here.fleet("worker", "list", "prod", "--json").stdout)["workers"]
    assert row["labels"] == {"role": "web", "zone": "a"} and row["slots"] == 2


@pytest.mark.slow
def test_a_host_key_is_trusted_when_somebody_says_so_and_not_before(here: Here) -> None:
    refused = here.fleet("worker", "add", "new")
    assert refused.returncode == 6
    assert f"it shows {here.server.fingerprint}" in refused.stdout
    done = here.fleet("worker", "add", "new", "--accept-host-key")
    assert done.returncode == 0, done.stdout
    assert f"new is trusted from now on by its host key {here.server.fingerprint}" in done.stderr
    assert here.fleet("worker", "test", "all").returncode == 0
    other = (here.server.folder / "stranger.pub").read_text()
    known = here.home / ".ssh/known_hosts"
    known.write_text(f"[127.0.0.1]:{here.server.port} {other}")
    changed = here.fleet("worker", "add", "new", "--id", "again", "--accept-host-key")
    assert changed.returncode == 6, "a key that has changed is never accepted so"
    assert "has changed" in changed.stdout


@pytest.mark.slow
def test_hosts_of_the_ssh_config_are_added_by_name_or_pattern(here: Here) -> None:
    with (here.home / ".ssh/config").open("a") as config:
        config.write("Host web01 web02\nHost app\n")
    done = here.fleet("worker", "add", "--ssh-config", "web*")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(here.fleet("worker", "list", "--json").stdout)["workers"]
    assert [row["worker"] for row in rows] == ["local", "web01", "web02"]
    assert rows[1]["origin"] == "~/.ssh/config"
    assert here.fleet("worker", "add", "--ssh-config", "mail*").returncode == 2


@pytest.mark.slow
def test_an_inventory_of_ansible_is_added_with_its_groups(here: Here) -> None:
    (here.place / "hosts.ini").write_text(
        f"[web]\nfront ansible_host=127.0.0.1 ansible_port={here.server.port} ansible_user=root\n"
    )
    server = here.server.folder
    keys = ("-i", str(server / "id"), "--known-hosts", str(server / "known"))
    done = here.fleet("worker", "add", "--ansible", "hosts.ini", *keys)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(here.fleet("worker", "list", "web", "--json").stdout)["workers"]
    assert row["worker"] == "front" and row["groups"] == ["web"] and row["state"] == "online"


# Without any machine --------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        assert scene.fleet("worker", "add", "web[01-02]", "db1", "--no-test").code == 0
        yield scene


def rows(said: Told) -> dict[str, dict[str, object]]:
    assert said.code == 0, said.err
    return {row["worker"]: row for row in said.json["workers"]}


def test_a_worker_that_was_never_tried_is_told_as_unknown(fleet: Scene) -> None:
    found = rows(fleet.fleet("worker", "list", "--json"))
    assert list(found) == ["local", "web01", "web02", "db1"]
    assert [row["state"] for row in found.values()] == ["online", "unknown", "unknown", "unknown"]
    page = fleet.fleet("worker", "list").out
    assert "web01  unknown  0/1" in page and "fleet worker test all" in page


def test_draining_and_retiring_are_recorded_once_and_taken_back(fleet: Scene) -> None:
    done = fleet.fleet("worker", "drain", "web*", "--reason", "new kernel")
    assert done.out.splitlines()[:2] == ["web01  gets nothing new", "web02  gets nothing new"]
    assert "was draining already" in fleet.fleet("worker", "drain", "web01").out
    found = rows(fleet.fleet("worker", "list", "draining", "--json"))
    assert {row["drain_reason"] for row in found.values()} == {"new kernel"}
    assert "web01  gets work again" in fleet.fleet("worker", "drain", "web01", "--off").out
    assert "was not draining" in fleet.fleet("worker", "drain", "web01", "--off").out
    assert "is no worker of this fleet any more" in fleet.fleet("worker", "retire", "db1").out
    assert "db1" not in rows(fleet.fleet("worker", "list", "--json"))
    assert rows(fleet.fleet("worker", "list", "--all", "--json"))["db1"]["state"] == "retired"
    page = fleet.fleet("worker", "inspect", "db1").out
    assert "retired" in page and "db1 was retired" in page
    assert "db1  added" in fleet.fleet("worker", "add", "db1", "--no-test").out


def flying(fleet: Scene) -> str:
    """An attempt on web01, as a manager records it."""
    raw = fleet.ledger.state.workers["web01"].definition
    created = e.RunCreated(
        name="there", digest="", max_workers=1, workspace=str(fleet.root), spec="s.toml",
        workers={"web01": Raw(raw)}, spread=True,
    )  # fmt: skip
    fleet.ask(
        c.CreateRun(run="there-abc234", created=created),
        c.AddTasks(run="there-abc234", tasks=(b'{"id":"a","command":"true"}',)),
        c.StartRun(run="there-abc234", count=1),
        c.Place(run="there-abc234", task="a", worker="there-abc234-web01-1", boot="b", why="w"),
    )
    return "there-abc234/a@1"


def test_what_runs_on_a_worker_is_said_and_waited_for(fleet: Scene) -> None:
    fleet.ledger.refresh()
    attempt = flying(fleet)
    assert rows(fleet.fleet("worker", "list", "web01", "--json"))["web01"]["busy"] == 1
    assert fleet.fleet("worker", "inspect", "web01", "--json").json["running"] == [
        {"attempt": attempt, "started": False, "slot": "there-abc234-web01-1"}
    ]
    assert "there-abc234-web01-1" in fleet.fleet("inspect", "there-abc234-web01-1").out
    said = fleet.fleet("worker", "drain", "web01").out
    assert "gets nothing new; 1 still runs there and goes on" in said
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fleet.fleet, "worker", "drain", "web01", "--wait", "-q")
        fleet.ended(attempt)
        assert waiting.result(30).code == 0
    fleet.finish("there-abc234")
    assert "in flight" not in fleet.fleet("worker", "inspect", "web01").out


def test_a_worker_that_is_retired_says_what_it_still_runs(fleet: Scene) -> None:
    fleet.ledger.refresh()
    attempt = flying(fleet)
    assert f"it still runs {attempt}" in fleet.fleet("worker", "retire", "web01").out


def test_what_fleet_toml_defines_is_changed_there(fleet: Scene) -> None:
    (fleet.root / "fleet.toml").write_text('[[workers]]\nid = "app"\nhost = "web01"\n')
    refused = fleet.fleet("worker", "add", "app", "--no-test")
    assert refused.code == 4 and "fleet.toml:1 defines it" in refused.err
    assert rows(fleet.fleet("worker", "list", "app", "--json"))["app"]["host"] == "web01"
    assert fleet.fleet("worker", "drain", "web01").out.startswith("web01  gets nothing new\n\n")
    assert "fleet.toml:1 names it" in fleet.fleet("worker", "retire", "app").out
    again = fleet.fleet("worker", "add", "app", "--no-test")
    assert "app  added  web01" in again.out, "it comes back as it is written"


MISTAKES: list[tuple[list[str], str]] = [
    (["add"], "needs a machine"),
    (["add", "a", "b", "--id", "x"], "--id is for one machine"),
    (["add", "a", "--label", "x"], '--label: "x"'),
    (["add", "a", "--trust", "high"], '--trust: "high"'),
    (["add", "a", "--working-directory", "b"], '"b" is relative'),
    (["add", "a", "--fingerprint", "12:34"], "--fingerprint"),
    (["add", "a", "-i", "no-such-key"], "the identity"),
    (["add", "a", "--id", "all"], '"all" has a meaning in selectors'),
    (["add", "u@a", "a"], 'would be called "a"'),
    (["add", "a", "--env", "API_TOKEN"], "API_TOKEN"),
    (["add", "--ansible", "no-such-file"], "no-such-file cannot be read"),
    (["drain", "nobody"], 'no worker and no group is called "nobody"'),
    (["drain", "web01", "--off", "--wait"], "--off gives work again"),
    (["retire", "local"], "is this machine"),
    (["inspect", "web*"], '"web*" names 2 workers'),
    (["list", "role=db"], "selects no worker"),
    (["test", "web01", "--port", "22"], "names workers of this fleet"),
]


def test_what_cannot_be_meant_is_refused_in_a_sentence(fleet: Scene) -> None:
    for words, what in MISTAKES:
        said = fleet.fleet("worker", *words, *(["--no-test"] if words[0] == "add" else []))
        assert said.code == 2, said.out + said.err
        assert what in said.err and said.err.count("\n") >= 2


def test_status_doctor_and_inspect_tell_of_workers(fleet: Scene) -> None:
    fleet.run("lint")
    fleet.ask(c.ReportUnreachable(worker="web01", why="it is down"))
    status = fleet.fleet("status")
    assert "workers: 1 offline, 2 unknown   fleet worker list" in status.out
    assert fleet.fleet("status", "--json").json["workers"] == {"offline": 1, "unknown": 2}
    assert "1 offline, 2 unknown" in fleet.fleet("doctor").out
    page = fleet.fleet("inspect", "web01").out
    assert page.startswith("web01   worker") and "it is down" in page
    (fleet.root / "fleet.toml").write_text('[[workers]]\nid = "app"\nhost = "app.example"\n')
    assert "app.example" in fleet.fleet("inspect", "app").out
    assert fleet.fleet("inspect", "nobody").code == 2


def test_a_key_that_is_not_here_is_a_problem_of_its_worker_only(fleet: Scene) -> None:
    host = '[[workers]]\nid = "far"\nhost = { identity = "/none/id", host = "far.example" }\n'
    (fleet.root / "fleet.toml").write_text(host)
    spec = fleet.root / "s.toml"
    spec.write_text('[[tasks]]\nid = "a"\ncommand = "true"\n')
    assert "1 task, fine\n\n" in fleet.fleet("check", str(spec)).out
    why = "the identity /none/id is no file"
    found = rows(fleet.fleet("worker", "list", "--json"))
    assert {id: row["problem"] for id, row in found.items() if row["problem"]} == {"far": why}
    for words in (("worker", "list"), ("worker", "inspect", "far"), ("doctor",)):
        assert why in fleet.fleet(*words).out
    spec.write_text('[[tasks]]\nid = "a"\ncommand = "true"\nrequires = { target = "far" }\n')
    checked = fleet.fleet("check", str(spec))
    assert checked.code == 0 and f"far cannot be used from here: {why}" in checked.out
    assert fleet.fleet("check", str(spec), "--json").json["workers"] == {"far": why}


def test_a_list_without_a_fleet_is_this_machine(tmp_path: Path) -> None:
    said = told("worker", "list", "--json", "--dir", str(tmp_path))
    assert list(rows(said)) == ["local"]
    assert not (tmp_path / ".fleet").exists()


def test_a_host_may_be_written_with_user_and_port() -> None:
    host = parsed("deploy@[::1]:2222", Typed())
    assert (host.user, host.host, host.port) == ("deploy", "::1", 2222)
    assert parsed("fe80::1", Typed()).host == "fe80::1"
    assert parsed("build.example", Typed()).port is None
    assert parsed("build.example:24", Typed(port=23, jump="gate")).port == 24


@pytest.mark.parametrize("text", ["", "@", "user@", "-oProxyCommand=x", "a b", "host:0", "host:x"])
def test_what_names_no_host_is_refused(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parsed(text, checked(Typed()))
    assert text in caught.value.sentence
