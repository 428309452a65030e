"""How each contender is asked to run N × `true` on four slots, and how its work is checked."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from measure import Contender
from peers import HOME, Unable, install_hyperqueue, install_parallel

SLOTS = 4
ENTRY = "import sys; from codewhale_fleet.cli import main; sys.exit(main())"
"""What scripts/fleet executes."""


def count(directory: Path, pattern: str, mark: bytes) -> int:
    """Lines with `mark` in the files of that pattern."""
    found = 0
    for path in directory.glob(pattern):
        with path.open("rb") as lines:
            found += sum(mark in line for line in lines)
    return found


def expects(pattern: str, mark: bytes) -> Callable[[Path, int], None]:
    def check(directory: Path, tasks: int) -> None:
        found = count(directory, pattern, mark)
        if found != tasks:
            raise Unable(f"{directory} holds {found} results of {tasks} tasks")

    return check


def fleet_command(start: Sequence[str | Path], directory: Path, tasks: int) -> list[str | Path]:
    spec = {
        "name": "bench",
        "tasks": [{"id": f"t{n}", "command": ["true"]} for n in range(1, tasks + 1)],
    }
    (directory / "spec.json").write_text(json.dumps(spec))
    return [*start, "run", "spec.json", "--max-workers", str(SLOTS), "--dir", directory]


def fleet(
    name: str = "fleet", start: Sequence[str | Path] = (sys.executable, "-I", "-c", ENTRY)
) -> Contender:
    count_ended = expects(".fleet/**/fleet*.jsonl", b'"k":"attempt.ended"')

    def check(directory: Path, tasks: int) -> None:
        count_ended(directory, tasks)
        said = directory / ".fleet" / "runtime" / "runtime.err"
        if said.exists() and (text := said.read_text().strip()):
            raise Unable(f"the worker runtime broke during a run: {said}:\n{text[-2000:]}")

    return Contender(name, partial(fleet_command, start), check)


def fleet_script() -> Contender:
    return fleet("scripts/fleet", [HOME / "scripts" / "fleet"])


def numbers(directory: Path, tasks: int) -> Path:
    path = directory / "numbers"
    path.write_text("".join(f"{n}\n" for n in range(1, tasks + 1)))
    return path


def xargs() -> Contender:
    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        return ["xargs", "-a", numbers(directory, tasks), "-P", str(SLOTS), "-n", "1", "true"]

    return Contender("xargs -P4", prepare)


def parallel() -> Contender:
    install_parallel()

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        options = ["--will-cite", "-j", str(SLOTS), "--joblog", "joblog"]
        return ["parallel", *options, "true", "::::", numbers(directory, tasks)]

    return Contender("parallel --joblog", prepare, expects("joblog", b"\ttrue "))


def hyperqueue() -> Contender:
    python = install_hyperqueue()
    script = Path(__file__).with_name("queue_tasks.py")

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        return [python, "-I", script, str(tasks), str(SLOTS)]

    def check(directory: Path, tasks: int) -> None:
        found = sum(1 for path in directory.rglob("*.stdout"))
        if found != tasks:
            raise Unable(f"{directory} holds {found} logs of {tasks} tasks")

    return Contender("hyperqueue", prepare, check)


def floor() -> Contender:
    script = Path(__file__).with_name("floor.py")

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        return [sys.executable, "-I", script, str(tasks), str(SLOTS)]

    return Contender("floor", prepare, expects("floor.jsonl", b'"k": "ended"'))
