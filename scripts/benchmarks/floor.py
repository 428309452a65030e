"""The floor under any durable runner in Python: posix_spawn, 3 JSON lines a task, group fdatasync.

    python floor.py TASKS SLOTS

Each task is `true` in a session of its own with two log files; its lines are `queued` (all in one
write at the start), `started` and `ended`. What one wake-up finds is one write and one fdatasync.
No retry, no limits, no second process; nothing survives a crash but the lines.
"""

import json
import os
import select
import sys
import time
from pathlib import Path


def line(word: str, task: int, **more: object) -> bytes:
    return json.dumps({"k": word, "ts": time.time(), "task": f"t{task}", **more}).encode() + b"\n"


def spawn(program: str, task: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        program,
        ["true"],
        os.environ,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, f"logs/t{task}.1.out", flags, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, f"logs/t{task}.1.err", flags, 0o600),
        ],
    )


def main(tasks: int, slots: int) -> None:
    program = next(p for p in ("/usr/bin/true", "/bin/true") if Path(p).exists())
    Path("logs").mkdir()
    ledger = os.open("floor.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(ledger, b"".join(line("queued", task) for task in range(1, tasks + 1)))
    os.fdatasync(ledger)
    poll = select.epoll()
    running: dict[int, tuple[int, int]] = {}
    following = 1
    while running or following <= tasks:
        lines: list[bytes] = []
        while len(running) < slots and following <= tasks:
            pid = spawn(program, following)
            descriptor = os.pidfd_open(pid)
            poll.register(descriptor, select.EPOLLIN)
            running[descriptor] = (following, pid)
            lines.append(line("started", following, pid=pid))
            following += 1
        for descriptor, _ in poll.poll():
            task, pid = running.pop(descriptor)
            _, status, usage = os.wait4(pid, 0)
            poll.unregister(descriptor)  # a child not yet exec'ed may hold a copy, and keep it here
            os.close(descriptor)
            code = os.waitstatus_to_exitcode(status)
            lines.append(line("ended", task, exit=code, cpu=usage.ru_utime + usage.ru_stime))
        os.write(ledger, b"".join(lines))
        os.fdatasync(ledger)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
