"""Many experiments: every boundary of a victim, or random instants, and what they came to.

The experiments of one sweep are spread over a few servers (`python -m tests.faults`), each of which
performs one at a time. `python -m tests.faults.campaign` prints one experiment again.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .programs import descendants
from .report import Row

ROOT = Path(__file__).resolve().parents[2]
SIDE_BY_SIDE = 2
"""Servers of one sweep; a test process on each core runs a sweep of its own."""

LEAVING_SECONDS = 60
"""A server has nothing to do then."""

UNKILLED = 3
"""Runs in a row that ended before the boundary came: there is none behind it."""

TRIES = 3
"""Times that a boundary is looked for: two runs differ by what happened to arrive together."""


class Server:
    """A process that performs experiments, one after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Perform one; the answer is its result."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line or b'{"wrong":["the server is gone"]}')
        return {"job": job, "killed": False, **answer}

    def close(self) -> None:
        """Let it go and wait for it; end it with all that it started if it is stuck."""
        try:
            self.process.communicate(timeout=LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it with all that it started."""
        for pid in (self.process.pid, *descendants(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def spread(jobs: Iterator[dict[str, Any]], take: Any, servers: int = SIDE_BY_SIDE) -> None:
    """Have every job performed; `take` gets each result, one at a time, and may end `jobs`."""
    lock = threading.Lock()

    def work(server: Server) -> None:
        try:
            while True:
                with lock:
                    job = next(jobs, None)
                if job is None:
                    return
                result = server.ask(job)
                with lock:
                    take(result)
        finally:
            server.close()

    asked = [Server() for _ in range(servers)]
    workers = [threading.Thread(target=work, args=(server,), daemon=True) for server in asked]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except BaseException:  # time is up: nothing may be left waiting
        for server in asked:
            server.kill()
        raise


class Sweep:
    """Every boundary of one victim, or each `parts`-th of them from number `part` on."""

    def __init__(self, victim: str, place: Path, *, part: int = 0, parts: int = 1) -> None:
        self.victim, self.place, self.part, self.parts = victim, place, part, parts
        self.failures: list[dict[str, Any]] = []
        self.boundaries: list[str] = []
        self.kinds: dict[str, int] = {}
        self._again: list[tuple[int, int]] = []
        self._unkilled = 0
        self._number = 0

    def perform(self) -> Row:
        """Count in a run without a kill, then die at each; what came out."""
        begun = time.monotonic()
        server = Server()
        clean = server.ask({"place": str(self.place / "clean"), "victim": self.victim, "at": 0})
        server.close()
        row = Row(self.victim, "every boundary")
        self._wrong(clean)
        self.boundaries = clean.get("boundaries") or []
        row.boundaries = len(self.boundaries[self.part :: self.parts])
        row.records = clean.get("records", 0)
        if not clean["wrong"]:
            spread(self._jobs(), lambda result: self._take(row, result))
        row.seconds = round(time.monotonic() - begun, 1)
        return row

    def _jobs(self) -> Iterator[dict[str, Any]]:
        at = 1 + self.part
        while at <= len(self.boundaries) or self._unkilled < UNKILLED or self._again:
            if self._again:
                number, tried = self._again.pop()
            else:
                number, tried = at, 1
                at += self.parts
            self._number += 1
            place = str(self.place / f"{self._number}-at-{number}")
            yield {"place": place, "victim": self.victim, "at": number, "tried": tried}

    def _take(self, row: Row, result: dict[str, Any]) -> None:
        row.add(result)
        at, tried = result["job"]["at"], result["job"]["tried"]
        if result["killed"]:
            self._unkilled = 0
            kind = " ".join(str(result.get("where", "?")).split()[:3])
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
        elif at > len(self.boundaries):
            self._unkilled += 1
        elif tried < TRIES:
            self._again.append((at, tried + 1))
        self._wrong(result)

    def _wrong(self, result: dict[str, Any]) -> None:
        if result["wrong"]:
            self.failures.append(result)


class Instants:
    """Random instants, the victims in turn, until `count` have died; replayed by the same seed."""

    def __init__(self, victims: list[str], place: Path, *, count: int, seed: int) -> None:
        self.victims, self.place, self.count, self.seed = victims, place, count, seed
        self.failures: list[dict[str, Any]] = []

    def perform(self) -> list[Row]:
        """One row a victim."""
        rows = {victim: Row(victim, "random instants") for victim in self.victims}
        chance = random.Random(self.seed)
        lives = self._lives()

        def jobs() -> Iterator[dict[str, Any]]:
            number = -1
            while sum(row.kills for row in rows.values()) < self.count:
                number += 1  # an instant after the victim's end is no kill, and not counted
                victim = self.victims[number % len(self.victims)]
                after = round(chance.uniform(0, lives[victim]), 4)
                place = str(self.place / f"instant-{number}")
                yield {"place": place, "victim": victim, "at": 0, "after": after}

        def take(result: dict[str, Any]) -> None:
            rows[result["job"]["victim"]].add(result)
            if result["wrong"]:
                self.failures.append({"seed": self.seed, **result})

        begun = time.monotonic()
        spread(jobs(), take)
        seconds = round((time.monotonic() - begun) / len(rows), 1)
        for row in rows.values():
            row.seconds = seconds
        return list(rows.values())

    def _lives(self) -> dict[str, float]:
        """How long each victim lives if nobody kills it, seconds."""
        server = Server()
        lives = {}
        for number, victim in enumerate(self.victims):
            job = {"place": str(self.place / f"life-{number}"), "victim": victim, "at": 0}
            result = server.ask(job)
            if result["wrong"]:
                self.failures.append(result)
            lives[victim] = float(result.get("lived", 0.1))
        server.close()
        return lives


def told(failures: list[dict[str, Any]], most: int = 5) -> str:
    """The first failures in words, each with the job that shows it again."""
    lines = [f"{len(failures)} experiments went wrong"]
    for failure in failures[:most]:
        lines.append(f"{json.dumps(failure['job'])}, {failure.get('where', 'no boundary')}:")
        lines += [f"  {what[:600]}" for what in failure["wrong"][:4]]
    return "\n".join(lines)


if __name__ == "__main__":
    again = Server()
    for argument in sys.argv[1:]:
        print(json.dumps(again.ask(json.loads(argument)), indent=1))
    again.close()
