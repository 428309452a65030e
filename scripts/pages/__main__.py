"""Fills the blocks of docs/reference/ that are made from the source; run by scripts/docs.

A block stands between `<!-- made by scripts/docs: NAME -->` and `<!-- end -->`; what stands around
it is written by hand. Promises that nothing outside of blocks is touched, and that each block which
a maker offers has its place on a page.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import agents  # noqa: E402
import alerts  # noqa: E402
import analytics  # noqa: E402
import commands  # noqa: E402
import described  # noqa: E402
import spec  # noqa: E402
import typed  # noqa: E402
import words  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
MAKERS: dict[str, Callable[[], dict[str, str]]] = {
    "agents.md": agents.blocks,
    "alerts.md": alerts.blocks,
    "commands.md": commands.blocks,
    "describe.md": described.blocks,
    "ledger.md": lambda: {**words.blocks(), **analytics.blocks()},
    "task-spec.md": spec.blocks,
}
"""Page -> what makes its blocks, by name."""

BLOCK = re.compile(r"(<!-- made by scripts/docs: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str, blocks: dict[str, str], page: str) -> str:
    """The page with its blocks as they are now; an error where places and blocks do not agree."""
    places = [found[2] for found in BLOCK.finditer(text)]
    if sorted(places) != sorted(blocks):
        missing = ", ".join(sorted(set(blocks) - set(places))) or "none"
        unknown = ", ".join(sorted(set(places) - set(blocks))) or "none"
        raise SystemExit(f"{page}: blocks without a place: {missing}; places without: {unknown}")
    return BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}{found[4]}", text)


def main() -> int:
    """Write the pages; with --check say which are out of date, with --typed carry them out."""
    if "--typed" in sys.argv[1:]:
        left = typed.renew()
        print("\n".join(left) or "every page shows what is printed")
        return int(bool(left))
    stale = []
    for name, maker in MAKERS.items():
        page = REFERENCE / name
        before = page.read_text("utf-8")
        after = filled(before, maker(), name)
        if after == before:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            page.write_text(after, "utf-8")
    if "--check" not in sys.argv[1:]:
        print(f"wrote {', '.join(stale) or 'nothing: all pages are as they should be'}")
        return 0
    if stale:
        print(f"out of date: {', '.join(stale)}; run scripts/docs", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
