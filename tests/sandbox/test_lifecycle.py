"""A sandboxed attempt from start to end, by a real runtime and real bubblewrap."""

from __future__ import annotations

import os
import select
import tempfile
from pathlib import Path

import pytest

from tests.sandbox.conftest import Confiner
from tests.worker.driver import PATIENCE, RUN, is_alive

pytestmark = pytest.mark.slow


def test_it_reads_the_root_and_writes_nowhere_but_its_own(manager: Confiner) -> None:
    text = """
        pwd; echo mine > "$FLEET_SCRATCH/note" && cat "$FLEET_SCRATCH/note"
        touch made; touch /etc/made; ls /proc | grep -c '^[0-9]'; id -u
    """
    end = manager.confined("a", text)
    out = manager.out(end).split()
    assert end["exit"] == 0 and out[0] == str(manager.root) and out[1] == "mine"
    assert int(out[2]) <= 5 and out[3] == str(os.getuid())
    assert manager.out(end, "err").count("Read-only file system") == 2
    assert not (manager.root / "made").exists() and not Path("/etc/made").exists()
    assert not manager.left()
    assert not list((manager.fleet / "logs").rglob("*.box"))


def test_writable_paths_are_writable_and_nothing_beside_them(manager: Confiner) -> None:
    (manager.root / "out").mkdir()
    text = "echo good > out/good; mkdir out/deep; echo bad > bad; echo bad > ../bad; ls -d .git"
    end = manager.confined("a", text, box={"write": ["out"]})
    assert (manager.root / "out/good").read_text() == "good\n"
    assert (manager.root / "out/deep").is_dir()
    assert not (manager.root / "bad").exists() and not (manager.root.parent / "bad").exists()
    assert end["exit"] != 0


def test_a_writable_path_that_is_missing_is_made(manager: Confiner) -> None:
    end = manager.confined("a", "echo x > new/deep/file", box={"write": ["new/deep"]})
    assert end["exit"] == 0 and (manager.root / "new/deep/file").read_text() == "x\n"


def test_what_lies_in_its_scratch_directory_can_be_an_artifact(manager: Confiner) -> None:
    speak = (
        "import json, os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(os.environ['FLEET_SOCKET'])\n"
        "e = os.environ; ask = {'v': 'artifact', 'a': e['FLEET_ATTEMPT_ID']}\n"
        "ask['t'] = e['FLEET_TOKEN']\n"
        "ask.update(kind='report', path=sys.argv[1])\n"
        "s.sendall(json.dumps(ask).encode() + b'\\n'); print(s.recv(65536).decode())\n"
    )
    (manager.root / "speak.py").write_text(speak)
    text = (
        'echo found > "$FLEET_SCRATCH/r.md"; python3 speak.py "$FLEET_SCRATCH/r.md"; '
        'ln -s /etc/passwd "$FLEET_SCRATCH/l"; python3 speak.py "$FLEET_SCRATCH/l"; '
        f"python3 speak.py {manager.fleet}/fleet.jsonl"
    )
    end = manager.confined("a", text)
    assert end["exit"] == 0, manager.out(end, "err")
    (one,) = end["artifacts"]
    assert (one["kind"], one["path"]) == ("report", "$FLEET_SCRATCH/r.md")
    assert (manager.fleet / "evidence" / one["sha256"]).read_text() == "found\n"
    assert manager.out(end).count("refused") == 2


@pytest.mark.parametrize("code", [0, 1, 7, 125, 126, 127, 128, 130, 255])
def test_exit_codes_are_told_as_they_are(manager: Confiner, code: int) -> None:
    end = manager.confined("a", f"exit {code}")
    assert end["exit"] == code and "signal" not in end and "unstarted" not in end


def test_a_signal_inside_is_the_exit_that_a_shell_would_tell(manager: Confiner) -> None:
    assert manager.confined("a", "kill -SEGV $$")["exit"] == 139


def test_an_interrupt_reaches_the_program_and_not_bubblewrap(manager: Confiner) -> None:
    manager.fifo("up")
    text = "trap 'echo heard; exit 3' INT; echo > up; sleep 1000 & wait; echo not here"
    attempt = manager.confine("a", text, box={"workspace": "write"})
    manager.until_up("up")
    manager.line.say({"m": "interrupt", "attempt": attempt, "why": "interrupted", "kill": False})
    end = manager.end_of(attempt)
    assert end["exit"] == 3 and end["why"] == "interrupted" and manager.out(end) == "heard\n"


def test_what_hears_nothing_is_killed_after_its_grace(manager: Confiner) -> None:
    manager.fifo("up")
    text = "trap '' INT TERM; setsid sleep 1000 & echo $! >&2; echo > up; sleep 1000"
    attempt = manager.confine("a", text, box={"workspace": "write"}, grace=0.3)
    manager.until_up("up")
    inside = [pid for pid in pids() if is_of(pid, attempt)]
    manager.line.say({"m": "interrupt", "attempt": attempt, "why": "interrupted", "kill": False})
    end = manager.end_of(attempt)
    assert end["signal"] == 9 and len(inside) >= 4
    assert not [pid for pid in inside if is_alive(pid)]


def test_a_kill_ends_it_at_once(manager: Confiner) -> None:
    manager.fifo("up")
    attempt = manager.confine("a", "echo > up; sleep 1000", box={"workspace": "write"})
    manager.until_up("up")
    inside = [pid for pid in pids() if is_of(pid, attempt)]
    manager.line.say({"m": "interrupt", "attempt": attempt, "why": "stopped", "kill": True})
    assert manager.end_of(attempt)["signal"] == 9
    assert inside and not [pid for pid in inside if is_alive(pid)]


def test_a_timeout_holds(manager: Confiner) -> None:
    end = manager.confined("a", "sleep 1000", timeout=0.3)
    assert end["why"] == "timeout" and end["exit"] == 130


def test_daemons_are_gone_with_it_and_counted(manager: Confiner) -> None:
    text = "setsid sh -c 'env -i sleep 1001 & env -i sleep 1001' & echo"
    end = manager.confined("a", text)
    assert end["exit"] == 0 and end["stragglers"] >= 1
    assert not [pid for pid in pids() if b"1001" in cmdline(pid)]
    assert "stragglers" not in manager.confined("b", "true")


def test_processor_time_and_memory_are_those_of_the_program(manager: Confiner) -> None:
    code = "b = bytearray(80 << 20)\nfor _ in range(4000000): pass"
    end = manager.confined("a", f"/usr/bin/env python3 -I -S -c '{code}'")
    assert end["cpu"] > 0.05 and end["rss_kb"] > 80 << 10


def test_a_killed_runtime_loses_neither_its_exit_nor_the_attempt(manager: Confiner) -> None:
    manager.fifo("up")
    manager.fifo("go")
    text = "echo > up; read line < go; echo done; exit 7"
    attempt = manager.confine("a", text, box={"workspace": "write"})
    manager.until_up("up")
    manager.kill_runtime()
    assert manager.hello["open"] == [attempt]
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["exit"] == 7 and manager.out(end) == "done\n" and "stragglers" not in end
    assert not manager.left()


def test_what_a_killed_runtime_has_not_tidied_away_the_next_one_does(manager: Confiner) -> None:
    manager.fifo("up")
    manager.fifo("go")
    attempt = manager.confine("a", "echo > up; read line < go", box={"workspace": "write"})
    manager.until_up("up")
    (here,) = manager.left()
    over = here.parent / "over.1"
    (over / "scratch/deep").mkdir(parents=True)
    (over / "scratch/deep/link").symlink_to(manager.root)
    manager.kill_runtime()
    assert manager.left() == [here] and manager.root.exists()
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 0 and not manager.left()


def test_an_adopted_one_can_be_interrupted_and_its_daemons_die(manager: Confiner) -> None:
    manager.fifo("up")
    text = "trap 'exit 4' TERM INT; setsid env -i sleep 1002 & echo > up; while :; do wait; done"
    attempt = manager.confine("a", text, box={"workspace": "write"})
    manager.until_up("up")
    manager.kill_runtime()
    manager.line.say({"m": "interrupt", "attempt": attempt, "why": "interrupted", "kill": False})
    end = manager.end_of(attempt)
    assert end["exit"] == 4 and end["stragglers"] == 1
    assert not [pid for pid in pids() if b"1002" in cmdline(pid)]


def test_its_exit_is_known_though_runtime_and_keeper_were_killed(manager: Confiner) -> None:
    manager.fifo("up")
    manager.fifo("go")
    text = "echo > up; read line < go; exit 9"
    attempt = manager.confine("a", text, box={"workspace": "write"})
    manager.until_up("up")
    leader = next(pid for pid in pids() if is_of(pid, attempt) and session(pid) == pid)
    fd = os.pidfd_open(leader)
    keeper, runtime = manager.keeper, manager.pid
    manager.kill(keeper)
    manager.kill(runtime)
    (manager.root / "go").write_text("go\n")
    ready, _, _ = select.select([fd], [], [], PATIENCE)
    os.close(fd)
    assert ready
    manager.dial()
    assert manager.end_of(attempt)["exit"] == 9


def test_it_is_stale_when_it_does_nothing(manager: Confiner) -> None:
    attempt = manager.confine("a", "sleep 1000", stall=0.8, stall_ends=True)
    assert manager.end_of(attempt)["why"] == "stall"


def test_its_prompt_is_its_input(manager: Confiner) -> None:
    prompt = {"text": "do it\n", "path": f"prompts/{RUN}/a.1.md", "stdin": True}
    assert manager.out(manager.confined("a", "cat", prompt=prompt)) == "do it\n"
    prompt = {**prompt, "stdin": False, "path": f"prompts/{RUN}/b.1.md"}
    end = manager.confined("b", f"cat {manager.fleet}/{prompt['path']}", prompt=prompt)
    assert manager.out(end) == "do it\n"


def test_steps_verify_in_the_same_sandbox(manager: Confiner) -> None:
    stem = f"logs/{RUN}/s"
    step = {"kind": "command", "out": f"{stem}.out", "err": f"{stem}.err"}
    step["argv"] = ["sh", "-c", "cat $FLEET_SCRATCH/x; touch made"]
    end = manager.confined("a", "echo kept > $FLEET_SCRATCH/x", steps=[step])
    told = end["steps"][0]
    assert manager.out(told) == "kept\n" and told["exit"] == 1
    assert "Read-only" in manager.out(told, "err") and not (manager.root / "made").exists()


def test_a_program_that_is_not_inside_has_not_started(manager: Confiner, tmp_path: Path) -> None:
    program = tmp_path / "home/mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    box = {"level": "sandbox", "network": "none", "workspace": "read", "home": "hidden"}
    end = manager.run("a", [str(program)], sandbox=box)
    assert "cannot be run inside its sandbox: No such file" in end["unstarted"]
    assert end["why"] == "sandbox" and "exit" not in end


def test_tools_are_the_only_programs_on_its_path(manager: Confiner) -> None:
    text = "cat /dev/null && echo cat; ls / >/dev/null && echo ls; command -v grep; echo done"
    end = manager.confined("a", text, box={"tools": ["cat"]})
    assert manager.out(end) == "cat\ndone\n"
    end = manager.run("b", ["/bin/sh", "-c", text], tools=["ls"])
    assert manager.out(end) == "ls\ndone\n"
    end = manager.run("c", ["true"], tools=["no-such-tool"])
    assert "its tool no-such-tool is not found" in end["unstarted"] and end["why"] == "sandbox"
    assert not manager.left()


# ---- processes


def pids() -> list[int]:
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_of(pid: int, attempt: str) -> bool:
    try:
        return f"FLEET_ATTEMPT_ID={attempt}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def session(pid: int) -> int:
    return os.getsid(pid)


def test_a_fleet_that_lies_in_tmp_is_there_for_its_confined_tasks(manager: Confiner) -> None:
    """A checkout in /tmp, which is empty inside: `fleet` and what it needs are shown, no more."""
    with tempfile.TemporaryDirectory(prefix="fleet-lies-", dir="/tmp") as place:
        program = Path(place) / "checkout/bin/fleet"
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/sh\ncat "${0%/*}/../words"; ls /tmp/*\n')
        program.chmod(0o755)
        (Path(place) / "checkout/words").write_text("spoken\n")
        (Path(place) / "private").write_text("")
        manager.environ({"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": "/root"})
        for box in ({}, {"level": "local", "home": "read"}):
            end = manager.confined(f"a{len(box)}", "fleet", box=box)
            assert end["exit"] == 0, manager.out(end, "err")
            said = manager.out(end)
            assert "spoken" in said and "checkout" in said and "private" not in said


def test_the_store_of_secrets_is_empty_for_a_task_that_reads_the_rest_of_the_home(
    manager: Confiner, tmp_path: Path
) -> None:
    home, config = tmp_path / "home", tmp_path / "config"
    for place in (home / ".config", config):
        (place / "codewhale-fleet/secrets").mkdir(parents=True)
        (place / "codewhale-fleet/secrets/KEY").write_text("planted")
    base = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(config)}
    manager.environ(base)
    (manager.root / "made").mkdir()
    text = f"cat {home}/.config/*/secrets/KEY {config}/*/secrets/KEY; ls -d {home}/.config/*"
    box = {"level": "local", "network": "host", "home": "read", "read": [str(home), str(config)]}
    end = manager.confined("a", text, box=box)
    assert "planted" not in manager.out(end) and "codewhale-fleet" in manager.out(end)
    assert manager.out(end, "err").count("No such file") == 2
