"""Ways out of a sandbox that were tried: each has to fail, and nothing may have happened outside.

All are tasks of one real `fleet run` under the policy of level sandbox, in a workspace that is
neither below /tmp nor below the home, where nothing is hidden by accident.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker import limits
from tests.cli.driver import fleet
from tests.sandbox.conftest import Confiner

pytestmark = pytest.mark.slow

POLICY = '[security_policy]\ndefault_trust_level = "sandbox"\n'
TRY = "{0} && exit 0; echo refused; exit 9\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A workspace beside what must stay untouched, on the disk itself."""
    top = Path(f"/var/tmp/fleet-escapes-{os.getpid()}")
    (top / "work/out").mkdir(parents=True)
    (top / "outside").mkdir()
    (top / "outside/kept").write_text("kept\n")
    yield top
    shutil.rmtree(top)


def run(place: Path, tasks: dict[str, str], head: str = "", more: str = "") -> dict[str, Any]:
    """Receipts by task of one run in which each is to fail."""
    work = place / "work"
    text = POLICY + head
    for name, command in tasks.items():
        text += f"[[tasks]]\nid = {json.dumps(name)}\ncommand = {json.dumps(command)}\n"
        text += 'workspace = { writable_paths = ["out"] }\ntimeout_seconds = 60\n' + more
    (work / "escapes.toml").write_text(text)
    done = fleet(work, "run", "escapes.toml", "--json", "--max-workers", "4")
    assert done.returncode == 1, done.stdout + done.stderr
    shown = json.loads(fleet(work, "receipts", "@last", "--json").stdout)
    return {receipt["task_id"]: receipt["result"] for receipt in shown["receipts"]}


def tried(ways: dict[str, str]) -> dict[str, str]:
    """Commands that say `refused` where their way out was none; of `fleet` also what it says."""
    quiet = {name: "" if "fleet " in way else " 2>/dev/null" for name, way in ways.items()}
    return {name: TRY.format(f"{{ {way}; }}{quiet[name]}") for name, way in ways.items()}


def refused(place: Path, name: str) -> bool:
    """Whether its way out was none, and was none for a better reason than a slip in the typing."""
    said = logs(place, name)
    return "refused" in said.splitlines() and "shows what it takes" not in said


def tree(top: Path) -> dict[str, bytes]:
    """Everything outside of the fleet's own directory and the writable path."""
    found = {}
    for path in sorted(top.rglob("*")):
        if ".fleet" not in path.parts and path.is_file() and path.name != "escapes.toml":
            found[str(path)] = path.read_bytes()
    return found


def logs(place: Path, task: str) -> str:
    done = fleet(place / "work", "logs", f"@last/{task}")
    return done.stdout + done.stderr


def test_nothing_outside_its_paths_can_be_written(place: Path) -> None:
    outside, work = place / "outside", place / "work"
    before = tree(place)
    there = f"{outside}/made"
    ways = {
        "absolute": f"echo x > {there}",
        "dots": "echo x > out/../../outside/made",
        "beside": "echo x > beside",
        "workspace": "rm -f escapes.toml",
        "symlink": f"ln -s {outside} out/link && echo x > out/link/made",
        "hardlink": f"ln {outside}/kept out/kept && echo x > out/kept",
        "rename": f"mv {outside}/kept out/kept",
        "proc-root": f"echo x > /proc/self/root{there}",
        "proc-1-root": f"echo x > /proc/1/root{there}",
        "proc-cwd": "echo x > /proc/self/cwd/beside",
        "remount": "mount -o remount,rw,bind /",
        "user-namespace": f"unshare -Urm sh -c 'mount -o remount,rw,bind /; echo x > {there}'",
        "bind": f"unshare -Urm sh -c 'mkdir out/b; mount --rbind / out/b; echo x > out/b{there}'",
        "bwrap": f"bwrap --bind / / sh -c 'echo x > {there}'",
        "unmount": f"unshare -Urm sh -c 'umount -l {work}/.fleet; umount -l /tmp; echo > {there}'",
        "device": "for d in /dev/vd* /dev/sd* /dev/nvme*; do test -e $d && exit 0; done; false",
        "mknod": "mknod out/null c 1 3 && echo x > out/null",
        "kernel": "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
        "kernel-files": "find /proc /sys -maxdepth 4 -type f -writable "
        "! -path '/proc/[0-9]*' ! -path '/proc/pressure/*' "
        "! -path '/proc/self/*' ! -path '/proc/thread-self/*' "
        "2>/dev/null | while read -r f; do (: >> $f) 2>/dev/null && echo $f; done | grep .",
        "sysrq": "echo h > /proc/sysrq-trigger",
        "cgroup": "mkdir /sys/fs/cgroup/*/fleet-escape",
        "chmod": f"chmod 777 {outside}/kept",
        "suid": f"cp /bin/sh out/sh && chmod 4755 out/sh && su -c 'echo x > {there}'",
    }
    found = run(
        place, {name: TRY.format(f"{{ {way}; }} 2>/dev/null") for name, way in ways.items()}
    )
    for name in ways:
        assert found[name] == "fail", (name, logs(place, name))
        assert refused(place, name), (name, logs(place, name))
    shutil.rmtree(place / "work/out")
    (place / "work/out").mkdir()
    assert tree(place) == before
    assert oct((outside / "kept").stat().st_mode & 0o777) != "0o777"


def test_nothing_of_the_fleet_and_of_others_can_be_read(place: Path) -> None:
    work = place / "work"
    home = Path(os.environ.get("HOME", "/root"))
    secret = home / f".fleet-escape-{os.getpid()}"
    secret.write_text("secret\n")
    ways = {
        "ledger": f"cat {work}/.fleet/fleet.jsonl",
        "journal": f"cat {work}/.fleet/runtime/journal.jsonl",
        "logs": f"ls {work}/.fleet/logs/*",
        "evidence": f"ls {work}/.fleet/evidence/*",
        "attempts": f"ls {work}/.fleet/attempts/*",
        "others": "ls .fleet/worktrees .fleet/prompts",
        "home": f"cat {secret}",
        "proc": "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -v -e \"$FLEET_TASK_ID\" "
        "| grep FLEET_TASK_ID",
        "through-an-artifact": f"ln -s {work}/.fleet/fleet.jsonl out/link; "
        "fleet artifact add report out/link",
        "through-a-checkpoint": f"ln -sf {work}/.fleet/fleet.jsonl out/link2; "
        "fleet checkpoint out/link2",
        "status": "fleet status --json | grep -q '\"tasks\"'",
        "explain": "fleet explain @last/status",
        "own-verdict": "fleet verify @last/own-verdict --pass --note mine",
    }
    try:
        found = run(place, tried(ways))
    finally:
        secret.unlink()
    for name in ways:
        assert found[name] == "fail", (name, logs(place, name))
        assert refused(place, name), (name, logs(place, name))
    assert "artifact" not in logs(place, "through-an-artifact")


def test_the_machines_network_cannot_be_reached(place: Path) -> None:
    came: list[Any] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hidden,
    ):
        hidden.bind(f"\0fleet-escape-{os.getpid()}")
        hidden.listen()
        hidden.settimeout(0.2)
        server.settimeout(0.2)
        port = server.getsockname()[1]
        code = (
            "import socket, sys\n"
            "where = sys.argv[1:]\n"
            "if where[0] == 'unix':\n"
            "    socket.socket(socket.AF_UNIX).connect('\\0' + where[1])\n"
            "else:\n"
            "    socket.create_connection((where[0], int(where[1])), timeout=3).send(b'x')\n"
        )
        (place / "work/reach.py").write_text(code)
        ways = {
            "loopback": f"python3 reach.py 127.0.0.1 {port}",
            "any": f"python3 reach.py 0.0.0.0 {port}",
            "mapped": f"python3 reach.py ::ffff:127.0.0.1 {port}",
            "world": "python3 reach.py 1.1.1.1 443",
            "abstract": f"python3 reach.py unix fleet-escape-{os.getpid()}",
            "raw": "ip link add veth0 type veth",
        }
        thread = threading.Thread(target=_wait_for, args=([server, hidden], came))
        thread.start()
        found = run(place, tried(ways))
        came.append(None)
        thread.join()
    assert came == [None]
    for name in ways:
        assert found[name] == "fail" and refused(place, name), name


def _wait_for(servers: list[socket.socket], came: list[Any]) -> None:
    while None not in came:
        for server in servers:
            try:
                came.append(server.accept()[1])
            except TimeoutError:
                continue


def test_the_runtime_and_other_attempts_cannot_be_killed_or_spoken_for(place: Path) -> None:
    other = place / "other"
    other.mkdir()
    (other / "lines").write_text("1000\n")
    keep = fleet(other, "run", "--detach", "--each", "lines", "--", "sleep", "{}")
    assert keep.returncode == 0, keep.stdout + keep.stderr
    sockets = [str(path) for path in (other / ".fleet").rglob("*.sock") if path.stem != "tasks"]
    assert len(sockets) >= 2
    code = (
        "import json, os, socket, sys\n"
        "def say(path, *lines):\n"
        "    s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(path)\n"
        "    s.sendall(b''.join(json.dumps(one).encode() + b'\\n' for one in lines))\n"
        "    return s.recv(65536)\n"
        "hello = {'m': 'hello', 'protocol': 1, 'fleet': 'f', 'cursors': {}, 'epoch': 10**6}\n"
        "mine = os.environ['FLEET_ATTEMPT_ID']\n"
        "ask = {'v': 'progress', 't': os.environ['FLEET_TOKEN'], 'percent': 5}\n"
        "if sys.argv[1] == 'token':\n"
        "    said = say(os.environ['FLEET_SOCKET'], {**ask, 'a': sys.argv[2]})\n"
        "    sys.exit(0 if b'\"ok\":true' in said.replace(b' ', b'') else 1)\n"
        "said = say(sys.argv[2], hello, {'m': 'ping'}, {'m': 'ask'})\n"
        "sys.exit(0 if said else 1)\n"
    )
    (place / "work/speak.py").write_text(code)
    ways = {
        "kill-all": "kill -9 -1; sleep 0.1; false",
        "kill-pids": "for p in $(seq 2 40000); do test $p = $$ || kill -9 $p; done; false",
        "own-runtime": f"python3 speak.py socket {place}/work/.fleet/runtime/runtime.sock",
        "token-of-another": 'python3 speak.py token "${FLEET_ATTEMPT_ID%%/*}/kill-pids@1"',
        "another-fleets": " || ".join(f"python3 speak.py socket {one}" for one in sockets),
        "fake-names": "FLEET_ATTEMPT_ID=${FLEET_ATTEMPT_ID%%/*}/own-runtime@1 fleet progress 99 x",
        "fake-fleet": f"env FLEET_DIR={other} fleet stop --all",
        "ptrace": "python3 -c 'import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        'import sys; sys.exit(0 if libc.ptrace(16, int(os.environ["P"]), 0, 0) == 0 else 1)\'',
    }
    head = ""
    tasks = tried(ways)
    tasks["ptrace"] = f"export P={os.getpid()}\n" + tasks["ptrace"]
    tasks["kill-all"] = "trap '' TERM\n" + tasks["kill-all"]
    found = run(place, tasks, head)
    for name in ways:
        assert found[name] == "fail", (name, logs(place, name))
    for name in set(ways) - {"kill-all", "kill-pids"}:
        assert refused(place, name), (name, logs(place, name))
    left = json.loads(fleet(other, "status", "--json").stdout)
    assert "running" in json.dumps(left)
    fleet(other, "stop", "@last")


def test_a_daemon_a_full_disk_and_fake_variables_stay_inside(manager: Confiner) -> None:
    end = manager.confined(
        "daemon", "setsid sh -c 'trap \"\" TERM HUP; env -i sleep 1003' >/dev/null 2>&1 & echo"
    )
    assert end["stragglers"] >= 1
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                assert b"1003" not in (one / "cmdline").read_bytes()
            except OSError:
                continue
    free = shutil.disk_usage(manager.root).free
    text = "head -c 1200M /dev/zero > /tmp/fill; echo $?; head -c 1200M /dev/zero > $HOME/fill"
    end = manager.confined("fill", text)
    assert end["exit"] != 0 and manager.out(end, "err").count("No space left") == 2
    assert free - shutil.disk_usage(manager.root).free < 300 << 20
    text = "env FLEET_ID=x FLEET_ATTEMPT_ID=y/z@1 setsid sleep 1004 >/dev/null 2>&1 & echo"
    end = manager.confined("fake", text)
    assert end["exit"] == 0 and end["stragglers"] == 1


BOMB = """
import subprocess, threading
threading.stack_size(32768)
gate, count = threading.Event(), 0
try:
    while count < 6000:
        threading.Thread(target=gate.wait, daemon=True).start()
        count += 1
except RuntimeError:
    pass
print(count, flush=True)
try:
    subprocess.run(["true"])
    print("forked", flush=True)
except OSError:
    print("no more", flush=True)
gate.set()
"""


def test_a_fork_bomb_ends_at_the_limit_and_nobody_outside_feels_it(manager: Confiner) -> None:
    (manager.root / "bomb.py").write_text(BOMB)
    end = manager.confined("bomb", "/usr/bin/python3 bomb.py")
    count, then = manager.out(end).split(maxsplit=1)
    assert 100 < int(count) <= limits.SANDBOX_PROCESSES and then.strip() == "no more"
    assert manager.confined("after", "true")["exit"] == 0
    assert manager.run("free", ["true"])["exit"] == 0
