"""The programs that fleet is measured against: installs them, and knows their versions.

GNU parallel comes from Debian (as root; else the line to type is told), HyperQueue from PyPI into
an environment of its own, so that neither it nor what it needs stands beside fleet.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
ENVIRONMENT = HOME / ".venv" / "bench"
HYPERQUEUE = "hyperqueue==0.27.0"


class Unable(Exception):
    """The bench cannot do what was asked; told in one sentence."""


def quietly(*command: str | Path) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise Unable(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{said}")


def install_parallel() -> None:
    if shutil.which("parallel"):
        return
    line = ["apt-get", "install", "-y", "--no-install-recommends", "parallel"]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unable(f"GNU parallel is missing. As root: {' '.join(line)}")
    print("bench: installing GNU parallel", file=sys.stderr)
    try:
        quietly(*line)
    except Unable:
        quietly("apt-get", "update")
        quietly(*line)


def install_hyperqueue() -> Path:
    """The interpreter that has HyperQueue."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / ".installed"
    if not stamp.exists() or stamp.read_text() != HYPERQUEUE:
        print(f"bench: installing {HYPERQUEUE}", file=sys.stderr)
        quietly(sys.executable, "-I", "-m", "venv", ENVIRONMENT)
        quietly(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", HYPERQUEUE)
        stamp.write_text(HYPERQUEUE)
    return python


def first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=HOME)
    except OSError:
        return "absent"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def file_system(place: Path) -> str:
    """The kind of file system that holds `place`, by the longest mount point above it."""
    best, kind = "", "unknown"
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = row.partition(" - ")
        point = left.split()[4]
        inside = place.is_relative_to(point.replace("\\040", " "))
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def machine(work: Path) -> dict[str, str]:
    """What the figures depend on besides the programs."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((row.partition(":")[2].strip() for row in info if "model name" in row), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "file system": file_system(work),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    commit = first_line("git", "describe", "--always", "--dirty")
    return {
        "fleet": first_line(
            sys.executable, "-I", "-c", "import codewhale_fleet as c; print(c.__version__)"
        )
        + f" ({commit})",
        "python": platform.python_version(),
        "parallel": first_line("parallel", "--version"),
        "xargs": first_line("xargs", "--version"),
        "hyperqueue": HYPERQUEUE.partition("==")[2] + " (Python API, no journal)",
    }
