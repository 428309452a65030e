"""Compiles sources with one Python version, if it is at hand; used by specs/python-matrix.toml.

    compile_with.py PYTHON TREE REPORT

PYTHON is a command such as python3.12, looked for on PATH and where pyenv and uv keep theirs. The
report is one line: `PYTHON VERSION compiled N files`, `PYTHON VERSION refused FILE: why`, or
`PYTHON is not installed`. Nothing is written beside the sources. Exit code 1: it refused.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COMPILE = """
import platform, sys
for path in sys.argv[1:]:
    try:
        compile(open(path, encoding="utf-8").read(), path, "exec")
    except SyntaxError as error:
        sys.exit(f"{platform.python_version()} refused {path}:{error.lineno}: {error.msg}")
print(platform.python_version(), "compiled", len(sys.argv) - 1, "files")
"""


def candidates(name: str) -> Iterator[str]:
    """The command itself, then where version managers keep it."""
    yield name
    home = Path.home()
    version = name.removeprefix("python")
    for kept in (home / ".pyenv/versions", home / ".local/share/uv/python"):
        for path in sorted(kept.glob(f"*{version}.*/bin/{name}"), reverse=True):
            yield str(path)


def runs(command: str) -> bool:
    """Whether it is a Python that starts: a version manager's stand-in may only complain."""
    try:
        done = subprocess.run(
            [command, "-I", "-c", ""], capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main(name: str, tree: str, report: str) -> int:
    """Write the report; 1 when the version refused a file."""
    Path(report).unlink(missing_ok=True)
    Path(report).parent.mkdir(parents=True, exist_ok=True)
    files = [str(path) for path in sorted(Path(tree).rglob("*.py"))]
    if not files:
        print(f"there are no Python files below {tree}", file=sys.stderr)
        return 1
    found = next(filter(runs, candidates(name)), None)
    if found is None:
        line, refused = f"{name} is not installed", False
    else:
        command = [found, "-I", "-c", COMPILE, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        refused = done.returncode != 0
        line = f"{name} {(done.stderr if refused else done.stdout).strip()}"
    print(line)
    Path(report).write_text(line + "\n")
    return int(refused)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
