"""Roles by name: what fleet.toml and the presets say of them, and what a task takes from them.

Promises that a task keeps everything that it says itself: a role only fills in what is missing, and
adds what its worker must be able to do. `worker.role` counts before `worker.agent_profile`, which
names the same things. Knows no files and no lines.
"""

import re
from collections.abc import Iterator

from msgspec.structs import replace

from ..core.roles import PRESETS, READERS, WRITERS, Role, encode_role, is_known, only_reads
from ..core.spec import Task, TaskWorker
from ..core.spec_hosts import TOKEN
from .problems import Found, Path, excerpt
from .walker import nearest


class Roles:
    """The roles that one spec names; `used` are their resolved definitions as JSON, by name."""

    def __init__(self, written: dict[str, Role]) -> None:
        self._written = written
        self.used: dict[str, bytes] = {}

    def names(self) -> tuple[str, ...]:
        """Every role that is defined, those of fleet.toml first."""
        return tuple(dict.fromkeys((*self._written, *PRESETS)))

    def find(self, name: str) -> Role | None:
        """The definition of that name, its preset below it; None where there is none."""
        for spelled in (name, name.strip().lower()):
            written, preset = self._written.get(spelled), PRESETS.get(spelled)
            if written is not None or preset is not None:
                return _laid_over(written or Role(), preset or Role())
        return None

    def of(self, worker: TaskWorker) -> list[tuple[str, Role]]:
        """The definitions that a task builds on, the one that counts first."""
        found = []
        for name in dict.fromkeys((worker.role, worker.agent_profile)):
            if name is not None and (role := self.find(name)) is not None:
                found.append((name, role))
        return found

    def settled(self, task: Task) -> Task:
        """The task with what its roles say, where it says nothing itself."""
        worker = task.worker
        if worker is None or (worker.role is None and worker.agent_profile is None):
            return task
        found = self.of(worker)
        for name, role in found:
            self.used[name] = encode_role(role)
        roles = [role for _, role in found]
        is_agents = task.command is None
        model = next((one.model for one in roles if one.model), None) if is_agents else None
        capabilities = [*worker.capabilities, *(name for one in roles for name in one.capabilities)]
        worker = replace(
            worker,
            tool_profile=worker.tool_profile or self._profile(worker),
            tools=worker.tools or next((one.tools for one in roles if one.tools), []),
            capabilities=list(dict.fromkeys(capabilities)),
            model=worker.model or model,
        )
        limits = (one.timeout_seconds for one in roles if one.timeout_seconds is not None)
        seconds = task.timeout_seconds if task.timeout_seconds is not None else next(limits, None)
        return replace(task, worker=worker, timeout_seconds=seconds)

    def _profile(self, worker: TaskWorker) -> str | None:
        """The tool profile that the names give, where it is not `worker.role` alone that does."""
        for name in (worker.role, worker.agent_profile):
            if name is None:
                continue
            role = self.find(name)
            if role is not None and role.tool_profile is not None:
                return role.tool_profile
            if is_known(name):
                return None if name == worker.role else _posture(name)
        return None

    def problems(self, task: Task) -> Iterator[Found]:
        """Names that are no roles, where that matters."""
        worker = task.worker
        if worker is None:
            return
        if worker.role is not None and not self._is_role(worker.role):
            yield from self._unknown(worker.role, is_command=task.command is not None)
        profile = worker.agent_profile
        if profile is not None and not self._is_role(profile):
            near = nearest(profile, (*self.names(), *sorted(READERS | WRITERS)))
            guess = f"; did you mean {near}?" if near else ""
            yield Found(
                ("worker", "agent_profile"),
                f"{excerpt(profile)} is no saved profile{guess}",
                self._hint(profile),
                excerpt(profile),
            )

    def _is_role(self, name: str) -> bool:
        return self.find(name) is not None or is_known(name)

    def _unknown(self, name: str, *, is_command: bool) -> Iterator[Found]:
        """To an agent a name is a word in its prompt; but one that is nearly a reader's would let
        it write."""
        near = nearest(name, (*self.names(), *sorted(READERS | WRITERS)))
        guess = f"; did you mean {near}?" if near else ""
        path: Path = ("worker", "role")
        if is_command:
            message = f"{excerpt(name)} is no role, and says nothing to a command{guess}"
            yield Found(path, message, self._hint(name), excerpt(name))
        elif near and self._reads(near):
            message = f"{excerpt(name)} is no role, so it could write{guess}"
            yield Found(path, message, self._hint(name), excerpt(name))

    def _reads(self, name: str) -> bool:
        role = self.find(name)
        if role is not None and role.tool_profile is not None:
            return role.tool_profile == "read-only"
        return only_reads(name)

    def _hint(self, name: str) -> str:
        there = f"there are: {', '.join(self.names())}"
        if re.search(TOKEN, name):
            return f"to define it: [roles.{name}] in fleet.toml; {there}"
        return there


def role_problems(written: dict[str, Role]) -> Iterator[Found]:
    """What is wrong with `[roles]` by itself."""
    for name, role in written.items():
        path: Path = ("roles", name)
        if not re.search(TOKEN, name):
            yield Found(path, "a role's name is 1 to 128 of the characters A-Z a-z 0-9 . _ -")
        for field in ("tools", "capabilities"):
            for index, one in enumerate(getattr(role, field)):
                if not one.strip() or not one.isprintable():
                    yield Found((*path, field, index), f"{excerpt(one)} is no name")
        for field in ("instructions", "model"):
            text = getattr(role, field)
            if text is not None and (not text.strip() or "\0" in text):
                yield Found((*path, field), "must not be blank, nor hold a NUL character")


def _laid_over(role: Role, preset: Role) -> Role:
    fields = {name: getattr(role, name) or getattr(preset, name) for name in Role.__struct_fields__}
    return Role(**fields)


def _posture(name: str) -> str:
    return "read-only" if only_reads(name) else "read-write"
