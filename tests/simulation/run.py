"""One history from its plan, with the line that replays it where something does not hold."""

from __future__ import annotations

from collections import Counter

from .world import Plan, World


class Failed(AssertionError):
    """An invariant was broken, or the core raised what it must not raise."""


def simulate(plan: Plan) -> Counter[str]:
    """Run the history of a plan; what was counted. Raises Failed."""
    world = World(plan)
    try:
        return world.run()
    except Exception as error:
        raise Failed(
            f"seed {plan.seed}, step {world.steps:,}, record {len(world.ledger.lines):,}:"
            f" {type(error).__name__}: {error}\nreplay: {plan.command()}"
        ) from error
