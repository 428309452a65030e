"""An attempt that has lived for a second has a cgroup of its own, and nothing of it outlives it.

The kernel is the real one: these tests need a cgroup of version 2 that they may write.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codewhale_fleet.worker import cgroups, processes
from tests.surroundings import mounted
from tests.worker.driver import RUN, Manager, is_alive

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
INSIDE = "until grep -q '^0::.*/fleet-' /proc/self/cgroup; do sleep 0.02; done"
"""A shell waits until it was moved."""
DAEMON = "env -i setsid setsid sh -c 'echo $$ > %s; exec sleep 1000' &"
"""Without environment, in a session of its own; its parent is soon gone."""


@pytest.fixture
def home() -> Path:
    """The directory of the cgroup that runtimes started from here are in."""
    lacking = cgroups.lacking()
    assert not lacking, f"these tests need a machine where cgroup.kill can be used: {lacking}"
    return Path(cgroups.own()[1])


@pytest.fixture
def another(home: Path) -> Iterator[Path]:
    """Another cgroup; whoever is still in it at the end is let out."""
    directory = home / f"test-{os.getpid()}"
    directory.mkdir()
    yield directory
    for path in [*directory.glob("*/"), directory]:
        if path.is_dir():
            let_out(path, home)
            path.rmdir()


def let_out(directory: Path, home: Path) -> None:
    for pid in (directory / "cgroup.procs").read_text().split():
        (home / "cgroup.procs").write_text(pid)


def made(manager: Manager, home: Path) -> list[Path]:
    """The cgroups of this manager's fleet."""
    place = (manager.fleet / "runtime").stat()
    return sorted(home.glob(f"fleet-{place.st_dev:x}-{place.st_ino:x}-*"))


def confined(manager: Manager, task: str, then: str) -> str:
    """Starts a task that waits until it was moved, does `then`, and waits for `go`."""
    manager.fifo(f"{task}-ready")
    manager.fifo(f"{task}-go")
    script = f"{INSIDE}; {then} read line < {task}-go; exit 7"
    return manager.start(task, ["sh", "-c", script])


def daemon_of(manager: Manager, task: str) -> tuple[str, int]:
    """A confined attempt, and the pid of its daemon that hides."""
    attempt = confined(manager, task, DAEMON % f"{task}-ready")
    return attempt, int(manager.says(f"{task}-ready"))


def go(manager: Manager, task: str) -> None:
    (manager.root / f"{task}-go").write_text("go\n")


@contextmanager
def in_cgroup(directory: Path) -> Iterator[None]:
    """What this process starts meanwhile is in that cgroup."""
    home = Path(cgroups.own()[1])
    (directory / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text("0")


def parent_of(pid: int) -> int:
    facts = processes.facts_of(pid)
    assert facts is not None
    return facts.parent


def kill_both(manager: Manager) -> None:
    manager.kill(manager.keeper)
    manager.kill(manager.pid)


def test_a_daemon_that_hides_dies_with_its_attempt(manager: Manager, home: Path) -> None:
    other, others = daemon_of(manager, "other")
    attempt, daemon = daemon_of(manager, "a")
    assert len(made(manager, home)) == 2
    go(manager, "a")
    end = manager.end_of(attempt)
    assert (end["exit"], end["stragglers"]) == (7, 1)
    assert not is_alive(daemon) and is_alive(others)
    assert len(made(manager, home)) == 1

    go(manager, "other")
    assert manager.end_of(other)["stragglers"] == 1
    assert not is_alive(others) and made(manager, home) == []


def test_so_it_does_when_the_runtime_was_killed_in_between(manager: Manager, home: Path) -> None:
    attempt, daemon = daemon_of(manager, "a")
    manager.kill_runtime()
    assert parent_of(daemon) == manager.keeper
    go(manager, "a")
    end = manager.end_of(attempt)
    assert (end["exit"], end["stragglers"]) == (7, 1)
    assert not is_alive(daemon) and made(manager, home) == []


@pytest.mark.parametrize("elsewhere", [False, True])
def test_so_it_does_when_both_were_killed_wherever_the_next_runtime_is(
    another: Path, manager: Manager, home: Path, elsewhere: bool
) -> None:
    attempt, daemon = daemon_of(manager, "a")
    kill_both(manager)
    assert parent_of(daemon) not in (manager.keeper, manager.pid)
    with in_cgroup(another if elsewhere else home):
        manager.dial(cursors={manager.hello["runtime"]: manager.cursor})
    go(manager, "a")
    end = manager.end_of(attempt)
    assert end["unknown"] and end["stragglers"] == 1
    assert not is_alive(daemon) and made(manager, home) == []


def test_a_runtime_that_lives_in_an_attempts_cgroup_is_not_killed_with_it(
    manager: Manager, home: Path
) -> None:
    attempt, daemon = daemon_of(manager, "a")
    kill_both(manager)
    with in_cgroup(made(manager, home)[0]):
        manager.dial(cursors={manager.hello["runtime"]: manager.cursor})
    go(manager, "a")
    assert manager.end_of(attempt)["unknown"]
    manager.environ({"PATH": os.environ["PATH"]})
    assert manager.run("b", ["true"])["exit"] == 0
    (left,) = made(manager, home)
    manager.kill(daemon)
    let_out(left, home)
    leave(manager)
    assert made(manager, home) == []


def leave(manager: Manager) -> None:
    manager.line.say({"m": "ack", "n": manager.cursor}, {"m": "leave"})
    manager.line.hear_end()
    manager.dial()


def test_the_last_stage_of_an_interrupt_kills_it_too(manager: Manager, home: Path) -> None:
    confined(manager, "other", "echo up > other-ready;")
    attempt, daemon = daemon_of(manager, "a")
    word = {"m": "interrupt", "attempt": attempt, "why": "stopped", "kill": True}
    manager.line.say(word)
    end = manager.end_of(attempt)
    assert (end["signal"], end["stragglers"]) == (9, 1)
    assert not is_alive(daemon)
    manager.says("other-ready")
    assert len(made(manager, home)) == 1


def test_what_an_attempt_started_before_is_moved_with_it(manager: Manager, home: Path) -> None:
    """A child of the leader, a child of that one's, and a daemon: each waits to be inside."""
    manager.fifo("ready")
    manager.fifo("go")
    wait = f"({INSIDE}; echo %s > ready; exec sleep 1000) &"
    script = f"{wait % 'child'} ({wait % 'grandchild'} wait) & setsid -f sh -c '"
    script += INSIDE.replace("'", '"') + "; echo daemon > ready; exec sleep 1000'; read line < go"
    attempt = manager.start("a", ["sh", "-c", script])
    said = ""
    while len(said.split()) < 3:
        said += manager.says("ready")
    assert sorted(said.split()) == ["child", "daemon", "grandchild"]
    (directory,) = made(manager, home)
    pids = [int(word) for word in (directory / "cgroup.procs").read_text().split()]
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["exit"] == 0 and end["stragglers"] >= 4
    assert len(pids) >= 5 and not any(is_alive(pid) for pid in pids)
    assert made(manager, home) == []


def test_an_attempt_that_is_over_within_a_second_has_none(manager: Manager, home: Path) -> None:
    with_one = confined(manager, "long", "echo up > long-ready;")
    manager.says("long-ready")
    before = made(manager, home)
    script = "cat /proc/self/cgroup; setsid sleep 1000 & sleep 0.1"
    end = manager.run("a", ["sh", "-c", script])
    assert end["stragglers"] == 1 and "fleet-" not in manager.out(end)
    assert made(manager, home) == before and len(before) == 1
    go(manager, "long")
    manager.end_of(with_one)


def test_nothing_is_imported_and_nothing_made_before_the_first_second(manager: Manager) -> None:
    assert manager.run("a", ["true"])["exit"] == 0
    assert not (manager.fleet / "runtime/cgroups").exists()
    code = "import sys, codewhale_fleet.worker.main; print(*sys.modules)"
    words = [sys.executable, "-c", code]
    loaded = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "codewhale_fleet.worker.sweep" in loaded.stdout.split()
    assert "codewhale_fleet.worker.cgroups" not in loaded.stdout.split()


def test_cgroups_that_an_attempt_made_in_its_own_go_with_it(manager: Manager, home: Path) -> None:
    manager.fifo("pid")
    inner = f"d={home}$(sed -n 's/^0:://p' /proc/self/cgroup | sed 's|.*/|/|')"
    then = f"{inner}; mkdir $d/x $d/x/y; sh -c 'echo $$ > '$d/x/y/cgroup.procs'; "
    then += "echo $$ > pid; exec setsid sleep 1000' &"
    attempt = confined(manager, "a", then)
    daemon = int(manager.says("pid"))
    (directory,) = made(manager, home)
    assert (directory / "x/y/cgroup.procs").read_text().split() == [str(daemon)]
    go(manager, "a")
    assert manager.end_of(attempt)["stragglers"] == 1
    assert not is_alive(daemon) and not directory.exists()


def test_what_an_attempt_put_elsewhere_is_left_there(another: Path, manager: Manager) -> None:
    manager.fifo("pid")
    manager.fifo("ready")
    manager.fifo("go")
    script = f"(echo 0 > {another}/cgroup.procs; exec sh -c 'echo $$ > pid; exec sleep 1000') & "
    script += f"{INSIDE}; echo up > ready; read line < go"
    attempt = manager.start("a", ["sh", "-c", script])
    pid = manager.says("pid").strip()
    manager.says("ready")
    assert (another / "cgroup.procs").read_text().split() == [pid]
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["stragglers"] == 1
    assert not is_alive(int(pid))


def test_empty_ones_that_were_left_are_removed_and_others_are_not(
    manager: Manager, home: Path
) -> None:
    attempt = confined(manager, "a", "echo up > a-ready;")
    manager.says("a-ready")
    (directory,) = made(manager, home)
    left = directory.with_name(directory.name[:-4] + "left")
    lived_in = directory.with_name(directory.name[:-4] + "live")
    anothers = home / f"fleet-0-{os.getpid()}-left"
    for path in (left, lived_in, anothers):
        path.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as lives:
        (lived_in / "cgroup.procs").write_text(str(lives.pid))
        go(manager, "a")
        manager.end_of(attempt)
        leave(manager)
        assert made(manager, home) == [lived_in] and anothers.exists()
        assert lives.poll() is None and (manager.fleet / "runtime/cgroups").exists()
        lives.kill()
    leave(manager)
    assert made(manager, home) == [] and not (manager.fleet / "runtime/cgroups").exists()
    anothers.rmdir()


# Where it is not allowed -------------------------------------------------------------------------

READ_ONLY = "mount -o remount,bind,ro $POINT"
HIDDEN = "mount -t tmpfs none $POINT"

AS_BEFORE = """
import sys
from pathlib import Path
from tests.worker.driver import Manager, is_alive
manager = Manager(Path(sys.argv[1]))
try:
    manager.fifo("ready")
    manager.fifo("go")
    script = "setsid sleep 1000 & echo $! > ready; read line < go; cat /proc/self/cgroup; exit 7"
    attempt = manager.start("a", ["sh", "-c", script])
    daemon = int(manager.says("ready"))
    manager.line.hear(lambda m: m.get("f") == "started")
    manager.run("b", ["true"])
    (manager.root / "go").write_text("go\\n")
    end = manager.end_of(attempt)
    assert (end["exit"], end["stragglers"]) == (7, 1), end
    assert not is_alive(daemon)
    assert "fleet-" not in manager.out(end)
    assert not (manager.fleet / "runtime/cgroups").exists()
    assert (manager.fleet / "runtime/runtime.err").read_text() == ""
finally:
    manager.finish()
"""


def in_namespace(home: Path, mounts: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a Python where the mounts are others; `$POINT` is where the cgroups are mounted."""
    point = mount_point(home)
    environment = {**os.environ, "POINT": str(point)}
    return subprocess.run(
        [*mounted(f"{mounts} && run;"), sys.executable, *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def mount_point(path: Path) -> Path:
    while not path.is_mount():
        path = path.parent
    return path


@pytest.mark.parametrize("mounts", [READ_ONLY, HIDDEN])
def test_where_none_can_be_made_all_is_as_before(home: Path, tmp_path: Path, mounts: str) -> None:
    done = in_namespace(home, mounts, ["-c", AS_BEFORE, str(tmp_path)])
    assert done.returncode == 0, done.stderr


def test_where_no_more_may_be_made_all_is_as_before(another: Path, tmp_path: Path) -> None:
    (another / "cgroup.max.descendants").write_text("0")
    with in_cgroup(another):
        words = [sys.executable, "-c", AS_BEFORE, str(tmp_path)]
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


OWN = """
import json
from codewhale_fleet.worker import cgroups
print(json.dumps([*cgroups.own(), cgroups.lacking()]))
"""


def test_a_mount_that_shows_a_part_of_the_hierarchy_is_understood(
    another: Path, home: Path, tmp_path: Path
) -> None:
    (another / "inner").mkdir()
    point = tmp_path / "with a space"
    point.mkdir()
    mounts = f'mount --bind {another} "{point}" && {HIDDEN}'
    with in_cgroup(another / "inner"):
        done = in_namespace(home, mounts, ["-c", OWN])
    own, directory, lacking = json.loads(done.stdout)
    assert own.endswith(f"/{another.name}/inner")
    assert (directory, lacking) == (f"{point}/inner", "")


@pytest.mark.parametrize(
    ("mounts", "state", "seen"),
    [
        ("true", "ok", "used"),
        (READ_ONLY, "note", "is not writable for you"),
        (HIDDEN, "note", "no cgroup of version 2 is mounted"),
    ],
)
def test_the_doctor_says_whether_it_is_used(
    home: Path, tmp_path: Path, mounts: str, state: str, seen: str
) -> None:
    words = ["-m", "codewhale_fleet", "doctor", "--json", "--dir", str(tmp_path)]
    done = in_namespace(home, mounts, words)
    (check,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "cgroup.kill"]
    assert check["state"] == state and seen in check["seen"]
    assert not list(home.glob("fleet-probe-*"))


def test_names_tell_fleets_and_attempts_apart(home: Path, tmp_path: Path) -> None:
    children = processes.Children(os.getpid())
    of = {
        cgroups.Cgroups(str(tmp_path), place, {}, children).name(attempt)
        for place in ([1, 23], [12, 3])
        for attempt in (f"{RUN}/a@1", f"{RUN}/a@11", "ü" * 300 + "/a@1")
    }
    assert len(of) == 6 and all(len(os.fsencode(name)) < 100 for name in of)
