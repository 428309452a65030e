"""Inventories of Ansible as workers: INI files, YAML files, and what inventory scripts print.

Of a host's variables those count that say how it is reached: ansible_host, ansible_port,
ansible_user, ansible_ssh_private_key_file and ansible_connection, its own or those of its groups,
the nearer group first. Groups become groups, those above a host included. Other variables are not
read: many are secrets, and nothing here needs them. Promises a sentence with file and line (in
YAML: the group) for what is no inventory, and for a value that only Ansible could fill in.
"""

import re
import shlex
from pathlib import Path
from typing import Any

from msgspec import Struct

from ..core.ranges import expanded, is_pattern
from ..core.selectors import WORDS
from ..core.spec_hosts import LocalHost, SshHost, Worker
from ..errors import FleetError
from .worker_ids import id_of

MAX_BYTES = 16 * 1024 * 1024

HOST, PORT, CONNECTION = "ansible_host", "ansible_port", "ansible_connection"
USER, KEY = "ansible_user", "ansible_ssh_private_key_file"
_NAMES = {
    HOST: HOST, "ansible_ssh_host": HOST, PORT: PORT, "ansible_ssh_port": PORT,
    USER: USER, "ansible_ssh_user": USER, KEY: KEY, "ansible_private_key_file": KEY,
    CONNECTION: CONNECTION,
}  # fmt: skip
"""A variable as it may be written -> how it is called here."""

_VAULT = "$ANSIBLE_VAULT;"
_EVERYBODY = ("all", "ungrouped")
_SECTION = re.compile(r"\[\s*([^\]:\s]+)\s*(?::\s*(\w+)\s*)?\]\s*(?:[#;].*)?")

Vars = dict[str, str]


class _Tagged(str):
    """A value that stands behind a tag of Ansible's, as that tag."""

    __slots__ = ()


class Group(Struct):
    """One group as written."""

    hosts: dict[str, None] = {}
    children: dict[str, None] = {}
    vars: Vars = {}


def ansible_hosts(path: Path) -> list[Worker]:
    """A worker for each host of an inventory file; FleetError where it is none."""
    path = path.expanduser()
    if path.is_dir():
        raise FleetError(f"{path} is a directory; an inventory is one file here.", f"ls {path}")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}.", f"ls -l {path}") from None
    except UnicodeDecodeError as error:
        raise FleetError(
            f"{path} is not UTF-8: byte {error.start:,}.", "save it as UTF-8"
        ) from None
    if len(data) > MAX_BYTES:
        raise FleetError(f"{path} is larger than {MAX_BYTES // 2**20} MiB.", "split it")
    if text.startswith(_VAULT):
        raise FleetError(
            f"{path} is encrypted by ansible-vault, and nothing here asks for its password.",
            f"ansible-vault view {path} > hosts.yml shows it; then: fleet worker add --ansible "
            "hosts.yml. Passwords in it are not read",
            file=str(path),
        )
    inventory = Inventory(str(path))
    if path.suffix in (".yml", ".yaml", ".json"):
        inventory.read_yaml(text)
    else:
        inventory.read_ini(text)
    found = inventory.workers()
    if not found:
        hint = "A line with its name makes one: web01 ansible_host=10.0.0.1"
        raise FleetError(f"{path} has no host.", hint, file=str(path))
    return found


class Inventory:
    """Groups and hosts, as far as they were read; `file` is what mistakes call it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.groups: dict[str, Group] = {name: Group() for name in _EVERYBODY}
        self.hosts: dict[str, Vars] = {}

    def error(self, message: str, place: int | str = 0, hint: str = "") -> FleetError:
        line = place if isinstance(place, int) else 0
        where = self.file + (f":{line}" if line else "")
        where += f": {place}" if isinstance(place, str) else ""
        return FleetError(f"{where}: {message}.", hint, file=self.file, line=line or None)

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group())

    def add(self, group: str, pattern: str, given: Vars, place: int | str) -> None:
        """Hosts of a group, by a name or a pattern."""
        try:
            names = expanded(pattern) if is_pattern(pattern) else [pattern]
        except ValueError as error:
            raise self.error(f"{pattern} is no host: {error}", place) from None
        for name in names:
            self.group(group).hosts[name] = None
            self.hosts.setdefault(name, {}).update(given)

    def kept(self, given: dict[str, Any], place: int | str) -> Vars:
        """Those variables that say how a host is reached."""
        found = {}
        for name, value in given.items():
            known = _NAMES.get(name)
            if known is None or value is None:
                continue
            if isinstance(value, _Tagged):
                hint = "write the value itself, or let an [inventory.NAME] command print it"
                raise self.error(f"{name} is {value}, which only Ansible reads", place, hint)
            if not isinstance(value, (str, int)) or isinstance(value, bool):
                raise self.error(f"{name} must be a text or a number", place)
            if "{{" in str(value):
                hint = "write the value itself, or let an [inventory.NAME] command print it"
                raise self.error(f"{name} is a template, which only Ansible fills in", place, hint)
            found[known] = str(value)
        return found

    # INI ----------------------------------------------------------------------------------------

    def read_ini(self, text: str) -> None:
        name, kind = "ungrouped", "hosts"
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            if not line or line[0] in "#;":
                continue
            if line[0] == "[" and (found := _SECTION.fullmatch(line)):
                name, kind = found[1], found[2] or "hosts"
                if kind not in ("hosts", "children", "vars"):
                    hint = "there are [NAME], [NAME:children] and [NAME:vars]"
                    raise self.error(f"[{name}:{kind}] is no section of an inventory", number, hint)
                self.group(name)
            elif kind == "vars":
                key, equals, value = line.partition("=")
                if not equals:
                    raise self.error(f"{line!r} gives no variable a value", number, "key=value")
                words = self._split(value, number, f"{key.strip()}=")
                one = {key.strip(): " ".join(words)}
                self.group(name).vars.update(self.kept(one, number))
            else:
                self._member(name, kind, self._split(line, number), number)

    def _split(self, line: str, number: int, before: str = "") -> list[str]:
        if before and before[:-1] not in _NAMES:
            return [line]  # it is not kept: however it is quoted
        try:
            return shlex.split(line, comments=True)
        except ValueError as error:
            raise self.error(f"cannot be read: {str(error).lower()}", number) from None

    def _member(self, group: str, kind: str, words: list[str], number: int) -> None:
        first, *rest = words or [""]
        if not first:
            return
        if kind == "children":
            if rest:
                raise self.error("one group a line stands below :children", number)
            self.group(first)
            self.group(group).children[first] = None
            return
        given: dict[str, Any] = {}
        for word in rest:
            key, equals, value = word.partition("=")
            if not equals:
                hint = "behind a host stand variables: ansible_port=2222"
                raise self.error(f"{word!r} gives no variable a value", number, hint)
            given[key] = value
        pattern, port = _without_port(first)
        if port:
            given.setdefault(PORT, port)
        self.add(group, pattern, self.kept(given, number), number)

    # YAML ---------------------------------------------------------------------------------------

    def read_yaml(self, text: str) -> None:
        import yaml  # type: ignore[import-untyped]

        try:
            tree = yaml.load(text, Loader=_loader())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise self.error(
                f"is no YAML: {error.problem or error.context}", mark.line + 1 if mark else 0
            ) from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise self.error(f"is no YAML: {str(error).splitlines()[0]}") from None
        if not isinstance(tree, dict):
            hint = "it begins with all: and hosts: below it"
            raise self.error("is no inventory: groups stand at its top", hint=hint)
        for name, group in tree.items():
            self._tree(str(name), group, str(name), 0)

    def _tree(self, name: str, tree: Any, place: str, depth: int) -> None:
        """One group of a YAML inventory, with what stands below it."""
        group = self.group(name)
        if tree is None:
            return
        if not isinstance(tree, dict) or depth > 64:
            raise self.error("must be a table with hosts, vars and children", place)
        for part in tree:
            if part not in ("hosts", "vars", "children"):
                hint = "below a group stand hosts, vars and children"
                raise self.error(f"{part} is no part of a group", place, hint)
        parts = {key: self._table(tree, key, place) for key in ("hosts", "vars", "children")}
        group.vars.update(self.kept(parts["vars"], place))
        for pattern, given in parts["hosts"].items():
            here = f"{place}.hosts.{pattern}"
            if given is not None and not isinstance(given, dict):
                raise self.error("must be a table of variables", here)
            self.add(name, str(pattern), self.kept(given or {}, here), here)
        for child, below in parts["children"].items():
            group.children[str(child)] = None
            self._tree(str(child), below, f"{place}.children.{child}", depth + 1)

    def _table(self, tree: dict[Any, Any], key: str, place: str) -> dict[Any, Any]:
        found = tree.get(key)
        if found is None:
            return {}
        if (
            key == "hosts"
            and isinstance(found, list)
            and all(isinstance(one, str) for one in found)
        ):
            found = dict.fromkeys(found)
        if not isinstance(found, dict):
            raise self.error("must be a table", f"{place}.{key}")
        return found

    # Printed by a script ------------------------------------------------------------------------

    def read_printed(self, tree: dict[str, Any]) -> None:
        """What an inventory script prints for --list."""
        meta = tree.get("_meta")
        about = meta.get("hostvars") if isinstance(meta, dict) else None
        for name, written in tree.items():
            if name == "_meta":
                continue
            group = {"hosts": written} if isinstance(written, list) else written
            if not isinstance(group, dict):
                raise self.error("must be a table or a list of hosts", name)
            hosts, children = group.get("hosts") or [], group.get("children") or []
            if not all(isinstance(one, (list, dict)) for one in (hosts, children)):
                raise self.error("hosts and children are lists", name)
            self.group(name).vars.update(self.kept(group.get("vars") or {}, name))
            for child in children:
                self.group(str(child))
                self.group(name).children[str(child)] = None
            for host in hosts:
                self.add(name, str(host), {}, name)
        for host, given in (about or {}).items():
            if not isinstance(given, dict):
                raise self.error("must be a table of variables", f"_meta.hostvars.{host}")
            if host not in self.hosts:
                self.add("ungrouped", host, {}, "_meta.hostvars")
            self.hosts[host].update(self.kept(given, f"_meta.hostvars.{host}"))

    # What was read ------------------------------------------------------------------------------

    def workers(self) -> list[Worker]:
        """All hosts, in the order in which they were named."""
        above: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            for child in group.children:
                above.setdefault(child, []).append(name)
        self._refuse_cycles()
        own: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            for host in group.hosts:
                own.setdefault(host, []).append(name)
        return [self._worker(host, _upwards(own.get(host, []), above)) for host in self.hosts]

    def _refuse_cycles(self) -> None:
        done: set[str] = set()

        def look(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise self.error(f"groups hold each other: {' → '.join((*path, name))}")
            if name not in done:
                for child in self.group(name).children:
                    look(child, (*path, name))
                done.add(name)

        for name in list(self.groups):
            look(name, ())

    def _worker(self, name: str, groups: list[str]) -> Worker:
        given = dict(self.groups["all"].vars)
        for group in reversed(groups):
            given.update(self.groups[group].vars)
        given.update(self.hosts[name])
        shown = sorted(id_of(group) for group in groups if group not in (*_EVERYBODY, *WORDS))
        connection = given.get(CONNECTION, "ssh")
        if connection == "local":
            return Worker(id=id_of(name), name=name, host=LocalHost(), groups=shown)
        if connection not in ("ssh", "smart", "paramiko", "paramiko_ssh"):
            hint = "leave it out of the inventory that is read here"
            raise self.error(
                f"{name} is reached by {connection}, and only ssh is a road", hint=hint
            )
        port = given.get(PORT)
        if port is not None and not (port.isdecimal() and 0 < int(port) < 65536):
            raise self.error(f"{name} has the port {port}, which is none", hint="1 to 65535 are.")
        return Worker(
            id=id_of(name),
            name=name,
            host=SshHost(
                host=given.get(HOST, name),
                user=given.get(USER),
                port=int(port) if port else None,
                identity=given.get(KEY),
            ),
            groups=shown,
        )


def _upwards(groups: list[str], above: dict[str, list[str]]) -> list[str]:
    """A host's groups, then those above them, the nearest first."""
    found = dict.fromkeys(groups)
    wave = groups
    while wave:
        wave = [parent for one in wave for parent in above.get(one, ())]
        for one in wave:
            found.pop(one, None)  # the longest way counts: what is above comes last
            found[one] = None
    return list(found)


def _without_port(text: str) -> tuple[str, str]:
    """A host of an INI line, and the port that stands behind its colon."""
    name, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and ":" not in name:
        return name, port
    if text.startswith("[") and "]:" in text and ":" in text.partition("]:")[0]:
        address, _, port = text[1:].partition("]:")
        return address, port
    return text, ""


def _loader() -> Any:
    """A safe loader that does not follow Ansible's own tags (`!vault`): none is needed here."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    def tagged(loader: Any, suffix: str, node: Any) -> _Tagged:
        return _Tagged(f"!{suffix}")

    Loader.add_multi_constructor("!", tagged)
    return Loader
