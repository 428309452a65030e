"""Workers as people write them: `[[workers]]` of a spec or of fleet.toml, and what must hold.

One entry may stand for many machines: `id = "web[01-50]"`. Promises that shorter spellings mean the
same as the long ones, that a pattern gives as many hosts as ids, and that every problem of an entry
is told once, at the entry. Files that an entry names are looked for where it is used at once, in a
spec; who reads a whole inventory asks `missing_files` of the workers that it is about.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..core.fleet_words import LOCAL
from ..core.posture import lower
from ..core.ranges import expanded, is_pattern
from ..core.selectors import WORDS
from ..core.spec_hosts import DockerHost, LocalHost, SecurityPolicy, SshHost, Worker
from .problems import Found, Path, excerpt
from .unenforced import Waivers
from .validate import title_problems, variable_problems

MOST = 10_000
"""Workers that one file may name."""

FILES = {"identity": "the identity", "known_hosts": "the file of known hosts"}
"""Fields of a host that name files of this machine."""

_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_LABEL = re.compile(r"[^\s=!(),\"'\[\]*?]+")


class Names(Struct, frozen=True):
    """What one expansion of an entry is called."""

    id: str
    name: str
    host: str


class Settled(Struct):
    """Entries in their long spelling: what of them stands for many, and what is wrong with it."""

    many: dict[int, list[Names]] = {}
    found: list[Found] = []


def settle(tree: Any, base: Path = ("workers",)) -> Settled:
    """Bring a list of entries to the long spelling, in place; an entry for many to its first."""
    settled = Settled({}, [])
    for index, entry in enumerate(tree if isinstance(tree, list) else ()):
        if not isinstance(entry, dict):
            continue
        id = entry.get("id")
        entry.setdefault("host", {"kind": "ssh", "host": id} if isinstance(id, str) else {})
        host = entry["host"]
        if isinstance(host, str):
            host = entry["host"] = {"kind": "ssh", "host": host}
        if isinstance(host, dict):
            host.setdefault("kind", "ssh")
            if host["kind"] == "ssh" and isinstance(id, str):
                host.setdefault("host", id)
        if entry.get("name") is None and isinstance(id, str):
            entry["name"] = id
        _expand(entry, index, (*base, index), settled)
    return settled


def _expand(entry: dict[str, Any], index: int, path: Path, settled: Settled) -> None:
    host = entry["host"] if isinstance(entry["host"], dict) else {}
    texts: dict[Path, Any] = {("id",): entry.get("id"), ("name",): entry.get("name")}
    if host.get("kind") == "ssh":
        texts["host", "host"] = host.get("host")
    names: dict[Path, list[str]] = {}
    for place, text in texts.items():
        if not isinstance(text, str) or not is_pattern(text) or _is_address(text):
            continue
        try:
            names[place] = expanded(text, MOST)
        except ValueError as error:
            if place == ("name",) and text != entry.get("id"):
                continue  # a title may have brackets that mean nothing
            hint = 'ranges are written "web[01-50]" or "web[a,b]"'
            told = Found((*path, *place), f"{excerpt(text)} is no pattern: {error}", hint)
            if place == ("id",) or text != entry.get("id"):
                settled.found.append(told)
            names[place] = [""]
    if not names:
        return
    ids = names.get(("id",), [str(entry.get("id"))])
    hosts = names.get(("host", "host"), [host.get("host", "")])
    titles = names.get(("name",), [str(entry.get("name"))])
    if "host" in host and len(hosts) != len(ids) and [""] not in (ids, hosts):
        message = f"stands for {len(hosts):,} of {len(ids):,} machines that the id stands for"
        hint = "write the same range in both, or leave host out"
        settled.found.append(Found((*path, "host", "host"), message, hint))
    if len(titles) not in (1, len(ids)) and [""] not in (ids, titles):
        message = f"stands for {len(titles):,} names, and the id for {len(ids):,}"
        settled.found.append(Found((*path, "name"), message))
    count = len(ids)
    hosts, titles = _as_many(hosts, count), _as_many(titles, count)
    many = [Names(*one) for one in zip(ids, titles, hosts, strict=True)]
    if len(many) > 1:
        settled.many[index] = many
    entry["id"], entry["name"] = many[0].id or "a", many[0].name or "a"
    if "host" in host:
        host["host"] = many[0].host or "a"


def _as_many(names: list[str], count: int) -> list[str]:
    return names if len(names) == count else [names[0]] * count


def _is_address(text: str) -> bool:
    """An IPv6 address in brackets is no pattern."""
    return text.startswith("[") and text.count(":") > 1


def all_of(workers: Sequence[Worker], settled: Settled) -> Iterator[tuple[int, Worker]]:
    """Every worker that the entries stand for, with the index of its entry."""
    for index, worker in enumerate(workers):
        if index not in settled.many:
            yield index, worker
            continue
        for names in settled.many[index]:
            host = worker.host
            if isinstance(host, SshHost):
                host = replace(host, host=names.host)
            yield index, replace(worker, id=names.id, name=names.name, host=host)


# What must hold -------------------------------------------------------------------------------


def problems(
    workers: Sequence[tuple[int, Worker]],
    policy: SecurityPolicy | None = None,
    waivers: Waivers | None = None,
    base: Path = ("workers",),
    *,
    files: bool = False,
) -> Iterator[Found]:
    """Everything that is wrong with the workers of one file, each with the index of its entry.

    `files`: those that the entries name are looked for, too.
    """
    if len(workers) > MOST:
        yield Found(base, f"are {len(workers):,}; at most {MOST:,} are allowed")
        return
    told: set[int] = set()
    for index, worker in workers:
        if index not in told:
            told.add(index)
            found = worker_problems(worker, policy, waivers)
            for one in chain(found, missing_files(worker) if files else ()):
                yield Found((*base, index, *one.path), one.message, one.hint, one.value)
        elif not _TOKEN.fullmatch(worker.id):
            yield Found((*base, index, "id"), f"stands for {excerpt(worker.id)}, which is no id")
            return
    yield from _twice(workers, base)


def _twice(workers: Iterable[tuple[int, Worker]], base: Path) -> Iterator[Found]:
    """Ids that stand in two entries; told once for each two."""
    seen: dict[str, int] = {}
    clashes: dict[tuple[int, int], list[str]] = {}
    for index, worker in workers:
        first = seen.setdefault(worker.id, index)
        if first != index:
            clashes.setdefault((first, index), []).append(worker.id)
    for (first, index), ids in clashes.items():
        more = f" (and {len(ids) - 1:,} more)" if len(ids) > 1 else ""
        message = f'"{ids[0]}"{more} is already the id of'
        yield Found((*base, index, "id"), message, also=(*base, first, "id"))


def worker_problems(
    worker: Worker,
    policy: SecurityPolicy | None = None,
    waivers: Waivers | None = None,
) -> Iterator[Found]:
    """What is wrong with one worker; paths begin at it. Without `waivers` nothing is waived."""
    for one in (waivers or Waivers()).of_worker(worker):
        yield one if waivers is not None else Found(one.path, one.message, "remove it")
    yield from title_problems(worker.name, ("name",))
    yield from _words(worker)
    yield from _trust(worker, policy)
    host = worker.host
    if isinstance(host, DockerHost):
        hint = "ssh and local are roads to a worker today"
        yield Found(("host", "kind"), "docker is not supported yet: worker types come later", hint)
    elif isinstance(host, SshHost):
        yield from _ssh(host)


def _words(worker: Worker) -> Iterator[Found]:
    is_here = isinstance(worker.host, LocalHost)
    if worker.id == LOCAL and not is_here:
        hint = 'another id; or, for this machine: host = { kind = "local" }'
        yield Found(("id",), f'"{LOCAL}" is this machine', hint, LOCAL)
    elif worker.id in WORDS and worker.id != LOCAL:
        yield Found(("id",), f'"{worker.id}" has a meaning in selectors', "another id", worker.id)
    elif worker.id in (".", ".."):
        yield Found(("id",), "must be more than dots: it names files")
    elif is_here and worker.id != LOCAL:
        hint = f'id = "{LOCAL}": there is one runtime on this machine, and that is its id'
        yield Found(("id",), f"is on this machine, whose id is {LOCAL}", hint, worker.id)
    for index, group in enumerate(worker.groups):
        if group in WORDS:
            message = f'"{group}" has a meaning in selectors'
            yield Found(("groups", index), message, "another name", group)
    for key in worker.labels:
        if not _LABEL.fullmatch(key):
            message = "is no name of a label: selectors could not write it"
            yield Found(("labels", key), message, "letters, digits, . _ - /", excerpt(key))
    for index, capability in enumerate(worker.capabilities):
        if not capability.strip():
            yield Found(("capabilities", index), "must not be blank")


def _trust(worker: Worker, policy: SecurityPolicy | None) -> Iterator[Found]:
    if policy is None:
        return
    level, most = worker.trust_level, policy.max_trust_level
    if level is not None and lower(level, most) != level:
        message = f"{level} is above max_trust_level of the policy, which is {most}"
        yield Found(("trust_level",), message, "lower it, or leave it out", level)
    host = worker.host
    if not policy.require_identity_verification or not isinstance(host, SshHost):
        return
    if host.known_hosts is None and host.host_key_fingerprint is None:
        yield Found(
            ("host",),
            "has neither known_hosts nor host_key_fingerprint, and the policy asks for one "
            "(require_identity_verification)",
            'host = { known_hosts = "~/.ssh/known_hosts", … }',
        )


def _ssh(host: SshHost) -> Iterator[Found]:
    for field in ("host", "user", "proxy_jump"):
        text = getattr(host, field)
        if text is not None and (
            not text or text.startswith("-") or not text.isprintable() or " " in text
        ):
            yield Found(("host", field), f"{excerpt(text)} can be no {field}", value=excerpt(text))
    if host.port == 0:
        yield Found(("host", "port"), "must be 1 to 65,535, not 0", "leave it out for 22", "0")
    for field in FILES:
        text = getattr(host, field)
        if text is not None and not _is_absolute(text):
            hint = "from another directory it would be another file"
            message = f"is {excerpt(text)}, and must begin with / or ~/"
            yield Found(("host", field), message, hint, excerpt(text))
    mark = host.host_key_fingerprint
    if mark is not None and not _FINGERPRINT.fullmatch(mark):
        yield Found(
            ("host", "host_key_fingerprint"),
            f"is {excerpt(mark)}, and must be SHA256: and 43 characters",
            f"ssh-keyscan {host.host} | ssh-keygen -lf -",
            excerpt(mark),
        )
    folder = host.working_directory
    if folder is not None and not _is_absolute(folder):
        yield Found(
            ("host", "working_directory"),
            f"is {excerpt(folder)}, and must begin with / or ~/: there is no other place to start",
            value=excerpt(folder),
        )
    for field in ("codewhale_binary", "fleet_binary"):
        text = getattr(host, field)
        if text is not None and (not text.strip() or not text.isprintable()):
            yield Found(("host", field), "must not be blank", "leave it out")
    for index, name in enumerate(host.env_allowlist):
        yield from variable_problems(name, ("host", "env_allowlist", index))


def _is_absolute(path: str) -> bool:
    return path.isprintable() and (path.startswith(("/", "~/")) or path == "~")


def missing_files(worker: Worker) -> Iterator[Found]:
    """Files of this machine that a worker is reached with, and that are not there.

    A fleet.toml is shared by people who have not the same keys: that is a problem of this worker
    when it is used, and of no other.
    """
    if not isinstance(worker.host, SshHost):
        return
    for field, what in FILES.items():
        text = getattr(worker.host, field)
        if text is None or not _is_absolute(text):
            continue
        try:
            there = FilePath(text).expanduser().is_file()
        except (OSError, RuntimeError):
            there = False
        if not there:
            message = f"{what} {text} is no file"
            yield Found(("host", field), message, f"ls -l {text}", excerpt(text))
