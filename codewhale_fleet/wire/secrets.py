"""Secrets in a spec and in fleet.toml: what must hold for the references, and what a policy allows.

Promises that what is without findings can be delivered: each secret has one variable of its own
that nothing else sets, one source in the whole run, and stands in the policy where there is one.
Knows no values, no stores and no lines.
"""

from collections.abc import Iterable, Iterator

from ..agents.definition import Agent
from ..core.parts import SecretName
from ..core.posture import allows
from ..core.secrets import KEY, VARIABLE, name_of, ref_of, variable_of
from ..core.spec import Task
from ..core.spec_hosts import SecretRef, SecurityPolicy
from .problems import Found, Path, excerpt
from .verification import judges
from .walker import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agents import Agents

SECRETS = 100
"""Secrets of one task, or of one agent."""
_OURS = "FLEET_"
_BASE = frozenset(
    (
        "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "TZ",
        "USER",
    )
)  # fmt: skip
"""Variables that every task has; so it has every LC_…"""
_SIGNS = "letters, digits and ._-, at most 128, and none of ._- but _ in front"


def ref_problems(written: Iterable[str | SecretRef], path: Path) -> Iterator[Found]:
    """What is wrong with a list of references by itself."""
    variables: dict[str, str] = {}
    for index, one in enumerate(written):
        ref = ref_of(one)
        at: Path = (*path, index)
        if index == SECRETS:
            yield Found(path, f"has more than {SECRETS} entries")
            return
        if not KEY.fullmatch(ref.key):
            place = at if isinstance(one, str) else (*at, "key")
            yield Found(place, f"{excerpt(ref.key)} can be no secret's name", _SIGNS)
            continue
        yield from _variable(ref, at)
        name = variable_of(ref)
        if name in variables:
            message = f"{name} is already the variable of the secret {variables[name]}"
            yield Found(at, message, f'give it another: as = "{name}_2"')
        variables.setdefault(name, ref.key)


def _variable(ref: SecretRef, path: Path) -> Iterator[Found]:
    name, place = variable_of(ref), (*path, "as") if ref.as_ is not None else path
    if not VARIABLE.fullmatch(name):
        suggested = "".join(sign if sign.isalnum() else "_" for sign in ref.key).upper()
        hint = f'{{ key = "{ref.key}", as = "{suggested}" }}'
        yield Found(place, f"{excerpt(name)} is no variable's name", hint, excerpt(name))
    elif name.startswith(_OURS):
        yield Found(place, f"{name} is the fleet's own", "names with FLEET_ are set by it")
    elif name in _BASE or name.startswith("LC_"):
        hint = f'as = "{ref.key if ref.key != name else name + "_SECRET"}"'
        yield Found(place, f"{name} is a variable that every task has", hint)


def agent_problems(written: Agent) -> Iterator[Found]:
    """What is wrong with the secrets of `[agents.NAME]`."""
    yield from ref_problems(written.secrets, ("secrets",))
    seen = written.environment
    other = {
        **dict.fromkeys(written.env, "env"),
        **dict.fromkeys(seen.allowlist if seen else (), "environment.allowlist"),
        **dict.fromkeys(seen.required if seen else (), "environment.required"),
    }
    for index, one in enumerate(written.secrets):
        name = variable_of(ref_of(one))
        if name in other:
            message = f"{name} is also in {other[name]} of this agent"
            yield Found(("secrets", index), message, "leave one of them out")


def task_problems(task: Task, agent: Agent | None) -> Iterator[Found]:
    """What is wrong with the secrets of a task, beside what its agent has."""
    yield from ref_problems(task.secrets, ("secrets",))
    place = task.workspace.environment if task.workspace is not None else None
    other = {
        **dict.fromkeys(place.allowlist if place else (), "workspace.environment.allowlist"),
        **dict.fromkeys(place.required if place else (), "workspace.environment.required"),
        **dict.fromkeys(agent.env if agent else (), f"env of agent {task.agent}"),
    }
    mine = {variable_of(ref_of(one)): ref_of(one) for one in task.secrets}
    for index, one in enumerate(task.secrets):
        name = variable_of(ref_of(one))
        if name in other:
            message = f"{name} is also in {other[name]}"
            yield Found(("secrets", index), message, "leave one of them out")
    for one in agent.secrets if agent else ():
        name, theirs = variable_of(ref_of(one)), ref_of(one)
        if name in mine and mine[name] != theirs:
            index = [variable_of(ref_of(own)) for own in task.secrets].index(name)
            message = f"{name} is the variable of another secret of agent {task.agent}"
            yield Found(("secrets", index), message, f'give it another: as = "{name}_2"')
        elif name in other:
            message = f"{name} carries a secret of agent {task.agent}, and is also in {other[name]}"
            yield Found(("agent",), message, "leave it out there")


def policy_problems(policy: SecurityPolicy) -> Iterator[Found]:
    """What is wrong with security_policy.allowed_secrets."""
    for index, one in enumerate(policy.allowed_secrets):
        path: Path = ("security_policy", "allowed_secrets", index)
        ref = ref_of(one)
        if not KEY.fullmatch(ref.key.replace("*", "x").replace("?", "x")):
            place = path if isinstance(one, str) else (*path, "key")
            yield Found(place, f"{excerpt(ref.key)} can be no secret's name", f"{_SIGNS}; * and ?")
        for field, value in (("as", ref.as_), ("deliver", ref.deliver)):
            if value is not None:
                message = "says nothing here: a policy allows a secret, tasks say how it comes"
                yield Found((*path, field), message, "leave it out")


class Secrets:
    """The secrets of one spec, as its tasks name them; `used` has each once, by key."""

    def __init__(self, policy: SecurityPolicy | None) -> None:
        self._policy = policy
        self._all_allowed = False
        self.used: dict[str, SecretName] = {}

    def names(self) -> list[SecretName]:
        """All of them, in the order of their keys."""
        return [self.used[key] for key in sorted(self.used)]

    def of_task(
        self, task: Task, agents: "Agents", *, all_allowed: bool = False
    ) -> Iterator[Found]:
        """Take what a task, its agent and its verifiers get; everything that is wrong with it.

        `all_allowed`: the task is trusted with every secret.
        """
        self._all_allowed = all_allowed
        agent = agents.use(task.agent) if task.agent is not None else None
        if task.secrets or (agent is not None and agent.secrets):
            yield from task_problems(task, agent)
        for index, one in enumerate(task.secrets):
            yield from self._take(ref_of(one), ("secrets", index), "")
        for ref in map(ref_of, agent.secrets if agent is not None else ()):
            yield from self._take(ref, ("agent",), f"agent {task.agent} gets it: ")
        for path, judge in judges(task):
            name = judge.agent or ""
            verifier = agents.use(name) if name else None
            for ref in map(ref_of, verifier.secrets if verifier is not None else ()):
                yield from self._take(ref, (*path, "agent"), f"agent {name} gets it: ")

    def _take(self, ref: SecretRef, path: Path, whose: str) -> Iterator[Found]:
        if not KEY.fullmatch(ref.key):
            return
        name = self.used.setdefault(ref.key, name_of(ref))
        if name.source != (ref.source or ""):
            where = [
                f"from {one}" if one else "from wherever it is" for one in (ref.source, name.source)
            ]
            message = f"{whose}{ref.key} comes {where[0]} here and {where[1]} elsewhere in this run"
            yield Found(path, message, "name the same source for both")
        if self._policy is None or self._all_allowed:
            return
        if not any(allows(one, ref) for one in self._policy.allowed_secrets):
            yield Found(path, *_not_allowed(ref, self._policy, whose))


def _not_allowed(ref: SecretRef, policy: SecurityPolicy, whose: str) -> tuple[str, str]:
    keys = tuple(ref_of(one).key for one in policy.allowed_secrets)
    if any(allows(key, ref) for key in keys):
        message = f"{whose}{ref.key} is allowed from one source only, and none is named here"
        if ref.source:
            message = f"{whose}{ref.key} is not allowed from {ref.source}"
        return message, "name the source that security_policy.allowed_secrets names"
    near = nearest(ref.key, keys)
    guess = f"; did you mean {near}?" if near else ""
    hint = f'add "{ref.key}" there, or leave the secret out'
    return f"{whose}{ref.key} is not in security_policy.allowed_secrets{guess}", hint
