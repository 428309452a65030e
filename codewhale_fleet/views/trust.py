"""What one task may read, write, reach and know, in words, and what holds it to that.

Pure: a posture (`core/posture.py`) in, sentences out. Says "nothing" where nothing holds it, so
that a person sees what is only asked for.
"""

from msgspec import Struct

from ..core.posture import Doer, Posture, granted
from ..core.spec import Task
from ..core.spec_hosts import SecretRef, SecurityPolicy

SANDBOX = "bubblewrap"
NOBODY = "nothing: it runs as you"
LINKS = "a PATH of links; a guard against mistakes"
OWN = "what every attempt has: its own directory, a private /tmp, the socket of the fleet"
"""Writable in every sandbox."""


class May(Struct, frozen=True):
    """One thing that a task may do: which, in words, and by what it is held."""

    verb: str
    says: str
    held_by: str


def may(
    task: Task,
    posture: Posture,
    policy: SecurityPolicy | None,
    agent: Doer | None,
    variables: list[str],
) -> list[May]:
    """All of it. `variables` are the names that the task and its agent may see."""
    found = [_reads(posture), _writes(task, posture, agent), _reaches(posture, policy)]
    found.append(_knows(task, posture, policy, variables))
    if agent is None and posture.tools:
        found.append(May("runs", ", ".join(posture.tools), LINKS))
    elif task.worker is not None and task.worker.tools:
        found.append(May("uses", ", ".join(task.worker.tools), f"arguments of {task.agent}"))
    return found


def _reads(posture: Posture) -> May:
    if posture.home and posture.confined:
        return May("reads", "files outside /tmp and /run", SANDBOX)
    if posture.home:
        return May("reads", "every file that you can read", NOBODY)
    also = f", but of it {', '.join(posture.read)}" if posture.read else ""
    return May("reads", f"files outside HOME{also}", SANDBOX)


def _writes(task: Task, posture: Posture, agent: Doer | None) -> May:
    if not posture.confined:
        if agent is not None and posture.profile == "read-only":
            return May("writes", "no file of the workspace", f"arguments of {task.agent}")
        return May("writes", "every file that you can write", NOBODY)
    isolated = task.workspace is not None and task.workspace.own
    if posture.workspace:
        where = "its own copy of the workspace" if isolated else "the whole workspace"
    else:
        where = ", ".join(posture.write) or "nothing of the workspace"
    keep = f", and {', '.join(posture.keep)}" if posture.keep else ""
    held_by = SANDBOX
    own = agent.profiles - agent.left if agent is not None else frozenset()
    if posture.profile == "read-only" and "read-only" in own:
        held_by = f"{SANDBOX}, and arguments of {task.agent}"
    return May("writes", where + keep, held_by)


def _reaches(posture: Posture, policy: SecurityPolicy | None) -> May:
    if posture.network:
        shut = posture.confined and not posture.home
        return May("reaches", "the network", _grant(policy) if shut else NOBODY)
    return May("reaches", "nothing but the fleet's own socket", SANDBOX)


def _grant(policy: SecurityPolicy | None) -> str:
    """The grant by which the network is there, with its reason."""
    for one in (*granted(policy, "network"), *granted(policy, "git-push")):
        return f"the grant {one.capability}" + (f": {one.reason}" if one.reason else "")
    return NOBODY


def _knows(
    task: Task, posture: Posture, policy: SecurityPolicy | None, variables: list[str]
) -> May:
    refs = [one if isinstance(one, SecretRef) else SecretRef(key=one) for one in task.secrets]
    known = [ref.key for ref in refs if posture.may_know(policy, ref)]
    parts = []
    if variables:
        parts.append(f"the variables {', '.join(variables)}")
    parts.append(f"the secrets {', '.join(known)}" if known else "no secrets")
    named = policy is None and posture.secrets is None
    return May("knows", "; ".join(parts), "the names in its spec" if named else "the policy")
