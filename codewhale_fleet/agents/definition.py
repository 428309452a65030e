"""What fleet.toml may say about an agent, and what that comes to with its preset.

A definition is data: the command, how the prompt reaches it, how its stream is read, what it needs
of the environment. `resolved` is the only step: what is written is laid over the preset, so that
what a run records needs neither the file nor this version's presets to be read again. Pure; knows
neither tasks nor files.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from typing import Annotated, Literal

from msgspec import Meta, convert, json, to_builtins

from ..core.posture import Doer
from ..core.roles import Profile
from ..core.spec_hosts import Seconds, SecretRef, Written
from .usage import NO_READER, READERS, Reader

Argument = str
"""One argument of a command; `{…}` in it is filled in."""
Delivery = Literal["stdin", "argument", "file"]


class Variables(Written, frozen=True, kw_only=True):
    """Variables of the asker that the agent's process sees, by whole names.

    Unlike those of a task, they may look like secrets: an agent needs its own key.
    """

    required: list[str] = []
    """Without these no run with this agent begins."""
    allowlist: list[str] = []
    """Passed on when they are set."""


class Limits(Written, frozen=True, kw_only=True):
    """How the agent says that a usage limit was reached."""

    patterns: list[str] = []
    """RE2, looked for in the agent's words of failure and in the end of its output; a group named
    until says when it may be asked again."""
    wait_seconds: Seconds | None = None
    """How long it rests when no time is named; absent: 60 s, doubled each time, at most 1 h."""


class Agent(Written, frozen=True, kw_only=True):
    """[agents.NAME]: a program that follows instructions."""

    preset: str | None = None
    """Definition to build upon; absent: the preset of the same name, where no command is given."""
    description: str | None = None
    """For people."""
    command: Annotated[list[Argument], Meta(min_length=1)] | None = None
    """Program and arguments. Elements {model}, {tools}, {profile}, {cost}, {session} and {prompt}
    mark where those go; what is not marked follows at the end, in this order."""
    args: list[str] = []
    """Further arguments, before {prompt} where that comes last; those of the preset come first."""
    prompt: Delivery | None = None
    """How the prompt reaches it: standard input (the default), one argument, or a file's path."""
    usage: str | Reader | None = None
    """How its stream is read: a reader's name, or a declaration; absent: it is not read, and no
    budget of tokens, calls or cost can be held. none: not read, whatever the preset says."""
    quota: Limits | None = None
    """How it tells of a usage limit."""
    model: str | None = None
    """The model where a task names none."""
    model_flag: list[Argument] = []
    """Arguments that choose {model}; empty: a task may not name a model."""
    tools_flag: list[Argument] = []
    """Arguments that allow {tools} (with commas between) and nothing else; {tool_names} are the
    same without what stands in brackets. Empty: a task may not name tools."""
    open_flag: dict[Profile, list[Argument]] = {}
    """Tool profile to the arguments where a task names no tools; they stand at {tools}."""
    program_tool: str | None = None
    """How a {program} is allowed, where a tool's name is all lower case: "Bash({program}:*)"."""
    profiles: dict[Profile, list[Argument]] = {}
    """Tool profile to the arguments that hold it. read-write holds where a task says nothing."""
    confined: dict[Profile, list[Argument]] = {}
    """The same where the fleet's sandbox holds it, for one whose own cannot work in another."""
    resume_flag: list[Argument] = []
    """Arguments that continue {session}; empty: it always begins anew."""
    cost_flag: list[Argument] = []
    """Arguments by which it holds what is left of max_cost_usd, {cost}, by itself too."""
    env: dict[str, str] = {}
    """Variables with the values that it gets; never secrets."""
    environment: Variables | None = None
    """Variables it needs, its keys among them; HOME and PATH are always there."""
    network: bool | None = None
    """It can do nothing without the network: refused for tasks that have none."""
    reads: list[str] = []
    """Its configuration: paths that it reads even where HOME is hidden, `~/…` or `$VARIABLE`."""
    keeps: list[str] = []
    """Its sessions and logins: paths that it must be able to write wherever it is confined, but
    for what `reads` names in them. With a / at the end: a directory, made where there is none."""
    secrets: list[str | SecretRef] = []
    """Secrets that it gets besides those of its task, each by a variable."""

    @property
    def delivery(self) -> Delivery:
        """How the prompt reaches it."""
        return self.prompt or "stdin"

    @property
    def reader(self) -> Reader | None:
        """How its stream is read, once `resolved`; None: it is not."""
        return self.usage if isinstance(self.usage, Reader) else None

    @property
    def program(self) -> str:
        """What must be on PATH."""
        return self.command[0] if self.command else ""


def resolved(written: Agent, preset: Agent | None) -> Agent:
    """What is written, laid over the preset: lists of arguments and names add up, all else wins.

    The reader stands in it by its declaration; a name that is none must have been refused.
    """
    fields = to_builtins(preset) if preset is not None else {}
    said = to_builtins(written)
    said.pop("preset", None)
    fields["args"] = [*fields.get("args", ()), *said.pop("args", ())]
    fields["environment"] = _joined(fields.get("environment"), said.pop("environment", None))
    for paths in ("reads", "keeps"):
        fields[paths] = list(dict.fromkeys((*fields.get(paths, ()), *said.pop(paths, ()))))
    fields["secrets"] = [*fields.get("secrets", ()), *said.pop("secrets", ())]
    if fields["secrets"] and fields["environment"]:
        _leave_to_secrets(fields["environment"], fields["secrets"])
    for table in ("profiles", "confined", "open_flag", "env"):
        fields[table] = {**fields.get(table, {}), **said.pop(table, {})}
    fields.update(said)
    name = fields.get("usage")
    if isinstance(name, str):
        fields["usage"] = to_builtins(READERS[name]) if name != NO_READER else None
    return convert({key: value for key, value in fields.items() if value}, Agent)


def _leave_to_secrets(names: dict[str, list[str]], secrets: list[str | dict[str, str]]) -> None:
    """What comes as a secret is not passed on besides, where the preset names it too."""
    carried = {one if isinstance(one, str) else one.get("as", one["key"]) for one in secrets}
    for field, known in names.items():
        names[field] = [name for name in known if name not in carried]


def _joined(
    one: dict[str, list[str]] | None, other: dict[str, list[str]] | None
) -> dict[str, list[str]]:
    names = {}
    for field in ("required", "allowlist"):
        both = [*(one or {}).get(field, ()), *(other or {}).get(field, ())]
        if both:
            names[field] = list(dict.fromkeys(both))
    return names


def doer_of(agent: Agent) -> Doer:
    """What trust needs to know of an agent."""
    return Doer(
        reads=tuple(agent.reads),
        keeps=tuple(agent.keeps),
        profiles=frozenset(agent.profiles),
        left=frozenset(agent.confined),
    )


def reports(agent: Agent) -> frozenset[str]:
    """The caps (max_tokens, …) that hold for this agent: its reader tells what they count."""
    reader = agent.reader
    if reader is None:
        return frozenset()
    needs = {
        "max_tokens": reader.tokens_in and reader.tokens_out,
        "max_tool_calls": reader.tool_calls,
        "max_cost_usd": reader.cost_usd,
    }
    return frozenset(cap for cap, rules in needs.items() if rules)


_decoder = json.Decoder(Agent)


def decode_agent(raw: bytes) -> Agent:
    """A resolved definition, from the JSON that a run keeps."""
    return _decoder.decode(raw)


def encode_agent(agent: Agent) -> bytes:
    """The JSON of a resolved definition."""
    return json.encode(agent)
