"""Other versions of Python, as hosts have them: those that pyenv has installed here."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

_HOMES = (Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir))
VERSIONS = (Path(sys.base_prefix).parent, *(home / ".pyenv/versions" for home in _HOMES))
"""Beside the one that runs this, or below a home."""


def path_with(folder: Path, version: str) -> str:
    """A PATH on which python3 is of that version."""
    there = (each for one in VERSIONS for each in one.glob(f"{version}.*/bin/python{version}"))
    found = next(there, None)
    assert found, f"pyenv install {version}"
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(found)
    return f"{folder}/bin:/usr/local/bin:/usr/bin:/bin"
