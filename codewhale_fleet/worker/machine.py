"""What this machine is: its name, boot, system, processors, memory and GPUs.

Promises what attempts here may really use: processors of this process's affinity, the memory of
its cgroup where that is less than the machine's. What the system does not tell is 0 or empty.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def facts() -> dict[str, Any]:
    """host, boot, platform, cores, memory_mb, gpus, python."""
    return {
        "host": os.uname().nodename,
        "boot": _read("/proc/sys/kernel/random/boot_id").strip() or "unknown",
        "platform": sys.platform,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory_mb(),
        "gpus": gpus(),
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def memory_mb() -> int:
    """MiB of memory: the machine's, or what its cgroup may use."""
    found = 0
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            found = int(line.split()[1]) // 1024
    limits = [_read("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            limits.append(_read(f"/sys/fs/cgroup{line[3:].rstrip('/')}/memory.max"))
    for limit in limits:
        if limit.strip().isdigit():
            found = min(found, int(limit) >> 20)
    return found


def gpus() -> int:
    """How many GPUs there are to compute on: NVIDIA's, else AMD's."""
    count = len(_names("/proc/driver/nvidia/gpus"))
    nodes = "/sys/class/kfd/kfd/topology/nodes"
    for node in () if count else _names(nodes):
        count += "simd_count 0" not in (_read(f"{nodes}/{node}/properties") or "simd_count 0")
    return count


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""
