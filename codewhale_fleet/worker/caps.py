"""Caps on what agents use: how near an attempt and its run are to them. Pure: no file, no process.

A `Meter` is one attempt's, a `Purse` is shared by all attempts of a run. Promises: a cap is crossed
by more than it allows, not by as much; each cap is warned of once, at `WARN_SHARE` of it; what a
run has used is what a manager told, and what ended here since then, and what runs. Figures are
those of AgentFacts.usage; `max_seconds` of a run sums over its attempts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Figures = dict[str, float]

WARN_SHARE = 0.8
SECONDS = "max_seconds"
FIGURES = ("tokens_in", "tokens_out", "tokens_cached", "tool_calls", "cost_usd", "seconds")
_COUNTED = {
    "max_tokens": ("tokens_in", "tokens_out"),
    "max_tool_calls": ("tool_calls",),
    "max_cost_usd": ("cost_usd",),
    SECONDS: ("seconds",),
}


def amount(used: Figures, cap: str) -> float:
    """How much of what a cap counts was used."""
    return sum(used.get(name, 0) for name in _COUNTED.get(cap, ()))


def added(several: Iterable[Figures]) -> Figures:
    """The sum of some figures."""
    total: Figures = {}
    for used in several:
        for name, value in used.items():
            total[name] = total.get(name, 0) + value
    return total


def used_by(ended: dict[str, Any]) -> Figures:
    """What the fact of an end says was used, its verifiers included."""
    facts = [ended, *ended.get("steps", ())]
    found = [(one.get("agent") or {}).get("usage") or {} for one in facts]
    return added([*found, {"seconds": ended.get("seconds", 0.0)}])


class Meter:
    """Caps of one attempt: what is left of each of its task's, and where a warning is due."""

    __slots__ = ("_left", "_warn", "said", "said_at")

    def __init__(self, plan: dict[str, Any], now: float) -> None:
        self._left: Figures = plan.get("caps") or {}
        self._warn: Figures = dict(plan.get("warn") or {})
        self.said: dict[str, Any] = {}
        """The facts that were told last."""
        self.said_at = now

    @property
    def holds(self) -> bool:
        """Whether there is a cap to be held."""
        return bool(self._left)

    def crossed(self, used: Figures) -> str:
        """The cap that is crossed, or nothing."""
        return next((cap for cap, left in self._left.items() if amount(used, cap) > left), "")

    def reached(self, used: Figures) -> str:
        """The cap of which nothing is left, or nothing."""
        return next((cap for cap, left in self._left.items() if amount(used, cap) >= left), "")

    def warnings(self, used: Figures) -> list[str]:
        """Caps that are nearly used up, each told once."""
        near = [cap for cap, at in self._warn.items() if amount(used, cap) >= at]
        for cap in near:
            del self._warn[cap]
        return near

    def warned(self, caps: Iterable[str]) -> None:
        """These were told before."""
        for cap in caps:
            self._warn.pop(cap, None)


class Purse:
    """What a run may use on this host and has used: `caps` of the whole run."""

    __slots__ = ("_ack", "_ended", "_spent", "caps", "open", "warned")

    def __init__(self) -> None:
        self.caps: Figures = {}
        self.open: dict[str, tuple[Figures, float | None]] = {}
        """Attempt -> what it has used, and since when it runs; None: its seconds stand there, too,
        because it is over, and not told of yet."""
        self.warned: set[str] = set()
        self._spent: Figures = {}
        self._ack = -1
        self._ended: list[tuple[int, Figures]] = []

    def told(self, caps: Figures, spent: Figures, ack: int) -> None:
        """A manager that had heard the facts up to `ack` told what the run has used by then."""
        self.caps = caps or self.caps
        if ack < self._ack:
            return
        self._spent, self._ack = spent, ack
        self._ended = [(n, used) for n, used in self._ended if n > ack]
        for cap, most in self.caps.items():
            if amount(spent, cap) >= WARN_SHARE * most:  # it was warned of on the way there
                self.warned.add(cap)

    def end(self, attempt: str, n: int, ended: dict[str, Any]) -> None:
        """An attempt ended; that is fact number `n`."""
        self.open.pop(attempt, None)
        if n > self._ack:
            self._ended.append((n, used_by(ended)))

    def total(self, now: float) -> Figures:
        """What the run has used by now."""
        running = [
            used if since is None else {**used, "seconds": now - since}
            for used, since in self.open.values()
        ]
        return added([self._spent, *(used for _, used in self._ended), *running])

    def crossed(self, now: float, *, reached: bool = False) -> str:
        """The cap of the run that is crossed (or just `reached`), or nothing."""
        total = self.total(now)
        for cap, most in self.caps.items():
            used = amount(total, cap)
            if used > most or (reached and used == most):
                return cap
        return ""

    def warnings(self, now: float) -> list[str]:
        """Caps of the run that are nearly used up, each told once."""
        total = self.total(now)
        near = [cap for cap, most in self.caps.items() if amount(total, cap) >= WARN_SHARE * most]
        fresh = [cap for cap in near if cap not in self.warned]
        self.warned.update(fresh)
        return fresh

    def seconds_left(self, now: float) -> float | None:
        """When time alone crosses a cap, from now, if nothing changes; None if it does not."""
        most = self.caps.get(SECONDS)
        running = sum(since is not None for _, since in self.open.values())
        if most is None or not running:
            return None
        return max(0.0, most - amount(self.total(now), SECONDS)) / running

    def line(self, run: str, ack: int) -> dict[str, Any]:
        """What the journal keeps of it when acknowledged facts go."""
        told = [self._spent, *(used for n, used in self._ended if n <= ack)]
        return {"f": "spent", "r": run, "u": added(told), "ack": max(ack, self._ack)}
