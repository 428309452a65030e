"""Wrappers that put a command elsewhere: on a file system of its own, or into another user's hands.

Each is the beginning of an argv. They also work where `/` is no mount point (a chroot) and where
the checkout lies below a directory that other users can't enter.
"""

import atexit
import ctypes
import errno
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import codewhale_fleet

_NEWNS, _REC, _PRIVATE = 0x20000, 16384, 1 << 18
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
"""Another user; only root can become one."""


def own_mounts() -> ctypes.CDLL:
    """From now on what this process mounts is seen by its children and nobody else; libc.

    Where `/` is no mount point it can't be made private: there whoever changed the root has done
    that, or sees what is mounted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNS) or (
        libc.mount(None, b"/", None, _REC | _PRIVATE, None) and ctypes.get_errno() != errno.EINVAL
    ):
        raise OSError(ctypes.get_errno(), "no mount namespace of our own")
    return libc


def mounted(script: str) -> tuple[str, ...]:
    """Run a command where the mounts that `script` makes are seen, and nowhere else.

    The script says `run` where the command is to run, and undoes what it mounted.
    """
    begin = 'run() { "$@"; }; mount --make-rprivate / 2>/dev/null; '
    shell = begin + script.replace("run;", 'run "$@"; code=$?;') + " exit $code"
    who = "-m" if os.geteuid() == 0 else "-rm"
    return ("unshare", who, "--propagation", "unchanged", "sh", "-c", shell, "sh")


def small_disk(directory: str, size: str, script: str) -> tuple[str, ...]:
    """Run a command, by `run;` in the script, beside a tmpfs of `size` on `directory`."""
    return mounted(
        f"mount -t tmpfs -o size={size},mode=700 none {directory} || exit 99; home=$PWD; {script} "
        f'cd "$home"; umount -l {directory};'
    )


@cache
def fleet_for_others() -> tuple[tuple[str, ...], dict[str, str]]:
    """`fleet` as another user can start it, and the variables that it needs.

    Where the checkout can't be reached it is a copy, and where the interpreter below .venv can't,
    it is the system's of the same version.
    """
    package = Path(codewhale_fleet.__file__).parent
    here = f"{package.parent}:{sysconfig.get_path('purelib')}"
    pythons = (sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3")
    for python in pythons:
        if _runs([python, "-m", "codewhale_fleet", "--version"], here):
            return (python, "-m", "codewhale_fleet"), {"PYTHONPATH": here}
    copy = Path(tempfile.mkdtemp(prefix="fleet-code-"))
    atexit.register(shutil.rmtree, copy)
    copy.chmod(0o755)
    shutil.copytree(sysconfig.get_path("purelib"), copy, dirs_exist_ok=True)
    shutil.copytree(package, copy / package.name, dirs_exist_ok=True)
    for python in pythons:
        if _runs([python, "-m", "codewhale_fleet", "--version"], str(copy)):
            return (python, "-m", "codewhale_fleet"), {"PYTHONPATH": str(copy)}
    raise AssertionError(f"other users can't run any of {', '.join(pythons)}")


def _runs(argv: list[str], path: str) -> bool:
    """By a shell: what is started first may still have the rights of root on its way there."""
    done = subprocess.run(
        [*NOBODY, "sh", "-c", '"$@"; exit $?', "sh", *argv],
        env={"PYTHONPATH": path, "PATH": os.defpath, "HOME": "/"},
        cwd="/", capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0
