"""How far one call of a command reaches: said where the command is declared, told by describe.

Promises that each command says it (tests/cli/test_describe.py), so that whoever would write a loop
finds the one call that needs none. Knows no command.
"""

from typing import NamedTuple


class Reach(NamedTuple):
    """What one call has in view, and what it does."""

    fleet_aware: bool
    """It sees the whole fleet, or many things of it."""
    fan_out: bool
    """It does many at once."""
    use_instead: str = ""
    """The one call in place of a loop over single targets."""


ONE = Reach(fleet_aware=False, fan_out=False)
"""One thing, in one place; a loop over it makes no sense, or nothing does it for many."""

FLEET = Reach(fleet_aware=True, fan_out=False)
"""It tells of the fleet, or changes it, as a whole."""


def many(use_instead: str) -> Reach:
    """One call does many, typed like this."""
    return Reach(fleet_aware=True, fan_out=True, use_instead=use_instead)
