"""A playbook that keeps its records with their heads, as a view is given them."""

from datetime import UTC, datetime

from msgspec import Raw
from msgspec import json as mjson

from codewhale_fleet.core import events as e
from codewhale_fleet.core.evolve import evolve
from tests.core.playbook import Playbook

LOGS = {"out": e.Log(path="logs/r/a.1.out", size=42, dropped=7, sha256="ab" * 32)}
REPORT = e.Artifact(kind="report", path="out/r.md", sha256="cd" * 32, mime="text/markdown", size=9)


class Story(Playbook):
    """`records` is what the ledger would hold; times are whole seconds, UTC."""

    def __init__(self) -> None:
        self.records: list[tuple[e.Envelope, e.Event]] = []
        super().__init__()

    def ts(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).isoformat().replace("+00:00", "Z")

    def take(self, event: e.Event, run: str) -> None:
        seq = self.state.seq + 1
        event = mjson.decode(mjson.encode(event), type=type(event))
        head = e.Envelope(k=event.word, seq=seq, ts=self.ts(), d=Raw(b"{}"), run=run, by="cli:user")
        evolve(self.state, head, event)
        self.records.append((head, event))
