"""Agents in fleet.toml and in specs: what a definition may say, and what a task may ask of one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert, to_builtins

from codewhale_fleet.agents.definition import Agent, decode_agent, reports
from codewhale_fleet.agents.presets import PRESETS, TRIED
from codewhale_fleet.agents.roster import Roster, resolve
from codewhale_fleet.agents.usage import READERS
from codewhale_fleet.core.tasks import decode_task
from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.agents import roster_problems
from codewhale_fleet.wire.problems import SpecProblems
from codewhale_fleet.wire.specfile import LoadedSpec, load

OWN = '[agents.own]\ncommand = ["own"]\n'


def roster(text: str) -> Roster:
    return fleetfile.parse(text.encode()).roster


def flaws(text: str) -> dict[str, tuple[int, str, str]]:
    """Field -> (line, message, hint) of everything that is wrong with a fleet.toml."""
    with pytest.raises(SpecProblems) as caught:
        fleetfile.parse(text.encode())
    return {one.field: (one.line, one.message, one.hint) for one in caught.value.problems}


def a_task(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "agent": "claude", "instructions": "do it", **fields}


def spec(*tasks: dict[str, Any], file: str = "", waive: str = "", **fields: Any) -> LoadedSpec:
    text = json.dumps({**fields, "tasks": tasks})
    waivers = waive.split()
    return load(text.encode(), file="s.json", waivers=waivers, roster=lambda: roster(file))


def refusal(*tasks: dict[str, Any], file: str = "", **fields: Any) -> tuple[str, str, str]:
    """Field, message and hint of the one thing that is wrong."""
    with pytest.raises(SpecProblems) as caught:
        spec(*tasks, file=file, **fields)
    (one,) = caught.value.problems
    return one.field, one.message, one.hint


# Definitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_breaks_no_rule_and_survives_the_ledger(name: str) -> None:
    agent = roster(f"[agents.{name}]\n").find(name)
    assert agent is not None and agent.program == name
    assert decode_agent(spec(a_task(agent=name)).agents[name]) == agent


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_written_out_in_full_is_the_same_preset(name: str) -> None:
    written = convert(to_builtins(PRESETS[name]), Agent)
    assert Roster(written={name: written}).find(name) == resolve(name, Agent())


def test_tried_are_presets_only() -> None:
    assert set(PRESETS) >= TRIED


def test_a_definition_without_a_command_builds_upon_the_preset_of_its_name() -> None:
    agent = roster('[agents.claude]\nargs = ["--max-turns", "9"]\nmodel = "sonnet"\n').find(
        "claude"
    )
    assert agent is not None
    assert agent.command == PRESETS["claude"].command
    assert agent.args == ["--max-turns", "9"]
    assert (agent.model, agent.reader) == ("sonnet", READERS["claude-stream-json"])


def test_a_definition_builds_upon_the_preset_that_it_names() -> None:
    text = '[agents.fast]\npreset = "claude"\nenvironment.required = ["MY_PLACE"]\n'
    agent = roster(text).find("fast")
    assert agent is not None and agent.environment is not None
    assert agent.environment.required == ["MY_PLACE"]
    assert "ANTHROPIC_API_KEY" in agent.environment.allowlist


def test_a_command_of_its_own_makes_it_stand_alone() -> None:
    agent = roster('[agents.claude]\ncommand = ["my-claude"]\n').find("claude")
    assert agent == Agent(command=["my-claude"])


def test_a_reader_may_be_declared_in_place() -> None:
    text = OWN + 'usage = { tokens_in = [{ path = "in" }], tokens_out = [{ path = "out" }] }\n'
    agent = roster(text).find("own")
    assert agent is not None and reports(agent) == {"max_tokens"}


def test_usage_none_turns_the_reader_of_a_preset_off() -> None:
    agent = roster('[agents.claude]\nusage = "none"\n').find("claude")
    assert agent is not None and agent.reader is None and reports(agent) == frozenset()


@pytest.mark.parametrize(
    ("text", "field", "line", "words"),
    [
        ("[agents.x]\n", "agents.x.command", 1, "is needed"),
        ('[agents.x]\npreset = "cluade"\n', "agents.x.preset", 2, "is no preset"),
        ('[agents.x]\ncommand = []\n', "agents.x.command", 2, "must not be empty"),
        ('[agents.x]\ncommand = [" "]\n', "agents.x.command[0]", 2, "is the program"),
        ('[agents.x]\ncommand = ["{model}"]\n', "agents.x.command[0]", 2, "is the program"),
        ('[agents.x]\ncommand = "x"\n', "agents.x.command", 2, "must be a list of strings"),
        ('[agents.x]\ncommand = ["x", "{promt}"]\n', "agents.x.command[1]", 2, "marks nothing"),
        ('[agents.x]\ncommand = ["x", "{prompt}"]\n', "agents.x.prompt", 1, "has a place for"),
        ('[agents.x]\ncommand = ["x", "a\\u0000b"]\n', "agents.x.command[1]", 2, "NUL"),
        (OWN + 'prompt = "stdn"\n', "agents.own.prompt", 3, "must be one of"),
        (OWN + 'usage = "claude"\n', "agents.own.usage", 3, "is no reader"),
        (OWN + 'usage = { tokns = [] }\n', "agents.own.usage.tokns", 3, "unknown field"),
        (OWN + 'usage.note = [{ path = "a", take = "sum" }]\n', "agents.own.usage.note[0].take",
         3, "must be one of last"),
        (OWN + 'usage.tokens_in = [{ take = "sum" }]\n', "agents.own.usage.tokens_in[0].path",
         3, "is needed"),
        (OWN + 'usage.note = [{ path = "a", when = { b = { c = 1 } } }]\n',
         "agents.own.usage.note[0].when.b", 3, "must be a text"),
        (OWN + 'model = "m"\n', "agents.own.model", 3, "nothing says how it is passed"),
        (OWN + 'model_flag = ["--model"]\n', "agents.own.model_flag", 3, "says nowhere {model}"),
        (OWN + 'quota.patterns = ["(?=a)"]\n', "agents.own.quota.patterns[0]", 3, "no RE2"),
        (OWN + 'environment.allowlist = ["A B="]\n', "agents.own.environment.allowlist[0]",
         3, "is no variable's name"),
        (OWN + 'env = { FLEET_ID = "x" }\n', "agents.own.env.FLEET_ID", 3, "is the fleet's own"),
        (OWN + 'env = { KEY = "sk-abcdefghijklmnop0123" }\n', "agents.own.env.KEY", 3, "secret"),
        (OWN + 'profiles.read-onyl = []\n', "agents.own.profiles.read-onyl", 3, "must be one of"),
        ('["agents"."a b"]\ncommand = ["x"]\n', 'agents."a b"', 1, "1 to 128"),
        ('[fleet]\ndefault_agent = "cluade"\n', "fleet.default_agent", 2, "did you mean claude?"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_definition_is_told_with_its_line(
    text: str, field: str, line: int, words: str
) -> None:
    found = flaws(text)
    assert list(found) == [field]
    assert found[field][0] == line
    assert words in found[field][1]


def test_a_name_that_looks_secret_is_passed_on_by_presets_only() -> None:
    assert spec(a_task()).environment == sorted(PRESETS["claude"].environment.allowlist)  # type: ignore[union-attr]
    field, message, hint = refusal(
        a_task(workspace={"environment": {"allowlist": ["ANTHROPIC_API_KEY"]}})
    )
    assert field == "tasks[0].workspace.environment.allowlist[0]"
    assert "looks like a secret's name" in message
    assert hint == 'make it a secret of the task: secrets = ["ANTHROPIC_API_KEY"]'
    for names in ('required = ["MY_TOKEN"]', 'allowlist = ["MY_TOKEN"]'):
        (place, told), *_ = flaws(f"{OWN}environment.{names}\n").items()
        assert place == f"agents.own.environment.{names.partition(' ')[0]}[0]"
        assert told[2] == 'make it a secret of the agent: secrets = ["MY_TOKEN"]'


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("MY_API_KEY", "0123456789abcdef0123", True),
        ("MY_API_KEY", "env:OTHER", False),
        ("MAX_OUTPUT_TOKENS", "8000", False),
        ("MY_URL", "0123456789abcdef0123", False),
        ("MY_URL", "https://hooks.slack.com/services/T0000000/B0000000/XXXXXXXXXXXXXXXX", True),
        ("TOKEN_FILE", "/home/me/token-2", False),
    ],
)
def test_a_value_is_a_secret_by_itself_or_because_its_name_says_so(
    name: str, value: str, secret: bool
) -> None:
    from codewhale_fleet.wire.literals import is_secret_of

    assert is_secret_of(name, value) is secret


def test_a_secret_anywhere_in_fleet_toml_is_refused_with_its_line_and_not_shown() -> None:
    plain = "sk-abcdefghijklmnop0123"
    text = f'[agents.own]\ncommand = ["own", "--key={plain}"]\nargs = ["{plain}"]\n'
    found = flaws(text + f'[alerts.adapters.x]\nurl = "{plain}"\n')
    for field, line in (("agents.own.command[1]", 2), ("agents.own.args[0]", 3)):
        assert found[field][:2] == (line, "holds what is plainly a secret")
    assert found["alerts.adapters.x.url"][0] == 5
    assert plain not in str(found)


# Tasks ----------------------------------------------------------------------------------------


def test_a_task_takes_the_default_agent_where_it_names_none() -> None:
    task = {"id": "a", "instructions": "do it"}
    made = spec(task, file='[fleet]\ndefault_agent = "codex"\n')
    assert decode_task(made.tasks[0]).agent == "codex"
    assert list(made.agents) == ["codex"]


def test_without_a_default_agent_the_error_says_how_to_set_one() -> None:
    field, message, hint = refusal({"id": "a", "instructions": "do it"})
    assert field == "tasks[0].command"
    assert "no default agent" in message
    assert 'default_agent = "claude"' in hint


def test_an_unknown_agent_is_told_with_the_nearest_and_how_to_define_it() -> None:
    field, message, hint = refusal(a_task(agent="cluade"))
    assert (field, message) == ("tasks[0].agent", '"cluade" is no agent; did you mean claude?')
    assert "[agents.cluade]" in hint


def test_an_agent_needs_instructions() -> None:
    assert refusal({"id": "a", "agent": "claude"})[:2] == (
        "tasks[0].instructions", "is needed: what the agent is to do",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"instructions": "a\0b"}, "tasks[0].instructions"),
        ({"context": ["ok", "\0"]}, "tasks[0].context[1]"),
        ({"input_files": ["a\0"]}, "tasks[0].input_files[0]"),
        ({"objective": "x\0"}, "tasks[0].objective"),
    ],
)
def test_a_prompt_cannot_hold_a_nul(fields: dict[str, Any], field: str) -> None:
    assert refusal(a_task(**fields))[:2] == (field, "must not contain a NUL character")


@pytest.mark.parametrize("cap", ["max_tokens", "max_tool_calls", "max_cost_usd"])
def test_a_cap_is_held_where_the_agent_reports_what_it_counts(cap: str) -> None:
    assert spec(a_task(budget={cap: 10})).waived == []


def test_a_cap_on_what_the_agent_does_not_report_is_refused_by_name() -> None:
    field, message, hint = refusal(a_task(agent="codewhale", budget={"max_tokens": 10}))
    assert field == "tasks[0].budget.max_tokens"
    assert message == 'agent "codewhale" does not report tokens, so this cannot be held'
    assert "--allow-unenforced budget.max_tokens" in hint and "max_seconds" in hint
    waived = spec(a_task(agent="codewhale", budget={"max_tokens": 10}), waive="budget.max_tokens")
    assert waived.waived == ["budget.max_tokens"]


def test_a_cap_of_the_run_needs_every_agent_to_report_it() -> None:
    assert spec(a_task(), budget={"max_cost_usd": 5, "max_seconds": 60}).spec.budget is not None
    both = (a_task(), a_task(id="b", agent="codex"))
    assert refusal(*both, budget={"max_cost_usd": 5})[:2] == (
        "budget.max_cost_usd", 'agent "codex" does not report its cost, so this cannot be held',
    )  # fmt: skip
    plain = {"id": "a", "command": "true"}
    assert refusal(plain, budget={"max_tokens": 5})[0] == "budget.max_tokens"
    assert spec(plain, budget={"max_seconds": 5}).waived == []


@pytest.mark.parametrize(
    ("agent", "worker", "field", "words"),
    [
        ("own", {"model": "m"}, "model", "how it is told a model"),
        ("codex", {"tools": ["git"]}, "tools", "how its tools are limited"),
        ("own", {"tool_profile": "read-write"}, "tool_profile", "how it is kept read-write"),
        ("claude", {"tool_profile": "custom"}, "tool_profile", "only read-only and read-write"),
        ("claude", {"loadout": "fast"}, "loadout", "nothing maps classes to models"),
        ("claude", {"model_class": "fast"}, "model_class", "nothing maps classes to models"),
    ],
)
def test_what_an_agent_cannot_hold_is_refused_and_can_be_waived(
    agent: str, worker: dict[str, Any], field: str, words: str
) -> None:
    task = a_task(agent=agent, worker=worker)
    found, message, _ = refusal(task, file=OWN)
    assert found == f"tasks[0].worker.{field}"
    assert words in message
    assert spec(task, file=OWN, waive=f"worker.{field}").waived == [f"worker.{field}"]


@pytest.mark.parametrize(
    "worker",
    [
        {"model": "opus", "tools": ["Bash", "git"], "role": "reviewer"},
        {"role": "release-triage", "tool_profile": "read-only", "loadout": "inherit"},
    ],
)
def test_what_an_agent_can_hold_is_taken(worker: dict[str, Any]) -> None:
    assert spec(a_task(worker=worker)).waived == []


@pytest.mark.parametrize("model", ["", " ", "a b", "-x", 'a"', "a=b", "é"])
def test_a_models_name_is_one_plain_word(model: str) -> None:
    assert refusal(a_task(worker={"model": model}))[0] == "tasks[0].worker.model"


@pytest.mark.parametrize(
    ("fields", "file", "said"),
    [
        ({"agent": "aider"}, "", 'for agent "aider" nothing says how it goes on'),
        ({"agent": "own"}, OWN + 'resume_flag = ["-r", "{session}"]\n', "by what name"),
        ({"agent": None, "command": "true"}, "", "a command has no conversation"),
    ],
)
def test_a_conversation_that_cannot_go_on_is_refused(
    fields: dict[str, Any], file: str, said: str
) -> None:
    task = a_task(**fields, retry_policy={"resume_session": True})
    field, message, hint = refusal(task, file=file)
    assert field == "tasks[0].retry_policy.resume_session"
    assert said in message and hint


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
def test_a_conversation_goes_on_with_the_agents_that_can(name: str) -> None:
    assert spec(a_task(agent=name, retry_policy={"resume_session": True})).tasks
    isolated = {"retry_policy": {"resume_session": True}, "workspace": {"isolation": "worktree"}}
    assert spec(a_task(agent=name, **isolated)).tasks


def test_a_machine_can_do_what_is_asked_of_it_unless_it_says_what_it_can() -> None:
    task = a_task(worker={"capabilities": ["rust", "github"]})
    assert spec(task).tasks
    assert spec(task, file='[fleet]\ncapabilities = ["github", "rust", "gpu"]\n').tasks
    field, message, hint = refusal(task, file='[fleet]\ncapabilities = ["github", "rusty"]\n')
    assert field == "tasks[0].worker.capabilities[0]"
    missing = '"rust" is not among the capabilities of this machine'
    assert message == f"{missing}; did you mean rusty?"
    assert "[fleet] capabilities" in hint
    own = {"id": "a", "command": "true", "worker": {"capabilities": ["gpu"]}}
    field, _, _ = refusal(own, file="[fleet]\ncapabilities = []\n")
    assert field == "tasks[0].worker.capabilities[0]"


def test_what_is_for_agents_is_refused_beside_a_command() -> None:
    field, message, _ = refusal({"id": "a", "command": "true", "context": ["x"]})
    assert field == "tasks[0].context"
    assert message == "it is for agents, and this task has a command"


def test_an_agent_may_say_itself_where_a_promised_artifact_lies() -> None:
    assert spec(a_task(expected_artifacts=["log", "report", "receipt"])).waived == []


def test_the_prompt_is_an_artifact_that_no_task_gives_a_place() -> None:
    assert refusal(a_task(artifacts={"prompt": "p.md"}))[0] == "tasks[0].artifacts.prompt"


names = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(Agent.__struct_fields__), values, max_size=4),
    st.dictionaries(st.sampled_from(("model", "tools", "role", "tool_profile")), values),
)
def test_whatever_stands_in_a_definition_is_taken_or_refused_in_a_sentence(
    fields: dict[str, Any], worker: dict[str, Any]
) -> None:
    try:
        written = Roster(written={"x": convert(fields, Agent)})
    except ValueError:
        return
    if list(roster_problems(written)):
        return
    try:
        text = json.dumps([a_task(agent="x", worker=worker)])
        load(text.encode(), file="s.json", roster=lambda: written)
    except FleetError as error:
        assert error.sentence
