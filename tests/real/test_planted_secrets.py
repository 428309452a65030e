"""Planted secrets, shown by tasks in every way that they have, are found nowhere afterwards.

Searched are all files of the fleet, byte by byte and through the redactor, all that the commands
show, and, while it runs, the arguments and environments of all other processes of this machine.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codewhale_fleet.worker.redaction import Redactor
from tests.cli.driver import FLEET, environment, fleet, look, spec

pytestmark = pytest.mark.slow

LEAKY = Path(__file__).with_name("leaky.py")
PEM = (
    "-----BEGIN KEY-----\n"
    + "\n".join(f"MIIEvQ{n}planted/{n}+" * 3 for n in "abcd")
    + "\n-----END-----"
)
VALUES = {
    "PLANTED_TOKEN": "pl4nted-tok/en+with=\"odd\\signs' & 1",
    "PLANTED_STORED": "pl4nted-stored-in-a-file-0123456789",
    "PLANTED_KEY": PEM,
}
GETS = (
    "secrets = ['PLANTED_TOKEN', 'PLANTED_STORED', "
    "{ key = 'PLANTED_KEY', as = 'PLANTED_KEY_FILE', deliver = 'file' }]\n"
)
NAMES = "PLANTED_TOKEN PLANTED_STORED PLANTED_KEY_FILE"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    store = tmp_path / "config" / "codewhale-fleet" / "secrets"
    store.mkdir(0o700, parents=True)
    for key in ("PLANTED_STORED", "PLANTED_KEY"):
        (store / key).touch(0o600)
        (store / key).write_text(VALUES[key])
    return tmp_path / "config"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    where = tmp_path / "work"
    where.mkdir()
    (where / "fleet.toml").write_text(
        f'[agents.leaky]\ncommand = ["{sys.executable}", "{LEAKY}", "claude"]\n'
        'usage = "claude-stream-json"\n'
    )
    return where


def task(name: str, way: str, more: str = "") -> str:
    head = f"[[tasks]]\nid = '{name}'\n"
    work = f"command = ['{sys.executable}', '{LEAKY}', '{way}']\n"
    if way == "claude":
        work = "instructions = 'Show everything.'\nagent = 'leaky'\n"
    return head + work + GETS + more


def given(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command, typed in a shell that has the secrets."""
    return fleet(where, *words, PLANTED_TOKEN=VALUES["PLANTED_TOKEN"], LEAKY=NAMES)


ALLOW = "workspace = { environment = { required = ['LEAKY'] }%s }\n"


class Watch(threading.Thread):
    """Looks at all other processes while it is on. `seen`: those that show a value."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[tuple[str, str]] = set()
        self.looks = 0
        self._over = threading.Event()
        self._redactor = Redactor(VALUES)

    def run(self) -> None:
        while not self._over.wait(0.01):
            self.looks += 1
            for place in Path("/proc").iterdir():
                if place.name.isdigit() and int(place.name) != os.getpid():
                    self._look(place)

    def _look(self, place: Path) -> None:
        try:
            argv, variables = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            return
        if b"FLEET_ATTEMPT_ID=" in variables:  # the task's own, and what it says there itself
            return
        if not variables:  # it is just ending, or beginning
            return
        if self._redactor.held_in(argv):
            self.seen.add(("argv", argv[:200].decode("utf-8", "replace")))
        asker = b"codewhale_fleet\0run" in argv or b"codewhale_fleet\0resume" in argv
        if not asker and self._redactor.held_in(variables):
            self.seen.add(("environ", argv[:200].decode("utf-8", "replace")))

    @contextmanager
    def on(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._over.set()
            self.join()


def leaks(where: Path) -> list[str]:
    """What of a fleet's files, and of all that its commands show, holds a value."""
    redactor = Redactor(VALUES)
    found = []
    for path in sorted((where / ".fleet").rglob("*")):
        if "worktrees" in path.parts and path.suffix != ".patch":
            continue  # an attempt's own directory: its files are its own, and kept for a person
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if redactor.held_in(data) or any(v.encode() in data for v in VALUES.values()):
                found.append(str(path.relative_to(where)))
    run = "@last"
    for words in views(run, tomllib.loads((where / "tasks.toml").read_text())["tasks"]):
        for more in ((), ("--json",)):
            done = look(where, *words, *more)
            if redactor.held_in(done.stdout + done.stderr):
                found.append(" ".join((*words, *more)))
    return found


def views(run: str, tasks: list[dict[str, object]]) -> Iterator[tuple[str, ...]]:
    yield from (("status",), ("inspect", run), ("explain", run), ("logs", run), ("receipts", run))
    for made in tasks:
        one = f"{run}/{made['id']}"
        yield from (("inspect", one), ("explain", one), ("logs", one), ("receipts", one))
        yield ("artifacts", one)


def test_nothing_that_tasks_show_of_their_secrets_is_found_afterwards(here: Path) -> None:
    judge = f"{{ kind = 'command', command = '{sys.executable}', args = ['{LEAKY}', 'judge'] }}"
    kept = "artifacts = { report = 'out/*', name = '**/*.name' }\nexpected_artifacts = ['report']\n"
    again = "retry_policy = { max_attempts = 2, initial_backoff_seconds = 0 }\n"
    match = "{ kind = 'regex_match', path = 'out/report.md', pattern = 'no such' }"
    path = "{ kind = 'json_path', path = 'out/result.json', expression = '$.ok' }"
    text = "".join((
        task("say", "say", ALLOW % ""),
        task("slowly", "slowly", ALLOW % ""),
        task("tell", "tell", ALLOW % ""),
        task("crash", "crash", again + ALLOW % ""),
        task("leave", "leave", kept + ALLOW % ""),
        task("apart", "leave", kept + ALLOW % ", isolation = 'copy'"),
        task("match", "leave", f"scorer = {match}\n" + ALLOW % ""),
        task("path", "leave", f"scorer = {path}\n" + ALLOW % ""),
        task("judged", "leave", f"scorer = {judge}\n" + ALLOW % ""),
        task("agent", "claude", "expected_artifacts = ['report']\n" + ALLOW % ""),
    ))  # fmt: skip
    watch = Watch()
    with watch.on():
        done = given(here, "run", spec(here, text), "--max-workers", "3")
    assert done.returncode == 1, done.stdout + done.stderr
    assert not Redactor(VALUES).held_in(done.stdout + done.stderr)
    assert watch.looks > 10 and watch.seen == set()
    assert leaks(here) == []
    shown = look(here, "logs", "@last/say").stdout
    assert shown.count("[redacted:PLANTED_TOKEN]") >= 15, shown
    assert shown.count("[redacted:PLANTED_KEY]") >= 15, shown
    assert list((here / ".fleet").rglob("*.raw*")) == []
    told = look(here, "inspect", "@last/apart@1").stdout
    assert "what it has changed holds the secret PLANTED_TOKEN: there is no patch of it" in told
    told = look(here, "receipts", "@last/judged").stdout
    assert "saw [redacted:PLANTED_TOKEN]" in told


def test_a_detached_manager_has_no_secret_in_its_environment(here: Path) -> None:
    watch = Watch()
    with watch.on():
        made = given(here, "run", spec(here, task("wait", "wait", ALLOW % "")), "--detach")
        assert made.returncode == 0, made.stderr
        until(lambda: (here / "is-up").exists())
        looks = watch.looks
        until(lambda: watch.looks > looks + 2)
        (here / "go").touch()
        assert fleet(here, "wait", "@last").returncode == 0
    assert watch.seen == set() and leaks(here) == []


def test_a_value_that_is_too_short_to_be_looked_for_is_said(tmp_path: Path) -> None:
    text = "[[tasks]]\nid = 't'\ncommand = 'echo $PIN'\nsecrets = ['PIN']\n"
    done = fleet(tmp_path, "run", spec(tmp_path, text), PIN="1234")
    assert done.returncode == 0
    assert "PIN has fewer than 8 bytes, so it is not taken out of what tasks write" in done.stderr
    assert look(tmp_path, "logs", "@last/t").stdout == "1234\n"


@pytest.mark.parametrize("who", ["runtime", "keeper", "both"])
def test_kills_in_the_middle_leave_nothing_behind(here: Path, who: str) -> None:
    text = task("wait", "wait", ALLOW % "")
    command = [*FLEET, "run", spec(here, text)]
    watch = Watch()
    with watch.on():
        running = subprocess.Popen(
            command,
            cwd=here,
            env=environment(PLANTED_TOKEN=VALUES["PLANTED_TOKEN"], LEAKY=NAMES),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            until(lambda: (here / "is-up").exists())
            keeper = int((here / ".fleet/runtime/lock").read_text())
            runtime = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
            for pid in {"runtime": [runtime], "keeper": [keeper], "both": [keeper, runtime]}[who]:
                os.kill(pid, signal.SIGKILL)
            (here / "go").touch()
            said = running.communicate(timeout=60)[0].decode()
        finally:
            running.kill()
            running.wait()
    assert not Redactor(VALUES).held_in(said)
    done = given(here, "resume", "@last")
    until(lambda: not list((here / ".fleet").rglob("*.raw*")))
    assert not Redactor(VALUES).held_in(done.stdout + done.stderr)
    assert leaks(here) == [] and watch.seen == set()


def until(is_so: Callable[[], object]) -> None:
    """Waits for a file: nothing tells of it."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
