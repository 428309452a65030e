"""What agents used, in figures and in words; agents that rest after a usage limit. Pure."""

from typing import Any

from ..core import events as e
from ..core.state import State
from .units import duration, one_line

WORDS = {"max_tokens": "tokens", "max_tool_calls": "tool calls", "max_cost_usd": "cost"}


def count(number: float) -> str:
    """A large number as people say it: `812`, `12.4k`, `1.2M`."""
    if number < 1000:
        return f"{number:.0f}"
    for sign in "kM":
        number /= 1000
        if number < 999.95:
            return f"{number:.1f}".removesuffix(".0") + sign
    return f"{number / 1000:,.1f}".removesuffix(".0") + "G"


def money(cost: float) -> str:
    """US dollars: `$0.18`; of a few cents also parts of them: `$0.0125`."""
    if cost >= 0.0995:
        return f"${cost:,.2f}"
    places = f"{cost:.4f}".rstrip("0").partition(".")[2]
    return f"$0.{places:0<2}"


def said(usage: e.Usage) -> str:
    """Tokens and cost in a few words: `12.4k tokens  $0.18`; empty where nothing was used."""
    tokens = usage.tokens_in + usage.tokens_out
    parts = [f"{count(tokens)} tokens"] if tokens else []
    if usage.cost_usd:
        parts.append(money(usage.cost_usd))
    return "  ".join(parts)


def figures(usage: e.Usage) -> dict[str, float]:
    """Usage as an answer tells it, with all its keys."""
    return {
        "tokens": usage.tokens_in + usage.tokens_out,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "tokens_cached": usage.tokens_cached,
        "tool_calls": usage.tool_calls,
        "cost_usd": round(usage.cost_usd, 6),
    }


def facts(agent: e.AgentFacts) -> dict[str, Any]:
    """What an agent said of itself; keys of which it said nothing are left out."""
    made: dict[str, Any] = {"usage": figures(agent.usage)}
    for key in ("session", "model", "note", "error", "unread"):
        if value := getattr(agent, key):
            made[key] = value
    return made


def warned(event: e.AttemptProgressed) -> str:
    """A warning as the end of a sentence; empty where there is none."""
    if not event.warn:
        return ""
    caps = " and ".join(
        f"the run's budget.{cap[4:]}" if cap.startswith("run.") else f"budget.{cap}"
        for cap in event.warn
    )
    return f"{'and its verifier have' if event.step else 'has'} used 80 % of {caps}"


def limited(quota: e.Quota) -> str:
    """A usage limit in a sentence."""
    return (
        f"{quota.agent} has reached a usage limit and rests for {duration(quota.seconds)}: "
        f"{one_line(quota.words)}"
    )


def resting(state: State, now: float) -> list[dict[str, Any]]:
    """Agents that may not be asked now, the one that may be asked first first."""
    rows = [
        {
            "agent": agent,
            "until": breaker.until,
            "words": breaker.words,
            "attempt": breaker.attempt,
            "seq": breaker.seq,
        }
        for agent, breaker in state.breakers.items()
        if breaker.until > now
    ]
    return sorted(rows, key=lambda row: row["until"])
