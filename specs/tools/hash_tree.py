"""Hashes a tree into a JSON report; used by specs/hash-tree.toml.

    hash_tree.py TREE --report FILE [--copy-to DIR] [--previous FILE]

The report holds `files` (how many), `digest` (of the whole tree) and `manifest` (path to SHA-256).
--copy-to makes a copy, adds `equal` and `differ`, and removes the copy; --previous adds `changed`
against that file and then replaces it. Links and caches are left out. Exit code 1: not equal.
"""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any


def manifest(tree: Path) -> dict[str, str]:
    """Path below the tree to the file's SHA-256, sorted."""
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
            name = path.relative_to(tree).as_posix()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differ(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Paths that are not the same in both."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def main() -> int:
    """Write the report; 1 when a copy differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tree", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--copy-to", type=Path)
    parser.add_argument("--previous", type=Path)
    asked = parser.parse_args()

    asked.report.unlink(missing_ok=True)
    asked.report.parent.mkdir(parents=True, exist_ok=True)
    now = manifest(asked.tree)
    digest = hashlib.sha256(json.dumps(now).encode()).hexdigest()
    report: dict[str, Any] = {"tree": str(asked.tree), "files": len(now), "digest": digest}
    if asked.copy_to:
        shutil.rmtree(asked.copy_to, ignore_errors=True)
        shutil.copytree(asked.tree, asked.copy_to, ignore=shutil.ignore_patterns("__pycache__"))
        report["differ"] = differ(now, manifest(asked.copy_to))
        shutil.rmtree(asked.copy_to)
        report["equal"] = bool(now) and not report["differ"]
    if asked.previous:
        known = asked.previous.is_file()
        before = json.loads(asked.previous.read_text()) if known else {}
        report["compared"] = "with the last run" if known else "this is the first run"
        report["changed"] = differ(now, before) if known else []
        asked.previous.parent.mkdir(parents=True, exist_ok=True)
        asked.previous.write_text(json.dumps(now))
    print(json.dumps(report, indent=1))
    asked.report.write_text(json.dumps({**report, "manifest": now}, indent=1) + "\n")
    return 0 if report.get("equal", True) else 1


if __name__ == "__main__":
    sys.exit(main())
