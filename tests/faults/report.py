"""The table of the campaign: rows from tests, summed, printed, kept, written into the docs.

python -m tests.faults.report        write the table of build/faults.json into docs/reliability.md
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"
PROPERTY = "faults"
"""Name under which a test hands its rows to the report."""
FULL = bool(os.environ.get("FLEET_FAULTS_FULL"))
"""Set by `scripts/test faults`."""
LONGEST = 7200 if FULL else 600
"""Seconds after which a test of the campaign is stuck."""

BEGIN, END = "<!-- campaign: written by scripts/test faults -->", "<!-- /campaign -->"
HEAD = (
    "victim", "when", "boundaries", "kills", "lost", "started twice", "unknown exits",
    "manual unlocks", "failed",
)  # fmt: skip


@dataclass
class Row:
    """What a number of experiments on one victim came to."""

    victim: str
    when: str
    boundaries: int = 0
    kills: int = 0
    lost: int = 0
    twice: int = 0
    unknown: int = 0
    unlocks: int = 0
    failed: int = 0
    """Experiments with anything wrong, these included."""
    records: int = 0
    """Records of the ledger after a run without a kill."""
    seconds: float = 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Count one experiment."""
        self.kills += bool(result["killed"])
        self.failed += bool(result["wrong"])
        for name in ("lost", "twice", "unknown", "unlocks"):
            setattr(self, name, getattr(self, name) + int(result.get(name) or 0))

    def cells(self) -> list[str]:
        """As the table shows them."""
        shown = [self.boundaries, self.kills, self.lost, self.twice, self.unknown, self.unlocks]
        first = f"{self.boundaries:,}" if self.boundaries else "–"
        return [self.victim, self.when, first, *(f"{n:,}" for n in (*shown[1:], self.failed))]


def merged(rows: list[Row]) -> list[Row]:
    """One row for each victim and manner; parts are added up."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        one = found.setdefault((row.when, row.victim), Row(row.victim, row.when))
        for name in ("boundaries", "kills", "lost", "twice", "unknown", "unlocks", "failed"):
            setattr(one, name, getattr(one, name) + getattr(row, name))
        one.records = max(one.records, row.records)
        one.seconds = round(one.seconds + row.seconds, 1)
    return list(found.values())


def table(rows: list[Row]) -> str:
    """A Markdown table with a last row of sums."""
    body = [row.cells() for row in rows]
    total = Row("all", "")
    for row in rows:
        for name in ("boundaries", "kills", "lost", "twice", "unknown", "unlocks", "failed"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    cells = [list(HEAD), *body, total.cells()]
    width = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]

    def drawn(line: list[str]) -> str:
        left = [cell.ljust(width[at]) for at, cell in enumerate(line[:2])]
        right = [cell.rjust(width[at + 2]) for at, cell in enumerate(line[2:])]
        return "| " + " | ".join(left + right) + " |"

    rule = ["-" * n for n in width[:2]] + ["-" * (n - 1) + ":" for n in width[2:]]
    return "\n".join([drawn(cells[0]), drawn(rule), *map(drawn, cells[1:])])


def keep(rows: list[Row], figures: dict[str, Any]) -> None:
    """Write build/faults.json."""
    KEPT.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "kernel": platform.release()}
    kept = {"machine": machine, "figures": figures, "rows": [asdict(row) for row in rows]}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """After the tests: the table of those that were campaigns, and the measured figures."""
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    rows += [Row(**row) for row in value.get("rows", ())]
                    figures.update(value.get("figures", {}))
    if not rows and not figures:
        return
    rows = merged(rows)
    terminalreporter.section("faults")
    for name, figure in figures.items():
        terminalreporter.line(f"{name}: {figure}")
    if rows:
        terminalreporter.line(table(rows))
    keep(rows, figures)
    terminalreporter.line(f"kept in {KEPT.relative_to(ROOT)}")


def write_page() -> None:
    """Replace what stands between the marks of docs/reliability.md by the kept table."""
    kept = json.loads(KEPT.read_text())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE} has no marks {BEGIN} … {END}")
    lines = [BEGIN, "", table([Row(**row) for row in kept["rows"]]), ""]
    lines += [f"- {name}: {figure}" for name, figure in kept["figures"].items()]
    machine = kept["machine"]
    lines += ["", f"Linux {machine['kernel']}, Python {machine['python']}.", "", END]
    PAGE.write_text(before + "\n".join(lines) + after)
    print(f"{PAGE.relative_to(ROOT)} has the table of {KEPT.relative_to(ROOT)}")


if __name__ == "__main__":
    write_page()
