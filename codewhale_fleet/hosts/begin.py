"""The first lines of a connector process.

asyncssh looks for two libraries that it does without (umac, and post-quantum exchange beside what
`cryptography` has), by asking the linker and compilers, which takes longer than much of the rest.
Here nobody answers it. Promises: nothing is written, not even a file for errors, before there is
work: whoever has it started early may find that nothing is to be done.
"""

from __future__ import annotations

import ctypes.util
import gc
import os
import socket
import sys
import traceback


def main() -> None:
    """Load the connector, and be it once there is work."""
    gc.disable()  # of what is loaded nothing goes
    found, ctypes.util.find_library = ctypes.util.find_library, _none
    why = ""
    try:
        from .connector import main
    except Exception:  # whatever it is, it is kept for who asks why nothing works
        why = traceback.format_exc()
    ctypes.util.find_library = found
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=os.dup(0)) as control:
        if not control.recv(1, socket.MSG_PEEK):
            return
    _write_errors(f"{sys.argv[1]}/connector.err")
    if why:
        sys.exit(why)
    main()


def _write_errors(path: str) -> None:
    """What is said of errors is appended to this file from now on."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        errors = os.open(path, flags, 0o600)
    except OSError:  # a fleet whose directory went away
        return
    os.dup2(errors, 2)
    os.close(errors)


def _none(name: str) -> str | None:
    return None
