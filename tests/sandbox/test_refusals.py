"""Where nothing can be confined: refused at load, refused at run time, and never run unconfined.

A kernel that forbids user namespaces is had for real: a user namespace that allows none below it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from codewhale_fleet.worker import limits, sandbox
from tests.cli.driver import fleet
from tests.sandbox.conftest import SANDBOX, Confiner
from tests.surroundings import NOBODY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SPEC = """[security_policy]
default_trust_level = "sandbox"
[[tasks]]
id = "a"
command = "touch made"
"""
NONE_BELOW = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
FORBIDDEN = ("unshare", "-U", "-r", "sh", "-c", NONE_BELOW, "sh")


def test_here_it_can_be_had() -> None:
    assert sandbox.lacking() == ""


def test_without_bubblewrap_it_is_refused_at_load_with_the_way_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SPEC)
    hide = "for d in /usr/bin /bin; do test -e $d/bwrap && mount --bind /dev/null $d/bwrap; done;"
    before = ("unshare", "-m", "sh", "-c", hide + ' exec "$@"', "sh")
    done = fleet(tmp_path, "run", "s.toml", before=before)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "bubblewrap is not installed" in done.stderr
    assert "apt-get install bubblewrap" in done.stderr and "--allow-unenforced" in done.stderr
    assert not (tmp_path / "made").exists()


def test_a_kernel_that_forbids_it_is_told_at_load_with_the_switch(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SPEC)
    done = fleet(tmp_path, "run", "s.toml", before=FORBIDDEN)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the kernel forbids what bubblewrap needs" in done.stderr
    assert "sysctl -w user.max_user_namespaces" in done.stderr
    assert not (tmp_path / "made").exists()
    done = fleet(tmp_path, "check", "s.toml", before=FORBIDDEN)
    assert done.returncode == 2 and "the kernel forbids" in done.stdout + done.stderr


def test_doctor_says_whether_tasks_can_be_confined(tmp_path: Path) -> None:
    told = json.loads(fleet(tmp_path, "doctor", "--json").stdout)
    found = {check["name"]: check for check in told["checks"]}
    assert "tasks can be confined" in found["sandbox"]["seen"]
    done = fleet(tmp_path, "doctor", before=FORBIDDEN)
    assert "the kernel forbids what bubblewrap needs" in done.stdout
    assert "sysctl -w user.max_user_namespaces" in done.stdout


def test_the_runtime_runs_nothing_unconfined_where_bubblewrap_fails(
    manager: Confiner, tmp_path: Path
) -> None:
    """bubblewrap is there, and fails: a source that is not there is as good as a kernel's no."""
    box = {**SANDBOX, "workspace": "write"}
    (manager.root / "sub").mkdir()
    gone = {"read": [str(tmp_path / "nowhere")], "keep": ["~/nowhere", "$NOT_SET"]}
    end = manager.run("fine", ["sh", "-c", "exit 3"], sandbox={**box, **gone})
    assert end["exit"] == 3
    manager.environ({"PATH": "/usr/bin:/bin", "SECRET": "/dev/shm/fleet-secrets-none/x"})
    end = manager.run("a", ["touch", str(manager.root / "made")], sandbox=box)
    assert end["why"] == "sandbox" and "its sandbox could not be made" in end["unstarted"]
    assert "fleet-secrets-none" in end["unstarted"] and not (manager.root / "made").exists()


def test_a_writable_path_that_leads_elsewhere_is_refused(manager: Confiner) -> None:
    (manager.root / "out").symlink_to("/etc")
    end = manager.confined("a", "true", box={"write": ["out"]})
    assert "leads outside the workspace" in end["unstarted"] and end["why"] == "sandbox"


def test_a_policy_that_cannot_be_held_is_the_policys_failure(tmp_path: Path) -> None:
    """A path that became a link after the spec was read: the receipt blames the policy."""
    (tmp_path / "out").symlink_to("/etc")
    text = SPEC + 'workspace = { writable_paths = ["out"] }\n'
    (tmp_path / "s.toml").write_text(text)
    done = fleet(tmp_path, "run", "s.toml", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(fleet(tmp_path, "receipts", "@last", "--json").stdout)["receipts"][0]
    assert (told["result"], told["failure_kind"]) == ("fail", "policy"), told
    assert not (tmp_path / "made").exists() and not Path("/etc/made").exists()


AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from codewhale_fleet.worker import nursery, sandbox, syscalls
work = sys.argv[2]
os.makedirs(work + "/own/scratch")
assert sandbox.lacking() == "" and nursery.lacking() == ""
box = {"level": "sandbox", "network": "none", "workspace": "read", "home": "hidden"}
around = {"sandbox": box, "root": work, "fleet": work + "/own", "own": work + "/own"}
words = [one for one in sandbox.command(around, work, dict(os.environ))]
words += ["sh", "-c", "grep 'Max processes' /proc/self/limits; touch /etc/x 2>&1; id -u; exit 3"]
status = os.open(work + "/own/status", os.O_RDWR | os.O_CREAT)
actions = [(os.POSIX_SPAWN_DUP2, status, sandbox.STATUS_FD), *syscalls.actions(network=False)]
place = nursery.Nursery("none")
pid = place.spawn(lambda: os.posix_spawn(words[0], words, os.environ, file_actions=actions))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, os.pread(status, 1000, 0).decode().count("exit-code"))
"""


def test_a_plain_user_can_confine_and_has_a_limit_of_processes(tmp_path: Path) -> None:
    """As nobody, who has no capability and no cgroup: RLIMIT_NPROC counts."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        shutil.copytree(ROOT / "codewhale_fleet", f"{place}/codewhale_fleet")
        argv = [*NOBODY, "/usr/bin/python3", "-I", "-S", "-c", AS_NOBODY, place, f"{place}/work"]
        done = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    limit, refused, user, end = done.stdout.splitlines()
    assert limits.SANDBOX_PROCESSES <= int(limit.split()[2]) < 2 * limits.SANDBOX_PROCESSES
    assert "Read-only file system" in refused and user == "65534" and end == "3 1"
