"""A manager of far workers whose own run is over: it goes on in another process, its caller goes.

    if parting.parted(manager): return      # in the process that somebody waits for

One fork: the new process keeps every connection and manages what is left, and for a while what
comes; the old one answers its caller. So many callers at once cost one connection a host and no
handover, and who calls again at once finds the hosts connected. Promises that the old process
writes nothing to the ledger any more: its locks are the new one's.
"""

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .manager import Manager

LINGER_SECONDS = 10.0
"""How long connections are kept for who comes, once nothing is left to do."""


def parted(manager: "Manager") -> bool:
    """Whether another process manages from here on, and this one may go."""
    if not _is_worth_it(manager):
        return False
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        manager.parted = manager.succeeded = True
        return True
    code = 1
    try:
        _settle_in(manager)
        _go_on(manager)
        code = 0
    except BaseException:  # nobody above may go on as if this were the caller
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _is_worth_it(manager: "Manager") -> bool:
    """Whether connections are there that somebody can use; threads do not survive a fork."""
    remotes = manager.remotes
    if remotes is None or manager.focus is None or manager.post or manager.until is not None:
        return False
    return any(far.greeted for far in remotes.known.values())


def _settle_in(manager: "Manager") -> None:
    """This is a process of its own, and nobody's terminal is."""
    from .session import Nobody

    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    errors = os.open(manager.ledger.dir / "manager.err", flags, 0o600)
    for descriptor, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(descriptor, target)
    manager.ledger.after_fork()
    manager.observer = Nobody()
    manager.focus = manager.asker = None
    manager.callers.forget_others()


def _go_on(manager: "Manager") -> None:
    idle = 0.0
    while not manager.leaving:
        if not manager.done():
            idle, manager.closes = 0.0, float("inf")
        elif not idle:
            idle = manager.clock()
            manager.closes = idle + LINGER_SECONDS
        elif manager.clock() - idle >= LINGER_SECONDS:
            break
        manager.wait()
    manager.leave()
    if manager.others and not manager.succeeded:
        from .handover import spawn_manager

        spawn_manager(manager.ledger)
