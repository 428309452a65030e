"""The local road: one runtime a workspace, started once, reached under any path length."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import codewhale_fleet
from codewhale_fleet.errors import Unreachable
from codewhale_fleet.hosts.local import connect
from codewhale_fleet.worker import starting
from codewhale_fleet.worker.main import bind

PACKAGES = str(Path(codewhale_fleet.__file__).parent.parent)
BOOTSTRAP = (
    "import sys;sys.path.insert(0,sys.argv.pop(1));"
    "from codewhale_fleet.worker.main import main;main()"
)
HELLO = {"m": "hello", "protocol": 1, "fleet": "f", "epoch": 1, "cursors": {}}


def greet(road: socket.socket) -> dict[str, Any]:
    road.settimeout(20)
    road.sendall(json.dumps(HELLO).encode() + b"\n")
    text = b""
    while not text.endswith(b"\n"):
        data = road.recv(65536)
        assert data, "the runtime closed"
        text += data
    answer: dict[str, Any] = json.loads(text)
    return answer


def leave(road: socket.socket) -> None:
    road.sendall(b'{"m":"leave"}\n')
    while road.recv(65536):
        pass
    road.close()


def wait_gone(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([fd], [], [], 20)[0]
    os.close(fd)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / ".fleet"
    yield found
    lock = found / "runtime/lock"
    if lock.exists() and (found / "runtime/runtime.sock").exists():
        leave_all(found)


def leave_all(fleet: Path) -> None:
    try:
        road = connect(fleet, start=False)
    except Unreachable:
        return
    greet(road)
    leave(road)


def test_the_first_connect_starts_a_runtime_and_the_second_finds_it(fleet: Path) -> None:
    first, second = connect(fleet), connect(fleet)
    assert not first.getblocking()
    one, two = greet(first), greet(second)
    assert one["pid"] == two["pid"] and one["protocol"] == 1
    assert one["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for road in (first, second):
        road.close()


def test_callers_at_the_same_time_start_one(fleet: Path) -> None:
    pids: list[int] = []
    gate = threading.Barrier(8)

    def call() -> None:
        gate.wait()
        road = connect(fleet)
        pids.append(greet(road)["pid"])
        road.close()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 8 and len(set(pids)) == 1


def test_a_path_may_be_longer_than_a_socket_address(tmp_path: Path) -> None:
    fleet = tmp_path.joinpath(*["directory-of-forty-characters-" + "x" * 10] * 6, ".fleet")
    assert len(str(fleet)) > 240
    fleet.parent.mkdir(parents=True)
    road = connect(fleet)
    greet(road)
    leave(road)


def test_without_start_nothing_is_started_and_the_sentence_says_so(fleet: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        connect(fleet, start=False)
    assert "no worker runtime lives" in caught.value.sentence and caught.value.exit_code == 6
    assert not fleet.exists()


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable) as caught:
        connect(tmp_path / "file" / ".fleet")
    assert "cannot be reached" in caught.value.sentence


def test_a_dead_runtimes_socket_does_not_hinder_the_next(fleet: Path) -> None:
    road = connect(fleet)
    first = greet(road)
    keeper = int((fleet / "runtime/lock").read_text())
    for pid in (keeper, first["pid"]):
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    road.close()
    assert (fleet / "runtime/runtime.sock").is_socket()
    road = connect(fleet)
    second = greet(road)
    assert second["pid"] != first["pid"] and second["runtime"] == first["runtime"]
    road.close()


def test_the_runtime_is_detached_and_inherits_nothing(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "value")
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    road = connect(fleet)
    pid = greet(road)["pid"]
    os.close(stray)

    keeper = int((fleet / "runtime/lock").read_text())
    assert os.getsid(keeper) == keeper == os.getsid(pid)
    assert b"A_SECRET" not in Path(f"/proc/{keeper}/environ").read_bytes()
    strays = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if int(fd.name) > 2]
    assert "/dev/null" not in {str(fd.readlink()) for fd in strays}
    road.close()


def test_runtime_and_socket_are_the_owners_alone(fleet: Path) -> None:
    road = connect(fleet)
    greet(road)
    assert (fleet / "runtime").stat().st_mode & 0o777 == 0o700
    for path in (fleet / "runtime").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    road.close()


def command(root: Path, *more: str) -> list[str]:
    words = [sys.executable, "-I", "-S", "-c", BOOTSTRAP, PACKAGES, str(root)]
    return [*words, "--dir", str(root / ".fleet"), *more]


def test_a_second_runtime_leaves_with_a_sentence(fleet: Path) -> None:
    road = connect(fleet)
    greet(road)
    done = subprocess.run(command(fleet.parent), capture_output=True, text=True, timeout=20)
    assert done.returncode == 4 and "already lives in" in done.stderr
    assert "Traceback" not in done.stderr
    again = connect(fleet, start=False)
    greet(again)
    for each in (road, again):
        each.close()


def test_wrong_arguments_are_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--sing", "x"), capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2 and done.stderr.startswith("usage:")


def test_without_a_descriptor_it_binds_itself(fleet: Path) -> None:
    fleet.mkdir()
    keeper = subprocess.Popen(command(fleet.parent), stderr=subprocess.PIPE)
    try:
        road = None
        while road is None:
            try:
                road = connect(fleet, start=False)
            except Unreachable:
                assert keeper.poll() is None
        greet(road)
        leave(road)
        assert keeper.wait(20) == 0
    finally:
        if keeper.poll() is None:
            keeper.kill()
        keeper.communicate()


def test_a_runtime_that_is_stopped_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_CONNECT_SECONDS", 0.1)
    (tmp_path / "runtime").mkdir()
    with contextlib.closing(bind(str(tmp_path / "runtime"))) as listener:
        listener.listen(0)
        first = connect(tmp_path, start=False)
        with pytest.raises(Unreachable, match="temporarily unavailable"):
            connect(tmp_path, start=False)
        timer = threading.Timer(0.02, lambda: listener._accept()[0])  # type: ignore[attr-defined]
        timer.start()
        monkeypatch.setattr(starting, "_CONNECT_SECONDS", 20.0)
        connect(tmp_path, start=False).close()
        first.close()
        timer.join()


@pytest.mark.parametrize("killed", [1, 2])
def test_a_runtime_that_is_killed_at_its_start_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    started = dying_at_first(monkeypatch, killed)
    road = connect(tmp_path / ".fleet")
    assert greet(road)["keeper"] == started[-1]
    assert len(started) == killed + 1
    leave(road)


def test_a_runtime_that_always_dies_at_its_start_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = dying_at_first(monkeypatch, 1000)
    with pytest.raises(Unreachable, match="died at its start"):
        connect(tmp_path / ".fleet")
    assert len(started) == 3


def dying_at_first(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """The first `count` keepers that are spawned die of SIGKILL at once; the pids of all."""
    started: list[int] = []
    spawn = os.posix_spawn

    def spawn_and_kill(*words: Any, **options: Any) -> int:
        pid = spawn(*words, **options)
        started.append(pid)
        if len(started) <= count:
            os.killpg(pid, signal.SIGKILL)  # and the runtime, should it have one by now
            wait_gone(pid)
        return pid

    monkeypatch.setattr(os, "posix_spawn", spawn_and_kill)
    return started
