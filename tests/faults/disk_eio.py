"""Runs `fleet WORDS` on a disk that fails once: at the Nth sync, or write, of a file of the fleet.

`python -m tests.faults.disk_eio PLACE KIND N -- WORDS…`, under libfiu (`fiu-run -x`): KIND is sync
or write, N is 0 to fail nothing. The C library's own call is made to fail, with EIO, by ctypes
right before it. The file `faults` in PLACE says which calls were counted, and which one failed.
"""

# ruff: noqa: PTH115, PTH123
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from .disk_trace import LEFT_OUT

CALLS = {
    "sync": (("fdatasync", b"posix/io/sync/fdatasync"), ("fsync", b"posix/io/sync/fsync")),
    "write": (("write", b"posix/io/rw/write"),),
}
_ONCE = 1


class Failing:
    """Counts, and fails one."""

    def __init__(self, place: str, number: int) -> None:
        self._fleet = f"{os.path.realpath(place)}/.fleet"
        self._number = number
        self._seen = 0
        self._fiu = ctypes.CDLL("libfiu.so.0")
        self._log = open(f"{place}/faults", "a", buffering=1)  # noqa: SIM115

    def around(self, name: str, point: bytes) -> None:
        """Put this around a call of `os`."""
        real: Callable[..., Any] = getattr(os, name)

        def call(descriptor: int, *data: Any) -> Any:
            target = self._target(descriptor)
            if not target:
                return real(descriptor, *data)
            self._seen += 1
            print(f"{self._seen} {name} {target}", file=self._log)
            if self._seen != self._number:
                return real(descriptor, *data)
            self._fiu.fiu_enable(point, 1, ctypes.c_void_p(errno.EIO), _ONCE)
            try:
                return real(descriptor, *data)
            except OSError as error:
                self._fiu.fiu_disable(point)  # before this is written
                print(f"failed: {errno.errorcode[error.errno or 0]}", file=self._log)
                raise

        setattr(os, name, call)

    def _target(self, descriptor: int) -> str:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        name = path.removeprefix(self._fleet)
        if name == path or name.lstrip("/").partition("/")[0] in LEFT_OUT:
            return ""
        return name.lstrip("/") or "."


def main() -> None:
    """Run it."""
    place, kind, number = sys.argv[1:4]
    failing = Failing(place, int(number))
    for name, point in CALLS[kind]:
        failing.around(name, point)
    os.chdir(place)
    from codewhale_fleet.cli import main as fleet

    code = fleet(sys.argv[sys.argv.index("--") + 1 :])
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
