"""The keeper: starts the runtime, waits, and starts it again if it is killed.

It holds what must outlive a killed runtime: the listening socket, the workspace's lock, the
values of runs. As a subreaper it becomes the parent of a dead runtime's processes, and notes
how each ended before it reaps it. Promises: it leaves when the runtime left in order, and only
gives up on a runtime that fails by itself again and again. It does nothing but wait.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from codewhale_fleet.worker import notes, processes
from codewhale_fleet.worker.place import Place
from codewhale_fleet.worker.runtime import Runtime
from codewhale_fleet.worker.values import Values

_FAILED = 70
_MOST_FAILURES = 5
"""Failures in a row, each within `_QUICK` seconds of a start, before the keeper gives up."""
_QUICK = 10.0


def keep(place: Place) -> int:
    """Keeps a runtime until it leaves; answers the exit status for this process."""
    processes.become_subreaper()
    values = Values()
    exits = notes.open_notes(place.directory)
    failures = 0
    gc.freeze()
    while True:
        begun = time.monotonic()
        bell, rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pid = os.fork()
        if pid == 0:
            os.close(rope)
            os.close(exits)
            _be_runtime(place, values, bell)
        os.close(bell)
        status = _wait(pid, exits, rope)
        os.close(rope)
        if status == 0:
            return 0
        failed = os.WIFEXITED(status) and time.monotonic() - begun < _QUICK
        failures = failures + 1 if failed else 0
        if failures >= _MOST_FAILURES:
            sys.stderr.write("the worker runtime failed again and again: its keeper gives up\n")
            return _FAILED


def _be_runtime(place: Place, values: Values, bell: int) -> None:
    status = _FAILED
    try:
        processes.become_subreaper()
        Runtime(place, values, bell).run()
        status = 0
    except OSError as error:
        sys.stderr.write(f"the worker runtime cannot go on: {error}\n")
        _explain()
    except BaseException:
        _explain()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _explain() -> None:
    """The traceback into runtime.err: for whoever mends this program, not for its user."""
    import traceback

    traceback.print_exc()


def _wait(runtime: int, exits: int, rope: int) -> int:
    """Notes and reaps what ends, until the runtime does; answers its wait status."""
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None:
            continue
        pid = ended.si_pid
        if pid == runtime:
            return os.waitpid(pid, 0)[1]
        try:
            os.write(exits, notes.note_of(pid, ended.si_code, ended.si_status))
        except OSError:  # a full disk: that status will be unknown
            pass
        os.waitpid(pid, 0)
        try:
            os.write(rope, b".")
        except OSError:  # full of bells, or the runtime has just died
            pass
