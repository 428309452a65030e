"""The ssh road when things break: a manager that speaks the protocol, a real sshd, real faults.

Whatever happens, what runs over there goes on, is told once, and is never begun twice.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.hosts.pythons import path_with
from tests.hosts.roads import RUN, Far, OnRoad, road, wait_for
from tests.hosts.sshd import make_key
from tests.real.wire import Wire, boots
from tests.worker.driver import Gone, Message, is_alive

pytestmark = pytest.mark.slow

CLIENTS = ("ssh", "openssh")
PYTHONS = ("3.9", "3.13")


@contextmanager
def far_road(name: str, folder: Path, **more: object) -> Iterator[Far]:
    with road(name, folder, **more) as made:  # type: ignore[arg-type]
        assert isinstance(made, Far)
        yield made


def begin_gated(far: OnRoad, task: str = "a", last: str = "echo over") -> str:
    """An attempt that waits for a line in `go-TASK`, and counts how often it was begun."""
    for name in (f"go-{task}", f"up-{task}"):
        far.fifo(name)
    script = f"echo x >> times-{task}; echo up > up-{task}; read line < go-{task}; {last}"
    attempt = far.start(task, ["sh", "-c", script])
    far.says(f"up-{task}")
    far.settled()
    return attempt


def is_end_of(attempt: str, message: Message) -> bool:
    return message.get("f") == "ended" and message["attempt"] == attempt


def let_go(far: OnRoad, task: str = "a") -> None:
    (far.root / f"go-{task}").write_text("go\n")


def ended_once(far: OnRoad, attempt: str) -> Message:
    """The end of a gated attempt, told once on this connection, and begun once."""
    end = far.end_of(attempt)
    assert end["exit"] == 0 and far.out(end) == "over\n"
    task = attempt.partition("/")[2].partition("@")[0]
    assert (far.root / f"times-{task}").read_text() == "x\n"
    far.settled()
    assert [m.get("f") for m in far.line.heard if m.get("attempt") == attempt].count("ended") == 1
    return end


@pytest.mark.parametrize("client", CLIENTS)
def test_a_killed_sshd_ends_no_work(tmp_path: Path, client: str) -> None:
    with far_road(client, tmp_path) as far:
        attempt = begin_gated(far)
        far.server.stop()
        assert far.refusal()["why"] == "transport"
        line = far.dial()  # nobody listens
        assert "refuses the connection" in far.hello["sentence"] and not far.hello["final"]
        line.hear_end()
        assert far.processes(attempt)
        let_go(far)
        wait_for(lambda: not far.processes(attempt))
        far.server.start()
        far.dial(cursors={})
        far.environ(far.base)
        ended_once(far, attempt)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_changed_host_key_is_refused_until_it_is_the_old_one_again(
    tmp_path: Path, client: str
) -> None:
    with far_road(client, tmp_path) as far:
        attempt = begin_gated(far)
        folder = far.server.folder
        far.server.stop()
        far.refusal()
        for name in ("host", "host.pub"):
            shutil.copy(folder / name, tmp_path / name)
            (folder / name).unlink()
        make_key(folder / "host")
        changed = far.server.fingerprint
        far.server.start()
        far.dial().hear_end()
        assert changed in far.hello["sentence"] and "changed" in far.hello["sentence"]
        assert far.hello["why"] == "transport" and far.hello["final"] and far.hello["hint"]
        far.server.stop()
        for name in ("host", "host.pub"):
            shutil.copy(tmp_path / name, folder / name)
            (folder / name).chmod(0o600)
        far.server.start()
        far.dial(cursors={})
        far.environ(far.base)
        let_go(far)
        ended_once(far, attempt)


# ---- the wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_delay_and_loss_only_take_time(tmp_path: Path, wire: Wire, client: str) -> None:
    with far_road(client, tmp_path, wire=wire) as far:
        wire.set(delay=0.05, loss=0.05)
        data = os.urandom(1 << 19)
        (far.root / "data").write_bytes(data)
        for number in range(20):
            far.start(f"t{number}", ["sh", "-c", f"echo {number} >> done; cat data"])
        for number in range(20):
            end = far.line.find(partial(is_end_of, f"{RUN}/t{number}@1"), patience=90)
            assert end["exit"] == 0
            assert (far.fleet / end["logs"]["out"]["path"]).read_bytes() == data
        wire.set()
        done = (far.root / "done").read_text().split()
        assert sorted(map(int, done)) == list(range(20))


def test_a_short_partition_is_only_a_delay(tmp_path: Path, wire: Wire) -> None:
    with far_road("ssh", tmp_path, wire=wire) as far:
        attempt = begin_gated(far)
        wire.cut()
        let_go(far)
        wait_for(lambda: not far.processes(attempt))
        ready, _, _ = select.select([far.line], [], [], 3)
        assert not ready
        wire.set()
        ended_once(far, attempt)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_long_partition_is_noticed_and_after_it_everything_is_told(
    tmp_path: Path, wire: Wire, client: str
) -> None:
    with far_road(client, tmp_path, wire=wire) as far:
        attempt = begin_gated(far)
        wire.cut()
        let_go(far)
        began = time.monotonic()
        lost = far.refusal(patience=100)
        assert lost["why"] == "transport" and not lost["final"]
        assert time.monotonic() - began < 90
        line = far.dial()
        assert "did not answer" in far.hello["sentence"]
        line.hear_end()
        wire.set()
        far.dial(cursors={})
        far.environ(far.base)
        ended_once(far, attempt)


def test_a_connection_that_breaks_at_any_byte_loses_nothing(tmp_path: Path) -> None:
    count, size = 30, 200_000
    with far_road("ssh", tmp_path) as far, _Cutter(far.server.port) as cutter:
        for number in range(count):
            script = f"echo {number} >> done; head -c {size} /dev/zero | tr '\\0' {number % 10}"
            far.start(f"t{number}", ["sh", "-c", script])
        far.settled()
        runtime, heard = far.hello["runtime"], 0
        far.line.close()
        far.host = far.server.host(port=cutter.port, host_key_fingerprint=far.server.fingerprint)
        ends: list[str] = []
        for breaks in range(100):
            cutter.after = 20_000 + 150_000 * breaks
            far.dial(cursors={runtime: heard})
            try:
                while len(ends) < count:
                    message = far.line.hear(lambda m: m.get("f") == "ended")
                    path = far.fleet / message["logs"]["out"]["path"]
                    assert path.stat().st_size == size  # it is here before it is told
                    ends.append(message["attempt"])
                    heard = message["n"]
            except Gone:
                continue
            break
        assert len(ends) == len(set(ends)) == count and breaks > 3
        assert sorted(map(int, (far.root / "done").read_text().split())) == list(range(count))
        far.host = far.server.host()
        far.dial()


class _Cutter:
    """A proxy before a server that breaks each connection after so many bytes from it."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.after = 1 << 30
        self.wait = 0.0
        self._over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> _Cutter:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._to)) as server:
                if self.wait:
                    time.sleep(self.wait)
                self._pass(client, server, self.after)

    def _pass(self, client: socket.socket, server: socket.socket, left: int) -> None:
        other = {client: server, server: client}
        while not self._over:
            for one in select.select([client, server], [], [], 0.2)[0]:
                try:
                    data = one.recv(65536)
                    if one is server:
                        data, left = data[:left], left - len(data)
                    if not data or left <= 0:
                        return
                    other[one].sendall(data)
                except OSError:
                    return


# ---- the host


def test_a_slow_banner_is_waited_for_and_one_that_takes_too_long_is_told(tmp_path: Path) -> None:
    with far_road("ssh", tmp_path) as far, _Cutter(far.server.port) as slow:
        key = far.server.fingerprint
        slow.wait = 4
        far.host = far.server.host(port=slow.port, host_key_fingerprint=key)
        far.again()
        assert far.run("a", ["true"])["exit"] == 0
        far.line.close()
        slow.wait = 13
        far.remote.close()  # a new connector has no connection yet
        far.dial()
        assert far.hello["m"] == "refused" and "did not answer within" in far.hello["sentence"]
        assert not far.hello["final"]
        far.host = far.server.host()
        far.dial()


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def filled(place: Path) -> Path:
    """A file that takes all the room that is left."""
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return path


def test_a_full_disk_over_there_refuses_what_comes_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "sshd").mkdir()
    with (
        small_disk(tmp_path / "sshd/state", "2m"),
        far_road("ssh", tmp_path) as far,
    ):
        attempt = begin_gated(far, last="true")
        filler = filled(far.state)
        count = 60
        for number in range(count):
            far.start(f"b{number}", ["touch", f"began-{number}"])
        refused = far.line.hear(lambda m: m.get("m") == "refused")
        assert refused["why"] == "disk" and "disk full" in refused["sentence"]
        let_go(far)
        wait_for(lambda: not far.processes(attempt))
        far.settled()
        lines = far.line.heard
        not_begun = {m["attempt"] for m in lines if m.get("why") == "disk"}
        filler.unlink()
        far.dial(cursors={})
        far.environ(far.base)
        assert far.end_of(attempt)["exit"] == 0
        assert (far.root / "times-a").read_text() == "x\n"
        for number in range(count):
            name = f"{RUN}/b{number}@1"
            began = (far.root / f"began-{number}").exists()
            assert began is (name not in not_begun)
            if not began:
                far.start(f"b{number}", ["touch", f"began-{number}"])
            assert far.end_of(name)["exit"] == 0
        assert not_begun


def test_a_disk_that_is_full_before_anything_runs_is_told(tmp_path: Path) -> None:
    (tmp_path / "sshd").mkdir()
    with small_disk(tmp_path / "sshd/state", "64k"), far_road("ssh", tmp_path) as far:
        pids = far.keeper, far.pid
        far.line.say({"m": "leave"})
        far.line.hear_end()
        for pid in pids:
            wait_for(lambda pid=pid: not is_alive(pid))
        shutil.rmtree(far.state / "runtime")
        (far.state / "reserve").unlink()  # somebody had to take it
        filler = filled(far.state)
        far.dial()
        far.environ(far.base)
        far.start("a", ["touch", "began"])
        refused = far.line.hear(lambda m: m.get("m") == "refused")
        assert refused["why"] == "disk" and "disk full" in refused["sentence"]
        filler.unlink()
        far.start("a", ["touch", "began"])
        assert far.end_of(f"{RUN}/a@1")["exit"] == 0


def test_after_a_reboot_nothing_is_begun_again_and_its_own_directory_is_kept(
    tmp_path: Path,
) -> None:
    with far_road("ssh", tmp_path) as far:
        (far.root / "file").write_text("one\n")
        own = {"kind": "copy", "from": str(far.root), "directory": f"worktrees/{RUN}/b.1"}
        attempt = begin_gated(far)
        far.fifo("up-b")
        script = f"echo two > file; echo up > {far.root}/up-b; sleep 1000"
        isolated: Message = {"isolate": {**own, "cwd": ".", "include": []}}
        second = far.start("b", ["sh", "-c", script], **isolated)
        far.says("up-b")
        far.settled()
        boot = far.hello["boot"]
        pids = [far.keeper, far.pid, *far.processes(attempt), *far.processes(second)]
        far.server.stop()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_for(lambda pid=pid: not is_alive(pid))
        place = tmp_path / "boot_id"
        place.write_text("00000000-0000-4000-8000-000000000000\n")
        far.server.before = boots(place)
        far.server.start()
        far.dial()
        assert far.hello["boot"] == place.read_text().strip() != boot
        assert far.hello["open"] == []
        far.environ(far.base)
        for name, more in ((attempt, {}), (second, isolated)):
            plan = far.plan(name, ["true"], **more)
            far.line.say({"m": "cut-off", "attempt": name, "slot": f"{RUN}-w-1", "plan": plan})
        for name in (attempt, second):
            end = far.end_of(name)
            assert (end["why"], end["unknown"]) == ("restarted", True)
        (patch,) = far.end_of(second)["artifacts"]
        assert "+two" in (far.fleet / "evidence" / patch["sha256"]).read_text()
        assert (far.root / "times-a").read_text() == "x\n"


@pytest.mark.parametrize("version", PYTHONS)
def test_older_and_newer_pythons_over_there(tmp_path: Path, version: str) -> None:
    """Everything that imports a part of the runtime lazily is called once."""
    with far_road("ssh", tmp_path, path=path_with(tmp_path, version)) as far:
        assert far.line.heard[0]["python"].startswith(version + ".")
        attempt = begin_gated(far)
        far.drop()
        far.again()
        let_go(far)
        ended_once(far, attempt)
        (far.root / "file").write_text("one\n")
        own = {"kind": "copy", "from": str(far.root), "directory": f"worktrees/{RUN}/c.1"}
        far.line.say(
            {
                "m": "environment",
                "run": RUN,
                "umask": 0o22,
                "values": {"base": {}, "allowed": {}, "secrets": {"KEY": "planted-value"}},
            }
        )
        end = far.run(
            "c",
            ["sh", "-c", "echo two > file; echo $KEY; python3 -c pass"],
            isolate={**own, "cwd": ".", "include": []},
            artifacts={"report": ["f*"]},
            evidence=[{"path": "file"}],
            secrets=[{"key": "KEY", "as": "KEY", "file": False}],
            stall=5,
            timeout=60,
        )
        assert end.get("exit") == 0, end
        assert "planted" not in far.out(end) and {one["kind"] for one in end["artifacts"]} == {
            "patch",
            "report",
        }
        assert far.run("d", ["sleep", "1000"], timeout=0.2, grace=0.2)["why"] == "timeout"
        far.kill(far.pid)
        far.line.hear_end()
        far.again()
        assert far.run("e", ["true"])["exit"] == 0
