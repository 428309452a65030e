"""Other versions of Python, as hosts have them: those that pyenv has installed here."""

from __future__ import annotations

import os
from pathlib import Path

VERSIONS = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def path_with(folder: Path, version: str) -> str:
    """A PATH on which python3 is of that version."""
    found = next(VERSIONS.glob(f"{version}.*/bin/python{version}"), None)
    assert found, f"pyenv install {version}"
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(found)
    return f"{folder}/bin:/usr/local/bin:/usr/bin:/bin"
