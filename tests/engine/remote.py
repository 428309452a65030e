"""Runs whose workers are reached by ssh: private servers, their workers, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from codewhale_fleet.engine.handover import detach
from codewhale_fleet.engine.runs import Asker, asker_environment, create_run
from codewhale_fleet.ledger.store import Ledger
from tests.hosts.sshd import Sshd, serving

from .test_kill import ask, records


class Hosts:
    """A workspace, and servers whose workers its runs may use."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "fleet"
        self.place.mkdir()
        self.folder = folder
        self.servers: dict[str, Sshd] = {}
        self.stack = ExitStack()
        self.environ: dict[str, str] | None = None

    def serve(self, worker: str, **options: Any) -> Sshd:
        """A server for a worker of that name."""
        made = self.stack.enter_context(serving(self.folder / worker, **options))
        self.servers[worker] = made
        return made

    def worker(self, worker: str, slots: int = 1, host: Any = None, **more: Any) -> bytes:
        """Its definition."""
        known = to_builtins(host or self.servers[worker].host())
        made = {"id": worker, "name": worker, "host": known, "max_concurrent_tasks": slots}
        return json.dumps({**made, **more}).encode()

    def create(self, tasks: list[dict[str, Any]], workers: dict[str, bytes], **more: Any) -> str:
        """A run of these tasks on these workers, recorded and not begun."""
        with Ledger.open(self.place / ".fleet", create=True) as ledger:
            raw = [json.dumps(task).encode() for task in tasks]
            given = {"name": "r", "max_workers": 8, "patience": 60.0, "spread": True, **more}
            return create_run(ledger, raw, workspace=self.place, workers=workers, **given)

    def asker(self, *names: str, **more: Any) -> Asker:
        return asker_environment(names, self.environ, **more)

    def begin(self, tasks: list[dict[str, Any]], workers: dict[str, bytes], **more: Any) -> str:
        """The same, handed to a detached manager."""
        asker = more.pop("asker", None) or self.asker()
        run = self.create(tasks, workers, **more)
        with Ledger.open(self.place / ".fleet") as ledger:
            detach(ledger, run, asker=asker)
        return run

    def wait(self, run: str, code: int = 0) -> None:
        """Until the run is over."""
        found, out, err = ask(self.place, "wait", run, "--timeout", "80")
        assert found == code, out + err

    def payloads(self, word: str) -> list[dict[str, Any]]:
        return [one["d"] for one in records(self.place) if one["k"] == word]  # type: ignore[misc]

    def until(self, word: str, count: int = 1) -> list[dict[str, Any]]:
        """Return when so many records of a word stand in the ledger."""
        from watchfiles import watch

        folder = self.place / ".fleet"
        looks = watch(folder, step=5, debounce=10, rust_timeout=100, yield_on_timeout=True)
        for tries, _ in enumerate(looks):
            found = self.payloads(word)
            if len(found) >= count:
                return found
            assert tries < 600, (word, len(found))
        raise AssertionError

    def ends(self) -> dict[str, list[dict[str, Any]]]:
        """Task -> ends of its attempts."""
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self.payloads("attempt.ended"):
            found.setdefault(one["attempt"].partition("/")[2].rpartition("@")[0], []).append(one)
        return found

    def manager(self) -> int:
        return int(self.payloads("manager.elected")[-1]["pid"])

    def connector(self) -> int:
        """Pid of the process that carries the manager's connections."""
        below = Path(f"/proc/{self.manager()}/task/{self.manager()}/children").read_text()
        (pid,) = [
            int(one)
            for one in below.split()
            if b"hosts.begin" in Path(f"/proc/{one}/cmdline").read_bytes()
        ]
        return pid

    def close(self) -> None:
        for pid in [*with_argument("--dir", str(self.folder)), *self.managers()]:
            end(pid)
        self.stack.close()

    def managers(self) -> list[int]:
        folder = str(self.place / ".fleet")
        return [pid for pid in with_argument("--dir", folder) if "manager" in words_of(pid)]

    def runtimes(self, worker: str) -> list[int]:
        """Keeper and runtime on a worker."""
        return sorted(with_argument("--dir", str(self.servers[worker].home)))


def words_of(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def with_argument(option: str, below: str) -> list[int]:
    """Processes one of whose arguments names something below a path."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            words = words_of(int(entry.name))
            if option in words and words[words.index(option) + 1].startswith(below):
                found.append(int(entry.name))
    return found


def end(pid: int) -> None:
    """SIGKILL, and wait until the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            assert select.select([descriptor], [], [], 20)[0]
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def hosts_in(folder: Path) -> Iterator[Hosts]:
    made = Hosts(folder)
    try:
        yield made
    finally:
        made.close()
