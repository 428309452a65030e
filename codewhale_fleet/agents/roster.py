"""Which agents there are: those of fleet.toml and the presets; what this machine can do.

Pure; what is asked for by name is resolved here, once. Knows nothing of tasks.
"""

from msgspec import Struct

from .definition import Agent, resolved
from .presets import PRESETS, TRIED


class Roster(Struct, frozen=True):
    """The agents of a fleet."""

    written: dict[str, Agent] = {}
    """As fleet.toml has them."""
    default: str | None = None
    """Who does a task that names neither a command nor an agent."""
    capabilities: list[str] | None = None
    """What the workers of this machine can do; None: whatever is asked of them."""

    def names(self) -> tuple[str, ...]:
        """Every name that may be said, those of fleet.toml first."""
        return tuple(dict.fromkeys((*self.written, *PRESETS)))

    def find(self, name: str) -> Agent | None:
        """The resolved definition of that name; None where there is none."""
        written = self.written.get(name)
        if written is None and name not in PRESETS:
            return None
        return resolve(name, written or Agent())

    def is_tried(self, name: str) -> bool:
        """Whether the program that it starts was driven end to end as the preset says."""
        base = base_of(name, self.written.get(name) or Agent())
        return base in TRIED and (self.written.get(name) or Agent()).command is None


def base_of(name: str, written: Agent) -> str:
    """The preset that a definition builds upon; empty: none."""
    if written.preset is not None:
        return written.preset
    return name if written.command is None and name in PRESETS else ""


def resolve(name: str, written: Agent) -> Agent:
    """A definition with its preset below it."""
    return resolved(written, PRESETS.get(base_of(name, written)))
