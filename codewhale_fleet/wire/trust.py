"""Trust in a spec and in fleet.toml: policies, grants, levels, and whether they can be held here.

Promises that what is without findings is in force: no task has more trust than the policy's
maximum, a spec only narrows what fleet.toml gives, and what needs a sandbox is refused where there
is none, unless it was waived by name. What a task may do is decided in `core/posture.py`; knows no
files, no lines and no machine.
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, json
from msgspec.structs import replace

from ..core import posture
from ..core.posture import GRANTS, LEVELS, Posture, granted, lower, scope_path
from ..core.roles import Role, profile_of
from ..core.spec import Task
from ..core.spec_hosts import CapabilityGrant, SecretRef, SecurityPolicy, TrustLevel
from .problems import Found, Path, excerpt
from .roles import Roles
from .unenforced import Waivers, waiver_name
from .verification import judges
from .walker import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agents.definition import Agent
    from .placing import Places

RELEASE = "nothing tells a release from other work"
"""Why the capability of the reference's list is not known here."""

LOCAL_LEVELS = ("sandbox", "local", "operator")
"""What workers of this machine may be trusted with; remote_verified is for host keys."""


class Trust(Struct, frozen=True, kw_only=True):
    """What fleet.toml says of trust."""

    policy: SecurityPolicy | None = None
    """The most that a spec may say."""
    roles: dict[str, Role] = {}
    """Those of fleet.toml."""
    waived: list[str] = []
    """Names that fleet.toml allows unheld."""


# Policies -------------------------------------------------------------------------------------


def policy_problems(policy: SecurityPolicy) -> Iterator[Found]:
    """What is wrong with a policy by itself."""
    path: Path = ("security_policy",)
    default, most = policy.default_trust_level, policy.max_trust_level
    if lower(default, most) != default:
        said = "" if default != SecurityPolicy().default_trust_level else " (the default)"
        yield Found(
            (*path, "default_trust_level"),
            f"{default}{said} is above max_trust_level, which is {most}",
            f"they rise in this order: {', '.join(LEVELS)}",
            default,
        )
    elif default not in LOCAL_LEVELS:
        yield Found((*path, "default_trust_level"), *_not_local(default), default)
    for index, grant in enumerate(policy.capability_grants):
        found = _grant_problem(grant, (*path, "capability_grants", index))
        if found is not None:
            yield found
    if policy.allowed_secrets:
        from .secrets import policy_problems as of_secrets

        yield from of_secrets(policy)


def _not_local(level: str) -> tuple[str, str]:
    return (
        f"{level} is what workers with a verified host key are trusted, and no task's",
        f"of tasks: {', '.join(LOCAL_LEVELS)}",
    )


def _grant_problem(grant: CapabilityGrant, path: Path) -> Found | None:
    name, scope = grant.capability, grant.scope
    known = f"there are: {', '.join(GRANTS)}"
    place = (*path, "capability")
    if name == "release":
        return Found(place, f"release cannot be granted: {RELEASE}", known, name)
    if name not in GRANTS:
        near = nearest(name, tuple(GRANTS))
        guess = f"; did you mean {near}?" if near else ""
        return Found(place, f"{excerpt(name)} is no capability{guess}", known, excerpt(name))
    if scope is None:
        return None
    place = (*path, "scope")
    if not scope.strip() or not scope.isprintable():
        return Found(place, "must not be blank", "leave it out, or write it")
    if name in ("network", "git-push"):
        message = f"{name} is granted as a whole or not at all: nothing holds it to some hosts"
        return Found(place, message, "leave scope out, or the grant", excerpt(scope))
    if name == "workspace-write":
        try:
            scope_path(scope)
        except ValueError as error:
            return Found(place, f"is {excerpt(scope)}: {error}", 'such as "docs" or "docs/**"')
    return None


def narrowed(
    own: SecurityPolicy | None, ceiling: SecurityPolicy | None, written: Iterable[str]
) -> tuple[SecurityPolicy | None, list[Found]]:
    """The policy of a run, from its spec's and fleet.toml's; and where the spec asks for more.

    `written`: the fields that stand in the spec's; what it leaves out is as in fleet.toml, but for
    the default level, because a policy that names none means the sandbox everywhere.
    """
    if own is None or ceiling is None:
        return own or ceiling, []
    left = {"max_trust_level", "allowed_secrets", "capability_grants", "allow_parallel_reads"}
    own = replace(own, **{one: getattr(ceiling, one) for one in left.difference(written)})
    found: list[Found] = []
    path: Path = ("security_policy",)
    if lower(own.default_trust_level, ceiling.default_trust_level) != own.default_trust_level:
        found.append(
            Found(
                (*path, "default_trust_level"),
                f"{own.default_trust_level} is more than fleet.toml gives, which is "
                f"{ceiling.default_trust_level}",
                "a spec may only narrow [security_policy] of fleet.toml",
                own.default_trust_level,
            )
        )
    if ceiling.default_trust_level == "sandbox":  # else all that can be granted is there anyway
        for index, grant in enumerate(own.capability_grants):
            if not any(_covers(one, grant) for one in ceiling.capability_grants):
                place = (*path, "capability_grants", index)
                message = f"{_said(grant)} is not granted in [security_policy] of fleet.toml"
                found.append(Found(place, message, "grant it there as well, or leave it out"))
    if own.allow_parallel_reads and not ceiling.allow_parallel_reads:
        message = "[security_policy] of fleet.toml does not allow it"
        found.append(Found((*path, "allow_parallel_reads"), message, "allow it there as well"))
    secrets = [*_within(own, ceiling), *_within(ceiling, own)]
    secrets = [one for index, one in enumerate(secrets) if one not in secrets[:index]]
    most = lower(own.max_trust_level, ceiling.max_trust_level)
    return replace(own, max_trust_level=most, allowed_secrets=secrets), found


def _within(one: SecurityPolicy, other: SecurityPolicy) -> list[str | SecretRef]:
    """The secrets of one policy that the other one allows as well."""
    return [
        secret
        for secret in one.allowed_secrets
        if any(posture.allows(wider, _ref(secret)) for wider in other.allowed_secrets)
    ]


def _ref(one: str | SecretRef) -> SecretRef:
    return SecretRef(key=one) if isinstance(one, str) else one


def _said(grant: CapabilityGrant) -> str:
    return f"{grant.capability} for {excerpt(grant.scope)}" if grant.scope else grant.capability


def _covers(grant: CapabilityGrant, asked: CapabilityGrant) -> bool:
    """Whether one grant holds all of another."""
    if grant.capability != asked.capability:
        return False
    if grant.scope is None or grant.scope == asked.scope:
        return True
    if asked.scope is None:
        return False
    if grant.capability == "provider-secrets":
        from fnmatch import fnmatchcase

        return fnmatchcase(asked.scope, grant.scope)
    try:
        outer, inner = scope_path(grant.scope), scope_path(asked.scope)
    except ValueError:
        return False
    return outer == "." or inner == outer or inner.startswith(f"{outer}/")


def fleet_problems(policy: SecurityPolicy | None, roles: dict[str, Role]) -> Iterator[Found]:
    """What is wrong with `[security_policy]` and `[roles]` of fleet.toml."""
    from .roles import role_problems

    if policy is not None:
        yield from policy_problems(policy)
    yield from role_problems(roles)
    for name, role in roles.items():
        for found in _level_problems(name, role, policy):
            path = ("roles", name, "trust_level")
            yield Found(path, found[0], found[1], role.trust_level or "")


def _level_problems(
    name: str, role: Role, policy: SecurityPolicy | None
) -> Iterator[tuple[str, str]]:
    level = role.trust_level
    if level is None:
        return
    if policy is not None and lower(level, policy.max_trust_level) != level:
        yield (
            f"the role {name} asks for the trust {level}, and max_trust_level is "
            f"{policy.max_trust_level}",
            f'lower it: [roles.{name}] trust_level = "{policy.max_trust_level}" in fleet.toml',
        )
    elif level not in LOCAL_LEVELS:
        yield _not_local(level)


# Tasks ----------------------------------------------------------------------------------------


class Trusted:
    """The tasks of one spec under the policy of their run.

    `lacking` asks the machine why it cannot confine a task, and what to do; empty where it can.
    """

    def __init__(
        self,
        policy: SecurityPolicy | None,
        trust: Trust,
        waivers: Waivers,
        lacking: Callable[[], str],
    ) -> None:
        self.policy = policy
        self.roles = Roles(trust.roles)
        self._lacking = lacking
        self._lacks: str | None = None
        self._waivers = waivers
        self._told = False
        """The default level was found not to be held; that is told once."""

    @property
    def policy_json(self) -> bytes:
        """The policy as a run keeps it."""
        return json.encode(self.policy)

    @property
    def variables(self) -> set[str]:
        """Names of variables that grants bring."""
        return {posture.GIT_SOCKET} if granted(self.policy, "git-push") else set()

    def problems(self, task: Task) -> Iterator[Found]:
        """Everything in `worker` of one task (settled) that is not allowed."""
        yield from self.roles.problems(task)
        roles = self.roles.of(task.worker) if task.worker is not None else []
        for name, role in roles:
            assert task.worker is not None
            field = "role" if name == task.worker.role else "agent_profile"
            for message, hint in _level_problems(name, role, self.policy):
                yield Found(("worker", field), message, hint, name)
            if role.trust_level is not None:
                break
        if task.command is not None:
            yield from self._of_command(task)

    def held(
        self,
        task: Task,
        agent: "Agent | None",
        use: "Callable[[str], Agent | None] | None" = None,
        places: "Places | None" = None,
    ) -> Iterator[Found]:
        """What of one task, right in itself, cannot be held here, or not with this agent.

        `use` finds the agents that verify. What `places` keep from this machine is confined where
        it runs, or does not run.
        """
        roles = self.roles.of(task.worker) if task.worker is not None else []
        doer = None
        if agent is not None:
            from ..agents.definition import doer_of

            doer = doer_of(agent)
        yield from self._held(task, roles, doer, places)
        made = posture.posture_of(task, self.policy, roles, doer, self._waivers.used)
        yield from self._unknowable(task, agent, made)
        if made.secrets is not None:
            for path, judge in judges(task):
                verifier = use(judge.agent) if use and judge.agent else None
                for one in verifier.secrets if verifier is not None else ():
                    if not made.may_know(self.policy, _ref(one)):
                        whose = f"agent {judge.agent} gets it: "
                        yield Found((*path, "agent"), *_not_granted(_ref(one), made, whose))
        if agent is not None:
            yield from self._of_agent(task, agent, made)

    def _of_command(self, task: Task) -> Iterator[Found]:
        worker = task.worker
        if worker is None:
            return
        if worker.tool_profile not in (None, "read-only", "read-write"):
            why = "only read-only and read-write are held"
            if found := self._waivers.refusal(
                ("worker", "tool_profile"), "tasks.worker.tool_profile", why
            ):
                yield found
        for index, tool in enumerate(worker.tools):
            if not tool.strip() or not tool.isprintable() or "/" in tool or tool in (".", ".."):
                path: Path = ("worker", "tools", index)
                message = f"{excerpt(tool)} is no program's name"
                yield Found(path, message, "as it is typed, without its directory", excerpt(tool))
        if worker.tools and isinstance(task.command, list) and "/" not in task.command[0]:
            program = task.command[0]
            if program not in worker.tools:
                message = f"does not have {excerpt(program)}, which the command itself is"
                yield Found(("worker", "tools"), message, f"add {excerpt(program)}")

    def _held(
        self,
        task: Task,
        roles: list[tuple[str, Role]],
        doer: posture.Doer | None,
        places: "Places | None",
    ) -> Iterator[Found]:
        """What needs a sandbox, where there is none; what is waived is not asked for again."""
        for _ in range(3):
            made = posture.posture_of(task, self.policy, roles, doer, self._waivers.used)
            if not made.confined or not self.lacks:
                return
            if places is not None and not places.may_stay(task.id):
                return
            path, entry, what = _reason(task, made, roles)
            why, _, hint = self.lacks.partition("; ")
            name = waiver_name(entry)
            found = self._waivers.refusal(
                path, entry, f"{what}, and {why}", f"{hint}; or --allow-unenforced {name}"
            )
            if found is not None:
                yield from self._once(found, entry)
                return

    def level_of(self, task: Task) -> TrustLevel:
        """The trust of one task."""
        roles = self.roles.of(task.worker) if task.worker is not None else []
        return posture.level_of(self.policy, roles)[0]

    def _unknowable(self, task: Task, agent: "Agent | None", made: Posture) -> Iterator[Found]:
        """Secrets that the task or its agent names, and that its level keeps from it."""
        for index, one in enumerate(task.secrets):
            if not made.may_know(self.policy, _ref(one)):
                yield Found(("secrets", index), *_not_granted(_ref(one), made, ""))
        for one in agent.secrets if agent is not None else ():
            if not made.may_know(self.policy, _ref(one)):
                whose = f"agent {task.agent} gets it: "
                yield Found(("agent",), *_not_granted(_ref(one), made, whose))

    @property
    def lacks(self) -> str:
        """Why this machine cannot confine a task, asked when it first matters."""
        if self._lacks is None:
            self._lacks = self._lacking()
        return self._lacks

    def _once(self, found: Found, entry: str) -> Iterator[Found]:
        if entry == posture.LEVEL:
            if self._told:
                return
            self._told = True
        yield found

    def _of_agent(self, task: Task, agent: "Agent", made: Posture) -> Iterator[Found]:
        """What an agent cannot do without, and the sandbox does not have."""
        level = made.level
        if agent.network and not made.network:
            yield Found(
                ("agent",),
                f'agent "{task.agent}" reaches its model over the network, and the trust {level} '
                "has none",
                'grant it: security_policy.capability_grants = [{ capability = "network" }]',
            )


def _not_granted(ref: SecretRef, made: Posture, whose: str) -> tuple[str, str]:
    return (
        f"{whose}the trust {made.level} knows no secrets, and {ref.key} was not granted",
        f'grant it: {{ capability = "provider-secrets", scope = "{ref.key}" }}',
    )


def _reason(task: Task, made: Posture, roles: Iterable[tuple[str, Role]]) -> tuple[Path, str, str]:
    """Where a task asks to be confined: path, the name by which that is waived, and a sentence."""
    if made.level == "sandbox":
        if any(role.trust_level is not None for _, role in roles):
            what = "a role of the trust sandbox needs a sandbox"
            return ("worker", "role"), f"tasks.{posture.ROLE}", what
        return (), posture.LEVEL, "the trust sandbox needs a sandbox"
    if task.workspace is not None and task.workspace.writable_paths:
        path: Path = ("workspace", "writable_paths")
        return path, f"tasks.{posture.WRITABLE}", "is held by a sandbox"
    assert profile_of(task.worker) == "read-only"
    by_role = any(role.tool_profile == "read-only" for _, role in roles)
    itself = task.worker is not None and task.worker.tool_profile and not by_role
    field = "tool_profile" if itself else "role"
    return ("worker", field), f"tasks.{posture.PROFILE}", "read-only is held by a sandbox"
