"""Five hundred people at once: what each caller gets, and how long all of them take.

    python callers.py DIRECTORY     one turn without the peer; what came of it, as JSON

Promises that every caller is a process of its own, that all are let go by one call, and that they
ask a fleet whose manager works on a run of 200 tasks from before the first to after the last one;
that an answer counts only where it is whole, and an append only where its record stands in a ledger
that verifies. The peer is a Typer program that says hello. Knows nothing of aims.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders import ENTRY
from measure import end_leftovers
from peers import Unable

COUNT = 500
LIVE_TASKS = 200
LIVE_WORKERS = 8
LIVE_SECONDS = 15
"""Tasks of the live run sleep so long and up to 7 s more: 470 s of one ending every 2 s."""
LIMIT = 300.0
"""A caller that takes longer is killed and counts as timed out."""
Command = list[str | Path]
START = (sys.executable, "-I", "-c", ENTRY)
BARE = """import typer

app = typer.Typer()


@app.command()
def hello(name: str = "you", loud: bool = False) -> None:
    print(f"hello {name}{'!' if loud else ''}")


app()
"""


@dataclass(frozen=True)
class Caller:
    """How one of many fared. `code` is None where it was killed at the limit."""

    code: int | None
    seconds: float
    out: bytes
    err: bytes


@dataclass(frozen=True)
class Crowd:
    """How all of them fared: `seconds` is from the opening of the gate to the last one's exit."""

    seconds: float
    callers: list[Caller]

    def at(self, percent: int) -> float:
        """The seconds within which so many in a hundred callers had their answer."""
        ordered = sorted(caller.seconds for caller in self.callers)
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    @property
    def troubles(self) -> list[str]:
        """What went wrong, each sort once, with how often."""
        said = Counter(
            "timed out"
            if caller.code is None
            else f"exit {caller.code}: {caller.err.decode(errors='replace').strip()[:300]}"
            for caller in self.callers
            if caller.code != 0
        )
        return [f"{count} × {what}" for what, count in said.items()]


GATE = 'kill -STOP $$; exec "$@"'
"""What a process does before it becomes a caller: it waits until all of them may go."""


def at_once(commands: Sequence[Sequence[str | Path]], directory: Path, place: Path) -> Crowd:
    """Hold all commands at a gate in `directory`, open it for all in one call, and wait for all."""
    place.mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    children: list[subprocess.Popen[bytes]] = []
    for number, command in enumerate(commands):
        with (
            (place / f"{number}.out").open("wb") as out,
            (place / f"{number}.err").open("wb") as err,
        ):
            child = subprocess.Popen(
                ["sh", "-c", GATE, "gate", *command],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=children[0].pid if children else 0,
            )
        children.append(child)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    ends: list[tuple[int | None, float]] = [(None, LIMIT)] * len(children)
    poll = select.epoll()
    waiting = {os.pidfd_open(child.pid): number for number, child in enumerate(children)}
    for descriptor in waiting:
        poll.register(descriptor, select.EPOLLIN)
    began = time.perf_counter()
    os.killpg(children[0].pid, signal.SIGCONT)
    while waiting and (left := began + LIMIT - time.perf_counter()) > 0:
        for descriptor, _ in poll.poll(left):
            number = waiting.pop(descriptor)
            seconds = time.perf_counter() - began
            poll.unregister(descriptor)
            os.close(descriptor)
            ends[number] = children[number].wait(), seconds
    total = time.perf_counter() - began
    for descriptor, number in waiting.items():
        children[number].kill()
        children[number].wait()
        os.close(descriptor)
    poll.close()
    return Crowd(total, [fared(end, place / str(number)) for number, end in enumerate(ends)])


def fared(end: tuple[int | None, float], said: Path) -> Caller:
    return Caller(
        *end, said.with_suffix(".out").read_bytes(), said.with_suffix(".err").read_bytes()
    )


# The fleet that is asked ----------------------------------------------------------------------


def ask(directory: Path, *words: str) -> str:
    """`fleet WORDS` alone; what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET", "PYTHON"))}
    done = subprocess.run(
        [*START, *words, "--dir", directory],
        check=False,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT,
    )
    if done.returncode not in (0, 3):
        raise Unable(f"fleet {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


class Fleet:
    """A fleet with a manager at work: a live run, and a paused one whose tasks are queued."""

    def __init__(self, directory: Path, count: int) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.count = count
        # Its first task is being attempted when the pause comes; nobody asks for that one.
        self.paused = self._begin("paused", [600] * (count + 1), 1)
        ask(directory, "pause", self.paused)
        live = [LIVE_SECONDS + number % 8 for number in range(LIVE_TASKS)]
        self.live = self._begin("live", live, LIVE_WORKERS)

    def _begin(self, name: str, seconds: list[int], workers: int) -> str:
        rows = [{"id": f"t{n}", "command": ["sleep", str(s)]} for n, s in enumerate(seconds)]
        (self.directory / f"{name}.json").write_text(json.dumps({"name": name, "tasks": rows}))
        words = (f"{name}.json", "-j", str(workers), "--detach", "--json")
        return str(json.loads(ask(self.directory, "run", *words))["run"])

    def refuse_idle(self) -> None:
        """Unable unless a manager is at work on the live run."""
        said = json.loads(ask(self.directory, "status", self.live, "--json"))
        if said["manager"]["state"] != "alive" or said["runs"][0]["status"] != "running":
            raise Unable(f"the live run in {self.directory} came to its end too early")

    def readers(self) -> list[Command]:
        return [[*START, "status", "--json", "--dir", self.directory]] * self.count

    def writers(self) -> list[Command]:
        """Each takes back another queued task of the paused run."""
        tail = ("--json", "--dir", self.directory)
        names = [f"{self.paused}/t{number}" for number in range(1, self.count + 1)]
        return [[*START, "interrupt", name, *tail] for name in names]

    def close(self) -> None:
        """End everything that works here."""
        try:
            ask(self.directory, "stop", "--all")
        finally:
            end_leftovers(self.directory)


def check_answers(crowd: Crowd) -> None:
    for caller in crowd.callers:
        if caller.code == 0 and len(json.loads(caller.out)["runs"]) != 2:
            raise Unable(f"a status was not whole: {caller.out.decode()}")


def check_appends(fleet: Fleet, crowd: Crowd) -> None:
    """Every acknowledged append stands in the ledger, once, and the ledger verifies."""
    told = [name for c in crowd.callers if c.code == 0 for name in json.loads(c.out)["cancelled"]]
    kept = Counter[str]()
    for path in (fleet.directory / ".fleet").glob("**/fleet*.jsonl"):
        for line in path.read_bytes().splitlines():
            record = json.loads(line)
            if record["k"] == "task.cancelled":
                kept.update(f"{record['run']}/{name}" for name in record["d"]["tasks"])
    if lost := [name for name in told if kept[name] != 1]:
        raise Unable(f"{len(lost)} acknowledged appends are not in the ledger: {lost[:3]}")
    ask(fleet.directory, "ledger", "verify")


def asked(directory: Path, count: int = COUNT) -> dict[str, Crowd]:
    """A fresh fleet, asked for its status by so many at once, then appended to by as many."""
    fleet = Fleet(directory / "fleet", count)
    try:
        fleet.refuse_idle()
        status = at_once(fleet.readers(), fleet.directory, directory / "status")
        append = at_once(fleet.writers(), fleet.directory, directory / "append")
        fleet.refuse_idle()
        check_answers(status)
        check_appends(fleet, append)
    finally:
        fleet.close()
    for name, crowd in (("status", status), ("interrupt", append)):
        for trouble in crowd.troubles:
            print(f"bench: fleet {name}: {trouble}", file=sys.stderr)
    return {"status --json": status, "interrupt": append}


def bare(directory: Path, count: int = COUNT) -> Crowd:
    """So many Typer programs that say hello."""
    directory.mkdir(parents=True)
    program = directory / "bare.py"
    program.write_text(BARE)
    at_once([[sys.executable, "-I", program]], directory, directory / "warm-up")
    crowd = at_once([[sys.executable, "-I", program]] * count, directory, directory / "said")
    if crowd.troubles:
        raise Unable(f"the Typer program did not do its work: {crowd.troubles}")
    return crowd


def as_json(crowd: Crowd) -> dict[str, object]:
    return {
        "callers": len(crowd.callers),
        "seconds": round(crowd.seconds, 3),
        "p50": round(crowd.at(50), 3),
        "p99": round(crowd.at(99), 3),
        "troubles": crowd.troubles,
    }


if __name__ == "__main__":
    crowds = asked(Path(sys.argv[1]).absolute())
    print(json.dumps({name: as_json(crowd) for name, crowd in crowds.items()}))
