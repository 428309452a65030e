"""The first lines of a connector process.

asyncssh looks for two libraries that it does without (umac, and post-quantum exchange beside what
`cryptography` has), by asking the linker and compilers, which takes longer than much of the rest.
Here nobody answers it.
"""

from __future__ import annotations

import ctypes.util
import gc


def main() -> None:
    """Load the connector, and be it."""
    gc.disable()  # of what is loaded nothing goes
    found, ctypes.util.find_library = ctypes.util.find_library, _none
    from .connector import main

    ctypes.util.find_library = found
    gc.freeze()
    gc.enable()
    main()


def _none(name: str) -> str | None:
    return None
