"""What discovery commands print, as workers; and which of several definitions counts."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from codewhale_fleet.core.fleet_words import Discovered, WorkerRow
from codewhale_fleet.core.spec_hosts import SshHost, Worker
from codewhale_fleet.core.state import State
from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.discovered import workers_of
from codewhale_fleet.wire.inventory import Inventory, encode_worker


def printed(text: Any) -> list[Worker]:
    return workers_of("cloud", text.encode() if isinstance(text, str) else json.encode(text))


def a_worker(id: str, **fields: Any) -> Worker:
    return Worker(id=id, name=id, host=SshHost(host=fields.pop("host", id)), **fields)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("[]", []),
        ("web01\n\n# the rest\ndb[1-2]  # two\n", ["web01", "db1", "db2"]),
        ('["web01", {"id": "db01", "host": {"port": 2222}}]', ["web01", "db01"]),
        ('{"webs": ["web01"], "dbs": {"hosts": ["db01"]}}', ["web01", "db01"]),
        ('{"_meta": {"hostvars": {"web01": {}}}}', ["web01"]),
    ],
)
def test_workers_come_as_names_as_tables_or_as_ansible_prints_them(
    text: str, ids: list[str]
) -> None:
    assert [one.id for one in printed(text)] == ids


def test_a_table_may_say_whatever_fleet_toml_may() -> None:
    entry = {"id": "w", "host": "10.0.0.1", "groups": ["webs"], "trust_level": "remote-verified"}
    (worker,) = printed([entry])
    assert worker == a_worker("w", host="10.0.0.1", groups=["webs"], trust_level="remote_verified")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("web01 web02\n", 'printed "web01 web02" on line 1, which is no name'),
        ("web01\nall\n", 'is no worker: line 2, id: "all" has a meaning in selectors'),
        ("ops@web01\n", "line 1, id: must be 1 to 128"),
        ("[1]", "entry 1: must be a table, not the number 1"),
        ('["a", "b", "a"]', 'entry 3, id: "a" is already the id of entry 1, id'),
        ('[{"id": "a", "hots": 1}]', "entry 1, hots: unknown field; did you mean host?"),
        ('[{"id": "a", "host": {"port": 0}}]', "entry 1, host.port: must be 1 to 65,535"),
        ("[", "printed no JSON"),
        ('{"a": 5}', "inventory cloud: a: must be a table or a list"),
        ('[{"id": "a", "labels": {"k": "AKIAABCDEFGHIJKLMNOP"}}]', "plainly a secret"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_place(text: str | bytes, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        workers_of("cloud", text.encode() if isinstance(text, str) else text)
    assert words in caught.value.sentence
    assert "AKIA" not in str(caught.value)


def test_what_a_person_wrote_counts_before_what_was_registered_and_that_before_what_was_found(
    tmp_path: Path,
) -> None:
    text = '[[workers]]\nid = "a"\nhost = "written"\n[inventory.cloud]\ncommand = "x"\n'
    file = fleetfile.parse(text.encode())
    state = State()
    for id in ("a", "b", "gone"):
        raw = encode_worker(a_worker(id, host="added"))
        state.workers[id] = WorkerRow(definition=raw, origin="ssh config", registered=id != "gone")
    state.workers["gone"].retired = True
    raws = {id: encode_worker(a_worker(id, host="found")) for id in ("a", "b", "c", "gone")}
    state.inventories["cloud"] = Discovered("d", "2026-01-01T00:00:00.000Z", raws)
    state.inventories["forgotten"] = Discovered("d", "", {"x": encode_worker(a_worker("x"))})

    known = Inventory.load(tmp_path, file, state).workers

    def host(id: str) -> str:
        found = known[id].worker.host
        assert isinstance(found, SshHost)
        return found.host

    assert {id: host(id) for id in known} == {"a": "written", "b": "added", "c": "found"}
    assert known["a"].origin == f"{tmp_path}/fleet.toml:1"
    assert known["a"].hidden == ("ssh config", "inventory cloud")
    assert (known["b"].origin, known["c"].origin) == ("ssh config", "inventory cloud")
