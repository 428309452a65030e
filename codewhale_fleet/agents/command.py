"""From a definition to the command line of one attempt.

Pure. Promises that the prompt is one argument, one path, or not in the command at all, as the
definition says; that what a task chooses (model, tools, profile) stands where the definition marks
it; and that nothing else is filled in: a prompt that holds braces is left as it is.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from ..core.roles import Profile
from .definition import Agent

ARGUMENT_BYTES = 131_071
"""The longest argument that Linux gives to a program (MAX_ARG_STRLEN less its NUL)."""

PLACES = ("{model}", "{tools}", "{profile}", "{cost}", "{session}", "{prompt}")
"""Elements of a command that stand for arguments; what is not marked follows in this order."""

FLEET_TOOL = "fleet"
"""The program that an agent with a list of tools may call besides: how it reports to the fleet."""

_PROGRAM = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_BRACKETS = re.compile(r"\(.*", re.DOTALL)


class Choice(Struct, frozen=True, kw_only=True):
    """What one attempt chooses of what its agent can do."""

    model: str = ""
    tools: tuple[str, ...] = ()
    profile: Profile = "read-write"
    confined: bool = False
    """The fleet's own sandbox holds the profile."""
    session: str = ""
    """Conversation to continue; empty: a new one."""
    cost: float | None = None
    """What is left of max_cost_usd."""


def command_line(agent: Agent, choice: Choice, prompt: str, path: str) -> list[str]:
    """The argv of an attempt; `path` is the absolute path of the file that holds the prompt."""
    filled = _filled(agent, choice)
    if agent.delivery == "argument":
        filled["{prompt}"] = [as_argument(prompt, path)]
    elif agent.delivery == "file":
        filled["{prompt}"] = [path]
    made: list[str] = []
    for element in agent.command or ():
        made += filled.pop(element, []) if element in PLACES else [element]
    last = filled.pop("{prompt}", [])
    for place in PLACES:
        made += filled.get(place, [])
    return [*made, *agent.args, *last] if last else [*made, *agent.args]


def as_argument(prompt: str, path: str) -> str:
    """The prompt where it fits into one argument, else a sentence that points to its file."""
    if len(prompt) <= ARGUMENT_BYTES // 4 or len(prompt.encode()) <= ARGUMENT_BYTES:
        return prompt
    return f"Read the file {path} and do what it says. It is your whole task."


def rules_of(agent: Agent, tools: Iterable[str]) -> list[str]:
    """Tools as the agent calls them: programs by `program_tool`, all others as they are."""
    form = agent.program_tool
    if not form:
        return list(dict.fromkeys(tools))
    rules = []
    for tool in (*tools, FLEET_TOOL):
        is_program = _PROGRAM.fullmatch(tool) is not None and not tool.startswith("mcp__")
        rules.append(form.replace("{program}", tool) if is_program else tool)
    return list(dict.fromkeys(rules))


def _filled(agent: Agent, choice: Choice) -> dict[str, list[str]]:
    """Marked place -> its arguments; a place without arguments is left out."""
    found: dict[str, list[str]] = {}
    if model := choice.model or agent.model:
        found["{model}"] = [part.replace("{model}", model) for part in agent.model_flag]
    if choice.tools and agent.tools_flag:
        rules = rules_of(agent, choice.tools)
        names = list(dict.fromkeys(_BRACKETS.sub("", rule) for rule in rules))
        found["{tools}"] = [
            part.replace("{tool_names}", ",".join(names)).replace("{tools}", ",".join(rules))
            for part in agent.tools_flag
        ]
    elif not choice.tools:
        found["{tools}"] = agent.open_flag.get(choice.profile, [])
    profiles = agent.profiles
    if choice.confined:
        profiles = {**profiles, **agent.confined}
    found["{profile}"] = profiles.get(choice.profile, [])
    if choice.session:
        found["{session}"] = [
            part.replace("{session}", choice.session) for part in agent.resume_flag
        ]
    if choice.cost is not None:
        found["{cost}"] = [part.replace("{cost}", f"{choice.cost:.6g}") for part in agent.cost_flag]
    return {place: arguments for place, arguments in found.items() if arguments}
