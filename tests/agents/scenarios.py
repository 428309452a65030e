"""What the scripted API answers, in words that belong to no provider.

A scenario is a row of steps. Which step is next is read from the conversation that a request
carries: as many as there are answered rounds of tool calls since the last prompt. So agents that
run side by side do not disturb each other, and a resumed session begins the row again. Only
`first`, faults that pass, is counted by the server. `tests/agents/dialects.py` says the same in
each provider's format.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer."""

    fresh: int = 1200
    """Of the prompt, those that no cache held."""
    cached: int = 3000
    """Of the prompt, those read from the provider's cache."""
    out: int = 45


@dataclass(frozen=True)
class Write:
    """A tool call that writes a file, named from the agent's working directory."""

    path: str
    text: str


@dataclass(frozen=True)
class Shell:
    """A tool call that runs a command."""

    command: str


@dataclass(frozen=True)
class Answer:
    """Text, then tool calls; without calls it ends the agent's turn."""

    text: str
    calls: tuple[Write | Shell, ...] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Limit:
    """The plan is used up until the server's `resets_at`."""


@dataclass(frozen=True)
class Overload:
    """The provider has no room just now (529, or the provider's word for it)."""


@dataclass(frozen=True)
class Broken:
    """The stream begins, and the connection is gone in the middle of it."""


@dataclass(frozen=True)
class Hang:
    """The stream begins, and nothing follows; the connection stays."""


Step = Answer | Limit | Overload | Broken | Hang


@dataclass(frozen=True)
class Scenario:
    steps: tuple[Step, ...]
    first: tuple[Step, ...] = ()
    """Played once each, before the steps."""
    repeat: bool = False
    """After the last step the first one again; else the last one stays."""


DONE = Answer("All done: the notes are written.")
EDITS = (
    Answer("I write the notes.", (Write("notes.txt", "first line\n"),)),
    Answer("I add to them.", (Shell("echo 'second line' >> notes.txt"),)),
    DONE,
)
_WORKING = "python3 -c 'import time; time.sleep(0.4)'; echo again"
"""A tool that takes its time, as real ones do."""
_MILLIONS = Usage(fresh=1_500_000, cached=2_000_000, out=250_000)

SCENARIOS = {
    "success": Scenario((DONE,)),
    "edits": Scenario(EDITS),
    "limit": Scenario((Limit(),)),
    "overload": Scenario((DONE,), first=(Overload(),)),
    "overload-for-good": Scenario((Overload(),)),
    "broken": Scenario((DONE,), first=(Broken(),)),
    "broken-for-good": Scenario((Broken(),)),
    "hang": Scenario((Hang(),)),
    "huge": Scenario(
        (
            Answer("A lot to read.", (Shell("echo one"),), _MILLIONS),
            Answer("Still more.", (Shell("echo two"),), _MILLIONS),
            Answer("Read.", usage=_MILLIONS),
        )
    ),
    "burning": Scenario(
        (Answer("Once more.", (Shell(_WORKING),), Usage(90_000, 60_000, 5_000)),), repeat=True
    ),
    "endless": Scenario((Answer("Once more.", (Shell("echo again"),)),), repeat=True),
}
"""By the name that stands first in a base URL."""
