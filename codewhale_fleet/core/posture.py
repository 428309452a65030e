"""What one task may read, write, reach and know: from its spec, the run's policy, role and agent.

Pure, and the only place where trust becomes rules. `fleet check --explain` prints a posture, and
`engine/launch.py` puts it into the plan by which `worker/sandbox.py` holds it; so what is shown is
what is in force. Levels rise: sandbox, local, remote_verified, operator. A task has the level of
its role, else the policy's default, else local where no policy was given; never more than the
policy's maximum.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from msgspec import Struct, json

from .roles import Profile, Role, decode_role, profile_of
from .spec import Task, clean_path
from .spec_hosts import CapabilityGrant, SecretRef, SecurityPolicy, TrustLevel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .state import Run

LEVELS: tuple[TrustLevel, ...] = ("sandbox", "local", "remote_verified", "operator")
"""From the least trusted to the most."""

GRANTS = {
    "network": "the network of this machine",
    "git-push": "the network, and the git, ssh and gh files of the person who asked",
    "provider-secrets": "secrets, as far as scope and allowed_secrets say",
    "workspace-write": "writing to the whole workspace, or to the path that scope names",
}
"""What can be granted on top of the level sandbox -> what it gives."""

NO_POLICY = b"null"
"""The policy of a run to which none was given."""

GIT_FILES = (
    "~/.gitconfig", "~/.config/git", "~/.git-credentials", "~/.netrc", "~/.config/gh", "~/.ssh",
)  # fmt: skip
GIT_SOCKET = "SSH_AUTH_SOCK"
"""What git-push makes readable; the variable names the socket of the person's ssh agent."""

WRITABLE = "workspace.writable_paths"
PROFILE = "worker.tool_profile"
TOOLS = "worker.tools"
LEVEL = "security_policy.default_trust_level"
ROLE = "worker.role"
"""Names by which a person waives what only a sandbox can hold."""


class Doer(Struct, frozen=True, kw_only=True):
    """What a posture needs to know of a task's agent."""

    reads: tuple[str, ...] = ()
    """Its configuration, needed even where HOME is hidden."""
    keeps: tuple[str, ...] = ()
    """What it must be able to write wherever it runs: its sessions, its logins."""
    profiles: frozenset[str] = frozenset()
    """Tool profiles that its own arguments hold."""
    left: frozenset[str] = frozenset()
    """Tool profiles that its arguments leave to the fleet's sandbox, where there is one."""


class Posture(Struct, frozen=True, kw_only=True):
    """What holds for one task."""

    level: TrustLevel
    because: str
    """What gave it that level."""
    profile: Profile = "read-write"
    confined: bool = False
    """The file system is what the rules below say, and nothing else."""
    network: bool = True
    home: bool = True
    """HOME can be read."""
    workspace: bool = True
    """All of its workspace may be written."""
    write: tuple[str, ...] = ()
    """What of its workspace may be written, below its root, where not all of it is."""
    read: tuple[str, ...] = ()
    """What is readable although HOME is hidden, and is never written; `~/…` is below HOME, `$NAME`
    a variable's value."""
    keep: tuple[str, ...] = ()
    """What may be written outside the workspace; spelled in the same ways."""
    tools: tuple[str, ...] = ()
    """The only programs on the PATH of a command; empty: all."""
    secrets: tuple[str, ...] | None = None
    """Globs of the secrets that it may know; None: all that the policy allows."""

    @property
    def sees_git(self) -> bool:
        """It has the git, ssh and gh files of the person who asked."""
        return f"${GIT_SOCKET}" in self.read

    def may_know(self, policy: SecurityPolicy | None, secret: SecretRef) -> bool:
        """Whether the task may be given a secret: by its level, its grants and the policy."""
        if self.secrets is not None and not any(
            fnmatchcase(secret.key, glob) for glob in self.secrets
        ):
            return False
        if policy is None or self.level == "operator":
            return True
        return any(allows(one, secret) for one in policy.allowed_secrets)

    def visible(
        self,
        policy: SecurityPolicy | None,
        names: Iterable[str],
        looks_secret: Callable[[str], bool],
    ) -> list[str]:
        """Those of the wanted variables that may be seen, and those that a grant brings.

        In the sandbox none that looks like a secret's is, unless that secret was granted.
        """
        seen = set(names)
        if self.secrets is not None:
            seen = {
                name
                for name in seen
                if not looks_secret(name) or self.may_know(policy, SecretRef(key=name))
            }
        return sorted(seen | {GIT_SOCKET} if self.sees_git else seen)


# Levels ---------------------------------------------------------------------------------------


def lower(one: TrustLevel, other: TrustLevel) -> TrustLevel:
    """The less trusted of two levels."""
    return min(one, other, key=LEVELS.index)


def level_of(
    policy: SecurityPolicy | None, roles: Iterable[tuple[str, Role]]
) -> tuple[TrustLevel, str]:
    """The level of a task with these roles (the first that says one counts), and what gave it."""
    wanted: TrustLevel = "local"
    because = "no policy says otherwise"
    if policy is not None:
        wanted, because = policy.default_trust_level, "default_trust_level of the policy"
    for name, role in roles:
        if role.trust_level is not None:
            wanted, because = role.trust_level, f"the role {name}"
            break
    if policy is not None and (held := lower(wanted, policy.max_trust_level)) != wanted:
        return held, "max_trust_level of the policy"
    return wanted, because


# Secrets --------------------------------------------------------------------------------------


def allows(allowed: str | SecretRef, secret: SecretRef) -> bool:
    """Whether one entry of allowed_secrets lets a secret through: `*` stands for any text, `?` for
    any sign; without a source it lets it through from any, else from that one only."""
    if isinstance(allowed, str):
        return fnmatchcase(secret.key, allowed)
    return fnmatchcase(secret.key, allowed.key) and allowed.source in (None, secret.source)


# Grants ---------------------------------------------------------------------------------------


def granted(policy: SecurityPolicy | None, capability: str) -> list[CapabilityGrant]:
    """The grants of one capability."""
    if policy is None:
        return []
    return [one for one in policy.capability_grants if one.capability == capability]


def scope_path(scope: str) -> str:
    """The path that the scope of workspace-write names; ValueError where it names none."""
    path = scope.removesuffix("/**").removesuffix("/*")
    if path in ("*", "**"):
        return "."
    if any(sign in path for sign in "*?["):
        raise ValueError("a path, or a path with /** behind it")
    return clean_path(path)


# Tasks ----------------------------------------------------------------------------------------


def roles_of(task: Task, roles: Mapping[str, bytes]) -> list[tuple[str, Role]]:
    """The roles that a task builds on, by name, the one that counts first."""
    if task.worker is None:
        return []
    names = dict.fromkeys((task.worker.role, task.worker.agent_profile))
    return [(name, _role(roles[name])) for name in names if name is not None and name in roles]


def posture_of(
    task: Task,
    policy: SecurityPolicy | None = None,
    roles: Iterable[tuple[str, Role]] = (),
    agent: Doer | None = None,
    waived: Iterable[str] = (),
) -> Posture:
    """What a task may do. `agent` is None for a command; `waived` are names allowed unheld."""
    roles, waived = list(roles), frozenset(waived)
    level, because = level_of(policy, roles)
    by_role = any(role.trust_level is not None for _, role in roles)
    if level == "sandbox" and (ROLE if by_role else LEVEL) in waived:
        level, because = "local", "the sandbox was waived"
    place = task.workspace
    paths = place.writable_paths if place is not None and WRITABLE not in waived else []
    profile = profile_of(task.worker) if PROFILE not in waived else "read-write"
    reads_only = profile == "read-only" and _confines(agent)
    confined = level == "sandbox" or bool(paths) or reads_only
    tools = task.worker.tools if task.worker is not None and agent is None else []
    made = Posture(level=level, because=because, profile=profile, tools=tuple(tools))
    if not confined:
        return made
    assert place is not None or not paths
    write = [clean_path(f"{place.root}/{path}") for path in paths] if place is not None else []
    whole = "." in write
    if not paths and not reads_only:
        isolated = place is not None and place.own
        grants = granted(policy, "workspace-write")
        whole = isolated or level != "sandbox" or any(not one.scope for one in grants)
        write = [scope_path(one.scope) for one in grants if one.scope]
    shut = level == "sandbox"
    pushes = bool(granted(policy, "git-push"))
    return Posture(
        level=level,
        because=because,
        profile=profile,
        tools=made.tools,
        confined=True,
        network=not shut or pushes or bool(granted(policy, "network")),
        home=not shut,
        workspace=whole,
        write=() if whole else tuple(dict.fromkeys(write)),
        read=_readable(agent, pushes and shut),
        keep=agent.keeps if agent is not None else (),
        secrets=_secrets(policy) if shut else None,
    )


def of_run(run: "Run", task: Task, agent: Doer | None) -> Posture:
    """What a task of a run may do."""
    policy, roles = decode_policy(run.policy), roles_of(task, run.roles)
    return posture_of(task, policy, roles, agent, run.waived)


def judge_of(made: Posture, agent: Doer) -> Posture:
    """What an agent that verifies a task may do: judge what it reads, and change nothing.

    It is confined where the task is; commands that verify have the task's own posture.
    """
    if not made.confined:
        return made
    git = _git_files(made.sees_git)
    return Posture(
        level=made.level,
        because=made.because,
        profile="read-only",
        confined=True,
        network=made.network,
        home=made.home,
        workspace=False,
        read=tuple(dict.fromkeys((*agent.reads, *git))),
        keep=agent.keeps,
        secrets=made.secrets,
    )


def _confines(agent: Doer | None) -> bool:
    """Whether read-only is held by the file system: for an agent, where it is known what it needs,
    or where its own arguments do not hold it."""
    if agent is None:
        return True
    return bool(agent.reads or agent.keeps) or "read-only" not in agent.profiles


def _readable(agent: Doer | None, pushes: bool) -> tuple[str, ...]:
    return (*(agent.reads if agent is not None else ()), *_git_files(pushes))


def _git_files(pushes: bool) -> tuple[str, ...]:
    return (*GIT_FILES, f"${GIT_SOCKET}") if pushes else ()


def _secrets(policy: SecurityPolicy | None) -> tuple[str, ...]:
    return tuple(one.scope or "*" for one in granted(policy, "provider-secrets"))


# Plans ----------------------------------------------------------------------------------------


def in_plan(posture: Posture) -> dict[str, Any]:
    """The entries of a LaunchPlan that hold a posture; {} where nothing needs to be held."""
    tools = {"tools": list(posture.tools)} if posture.tools else {}
    if not posture.confined:
        return tools
    return {"sandbox": {**sandbox_of(posture), **tools}}


def sandbox_of(posture: Posture) -> dict[str, Any]:
    """What `worker/sandbox.py` is told. No variable's value stands in it, and no HOME."""
    return {
        "level": "sandbox" if posture.level == "sandbox" else "local",
        "network": "host" if posture.network else "none",
        "workspace": "write" if posture.workspace else "read",
        "write": list(posture.write),
        "read": list(posture.read),
        "keep": list(posture.keep),
        "home": "read" if posture.home else "hidden",
    }


# What a run keeps -----------------------------------------------------------------------------

_policy = json.Decoder(SecurityPolicy)


@lru_cache(maxsize=64)
def decode_policy(raw: bytes) -> SecurityPolicy | None:
    """The policy of a run, from the JSON that it keeps."""
    return _policy.decode(raw) if raw != NO_POLICY else None


@lru_cache(maxsize=256)
def _role(raw: bytes) -> Role:
    return decode_role(raw)
