"""Agents, as tables: what fleet.toml may say of them, how streams are read, and the presets."""

from msgspec import inspect as kinds
from tables import default_words, table, type_words

from codewhale_fleet.agents import definition, usage
from codewhale_fleet.agents.definition import Agent, Limits, Variables, reports
from codewhale_fleet.agents.presets import PRESETS, TRIED
from codewhale_fleet.agents.roster import resolve
from codewhale_fleet.wire.schema import _docstrings as docstrings

HEADS = ("field", "type", "default", "meaning")


def blocks() -> dict[str, str]:
    """Every table of docs/reference/agents.md."""
    words = docstrings(definition)
    made = {kind.__name__: _of(kind, words[kind.__name__]) for kind in (Agent, Variables, Limits)}
    text = (usage.__doc__ or "").partition("meet in this agreement.\n\n")[2]
    made["reader"] = f"```\n{text.strip()}\n```\n"
    made["presets"] = _presets()
    return made


def _of(kind: type, words: dict[str, str]) -> str:
    known = kinds.type_info(kind)
    assert isinstance(known, kinds.StructType)
    rows = [
        (
            f"`{field.name}`",
            _linked(type_words(field.type)),
            default_words(field),
            " ".join(words.get(field.name, "").split()),
        )
        for field in known.fields
    ]
    return table(HEADS, rows)


def _linked(text: str) -> str:
    """Types have their headings under the names of their fields."""
    for name, heading in (("reader", "readers"), ("variables", "environment"), ("limits", "quota")):
        text = text.replace(f"(#{name})", f"(#{heading})")
    return text.replace("(#secretref)", "(task-spec.md#secretref)")


def _presets() -> str:
    rows = []
    for name in PRESETS:
        agent = resolve(name, Agent())
        rows.append(
            (
                f"`{name}`",
                "yes" if name in TRIED else "**untried**",
                agent.delivery,
                ", ".join(f"`{cap}`" for cap in sorted(reports(agent))) or "none",
                "yes" if agent.model_flag else "no",
                "yes" if agent.tools_flag else "no",
                "yes" if "read-only" in agent.profiles else "no",
                "yes" if agent.resume_flag else "no",
            )
        )
    heads = (
        "preset", "tried with the real program", "prompt", "budgets that hold", "model", "tools",
        "read-only", "goes on with a conversation",
    )  # fmt: skip
    return table(heads, rows)
