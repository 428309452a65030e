"""Simulate one fleet, or many: `python -m tests.simulation --seed 4711 --workers 20 --tasks 300`.

Prints what befell it. A breach prints the sentence that failed and the line that replays it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter

from .run import Failed, simulate
from .world import Plan


def main() -> int:
    """The exit status: 0 where every invariant held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many, from --seed on")
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--no-faults", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    total: Counter[str] = Counter()
    failed = 0
    gc.freeze()
    for seed in range(asked.seed, asked.seed + asked.seeds):
        plan = Plan(
            seed=seed,
            workers=asked.workers,
            tasks=asked.tasks,
            hosts=asked.hosts,
            faults=not asked.no_faults,
        )
        try:
            total += simulate(plan)
        except Failed as failure:
            failed += 1
            print(failure, file=sys.stderr)
            if asked.seeds == 1:
                raise
    for what, count in sorted(total.items()):
        print(f"{count:>12,}  {what}")
    print(f"{asked.seeds - failed} of {asked.seeds} seeds, {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
