"""The command line of scripts/bench."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import peers
import report
import typer
from figures import FIGURES, Lab, Result
from rich.console import Console

DOCS = peers.HOME / "docs" / "benchmarks.md"


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Only this figure; may be given again.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Say which figures there are.")] = False,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="Runs of each; default by figure.")
    ] = None,
    into: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    work: Annotated[Path, typer.Option(help="Where runs lie; a disk, not tmpfs.")] = Path(
        "/var/tmp"
    ),
    docs: Annotated[
        bool, typer.Option("--write-docs", help="Put them into docs/benchmarks.md.")
    ] = False,
) -> None:
    """Measure fleet against its peers, in one run. Exits 1 where an aim is missed."""
    if show:
        for figure in FIGURES:
            print(f"{figure.name:10}{figure.title}")
        return
    names = [figure.name for figure in FIGURES]
    if unknown := sorted(set(only or ()) - set(names)):
        raise peers.Unable(f"no figure {', '.join(unknown)}; there are {', '.join(names)}")
    place = Path(tempfile.mkdtemp(prefix="fleet-bench-", dir=work))
    lab = Lab(place, repeat)
    machine = peers.machine(place)
    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), soft_wrap=True)
    if float(machine["load before"]) > 1:
        print(
            "bench: other work keeps this machine busy; do not keep these figures", file=sys.stderr
        )
    results: dict[str, Result] = {}
    for figure in FIGURES:
        if only and figure.name not in only:
            continue
        print(f"bench: {figure.name} …", file=sys.stderr)
        results[figure.name] = figure.measure(lab)
        report.draw(console, figure, results[figure.name])
    versions = peers.versions()
    console.print("\n" + "\n".join(f"{k:11}{v}" for k, v in versions.items()), soft_wrap=True)
    if into:
        report.write_json(into, report.as_json(results, machine, versions))
    if docs:
        sections = {
            figure.name: report.section(figure, results[figure.name], machine, versions)
            for figure in FIGURES
            if figure.name in results
        }
        report.write_docs(DOCS, names, sections)
    print(
        f"bench: the runs lie in {place}; remove it after the last bench of the day",
        file=sys.stderr,
    )
    if not all(aim.met for result in results.values() for aim in result.aims):
        raise typer.Exit(1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except peers.Unable as problem:
        sys.exit(f"bench: {problem}")
