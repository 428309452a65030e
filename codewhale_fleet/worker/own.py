"""What an attempt has said of itself, and what the data of a run is. Pure: no file, no socket.

An `Own` is made of the journal's `own` lines, in their order, and a `Shelf` of its `shelf` lines: a
runtime that comes after a killed one has the same. Promises: what is kept of one attempt is bounded
by limits.py; a version of a name is never given twice and never changes; nothing is deleted but by
name. It knows nothing of who may ask.
"""

from __future__ import annotations

from codewhale_fleet.worker import limits
from codewhale_fleet.worker.caps import added

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEARD = 256
USAGE = ("tokens_in", "tokens_out", "tokens_cached", "tool_calls", "cost_usd")


class Question:
    """One question of an attempt. `answer` is None until a person gave one."""

    __slots__ = ("answer", "choices", "number", "text")

    def __init__(self, number: int, text: str, choices: list[str]) -> None:
        self.number = number
        self.text = text
        self.choices = choices
        self.answer: str | None = None


class Own:
    """One attempt. `requests`, `facts` and `bytes` count against its limits."""

    __slots__ = (
        "artifacts", "bytes", "facts", "heard", "note", "percent", "questions", "requests",
        "said_at", "secrets", "unsaid", "usage",
    )  # fmt: skip

    def __init__(self, entries: list[dict[str, Any]] | None = None) -> None:
        self.requests = 0
        self.facts = 0
        self.bytes = 0
        self.usage: dict[str, float] = {}
        self.heard: dict[str, None] = {}
        """The latest requests that may not count twice, by their own ids."""
        self.artifacts: list[list[str]] = []
        self.questions: list[Question] = []
        self.percent: float | None = None
        self.note = ""
        self.unsaid = False
        """Whether its progress is still to be told."""
        self.said_at = float("-inf")
        self.secrets: set[str] = set()
        """Keys of those that it has asked for."""
        for entry in entries or ():
            self.take(entry)

    def take(self, entry: dict[str, Any]) -> None:
        """One `own` line of the journal."""
        word = entry["w"]
        self.requests += 1
        if word == "usage":
            self.usage = added([self.usage, entry["u"]])
            self.heard[entry.get("i", "")] = None
            if len(self.heard) > _HEARD:
                del self.heard[next(iter(self.heard))]
        elif word == "artifact":
            self.artifacts.append([entry["kind"], entry["path"]])
        elif word == "asked":
            self.facts += 1
            self.questions.append(Question(entry["q"], entry["text"], entry["choices"]))
        elif word == "answer":
            found = self.question(entry["q"])
            if found:
                found.answer = entry["text"]
        elif word == "secret":
            self.secrets.add(entry["key"])
        else:
            self.facts += 1
            self.bytes += entry.get("size", 0)

    def question(self, number: int) -> Question | None:
        """The question of this number."""
        return next((one for one in self.questions if one.number == number), None)

    def asked(self, text: str, choices: list[str]) -> Question | None:
        """The same question, if it was asked before."""
        found = (one for one in self.questions if (one.text, one.choices) == (text, choices))
        return next(found, None)

    def merged(self, agent: dict[str, Any]) -> dict[str, Any]:
        """What its stream says, and what it has added to it."""
        if not self.usage:
            return agent
        return {**agent, "usage": rounded(added([agent.get("usage") or {}, self.usage]))}


def rounded(usage: dict[str, float]) -> dict[str, float]:
    """Usage as it is told: dollars to a billionth."""
    if "cost_usd" in usage:
        usage["cost_usd"] = round(usage["cost_usd"], 9)
    return usage


class Shelf:
    """The data of one run: by name its versions, oldest first, as the ledger has them.

    Where a run is on several hosts the ledger alone gives numbers: what was put here has version 0
    until the ledger's own word of it comes, and is the newest for whoever asks here meanwhile.
    """

    __slots__ = ("_due", "_names")

    def __init__(self) -> None:
        self._names: dict[str, list[dict[str, Any]]] = {}
        self._due: dict[str, list[dict[str, Any]]] = {}
        """By name what has no number yet, oldest first."""

    def add(self, entry: dict[str, Any]) -> bool:
        """One version, or (`deleted`) that none up to it is shown, 0: that none is; True where
        that is new."""
        name, number = entry["name"], entry["version"]
        versions, due = self._names.setdefault(name, []), self._due.get(name, [])
        if entry.get("deleted"):
            meant = [v for v in versions if v["version"] <= number] if number else versions + due
            shown = [one for one in meant if not one["gone"]]
            for one in shown:
                one["gone"] = True
            return bool(shown)
        if number and any(one["version"] == number for one in versions):
            return False
        kept = {key: entry[key] for key in ("name", "version", "sha256", "size")}
        kept = {**kept, "tags": entry.get("tags") or {}, "gone": False}
        if not number:
            self._due.setdefault(name, []).append(kept)
            return True
        mine = [
            one for one in due if (one["sha256"], one["tags"]) == (kept["sha256"], kept["tags"])
        ]
        if mine:
            due.remove(mine[0])
            kept = mine[0]
            kept["version"] = number
        versions.append(kept)
        versions.sort(key=_version_of)
        return True

    def next_version(self, name: str) -> int:
        """The number that its next version has."""
        versions = self._names.get(name)
        return versions[-1]["version"] + 1 if versions else 1

    def same(self, name: str, sha256: str, tags: dict[str, str]) -> dict[str, Any] | None:
        """The newest version, where it is this very value."""
        found = self.get(name)
        return found if found and (found["sha256"], found["tags"]) == (sha256, tags) else None

    def get(self, name: str, version: int = 0) -> dict[str, Any] | None:
        """One version, the newest where none is named; None where it is not shown."""
        versions = self._names.get(name, [])
        found = [one for one in versions if one["version"] == version or not version][-1:]
        if not version:
            found = self._due.get(name, [])[-1:] or found
        return found[0] if found and not found[0]["gone"] else None

    def newest(self) -> list[dict[str, Any]]:
        """The newest version of each name that is shown, in the order of the names."""
        found = [self.get(name) for name in sorted(self._names)]
        return [one for one in found if one is not None]

    @property
    def is_full(self) -> bool:
        """Whether a run may have no more names."""
        return len(self._names) >= limits.DATA_NAMES


def _version_of(entry: dict[str, Any]) -> int:
    version: int = entry["version"]
    return version
