"""Whether the kernel's memory killer was at work: its counters, compared over a short time.

The counters are `oom_kill` of /proc/vmstat (whole machine) and of this process's memory cgroup
(memory.events, or memory.oom_control in a hierarchy of version 1), wherever mountinfo says that
it lies. Promises: a machine without any of them is one where nothing is ever suspected. It
cannot know whom the killer chose: that stays a guess, and is told as one.
"""

from __future__ import annotations

from codewhale_fleet.worker import limits, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque

    from codewhale_fleet.worker.attempts import Attempt
else:
    from _collections import deque


class Killer:
    """The counters and what they were lately."""

    def __init__(self) -> None:
        self._files: list[str] | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: float) -> None:
        """Reads the counters, at most once in a second (0.1 ms)."""
        if not self._seen or now - self._seen[-1][0] >= limits.OOM_LOOK:
            self._read(now)

    def suspect(self, attempt: Attempt, now: float) -> None:
        """Was it killed (a shell says 137 of its child) by nobody here, beside a memory kill?"""
        if (attempt.signal == 9 or attempt.exit == 137) and not attempt.stage:
            attempt.oom = self.was_here(now, attempt.since)

    def was_here(self, now: float, since: float) -> bool:
        """Did a counter rise since `since`, or in the last seconds if that is long ago?"""
        self._read(now)
        if not self._seen:
            return False
        from_then = max(since, now - limits.OOM_SECONDS)
        before = self._seen[0][1]
        for at, count in self._seen:
            if at > from_then:
                break
            before = count
        return self._seen[-1][1] > before

    def _read(self, now: float) -> None:
        if self._files is None:
            files = ["/proc/vmstat", *_of_cgroup()]
            self._files = [path for path in files if _count(path) is not None]
        counts = [_count(path) for path in self._files]
        seen = self._seen
        if None in counts:  # no descriptor left, for instance: better no look than a wrong one
            return
        seen.append((now, sum(filter(None, counts))))
        while len(seen) > 2 and seen[1][0] < now - limits.OOM_SECONDS:
            seen.popleft()


def _count(path: str) -> int | None:
    text = processes.read_file(path, 1 << 16)
    if text is None:
        return None
    for line in text.splitlines():
        if line.startswith(b"oom_kill "):
            return int(line[9:])
    return 0


def _of_cgroup() -> list[str]:
    """The files of this process's memory cgroup that count; [] where there is none."""
    mine: dict[str, str] = {}
    for line in (processes.read_file("/proc/self/cgroup") or b"").decode().splitlines():
        _, kinds, path = line.split(":", 2)
        mine.update(dict.fromkeys(kinds.split(","), path))
    found = []
    for line in (processes.read_file("/proc/self/mountinfo") or b"").decode().splitlines():
        fields, _, rest = line.partition(" - ")
        words, kind = fields.split(), rest.split()
        if not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version2 = kind[0] == "cgroup2"
        path = mine.get("" if version2 else "memory", "")
        if not path or not (version2 or "memory" in kind[-1].split(",")):
            continue
        root, point = words[3], words[4]
        below = path[len(root) :] if root != "/" and path.startswith(root) else path
        name = "memory.events" if version2 else "memory.oom_control"
        found.append(f"{point}{below.rstrip('/')}/{name}")
    return found
