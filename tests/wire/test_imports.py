"""Workers from files that others wrote: ssh configurations and inventories of Ansible."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.core.spec_hosts import LocalHost, SshHost, Worker
from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire.ansible import Inventory, ansible_hosts
from codewhale_fleet.wire.ssh_config import ssh_hosts


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# ssh ------------------------------------------------------------------------------------------


def test_names_of_an_ssh_configuration_become_workers_and_patterns_do_not(tmp_path: Path) -> None:
    text = """
        # mine
        User me
        Host web01 web02 *.example.com !bad  # the web
            HostName 10.0.0.1
        host = db
        HOST="with blank" web01
        Match host x
            Port 2222
        Host *
            IdentityFile ~/.ssh/id
    """
    found = ssh_hosts(written(tmp_path, "config", text))
    assert [(one.id, one.name) for one in found] == [
        ("web01", "web01"), ("web02", "web02"), ("db", "db"), ("with-blank", "with blank"),
    ]  # fmt: skip
    assert found[0].host == SshHost(host="web01")


def test_included_files_are_followed_as_ssh_does(tmp_path: Path) -> None:
    written(tmp_path, "conf.d/2", "Host two\n")
    written(tmp_path, "conf.d/1", "Host one\n  Include ../deep\n")
    written(tmp_path, "deep", "Host three\n")
    path = written(tmp_path, "config", "Include conf.d/* nothing-there\nHost last\n")
    written(tmp_path, "conf.d/../deep", "Host three\n")
    assert [one.id for one in ssh_hosts(path)] == ["one", "two", "last"]  # conf.d/1 looks in .ssh
    written(tmp_path, "config", f"Include {tmp_path}/config\n")
    with pytest.raises(FleetError, match="include each other"):
        ssh_hosts(path)


@pytest.mark.parametrize("text", ["", "User me\n", "Host *\n", "Host !a *b\n"])
def test_an_ssh_configuration_without_a_name_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FleetError, match="names no host") as caught:
        ssh_hosts(written(tmp_path, "config", text))
    assert "Host web01" in caught.value.hint
    with pytest.raises(FleetError, match="cannot be read: No such file"):
        ssh_hosts(tmp_path / "absent")


# Ansible --------------------------------------------------------------------------------------

INI = """
lonely ansible_connection=local   # a comment
mail.example.com:2200

[webs]
web[01:03].example.com ansible_user=deploy
web-[a:c:2] ansible_host=10.0.0.9 password="s3 cret"

[dbs]
db01 ansible_host=10.0.0.5 ansible_port=2222 ansible_ssh_private_key_file=~/.ssh/db

[dbs:vars]
ansible_user = postgres
secret="it's, as 'it is

[prod:children]
dbs
webs

[prod:vars]
ansible_user=ops
ansible_port=22

[all:vars]
ansible_private_key_file=/keys/all
"""

YAML = """
all:
  vars: {ansible_private_key_file: /keys/all}
  hosts:
    lonely: {ansible_connection: local}
    mail.example.com: {ansible_port: 2200}
  children:
    prod:
      vars: {ansible_user: ops, ansible_port: 22}
      children:
        webs:
          hosts:
            web[01:03].example.com: {ansible_user: deploy}
            web-[a:c:2]: {ansible_host: 10.0.0.9, password: !vault "xx"}
        dbs:
          vars:
            ansible_user: postgres
            ansible_password: !vault |
              $ANSIBLE_VAULT;1.1;AES256
          hosts:
            db01:
              ansible_host: 10.0.0.5
              ansible_port: 2222
              ansible_ssh_private_key_file: ~/.ssh/db
"""


def host(name: str, user: str | None, port: int | None, key: str = "/keys/all") -> SshHost:
    return SshHost(host=name, user=user, port=port, identity=key)


WEBS = ["prod", "webs"]
MEANT = {
    "lonely": (LocalHost(), []),
    "mail.example.com": (host("mail.example.com", None, 2200), []),
    "web01.example.com": (host("web01.example.com", "deploy", 22), WEBS),
    "web02.example.com": (host("web02.example.com", "deploy", 22), WEBS),
    "web03.example.com": (host("web03.example.com", "deploy", 22), WEBS),
    "web-a": (host("10.0.0.9", "ops", 22), WEBS),
    "web-c": (host("10.0.0.9", "ops", 22), WEBS),
    "db01": (host("10.0.0.5", "postgres", 2222, "~/.ssh/db"), ["dbs", "prod"]),
}


@pytest.mark.parametrize(("name", "text"), [("hosts", INI), ("hosts.ini", INI), ("i.yml", YAML)])
def test_an_inventory_of_ansible_says_the_same_in_both_its_forms(
    tmp_path: Path, name: str, text: str
) -> None:
    found = ansible_hosts(written(tmp_path, name, text))
    assert {one.id: (one.host, one.groups) for one in found} == MEANT
    assert "s3 cret" not in repr(found)


def test_what_an_inventory_script_prints_is_read_too() -> None:
    inventory = Inventory("inventory.cloud")
    inventory.read_printed(
        {
            "_meta": {"hostvars": {"web01": {"ansible_host": "10.0.0.1", "token": "t"}, "x": {}}},
            "webs": {"hosts": ["web01", "web02"], "vars": {"ansible_user": "ops"}},
            "prod": {"children": ["webs"]},
            "dbs": ["db01"],
        }
    )
    found = {one.id: one for one in inventory.workers()}
    assert sorted(found) == ["db01", "web01", "web02", "x"]
    assert found["web01"] == Worker(
        id="web01",
        name="web01",
        host=SshHost(host="10.0.0.1", user="ops"),
        groups=["prod", "webs"],
    )


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("i", "", "has no host"),
        ("i", "[webs]\n", "has no host"),
        ("i", "\nweb[5:1]\n", "i:2: web[5:1] is no host"),
        ("i", "web01 ansible_user\n", "i:1: 'ansible_user' gives no variable a value"),
        ("i", "web01 a='b\n", "i:1: cannot be read: no closing quotation"),
        ("i", "[webs:hosst]\n", "[webs:hosst] is no section"),
        ("i", "[a:vars]\nb\n", "i:2: 'b' gives no variable a value"),
        ("i", "[a:children]\nb c=d\n", "i:2: one group a line"),
        ("i", "[a:children]\nb\n[b:children]\na\n[a]\nh\n", "groups hold each other: a → b → a"),
        ("i", "w ansible_host={{x}}\n", "i:1: ansible_host is a template"),
        ("i", "w ansible_port=70000\n", "w has the port 70000, which is none"),
        ("i", "w ansible_connection=winrm\n", "w is reached by winrm"),
        ("i.yml", "a: [", "i.yml:2: is no YAML"),
        ("i.yml", "- a\n", "is no inventory: groups stand at its top"),
        ("i.yml", "all: {hosts: [[1]]}\n", "all.hosts: must be a table"),
        ("i.yml", "all: {host: {}}\n", "i.yml: all: host is no part of a group"),
        ("i.yml", "all: {hosts: {a: 5}}\n", "i.yml: all.hosts.a: must be a table"),
        ("i.yml", "all: {hosts: 5}\n", "i.yml: all.hosts: must be a table"),
        ("i.yml", "all: {hosts: {a: {ansible_port: [1]}}}\n", "must be a text or a number"),
        ("i.yml", "all: {hosts: {a: {ansible_host: !vault x}}}\n", "ansible_host is !vault, which"),
        ("i.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "is encrypted by ansible-vault"),
        ("hosts", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "is encrypted by ansible-vault"),
    ],
)
def test_what_is_no_inventory_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    with pytest.raises(FleetError) as caught:
        ansible_hosts(written(tmp_path, name, text))
    assert words in caught.value.sentence


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "is a directory"), (tmp_path / "x", "No such file")):
        with pytest.raises(FleetError, match=words):
            ansible_hosts(path)
    (tmp_path / "latin").write_bytes(b"h\xe9\n")
    with pytest.raises(FleetError, match="is not UTF-8"):
        ansible_hosts(tmp_path / "latin")


_lines = st.lists(
    st.sampled_from(
        [
            "[a]",
            "[a:children]",
            "b",
            "[b:vars]",
            "x=1",
            "h ansible_port=5",
            "h[1:2]",
            "'",
            "[",
            "a:",
        ]
    ),
    max_size=8,
)


@given(_lines, st.booleans())
def test_any_text_is_an_inventory_or_refused_in_a_sentence(lines: list[str], yaml: bool) -> None:
    inventory = Inventory("i")
    read: Any = inventory.read_yaml if yaml else inventory.read_ini
    try:
        read("\n".join(lines))
        inventory.workers()
    except FleetError as error:
        assert error.sentence.startswith("i")
