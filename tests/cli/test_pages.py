"""Every command on the pages about running works as it stands there."""

import re
import subprocess
from pathlib import Path

import pytest

from .driver import FLEET, REPOSITORY, environment

PAGES = ("tutorial/first-run.md", "how-to/run-many-commands.md", "reference/exit-codes.md")
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_one_after_the_other(page: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "fleet"
    shim.write_text(f'#!/bin/sh\nexec {FLEET[0]} -m codewhale_fleet "$@"\n')
    shim.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    env = environment()
    env["PATH"] = f"{shim.parent}:{env['PATH']}"
    blocks = BLOCK.findall((REPOSITORY / "docs" / page).read_text())
    assert blocks
    for kind, text in blocks:
        if kind == "toml":
            name = text.split("\n", 1)[0].removeprefix("# ")
            (place / name).write_text(text)
            continue
        done = subprocess.run(
            ["sh", "-ec", text], cwd=place, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, text + done.stdout + done.stderr
