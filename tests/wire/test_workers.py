"""Workers as they are written in fleet.toml and in specs: short spellings, patterns, problems."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from codewhale_fleet.core.spec_hosts import LocalHost, SshHost, Worker
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.problems import SpecProblems
from codewhale_fleet.wire.workers import missing_files

from .builders import a_spec, a_task, loaded, problems_of

MARK = "SHA256:" + "a" * 43


def read(text: str) -> list[Worker]:
    return fleetfile.parse(text.encode()).workers


def problems(text: str) -> dict[str, tuple[int, str]]:
    with pytest.raises(SpecProblems) as caught:
        fleetfile.parse(text.encode())
    return {one.field: (one.line, one.message) for one in caught.value.problems}


def entry(**fields: Any) -> str:
    """One `[[workers]]` entry, a field a line."""
    lines = [f"{key} = {toml(value)}" for key, value in {"id": "w", **fields}.items()]
    return "\n".join(["[[workers]]", *lines, ""])


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    return json.encode(value).decode()


# Spellings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, SshHost(host="w")),
        ({"host": "10.0.0.1"}, SshHost(host="10.0.0.1")),
        ({"host": {"host": "10.0.0.1", "port": 22}}, SshHost(host="10.0.0.1", port=22)),
        ({"host": {"user": "ops"}}, SshHost(host="w", user="ops")),
        ({"host": {"kind": "ssh", "host": "x"}}, SshHost(host="x")),
        ({"id": "local", "host": {"kind": "local"}}, LocalHost()),
    ],
)
def test_a_worker_is_its_id_and_whatever_more_there_is_to_say(
    fields: dict[str, Any], host: Any
) -> None:
    (worker,) = read(entry(**fields))
    assert (worker.id, worker.name) == (fields.get("id", "w"), fields.get("id", "w"))
    assert worker.host == host


def test_an_entry_may_stand_for_many_machines() -> None:
    found = read(
        entry(id="web[09-11]", host={"host": "web[09-11].example.com", "user": "ops"}, cores=4)
        + entry(id="db[a,b]", name="database", groups=["dbs"])
    )
    assert [(one.id, one.name, one.host) for one in found] == [
        ("web09", "web09", SshHost(host="web09.example.com", user="ops")),
        ("web10", "web10", SshHost(host="web10.example.com", user="ops")),
        ("web11", "web11", SshHost(host="web11.example.com", user="ops")),
        ("dba", "database", SshHost(host="dba")),
        ("dbb", "database", SshHost(host="dbb")),
    ]
    assert found[1].cores == 4 and found[4].groups == ["dbs"]


def test_each_worker_knows_the_line_of_its_entry() -> None:
    text = "[fleet]\nmax_workers = 2\n\n" + entry(id="a[1-2]") + "\n" + entry(id="b")
    assert fleetfile.parse(text.encode()).worker_lines == [4, 4, 7]


def test_workers_of_a_spec_are_written_the_same_way() -> None:
    spec = a_spec(worker_specs=[{"id": "web[1-3]", "trust_level": "remote-verified"}, {"id": "x"}])
    found = loaded(spec, "workers").spec.workers
    assert [one.id for one in found] == ["web1", "web2", "web3", "x"]
    assert found[2].trust_level == "remote_verified"
    spelt = a_spec(
        workers=[
            {"id": f"web{n}", "name": f"web{n}", "host": {"kind": "ssh", "host": f"web{n}"},
             "trust_level": "remote_verified"}
            for n in (1, 2, 3)
        ]
        + [{"id": "x", "name": "x", "host": "x"}]
    )  # fmt: skip
    assert loaded(spelt, "workers").digest == loaded(spec, "workers").digest


# Problems -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"id": "a b"}, "id", "must be 1 to 128 of the characters"),
        ({"id": "web[1-"}, "id", "is no pattern"),
        ({"id": "web[3-1]"}, "id", "counts to nowhere"),
        ({"id": "n[0-10000]"}, "id", "more than 10,000 names"),
        ({"id": "x" * 127 + "[9-10]"}, "id", "which is no id"),
        ({"id": ".."}, "id", "must be more than dots"),
        ({"id": "local"}, "id", '"local" is this machine'),
        ({"id": "all"}, "id", "has a meaning in selectors"),
        ({"host": {"kind": "local"}}, "id", "is on this machine, whose id is local"),
        ({"host": {"kind": "docker", "image": "x"}}, "host.kind", "worker types come later"),
        ({"host": {"kind": "sssh"}}, "host.kind", "must be one of local, ssh, docker"),
        ({"host": 5}, "host", "must be a table, not the number 5"),
        ({"host": ""}, "host.host", "can be no host"),
        ({"host": "-oProxyCommand=x"}, "host.host", "can be no host"),
        ({"host": "web[1-2]"}, "host.host", "stands for 2 of 1 machines"),
        ({"id": "web[1-2]", "host": "web"}, "host.host", "stands for 1 of 2 machines"),
        ({"host": {"user": "-l"}}, "host.user", "can be no user"),
        ({"host": {"proxy_jump": "-oX"}}, "host.proxy_jump", "can be no proxy_jump"),
        ({"host": {"port": 0}}, "host.port", "must be 1 to 65,535"),
        ({"host": {"port": 65536}}, "host.port", "must be at most 65,535"),
        ({"host": {"prot": 22}}, "host.prot", "did you mean port?"),
        ({"host": {"identity": "keys/id"}}, "host.identity", "must begin with / or ~/"),
        ({"host": {"host_key_fingerprint": "MD5:aa"}}, "host.host_key_fingerprint", "SHA256:"),
        ({"host": {"working_directory": "work"}}, "host.working_directory", "must begin with /"),
        ({"host": {"fleet_binary": " "}}, "host.fleet_binary", "must not be blank"),
        ({"host": {"env_allowlist": ["API_TOKEN"]}}, "host.env_allowlist[0]", "looks like"),
        ({"host": {"env_allowlist": ["A*"]}}, "host.env_allowlist[0]", "no variable's name"),
        ({"trust_level": "high"}, "trust_level", "must be one of local, operator"),
        ({"groups": ["not"]}, "groups[0]", "has a meaning in selectors"),
        ({"groups": ["a b"]}, "groups[0]", "must be 1 to 128"),
        ({"labels": {'"a=b"': "c"}}, 'labels."a=b"', "is no name of a label"),
        ({"capabilities": [" "]}, "capabilities[0]", "must not be blank"),
        ({"name": ""}, "name", "must not be blank"),
        ({"max_concurrent_tasks": 0}, "max_concurrent_tasks", "must be at least 1"),
    ],
)
def test_what_is_wrong_with_a_worker_is_told_at_its_entry(
    fields: dict[str, Any], field: str, words: str
) -> None:
    ((name, (line, message)),) = problems("\n" + entry(**fields)).items()
    assert name == f"workers[0].{field}"
    assert words in message
    assert line >= 2


def test_all_problems_of_all_workers_are_told_at_once_with_their_lines() -> None:
    text = entry(host={"port": 0}) + entry(id="b", groups=["all"]) + entry(id="c", cores=0)
    found = problems(text)
    assert {field: line for field, (line, _) in found.items()} == {
        "workers[0].host.port": 3, "workers[1].groups[0]": 6, "workers[2].cores": 9,
    }  # fmt: skip


def test_a_problem_of_an_entry_for_many_is_told_once() -> None:
    found = problems(entry(id="w[1-500]", host={"port": 0}))
    assert list(found) == ["workers[0].host.port"]


def test_an_id_that_stands_twice_names_both_places() -> None:
    found = problems(entry(id="web[01-10]") + entry(id="web[08-12]") + entry(id="web01"))
    assert found == {
        "workers[1].id": (4, '"web08" (and 2 more) is already the id of workers[0].id (line 2)'),
        "workers[2].id": (6, '"web01" is already the id of workers[0].id (line 2)'),
    }


def test_no_worker_is_trusted_more_than_the_policy_says() -> None:
    policy = '[security_policy]\nmax_trust_level = "local"\ndefault_trust_level = "local"\n'
    found = problems(entry(trust_level="operator") + policy)
    assert found["workers[0].trust_level"][1].startswith("operator is above max_trust_level")
    spec = a_spec(
        workers=[{"id": "w", "trust_level": "operator"}],
        security_policy={"max_trust_level": "local", "default_trust_level": "local"},
    )
    assert "workers[0].trust_level" in problems_of(spec, "", "workers", "default_trust_level")


def test_files_that_are_there_are_no_problem(tmp_path: Path) -> None:
    for name in ("id", "known"):
        (tmp_path / name).touch()
    host = {
        "identity": f"{tmp_path}/id",
        "known_hosts": f"{tmp_path}/known",
        "host_key_fingerprint": MARK,
        "working_directory": "~/work",
        "env_allowlist": ["LANG"],
    }
    assert read(entry(host=host))[0].host == SshHost(host="w", **host)  # type: ignore[arg-type]


def test_files_that_are_not_here_are_a_problem_of_their_worker_and_of_a_spec_that_names_it() -> (
    None
):
    host = {"identity": "/none/id", "known_hosts": "/none/known"}
    worker, other = read(entry(host=host) + entry(id="other"))
    found = {".".join(map(str, one.path)): one.message for one in missing_files(worker)}
    assert found == {
        "host.identity": "the identity /none/id is no file",
        "host.known_hosts": "the file of known hosts /none/known is no file",
    }
    assert not list(missing_files(other))
    spec = a_spec(workers=[{"id": "w", "host": {"host": "w", **host}}])
    assert {"workers[0].host.identity", "workers[0].host.known_hosts"} <= problems_of(
        spec, "", "workers"
    ).keys()


# Discovery ------------------------------------------------------------------------------------


def test_commands_that_tell_of_workers_are_read() -> None:
    text = '[inventory.cloud]\ncommand = ["./list", "--all"]\n[inventory.b]\ncommand = "cat x"\n'
    found = fleetfile.parse((text + "ttl_seconds = 0\n").encode()).inventory
    assert (found["cloud"].command, found["cloud"].ttl_seconds) == (["./list", "--all"], 300)
    assert (found["b"].command, found["b"].ttl_seconds) == ("cat x", 0)


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("[inventory.a]\n", "inventory.a.command", "is needed"),
        ('[inventory.a]\ncommand = ""\n', "inventory.a.command", "must not be blank"),
        ("[inventory.a]\ncommand = []\n", "inventory.a.command", "must not be empty"),
        ('[inventory.a]\ncommand = "x"\nttl = 5\n', "inventory.a.ttl", "unknown field"),
        ('[inventory."a b"]\ncommand = "x"\n', 'inventory."a b"', "must be 1 to 128"),
        ('inventory = "x"\n', "inventory", "must be a table"),
    ],
)
def test_what_is_no_such_command_is_refused(text: str, field: str, words: str) -> None:
    ((name, (_, message)),) = problems(text).items()
    assert (name, words in message) == (field, True), message


def test_a_field_for_many_is_still_no_field_of_a_task() -> None:
    assert problems_of(a_spec(a_task(workers=[]))) == {
        "tasks[0].workers": "unknown field; did you mean worker?"
    }


@pytest.mark.parametrize("kind", ["docker", "container", "Container"])
def test_a_container_is_refused_however_it_is_spelt(kind: str) -> None:
    spec = a_spec(workers=[{"id": "w", "host": {"kind": kind, "image": "x"}}])
    assert "worker types come later" in problems_of(spec, "", "workers")["workers[0].host.kind"]
