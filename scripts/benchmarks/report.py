"""Shows results: a table for people, JSON for programs, a section of docs/benchmarks.md a figure.

Computes nothing but medians and ranges.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from figures import Aim, Figure, Result, Row
from measure import middle
from rich.console import Console
from rich.table import Table

PREFACE = """# Benchmarks

Written by `scripts/bench --write-docs`; each section names the machine and the versions of its run.
Runs are interleaved, each in a fresh directory, after a warm-up; a ratio is between medians of one
run.
"""


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(aim: Aim) -> str:
    return "ok" if aim.met else "not ok"


def row_cells(row: Row) -> list[str]:
    spread = f"{number(min(row.values))} – {number(max(row.values))}"
    return [row.name, number(middle(row.values)), spread, str(len(row.values)), row.unit]


def aim_cells(aim: Aim) -> list[str]:
    return [aim.text, f"{aim.value:.2f}{aim.unit}", f"≤ {aim.limit:g}{aim.unit}", verdict(aim)]


def draw(console: Console, figure: Figure, result: Result) -> None:
    console.print(f"\n[bold]{figure.name}[/bold]  {figure.title}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "median", "range", "runs", "unit"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for row in result.rows:
        table.add_row(*row_cells(row))
    console.print(table)
    for aim in result.aims:
        text, value, limit, word = aim_cells(aim)
        colour = "green" if aim.met else "red"
        console.print(f"  {text}: {value} (aim {limit}) [{colour}]{word}[/{colour}]")


def as_json(
    results: Mapping[str, Result], machine: Mapping[str, str], versions: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(machine),
        "versions": dict(versions),
        "memory": "KiB: the high-water mark of each process, whenever it was reached",
        "figures": {
            name: {
                "rows": [
                    {
                        "name": row.name,
                        "unit": row.unit,
                        "median": middle(row.values),
                        "values": row.values,
                        **({"memory": row.memory} if row.memory else {}),
                    }
                    for row in result.rows
                ],
                "aims": [
                    {"what": aim.text, "value": aim.value, "limit": aim.limit, "ok": aim.met}
                    for aim in result.aims
                ],
            }
            for name, result in results.items()
        },
    }


def section(
    figure: Figure, result: Result, machine: Mapping[str, str], versions: Mapping[str, str]
) -> str:
    lines = [f"## {figure.name}", "", f"{figure.title}.", ""]
    lines += ["| | median | range | runs | |", "|---|--:|--:|--:|---|"]
    lines += [f"| {' | '.join(row_cells(row))} |" for row in result.rows]
    lines += ["", "| ratio or figure | measured | aim | |", "|---|--:|--:|---|"]
    lines += [f"| {' | '.join(aim_cells(aim))} |" for aim in result.aims]
    told = "; ".join(f"{key} {value}" for key, value in {**machine, **versions}.items())
    day = datetime.now(UTC).date().isoformat()
    lines += ["", f"`scripts/bench --only {figure.name}`, {day}: {told}.", ""]
    return "\n".join(lines)


def write_docs(path: Path, names: list[str], sections: Mapping[str, str]) -> None:
    """Replaces the sections that were measured and keeps the others, in the order of `names`."""
    before = path.read_text() if path.exists() else ""
    kept = {part.split(maxsplit=1)[0]: part for part in re.split(r"^## ", before, flags=re.M)[1:]}
    texts = {name: "## " + part.rstrip() + "\n" for name, part in kept.items()} | dict(sections)
    ordered = [texts[name] for name in names if name in texts]
    path.write_text("\n".join([PREFACE, *ordered]))


def write_json(path: Path, answer: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
