"""A scenario's step in the words of each provider: paths, streams, errors.

A dialect knows the requests and answers of one API, no more of it than the agents' command-line
tools use, and nothing about connections. Requests without tools are an agent's own housekeeping (a
title for the session and such); they are told from the others by `is_main`.
"""

from tests.agents.dialects.anthropic import Anthropic
from tests.agents.dialects.chat import Chat
from tests.agents.dialects.common import Refusal
from tests.agents.dialects.gemini import Gemini
from tests.agents.dialects.responses import Responses

__all__ = ["Dialect", "Refusal", "dialect_of"]

Dialect = Anthropic | Responses | Gemini | Chat


def dialect_of(path: str) -> Dialect | None:
    """Who speaks on this path (without the scenario's name and the query)."""
    if path.endswith("/v1/messages"):
        return Anthropic()
    if path.endswith("/responses"):
        return Responses()
    if ":generateContent" in path or ":streamGenerateContent" in path:
        return Gemini()
    if path.endswith("/chat/completions"):
        return Chat()
    return None
