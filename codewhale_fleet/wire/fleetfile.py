"""fleet.toml: what holds for every run of a fleet.

Promises that nothing in the file is passed over: an unknown name is refused with the nearest known
one, a name whose enforcement comes later is refused with a sentence, and all problems are told at
once, each with its line. Knows nothing of where fleets lie.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from ..agents.definition import Agent
from ..core.alert_config import AlertConfig
from ..core.roles import Role
from ..core.spec import MAX_WORKERS, Argv, Text
from ..core.spec_hosts import Seconds, SecurityPolicy, Token, Worker
from ..errors import FleetError
from .problems import Found, Path, Problem, SpecProblems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agents.roster import Roster
    from .trust import Trust
    from .workers import Settled

NAME = "fleet.toml"
MAX_BYTES = 1024 * 1024
"""Largest file that is read."""

NOT_YET = {
    "fleet.lease_seconds": "leases of remote workers come later",
}
"""Names that will have a meaning -> why they are refused today."""

Days = Annotated[float, Meta(gt=0, le=36_500)]
Megabytes = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's tables."""


class Fleet(Table, frozen=True, kw_only=True):
    """[fleet]"""

    max_workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] | None = None
    """Most attempts of a run at once, where neither the run nor its spec says."""
    default_agent: str | None = None
    """Who does a task that names neither a command nor an agent."""
    capabilities: list[Token] | None = None
    """What tasks may ask for in worker.capabilities. None: whatever they ask for is here."""
    allow_unenforced: list[str] = []
    """Fields that need not be held, by name, as with --allow-unenforced; on each receipt."""


class Retention(Table, frozen=True, kw_only=True):
    """[retention]: how long finished runs keep more than their receipts. None: for ever."""

    files_days: Days | None = None
    """Logs, evidence and scratch files of a run, after it finished."""
    detail_days: Days | None = None
    """Records of a run in the ledger beyond its summary and receipts, after it finished."""


class Disk(Table, frozen=True, kw_only=True):
    """[disk]: the room that the fleet's file system must have, in megabytes of 1,000,000 bytes.

    What is not said scales down with a small file system, so that a tmpfs of a few megabytes can be
    used; what is said holds as it is said. 0 turns a limit off.
    """

    warn_below_mb: Megabytes | None = None
    """Less free room than this is told. None: 1,000, and at most 10 % of the file system."""
    stop_below_mb: Megabytes | None = None
    """Below this no attempt is placed; what runs goes on and can record its end. None: 100, and
    at most 5 % of the file system."""


class Discovery(Table, frozen=True, kw_only=True):
    """[inventory.NAME]: a command that prints which workers there are.

    It prints JSON (a list of names, or of tables as below [[workers]]; or what an inventory script
    of Ansible prints for --list), or a name a line. It runs in the fleet's directory, at most once
    for a run, for at most 60 seconds.
    """

    command: Text | Argv
    """Text for sh -c, or a list of arguments that no shell reads."""
    ttl_seconds: Seconds = 300
    """How long its answer is used; 0: it is asked again for each run."""


class Written(Table, frozen=True, kw_only=True):
    """What may stand in a fleet.toml."""

    fleet: Fleet = Fleet()
    agents: dict[str, Agent] = {}
    retention: Retention = Retention()
    disk: Disk = Disk()
    alerts: AlertConfig | None = None
    security_policy: SecurityPolicy | None = None
    """The most that the policy of a spec may say; the policy of runs whose spec has none."""
    roles: dict[str, Role] = {}
    workers: list[Worker] = []
    """Machines that may run tasks, each with what its entry stands for."""
    inventory: dict[Token, Discovery] = {}
    """Commands that tell of more machines."""


class FleetFile(Written, frozen=True, kw_only=True):
    """What a fleet.toml says."""

    worker_lines: list[int] = []
    """Line of each of `workers`."""

    @property
    def trust(self) -> "Trust":
        """What it says of trust; whether this machine can hold it, somebody else must say."""
        from .trust import Trust

        return Trust(
            policy=self.security_policy, roles=self.roles, waived=self.fleet.allow_unenforced
        )

    @property
    def roster(self) -> "Roster":
        """The agents that there are: those of the file, and the presets."""
        from ..agents.roster import Roster

        return Roster(
            written=self.agents,
            default=self.fleet.default_agent,
            capabilities=self.fleet.capabilities,
        )


def read(root: FilePath) -> FleetFile:
    """The fleet.toml of a fleet's root; all defaults where there is none."""
    path = root / NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return FleetFile()
    except OSError as error:
        _refuse(str(path), f"cannot be read: {error.strerror}", f"ls -ld {path}")
    return _parsed(data, str(path))


@lru_cache(maxsize=2)
def _parsed(data: bytes, name: str) -> FleetFile:
    """A command asks several times for what one file says."""
    return parse(data, name)


def parse(data: bytes, name: str = NAME) -> FleetFile:
    """A fleet.toml from its bytes; SpecProblems with everything that is wrong."""
    import tomllib

    if len(data) > MAX_BYTES:
        _refuse(name, "is larger than 1 MiB", "fleet init writes one in an empty directory")
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(name, f"not UTF-8 (byte 0x{data[error.start]:02x})", line=line)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        _refuse(name, f"no TOML: {str(error) or 'too deep'}", line=_line_in(str(error)))
    if not document:
        return FleetFile()
    from .aliases import settle_fleet_file

    settle_fleet_file(document)
    secrets = _literal_secrets(data, document)
    found = _not_yet(document)
    if "alerts" in document:
        from .alerts import settle

        found += settle(document["alerts"], ("alerts",))
    settled = None
    if "workers" in document:
        from . import workers

        settled = workers.settle(document["workers"])
        found += settled.found
    from .walker import shape_of, walk

    left = walk(document, shape_of(Written), (), found)
    told = {one.path for one in found}
    found += [one for one in secrets if one.path not in told]
    if found:
        if settled is not None and isinstance(left, dict):
            found += _worker_problems(left, settled, told)
        _tell(found, text, name)
    read = convert(document, FleetFile)
    if settled is not None:
        read = _with_workers(read, settled, text, name)
    if read.agents or read.fleet.default_agent is not None:
        from .agents import roster_problems

        if found := list(roster_problems(read.roster)):
            _tell(found, text, name)
    says = read.security_policy is not None or read.roles or read.fleet.allow_unenforced
    if says and (found := list(_trust_problems(read))):
        _tell(found, text, name)
    return read


def _worker_problems(left: dict[str, Any], settled: "Settled", told: set[Path]) -> list[Found]:
    """What is wrong with the workers of a file of which something else is wrong already."""
    from . import workers

    try:
        entries = convert(left.get("workers", []), list[Worker])
    except ValidationError:
        return []
    whole = list(workers.all_of(entries, settled))
    return [one for one in workers.problems(whole) if one.path not in told]


def _with_workers(read: FleetFile, settled: "Settled", text: str, name: str) -> FleetFile:
    """The file with every worker that it stands for, and the lines of their entries."""
    from . import workers
    from .locate import lines_of

    whole = list(workers.all_of(read.workers, settled))
    if found := list(workers.problems(whole, read.security_policy)):
        _tell(found, text, name)
    entries = [("workers", index) for index in range(len(read.workers))]
    lines = lines_of(text, "toml", entries)
    return replace(
        read,
        workers=[worker for _, worker in whole],
        worker_lines=[lines["workers", index] for index, _ in whole],
    )


def _trust_problems(read: FleetFile) -> Iterator[Found]:
    from .trust import fleet_problems
    from .unenforced import Waivers

    yield from fleet_problems(read.security_policy, read.roles)
    for index, waived in enumerate(read.fleet.allow_unenforced):
        try:
            Waivers([waived])
        except FleetError as error:
            path = ("fleet", "allow_unenforced", index)
            yield Found(path, error.sentence.removesuffix("."), error.hint)


def _literal_secrets(data: bytes, document: dict[str, Any]) -> list[Found]:
    """What is plainly a secret, wherever it stands: runs record what they use of this file."""
    from .literals import hints, secret_paths

    known = hints(data)
    message = "holds what is plainly a secret"
    hint = "keep it: fleet secret set KEY; and write its name"
    return [Found(path, message, hint) for path in secret_paths(document, known)] if known else []


def _not_yet(document: dict[str, Any]) -> list[Found]:
    """What is refused for now; taken out of the document."""
    found = []
    for name, why in NOT_YET.items():
        table, _, key = name.rpartition(".")
        place = document.get(table) if table else document
        if isinstance(place, dict) and key in place:
            del place[key]
            path = (table, key) if table else (key,)
            found.append(Found(path, f"not enforced yet: {why}", "remove it"))
    return found


def _tell(found: list[Found], text: str, name: str) -> None:
    from .locate import located

    raise SpecProblems(located(found, text, "toml", name))


def _line_in(message: str) -> int:
    _, found, rest = message.partition("(at line ")
    number = rest.partition(",")[0]
    return int(number) if found and number.isdigit() else 0


def _refuse(name: str, message: str, hint: str = "", line: int = 0) -> "Any":
    raise SpecProblems([Problem(file=name, line=line, field="", message=message, hint=hint)])
