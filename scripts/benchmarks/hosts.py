"""Work on other machines by ssh, beside GNU parallel's own: a private sshd stands in for them.

Promises that both speak to the same server with the same keys, each under a host name of its own
for every worker; that a host's first contact is part of what is measured where it says so, and
that what runs on the hosts is ended with its server. Needs sshd (Debian openssh-server). Knows no
aims.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import callers
from contenders import ENTRY, SLOTS, expects, fleet, numbers
from measure import Contender, end_leftovers, middle, timed
from peers import HOME, Unable, install_parallel

sys.path.insert(0, str(HOME))

from tests.hosts.sshd import Sshd, serving
from tests.real.wire import Wire

START = (sys.executable, "-I", "-c", ENTRY)
HOSTS = 50
TASKS, FEW = 1_000, 100
"""Tasks of fleet, and of a peer that makes a connection for each: both are told a task."""
ATTACHED = "From a broken connection to the record of what ended meanwhile"
MEMORY = "Memory of each further host"
ENDED = b'"k":"attempt.ended"'


@dataclass(frozen=True)
class Machines:
    """A server, and how its host names are told to ssh and to fleet."""

    server: Sshd
    count: int
    address: str = "127.0.0.1"

    @property
    def names(self) -> list[str]:
        return [f"h{number:02d}" for number in range(1, self.count + 1)]

    @property
    def ssh(self) -> str:
        """The ssh command of GNU parallel."""
        return f"ssh -F {self.server.folder / 'client'}"

    def write(self) -> None:
        """The client's configuration, in which every name is this server."""
        folder = self.server.folder
        (folder / "client").write_text(
            f"Host h*\n HostName {self.address}\n Port {self.server.port}\n User root\n"
            f" IdentityFile {folder / 'id'}\n IdentitiesOnly yes\n BatchMode yes\n"
            f" UserKnownHostsFile {folder / 'known'}\n HostKeyAlias {self.address}\n"
        )
        with (folder / "known").open("a") as known:
            key = (folder / "host.pub").read_text()
            known.write(f"{self.address} {key}[{self.address}]:{self.server.port} {key}")

    def workers(self, slots: int = 1) -> list[dict[str, object]]:
        """Definitions for a spec or a fleet.toml."""
        host = {
            "kind": "ssh",
            "host": self.address,
            "port": self.server.port,
            "user": "root",
            "identity": str(self.server.folder / "id"),
            "known_hosts": str(self.server.folder / "known"),
            "working_directory": str(self.server.work),
        }
        return [
            {"id": name, "name": name, "host": host, "max_concurrent_tasks": slots}
            for name in self.names
        ]

    def fleet(self, directory: Path) -> None:
        """A fleet.toml that knows them all."""
        lines = []
        for worker in self.workers():
            rest = {key: value for key, value in worker.items() if key != "host"}
            lines.append("[[workers]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in rest.items()]
            host = worker["host"]
            assert isinstance(host, dict)
            inner = ", ".join(f"{key} = {json.dumps(value)}" for key, value in host.items())
            lines.append(f"host = {{ {inner} }}")
        (directory / "fleet.toml").write_text("\n".join(lines) + "\n")

    def discovered(self, directory: Path) -> None:
        """A fleet.toml whose command tells of them all, and notes that it was asked."""
        (directory / "hosts.json").write_text(json.dumps(self.workers()))
        command = json.dumps("echo asked >> asked; cat hosts.json")
        (directory / "fleet.toml").write_text(f"[inventory.bench]\ncommand = {command}\n")


@contextmanager
def machines(work: Path, count: int = HOSTS, wire: Wire | None = None) -> Iterator[Machines]:
    """So many host names of one server, which lasts as long as the block."""
    if not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin"):
        raise Unable("sshd is missing. As root: apt-get install -y openssh-server")
    folder = Path(tempfile.mkdtemp(prefix="sshd-", dir=work))
    with serving(folder / "server", wire=wire) as server:
        found = Machines(server, count, server.address)
        found.write()
        try:
            yield found
        finally:
            end_leftovers(server.home)


def on_one_host(those: Machines) -> Contender:
    """N × `true` on the first host, four at once, over one connection."""

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        rows = [{"id": f"t{n}", "command": ["true"]} for n in range(1, tasks + 1)]
        spec = {"name": "bench", "workers": those.workers(SLOTS)[:1], "tasks": rows}
        (directory / "spec.json").write_text(json.dumps(spec))
        return [*START, "run", "spec.json", "-q", "--dir", directory]

    return Contender("fleet run, 1 host", prepare, expects(".fleet/**/fleet*.jsonl", ENDED))


def parallel_on_one_host(those: Machines) -> Contender:
    install_parallel()

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        options = ["--will-cite", "--ssh", those.ssh, "-j", str(SLOTS), "--joblog", "joblog"]
        target = ["-S", f"{SLOTS}/{those.names[0]}"]
        return ["parallel", *options, *target, "true", "::::", numbers(directory, tasks)]

    return Contender("parallel -S, 1 host", prepare, expects("joblog", b"true "))


def on_all_hosts(those: Machines, command: str = "true") -> Contender:
    """One `fleet exec` for every host; `tasks` says on how many."""

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        those.fleet(directory)
        on = ",".join(those.names[:tasks])
        words = ("--on", on, "--dir", directory, "--", command)
        return [*START, "exec", *words]

    return Contender("fleet exec, all hosts", prepare, expects(".fleet/**/fleet*.jsonl", ENDED))


def parallel_on_all_hosts(those: Machines) -> Contender:
    install_parallel()

    def prepare(directory: Path, tasks: int) -> list[str | Path]:
        options = ["--will-cite", "--ssh", those.ssh, "--nonall", "--joblog", "joblog", "-j0"]
        return ["parallel", *options, "-S", ",".join(those.names[:tasks]), "true"]

    return Contender("parallel -S, all hosts", prepare, expects("joblog", b"true"))


def again(those: Machines, directory: Path) -> float:
    """Seconds of the second `fleet exec` on all: what it leaves on the hosts is there by then."""
    first = on_all_hosts(those)
    directory.mkdir(parents=True)
    command = first.prepare(directory, those.count)
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=directory, capture_output=True, timeout=300)
        seconds = time.perf_counter() - began
    end_leftovers(directory)
    return seconds


def one_at_a_time(those: Machines, directory: Path, count: int) -> tuple[callers.Crowd, int]:
    """So many processes let go at once, each `fleet exec --one` on all hosts, and how often these
    were asked for.
    """
    place = directory / "fleet"
    place.mkdir(parents=True)
    those.discovered(place)
    words = ("exec", "--on", "all", "--one", "--json", "--dir", place, "--", "true")
    try:
        crowd = callers.at_once([[*START, *words]] * count, place, directory / "said")
    finally:
        end_leftovers(place)
    return crowd, (place / "asked").read_text().count("asked")


def over_a_wire(work: Path, times: int) -> dict[tuple[str, str], list[float]]:
    """The same on one host at the far end of a wire, without and with a delay each way, from the
    first task that is given out to the end.
    """
    found: dict[tuple[str, str], list[float]] = {}
    wire = Wire()
    try:
        with machines(work, 1, wire) as those, wire.inside(wire.here):
            for turn in range(times):
                for name, delay in (("0 ms", 0.0), ("50 ms", 0.025)):
                    wire.set(delay=delay)
                    place = work / f"wire-{turn}-{name[:-3]}"
                    timed(on_one_host(those), place, TASKS)
                    key = f"fleet run, connected, {name} there and back", "ms a task"
                    found.setdefault(key, []).append(_at_work(place) / TASKS * 1000)
    finally:
        wire.close()
    return found


def _at_work(directory: Path) -> float:
    """Seconds from a run's first dispatch to its end, as its ledger says."""
    times: dict[str, datetime] = {}
    for line in (directory / ".fleet" / "fleet.jsonl").read_bytes().splitlines():
        record = json.loads(line)
        times.setdefault(record["k"], datetime.fromisoformat(record["ts"]))
    return (times["run.finished"] - times["attempt.dispatched"]).total_seconds()


def attached(those: Machines, directory: Path) -> float:
    """Seconds from a broken connection to the record of a task that ended after it."""
    directory.mkdir(parents=True)
    command = "echo > up; until test -e go; do sleep 0.005; done"
    tasks = [{"id": "t", "command": command}]
    spec = {"name": "bench", "workers": those.workers()[:1], "tasks": tasks}
    (directory / "spec.json").write_text(json.dumps(spec))
    up, go = those.server.work / "up", those.server.work / "go"
    for path in (up, go):
        path.unlink(missing_ok=True)
    words: list[str | Path] = [*START, "run", "spec.json", "-q", "--dir", directory]
    with subprocess.Popen(words, cwd=directory, stdin=subprocess.DEVNULL) as run:
        while not up.exists():
            time.sleep(0.01)
        those.server.drop()
        began = time.perf_counter()
        go.touch()
        if run.wait(60) != 0:
            raise Unable(f"the run whose connection broke ended with {run.returncode}")
        seconds = time.perf_counter() - began
    end_leftovers(directory)
    return seconds


def memory_a_host(those: Machines, work: Path) -> float:
    """MB that each further host takes in this machine's processes, at the most."""
    sizes = []
    for count in (1, those.count):
        run = timed(on_all_hosts(those, "sleep 2"), work / f"memory-{count}", count, memory=True)
        sizes.append(sum(run.memory.values()))
    return (sizes[1] - sizes[0]) / (those.count - 1) / 1024


def measured(work: Path, times: int) -> dict[tuple[str, str], list[float]]:
    """Values by (name, unit); fleet and its peers take turns."""
    work.mkdir(parents=True)
    found: dict[tuple[str, str], list[float]] = {}
    with machines(work) as those:
        few = [(on_one_host(those), TASKS), (parallel_on_one_host(those), FEW), (fleet(), TASKS)]
        for contender, _ in few:
            timed(contender, work / f"warm-up-{contender.name.replace(' ', '-')}", SLOTS)
        for turn in range(times):
            for number, (contender, tasks) in enumerate(few):
                run = timed(contender, work / f"one-{turn}-{number}", tasks)
                found.setdefault((contender.name, "ms a task"), []).append(
                    run.seconds / tasks * 1000
                )
            for contender in (on_all_hosts(those), parallel_on_all_hosts(those)):
                run = timed(
                    contender,
                    work / f"{contender.name}-{turn}".replace(", ", "-").replace(" ", "-"),
                    those.count,
                )
                found.setdefault((contender.name, "s"), []).append(run.seconds)
            warm = again(those, work / f"again-{turn}")
            found.setdefault(("fleet exec, all hosts, again", "s"), []).append(warm)
            after = attached(those, work / f"attached-{turn}")
            found.setdefault((ATTACHED, "s"), []).append(after)
        found[MEMORY, "MB"] = [memory_a_host(those, work)]
        crowd, asked = one_at_a_time(those, work / "callers", callers.COUNT)
        wrong = sum(caller.code != 0 for caller in crowd.callers)
        found[(f"{callers.COUNT} × fleet exec --one at once", "s")] = [crowd.seconds]
        found[(f"{callers.COUNT} × fleet exec --one, that failed", "")] = [float(wrong)]
        found[(f"{callers.COUNT} × fleet exec --one, hosts asked for", "")] = [float(asked)]
    found |= over_a_wire(work, times)
    return found


def ratios(found: dict[tuple[str, str], list[float]]) -> list[tuple[str, float, float, str]]:
    """What is aimed at: (text, value, limit, unit)."""
    at = {name: middle(values) for (name, _), values in found.items()}
    one, every = at["fleet run, 1 host"], at["fleet exec, all hosts"]
    far = [at[f"fleet run, connected, {delay} there and back"] for delay in ("0 ms", "50 ms")]
    crowd = f"{callers.COUNT} × fleet exec --one"
    return [
        ("1 host: fleet / parallel -S", one / at["parallel -S, 1 host"], 0.5, "×"),
        ("1 host: ssh / local", one / at["fleet"], 1.5, "×"),
        (f"{HOSTS} hosts: fleet / parallel -S", every / at["parallel -S, all hosts"], 0.5, "×"),
        ("1 host: 50 ms / 0 ms there and back", far[1] / far[0], 1.3, "×"),
        (ATTACHED, at[ATTACHED], 2.0, "s"),
        (MEMORY, at[MEMORY], 1.5, "MB"),
        ("callers that failed", at[f"{crowd}, that failed"], 0.0, ""),
        ("times that the hosts were asked for", at[f"{crowd}, hosts asked for"], 1.0, ""),
    ]
