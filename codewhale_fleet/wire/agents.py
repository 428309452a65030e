"""Agents in fleet.toml and in specs: what must hold for a definition, and for a task that uses one.

Promises that a definition without findings can be resolved and rendered into a command line, and
that nothing a task asks of its agent (a model, tools, a profile, a budget) is dropped: the agent's
definition holds it, or it is refused by name with what would help. Knows no files and no lines.
"""

import re
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from ..agents.command import PLACES
from ..agents.definition import Agent, encode_agent, reports
from ..agents.roster import Roster, base_of, resolve
from ..agents.usage import NO_READER, READERS, Reader
from ..core.spec import Budget, Task, TaskWorker
from ..core.spec_hosts import TOKEN
from .literals import is_secret_of
from .problems import Found, Path, excerpt
from .readers import reader_problems
from .unenforced import Waivers
from .walker import nearest

_FIELD_PLACES = {
    "model_flag": ("{model}",),
    "tools_flag": ("{tools}", "{tool_names}"),
    "resume_flag": ("{session}",),
    "cost_flag": ("{cost}",),
    "program_tool": ("{program}",),
}
_PLACE = re.compile(r"\{[a-z_]+\}")
_OURS = "FLEET_"
_OUTSIDE = re.compile(r"(?:~/|/|\$[A-Za-z_][A-Za-z0-9_]*(?:/|$))[^\0\r\n]*")
"""Paths that an agent's definition names: below HOME, absolute, or of a variable."""
_FIGURES = {
    "max_tokens": "tokens",
    "max_tool_calls": "tool calls",
    "max_cost_usd": "its cost",
}
_SAME_MODEL = ("inherit", "default", "auto")
"""Loadouts that choose nothing."""


# Definitions ----------------------------------------------------------------------------------


def roster_problems(roster: Roster) -> Iterator[Found]:
    """Everything that is wrong with `[agents]` and with `fleet.default_agent`."""
    for name, agent in roster.written.items():
        path: Path = ("agents", name)
        if not re.search(TOKEN, name):
            yield Found(path, "an agent's name is 1 to 128 of the characters A-Z a-z 0-9 . _ -")
        found = list(_definition(name, agent))
        yield from (Found((*path, *one.path), one.message, one.hint, one.value) for one in found)
    default = roster.default
    if default is not None and default not in roster.names():
        yield Found(("fleet", "default_agent"), *_unknown(default, roster), excerpt(default))


def _unknown(name: str, roster: Roster) -> tuple[str, str]:
    """The sentence about an agent that is not there, and what to do."""
    near = nearest(name, roster.names())
    guess = f"; did you mean {near}?" if near else ""
    there = "" if near else f" (there are: {', '.join(roster.names())})"
    return (
        f"{excerpt(name)} is no agent{guess or there}",
        f'to define it: [agents.{name}] command = ["…"] in fleet.toml'
        if re.search(TOKEN, name)
        else "",
    )


def _definition(name: str, written: Agent) -> Iterator[Found]:
    base = base_of(name, written)
    from ..agents.presets import PRESETS

    if base and base not in PRESETS:
        near = nearest(base, tuple(PRESETS))
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(PRESETS)}"
        yield Found(("preset",), f"{excerpt(base)} is no preset", hint, excerpt(base))
        return
    if not base and written.command is None:
        hint = f"or build upon one: preset = one of {', '.join(PRESETS)}"
        yield Found(("command",), "is needed: the program and its arguments", hint)
        return
    if isinstance(written.usage, str) and written.usage not in (*READERS, NO_READER):
        known = (*READERS, NO_READER)
        near = nearest(written.usage, known)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
        yield Found(("usage",), f"{excerpt(written.usage)} is no reader", hint)
        return
    whole = resolve(name, written)
    yield from _command(written, whole)
    yield from _flags(written)
    if written.model is not None and not whole.model_flag:
        yield Found(("model",), "nothing says how it is passed", "give model_flag as well")
    if written.quota is not None:
        yield from _patterns(written.quota.patterns)
    yield from _variables(written)
    yield from _files(written)
    if written.secrets:
        from .secrets import agent_problems

        yield from agent_problems(written)
    if isinstance(written.usage, Reader):
        yield from reader_problems(written.usage)


def _command(written: Agent, whole: Agent) -> Iterator[Found]:
    for index, element in enumerate(written.command or ()):
        path = ("command", index)
        if index == 0 and (not element.strip() or element in PLACES):
            yield Found(path, "is the program, and must be a name or a path")
        yield from _plain(element, path)
        if _PLACE.fullmatch(element) and element not in PLACES:
            near = nearest(element, PLACES)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(PLACES)}"
            yield Found(path, f"{element} marks nothing", hint)
    if whole.delivery == "stdin" and "{prompt}" in (whole.command or ()):
        hint = 'prompt = "argument" or "file"'
        yield Found(("prompt",), "is stdin, and the command has a place for {prompt}", hint)
    for index, element in enumerate(written.args):
        yield from _plain(element, ("args", index))


def _flags(written: Agent) -> Iterator[Found]:
    for field, places in _FIELD_PLACES.items():
        value = getattr(written, field)
        parts = [value] if isinstance(value, str) else value or ()
        for index, part in enumerate(parts):
            yield from _plain(part, (field, index))
        if parts and not any(place in part for part in parts for place in places):
            yield Found((field,), f"says nowhere {places[0]}")
    for field in ("profiles", "confined", "open_flag"):
        for profile, arguments in getattr(written, field).items():
            for index, part in enumerate(arguments):
                yield from _plain(part, (field, profile, index))


def _plain(text: str, path: Path) -> Iterator[Found]:
    if "\0" in text:
        yield Found(path, "must not contain a NUL character")


def _patterns(patterns: list[str]) -> Iterator[Found]:
    from .patterns import pattern_flaw

    for index, pattern in enumerate(patterns):
        if flaw := pattern_flaw(pattern):
            hint = "RE2 has no look-around and no back-references"
            path = ("quota", "patterns", index)
            yield Found(path, f"is no RE2 pattern: {flaw}", hint, excerpt(pattern))


def _variables(written: Agent) -> Iterator[Found]:
    from .validate import variable_problems

    for field in ("required", "allowlist"):
        names = getattr(written.environment, field) if written.environment else ()
        for index, name in enumerate(names):
            yield from variable_problems(name, ("environment", field, index), of_agent=True)
    for name, value in written.env.items():
        path = ("env", name)
        yield from variable_problems(name, path, valued=True)
        if name.startswith(_OURS):
            yield Found(path, "is the fleet's own", "names that begin with FLEET_ are set by it")
        yield from _plain(value, path)
        if is_secret_of(name, value):
            hint = f'keep it: fleet secret set {name}; and name it: secrets = ["{name}"]'
            yield Found(path, "holds what is plainly a secret; the ledger would keep it", hint)


def _files(written: Agent) -> Iterator[Found]:
    for field in ("reads", "keeps"):
        for index, path in enumerate(getattr(written, field)):
            if not _OUTSIDE.fullmatch(path) or "/../" in f"{path}/":
                message = f"{excerpt(path)} is no path outside the workspace"
                yield Found((field, index), message, "such as ~/.config/it, /etc/it or $IT_HOME")


def capability_problems(worker: TaskWorker, roster: Roster) -> Iterator[Found]:
    """Capabilities that a task asks for, and that fleet.toml does not list."""
    there = roster.capabilities
    for index, name in enumerate(worker.capabilities):
        if there is not None and name not in there:
            near = nearest(name, tuple(there))
            yield Found(
                ("worker", "capabilities", index),
                f"{excerpt(name)} is not among the capabilities of this machine"
                + (f"; did you mean {near}?" if near else f", which are: {_listed(there)}"),
                "no worker could run it; where it is wrong, add it to [fleet] capabilities in "
                "fleet.toml",
                excerpt(name),
            )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


# Tasks ----------------------------------------------------------------------------------------


class Agents:
    """The agents that one spec uses; `used` are their resolved definitions as JSON, by name."""

    def __init__(self, roster: Callable[[], Roster] | None) -> None:
        self._roster = roster
        self._read: Roster | None = None
        self._found: dict[str, Agent | None] = {}
        self.used: dict[str, bytes] = {}
        self.have_secrets = False
        """Whether one of them gets secrets."""

    @property
    def roster(self) -> Roster:
        """All agents there are, read when first asked for."""
        if self._read is None:
            self._read = self._roster() if self._roster is not None else Roster()
        return self._read

    def use(self, name: str) -> Agent | None:
        """The definition of an agent that the spec uses from now on; None where there is none."""
        if name not in self._found:
            agent = self._found[name] = self.roster.find(name)
            if agent is not None:
                self.used[name] = encode_agent(agent)
                self.have_secrets = self.have_secrets or bool(agent.secrets)
        return self._found[name]

    def unknown(self, name: str) -> tuple[str, str]:
        """The sentence about an agent that is not there, and what to do."""
        return _unknown(name, self.roster)

    def variables(self) -> set[str]:
        """Names of all variables that the used agents see."""
        names: set[str] = set()
        for agent in self._found.values():
            if agent is not None and agent.environment is not None:
                names.update(agent.environment.required, agent.environment.allowlist)
        return names

    def settled(self, task: Task) -> Task:
        """The task, with the default agent where it says neither what to run nor who does it."""
        if task.command is None and task.agent is None and self.roster.default is not None:
            return replace(task, agent=self.roster.default)
        return task

    def run_problems(self, budget: Budget, waivers: Waivers) -> Iterator[Found]:
        """What the run's budget caps in vain: figures that an agent of the run does not report."""
        for cap, figure in _FIGURES.items():
            if getattr(budget, cap) is None:
                continue
            silent = [n for n, one in self._found.items() if one and cap not in reports(one)]
            if silent:
                why = f'agent "{silent[0]}" does not report {figure}, so this cannot be held'
            elif not self.used:
                why = "no task has an agent, and nothing else reports what is capped here"
            else:
                continue
            hint = f"allow it unheld with --allow-unenforced budget.{cap}, or use max_seconds"
            if found := waivers.refusal(("budget", cap), f"tasks.budget.{cap}", why, hint):
                yield found

    def problems(self, task: Task, waivers: Waivers) -> Iterator[Found]:
        """Everything that one task (settled) asks of its agent in vain."""
        yield from _told(task)
        if task.agent is None:
            yield Found(
                ("command",),
                "is needed: there is no default agent that would do it",
                "give it a command or an agent, or set one for all in fleet.toml: [fleet] "
                'default_agent = "claude"',
            )
            return
        if not (task.instructions or "").strip():
            yield Found(("instructions",), "is needed: what the agent is to do")
        agent = self.use(task.agent)
        if agent is None:
            yield Found(("agent",), *_unknown(task.agent, self.roster), excerpt(task.agent))
            return
        if task.budget is not None:
            yield from cap_problems(task.agent, agent, task.budget, waivers)
        if task.worker is not None:
            yield from _wishes(task.agent, agent, task.worker, waivers)
        if task.retry_policy is not None and task.retry_policy.resume_session:
            yield from _resumed(task.agent, agent)


def _told(task: Task) -> Iterator[Found]:
    """What is wrong with what an agent is told, whoever it is."""
    texts: list[tuple[Path, str | None]] = [
        (("description",), task.description),
        (("objective",), task.objective),
        (("instructions",), task.instructions),
        *((("context", index), text) for index, text in enumerate(task.context)),
        *((("input_files", index), text) for index, text in enumerate(task.input_files)),
    ]
    if worker := task.worker:
        texts += [(("worker", "role"), worker.role), (("worker", "model"), worker.model)]
        for index, tool in enumerate(worker.tools):
            if not tool.isprintable() or not tool.strip() or "," in tool:
                path: Path = ("worker", "tools", index)
                yield Found(path, f"{excerpt(tool)} is no tool's name", value=excerpt(tool))
        if worker.model is not None and not _is_model(worker.model):
            hint = "one word, without = and quotes, and no - in front"
            yield Found(("worker", "model"), f"{excerpt(worker.model)} is no model's name", hint)
    for path, text in texts:
        if text is not None and "\0" in text:
            yield Found(path, "must not contain a NUL character")


def _is_model(name: str) -> bool:
    plain = name.isascii() and name.isprintable() and not name.startswith("-")
    return bool(name) and plain and not any(sign in name for sign in " ='\"")


def cap_problems(name: str, agent: Agent, budget: Budget, waivers: Waivers) -> Iterator[Found]:
    """What a task's budget caps in vain: figures that one of its agents does not report."""
    held = reports(agent)
    for cap, figure in _FIGURES.items():
        if getattr(budget, cap) is None or cap in held:
            continue
        why = f'agent "{name}" does not report {figure}, so this cannot be held'
        hint = f"allow it unheld with --allow-unenforced budget.{cap}, or use max_seconds"
        if found := waivers.refusal(("budget", cap), f"tasks.budget.{cap}", why, hint):
            yield found


def _wishes(name: str, agent: Agent, worker: TaskWorker, waivers: Waivers) -> Iterator[Found]:
    wishes = {
        "model": (worker.model, agent.model_flag, "nothing says how it is told a model"),
        "tools": (worker.tools, agent.tools_flag, "nothing says how its tools are limited"),
        "tool_profile": (
            worker.tool_profile == "read-write",  # what only reads is held by a sandbox besides
            "read-write" in agent.profiles,
            "nothing says how it is kept read-write",
        ),
    }
    for field, (wanted, holds, why) in wishes.items():
        if wanted and not holds:
            found = waivers.refusal(
                ("worker", field), f"tasks.worker.{field}", f'for agent "{name}" {why}'
            )
            if found:
                yield found
    if worker.tool_profile not in (None, "read-only", "read-write"):
        yield from _unheld(waivers, "tool_profile", "only read-only and read-write are held")
    for field in ("loadout", "model_class"):
        value = getattr(worker, field)
        if value is not None and value not in _SAME_MODEL:
            yield from _unheld(
                waivers, field, "nothing maps classes to models; worker.model names one"
            )


def _resumed(name: str, agent: Agent) -> Iterator[Found]:
    path: Path = ("retry_policy", "resume_session")
    if not agent.resume_flag:
        why = f'for agent "{name}" nothing says how it goes on with a conversation'
        yield Found(path, why, f"leave it out, or give resume_flag in [agents.{name}]")
    elif agent.reader is None or not agent.reader.session:
        why = f'nothing tells by what name agent "{name}" knows its conversations'
        yield Found(path, why, f"leave it out, or give a reader with session in [agents.{name}]")


def _unheld(waivers: Waivers, field: str, why: str) -> Iterator[Found]:
    if found := waivers.refusal(("worker", field), f"tasks.worker.{field}", why):
        yield found
