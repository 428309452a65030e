"""fleet.toml: what holds for every run of a fleet.

Promises that nothing in the file is passed over: an unknown name is refused with the nearest known
one, a name whose enforcement comes later is refused with a sentence, and all problems are told at
once, each with its line. Knows nothing of where fleets lie.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, convert

from ..agents.definition import Agent
from ..core.alert_config import AlertConfig
from ..core.roles import Role
from ..core.spec import MAX_WORKERS
from ..core.spec_hosts import SecurityPolicy, Token
from ..errors import FleetError
from .problems import Found, Problem, SpecProblems, field_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agents.roster import Roster
    from .trust import Trust

NAME = "fleet.toml"
MAX_BYTES = 1024 * 1024
"""Largest file that is read."""

NOT_YET = {
    "inventory": "discovery of workers comes later",
    "workers": "only local workers run tasks so far",
    "fleet.heartbeat_record_seconds": "the timings are fixed so far",
    "fleet.lease_seconds": "leases of remote workers come later",
    "security_policy.require_identity_verification": "only local workers run tasks so far",
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


class FleetFile(Table, frozen=True, kw_only=True):
    """What a fleet.toml says."""

    fleet: Fleet = Fleet()
    agents: dict[str, Agent] = {}
    retention: Retention = Retention()
    disk: Disk = Disk()
    alerts: AlertConfig | None = None
    security_policy: SecurityPolicy | None = None
    """The most that the policy of a spec may say; the policy of runs whose spec has none."""
    roles: dict[str, Role] = {}

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


def read(root: Path) -> FleetFile:
    """The fleet.toml of a fleet's root; all defaults where there is none."""
    path = root / NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return FleetFile()
    except OSError as error:
        _refuse(str(path), f"cannot be read: {error.strerror}", f"ls -ld {path}")
    return parse(data, str(path))


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
    from .walker import shape_of, walk

    walk(document, shape_of(FleetFile), (), found)
    told = {one.path for one in found}
    found += [one for one in secrets if one.path not in told]
    if found:
        _tell(found, text, name)
    read = convert(document, FleetFile)
    if read.agents or read.fleet.default_agent is not None:
        from .agents import roster_problems

        if found := list(roster_problems(read.roster)):
            _tell(found, text, name)
    says = read.security_policy is not None or read.roles or read.fleet.allow_unenforced
    if says and (found := list(_trust_problems(read))):
        _tell(found, text, name)
    return read


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
    from .locate import lines_of

    lines = lines_of(text, "toml", {one.path for one in found})
    raise SpecProblems(
        [
            Problem(
                file=name,
                line=lines[one.path],
                field=field_name(one.path),
                message=one.message,
                hint=one.hint,
                value=one.value,
            )
            for one in found
        ]
    )


def _line_in(message: str) -> int:
    _, found, rest = message.partition("(at line ")
    number = rest.partition(",")[0]
    return int(number) if found and number.isdigit() else 0


def _refuse(name: str, message: str, hint: str = "", line: int = 0) -> "Any":
    raise SpecProblems([Problem(file=name, line=line, field="", message=message, hint=hint)])
