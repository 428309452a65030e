"""TASKS × `true` through HyperQueue's Python API, without a journal.

    python queue_tasks.py TASKS SLOTS

The wheel carries no `hq` binary, so server and worker live in this one process. As by default, each
task has its two log files. `Client.wait_for_jobs` looks once a second, which would add up to a
second that is not the scheduler's; so this asks as often as costs it least: every 5 ms at first
(the best of 5, 20 and 50 at 1,000 tasks), later after each 0.3 % of the time that has passed.
Run by the interpreter that has the wheel.
"""

import sys
import time
from collections.abc import Mapping

POLL_SECONDS = 0.005
POLL_SHARE = 0.003


class NotYet(Exception):
    pass


def ask_once(jobs: Mapping[int, Mapping[str, bool]]) -> None:
    if not all(job["completed"] for job in jobs.values()):
        raise NotYet


def main(tasks: int, slots: int) -> None:
    from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found]
    from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]

    with LocalCluster(worker_config=WorkerConfig(cores=slots)) as cluster:
        client = cluster.client()
        job = Job()
        for _ in range(tasks):
            job.program(["true"])
        submitted = client.submit(job)
        began = time.monotonic()
        while True:
            try:
                failed = client.connection.wait_for_jobs([submitted.id], ask_once)
                break
            except NotYet:
                time.sleep(max(POLL_SECONDS, POLL_SHARE * (time.monotonic() - began)))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
