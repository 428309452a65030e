"""`fleet worker add`: machines become workers of the fleet, each with a definition in the ledger.

Hosts come from the command line, from ssh's own config or from an inventory of Ansible. Promises
that what was not tried successfully is not added unless that was asked for, that a host key is
only trusted where a person said so, and that every problem of a definition is told before any
host is tried.
"""

from pathlib import Path
from shlex import quote
from typing import Any, get_args

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from ..core import commands as c
from ..core.spec_hosts import LocalHost, SshHost, TrustLevel, Worker, decode_worker
from ..errors import FleetError, Refused, Unreachable
from ..wire import fleetfile
from ..wire.inventory import encode_worker
from ..wire.worker_ids import id_of
from ..wire.workers import worker_problems
from . import fleet_workers as shared
from .common import Context, print_json
from .faces import Page, Span
from .trials import Tried, Typed, checked, parsed, tried
from .worker_try import BY, enrols, nameless, told_once

SHOWN = 12


class Options(Struct, kw_only=True):
    """What was typed; names as in the declaration."""

    hosts: list[str] | None = None
    ssh_config: bool = False
    ansible: str | None = None
    id: str | None = None
    name: str | None = None
    label: list[str] | None = None
    group: list[str] | None = None
    capability: list[str] | None = None
    slots: int | None = None
    trust: str | None = None
    env: list[str] | None = None
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    fingerprint: str | None = None
    accept_host_key: bool = False
    working_directory: str | None = None
    jump: str | None = None
    connect_timeout: float | None = None
    openssh: bool = False
    no_test: bool = False


def add(ctx: Context, **asked: Any) -> int:
    """Define, try, record, and say what came of it."""
    options = Options(**asked)
    there = shared.opened(ctx)
    workers, origin = _defined(options, there)
    workers = [_kept(one, there) for one in workers]
    _refuse(options, workers, there)
    found: list[Tried] = []
    if not options.no_test:
        found, workers = _tried(ctx, options, workers)
    good = {one.worker for one in found if one.ok}
    wanted = workers if options.no_test else [one for one in workers if one.id in good]
    before = {one.id: _word(one, there) for one in wanted}
    if wanted:
        _record(ctx, wanted, origin, {one.worker: one for one in found})
    code = 0 if len(wanted) == len(workers) else Unreachable.exit_code
    added = [{"worker": one.id, "was": before[one.id]} for one in wanted]
    if ctx.json:
        answer = {"added": added, "hosts": found, "exit_code": code}
        print_json(answer)
    elif code or not ctx.quiet:
        _page(wanted, found, before).show(ctx)
    return code


def _record(ctx: Context, workers: list[Worker], origin: str, found: dict[str, Tried]) -> None:
    with shared.to_write(ctx) as ledger:
        with ledger.transaction(BY) as transaction:
            for one in workers:
                raw = encode_worker(one)
                transaction.submit(c.Register(worker=one.id, definition=raw, origin=origin))
                if one.id in found:
                    transaction.submit(enrols(one, found[one.id].facts))
        ledger.sync()


def _word(worker: Worker, there: shared.Workers) -> str:
    """What becomes of it: added, changed or known."""
    row = there.state.workers.get(worker.id)
    if row is None or not row.registered:
        return "added"
    return "known" if row.definition == encode_worker(worker) else "changed"


# Definitions ----------------------------------------------------------------------------------


def _defined(options: Options, there: shared.Workers) -> tuple[list[Worker], str]:
    """The workers that were asked for, and where they come from."""
    typed = checked(
        Typed(
            port=options.port,
            identity=_whole(options.identity),
            known_hosts=_whole(options.known_hosts),
            fingerprint=options.fingerprint,
            working_directory=options.working_directory,
            jump=options.jump,
            connect_timeout=options.connect_timeout,
            openssh=options.openssh,
        )
    )
    words = options.hosts or []
    if options.ssh_config and options.ansible:
        raise FleetError("--ssh-config and --ansible are two sources.", "Add from one at a time.")
    if options.ssh_config:
        from ..wire.ssh_config import ssh_hosts

        return _selected(ssh_hosts(), words, options, typed), "~/.ssh/config"
    if options.ansible:
        from ..wire.ansible import ansible_hosts

        path = Path(options.ansible)
        return _selected(ansible_hosts(path), words, options, typed), str(path.absolute())
    if not words:
        raise FleetError(
            "fleet worker add needs a machine.",
            "[USER@]HOST[:PORT]; or --ssh-config, or --ansible FILE, for those that stand there.",
        )
    made = []
    for text in _expanded(words):
        if (before := shared.retired(there, text)) is not None:
            made.append(_with(before, options, typed.given))
            continue
        host = parsed(text, typed)
        made.append(_with(Worker(id=id_of(host.host), name=host.host, host=host), options, {}))
    return made, "fleet worker add"


def _expanded(words: list[str]) -> list[str]:
    """`web[01-50]` as fifty words."""
    from ..core.ranges import expanded, is_pattern

    made: list[str] = []
    for word in words:
        try:
            is_address = "[" in word and word.partition("]")[0].count(":") > 1
            made += expanded(word) if is_pattern(word) and not is_address else [word]
        except ValueError as error:
            raise FleetError(f'"{word}": {error}.', "Ranges are written web[01-50].") from None
    return made


def _selected(
    workers: list[Worker], words: list[str], options: Options, typed: Typed
) -> list[Worker]:
    """Those of a file that the words name; all where there are none."""
    if words:
        from ..core.selectors import parse

        ids = parse(",".join(words), field="HOST").choose({one.id: one for one in workers})
        workers = [one for one in workers if one.id in ids]
    usable = [one for one in workers if not isinstance(one.host, LocalHost)]
    return [_with(one, options, typed.given) for one in usable]


def _with(worker: Worker, options: Options, given: dict[str, object]) -> Worker:
    """The worker with what the options say of all of them."""
    host = worker.host
    assert isinstance(host, SshHost)
    more = dict(given)
    if options.user is not None:
        more["user"] = options.user
    if options.env:
        more["env_allowlist"] = options.env
    host = replace(host, **more)
    fields: dict[str, Any] = {"host": host, "labels": worker.labels | _labels(options.label)}
    if options.id is not None:
        fields["id"] = options.id
        fields["name"] = options.id
    if options.name is not None:
        fields["name"] = options.name
    if options.trust is not None:
        if options.trust not in (levels := get_args(TrustLevel)):
            raise FleetError(
                f'--trust: "{options.trust}" is no level.', f"{', '.join(levels)} are."
            )
        fields["trust_level"] = options.trust
    if options.slots is not None:
        fields["max_concurrent_tasks"] = options.slots
    fields["groups"] = list(dict.fromkeys([*worker.groups, *(options.group or [])]))
    fields["capabilities"] = [*worker.capabilities, *(options.capability or [])]
    return replace(worker, **fields)


def _kept(worker: Worker, there: shared.Workers) -> Worker:
    """A worker that was registered before keeps what is not said anew."""
    row = there.state.workers.get(worker.id)
    if row is None or not row.registered:
        return worker
    old: dict[str, Any] = to_builtins(decode_worker(row.definition))
    new: dict[str, Any] = to_builtins(worker)
    made = {**old, **new, "host": {**old["host"], **new["host"]}}
    if isinstance(worker.host, SshHost) and worker.name in (worker.id, worker.host.host):
        made["name"] = old["name"]
    made["labels"] = {**old.get("labels", {}), **new.get("labels", {})}
    for name in ("groups", "capabilities"):
        made[name] = list(dict.fromkeys([*old.get(name, []), *new.get(name, [])]))
    return convert(made, Worker)


def _labels(words: list[str] | None) -> dict[str, str]:
    made = {}
    for word in words or []:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise FleetError(f'--label: "{word}" is none.', "Labels are written role=db.")
        made[key] = value
    return made


def _whole(path: str | None) -> str | None:
    """A path that means the same from any directory; what begins with ~/ stays so."""
    if path is None or path.startswith("~"):
        return path
    return str(Path(path).absolute())


def _refuse(options: Options, workers: list[Worker], there: shared.Workers) -> None:
    """FleetError where something is wrong before any host was tried."""
    if len(workers) != 1:
        for option, value in (("--id", options.id), ("--name", options.name),
                              ("--fingerprint", options.fingerprint)):  # fmt: skip
            if value is not None:
                raise FleetError(
                    f"{option} is for one machine, and these are {len(workers):,}.",
                    "Add that one by itself.",
                )
    if not workers:
        raise FleetError("no machine is left to add.", "This one is always there, as local.")
    policy = None
    file = fleetfile.read(there.root)
    if file.security_policy is not None:
        policy = file.security_policy
    seen: dict[str, Worker] = {}
    for one in workers:
        _refuse_definition(one, policy)
        if one.id in seen:
            raise FleetError(
                f'two of these machines would be called "{one.id}".',
                "Add one of them by itself, with another --id.",
            )
        seen[one.id] = one
        known = there.known.get(one.id)
        row = there.state.workers.get(one.id)
        if known is not None and not (row and row.registered):
            raise Refused(
                f'"{one.id}" is a worker already: {known.origin} defines it.',
                "Change it there; or give this one another name with --id.",
            )


def _refuse_definition(worker: Worker, policy: Any) -> None:
    try:
        convert(to_builtins(worker), Worker)
    except ValueError as error:
        raise FleetError(f'"{worker.id}" can be no worker: {error}.', "See --help.") from None
    for one in worker_problems(worker, policy):
        field = ".".join(map(str, one.path))
        raise FleetError(f"{worker.id}: {field} {one.message}.", one.hint, field=field)


# Trying ---------------------------------------------------------------------------------------


def _tried(
    ctx: Context, options: Options, workers: list[Worker]
) -> tuple[list[Tried], list[Worker]]:
    """What came of each, and the workers with the host keys that were accepted."""
    found = _outcomes(workers)
    new = {one.worker: one.key for one in found if one.key}
    if not (options.accept_host_key and new):
        return found, workers
    fixed = [_trusting(ctx, one, new.get(one.id)) for one in workers]
    again = {one.worker: one for one in _outcomes([one for one in fixed if one.id in new])}
    return [again.get(one.worker, one) for one in found], fixed


def _trusting(ctx: Context, worker: Worker, key: str | None) -> Worker:
    if key is None:
        return worker
    assert isinstance(worker.host, SshHost)
    ctx.note(f"{worker.id} is trusted from now on by its host key {key}")
    return replace(worker, host=replace(worker.host, host_key_fingerprint=key))


def _outcomes(workers: list[Worker]) -> list[Tried]:
    hosts = [(shared.where(one), one.host) for one in workers if isinstance(one.host, SshHost)]
    found = tried(hosts)
    for one, worker in zip(found, workers, strict=True):
        one.worker = worker.id
    return found


# The face -------------------------------------------------------------------------------------


def _page(added: list[Worker], found: list[Tried], words: dict[str, str]) -> Page:
    from ..views.folding import folded

    page = Page()
    outcome = {one.worker: one for one in found}
    ids = folded(one.id for one in added)
    if len(added) > SHOWN:
        page.line(f"{len(added):,} workers added: {ids}")
    else:
        page.rows([_row(one, outcome.get(one.id), words[one.id]) for one in added], indent=0)
    groups: dict[str, list[Tried]] = {}
    for one in found:
        if not one.ok:
            groups.setdefault(nameless(one), []).append(one)
    rows: list[list[Span]] = []
    for alike in groups.values():
        names = folded(one.worker for one in alike)
        rows.append([names, ("not added", "red"), told_once(alike)])
    page.rows(rows, indent=0)
    page.line()
    if added:
        page.line((f"To run there: fleet run SPEC --on {quote(ids)} · fleet worker list", "dim"))
    else:
        page.line(("Nothing was added; --no-test adds a machine that is not up yet.", "dim"))
    return page


_WORDS = {"added": "green", "changed": "yellow", "known": "dim"}


def _row(worker: Worker, one: Tried | None, word: str) -> list[Span]:
    said: Span = (word, _WORDS[word])
    if one is None:
        return [worker.id, said, shared.where(worker), ("untried", "dim")]
    facts = {name: getattr(one.facts, name) for name in one.facts.__struct_fields__}
    where = f"works in {one.directory}"
    return [worker.id, said, shared.where(worker), shared.machine_words(facts), where]
