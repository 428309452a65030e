"""How answers look to people: lines and columns, the same on a pipe and on a terminal.

A command fills a `Page` from its answer; nothing is computed here. On a pipe columns are padded and
nothing is wrapped or coloured; on a terminal rich wraps prose to its width, and no id is ever cut.
"""

import sys

from .common import Context
from .words import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.console import RenderableType

Span = str | tuple[str, str]
"""Text, or text with its style: green, red, yellow, dim or bold."""

GAP = 2
"""Blanks between columns."""

LEAST_PROSE = 20
"""Columns below which prose is not squeezed."""

STYLES = {
    "completed": "green",
    "passed": "green",
    "failed": "red",
    "partial": "yellow",
    "waits": "yellow",
    "paused": "yellow",
    "left alone": "yellow",
    "stopping": "yellow",
    "cancelled": "red",
}
"""Colour of a state; others have none."""


class Page:
    """Lines and tables, in order. Text is cleaned of control characters as it comes in."""

    def __init__(self) -> None:
        self.parts: list[list[Span] | Grid] = []

    def line(self, *spans: Span) -> None:
        """One line; without spans, an empty one."""
        self.parts.append([_clean(span) for span in spans])

    def rows(self, rows: list[list[Span]], *, indent: int = 2, prose: int = -1) -> None:
        """Aligned columns; the column `prose` may wrap on a terminal."""
        if rows:
            self.parts.append(Grid([[_clean(one) for one in row] for row in rows], indent, prose))

    def text(self) -> str:
        """As plain text."""
        lines: list[str] = []
        for part in self.parts:
            if isinstance(part, Grid):
                lines += part.lines()
            else:
                lines.append("".join(_text(span) for span in part).rstrip())
        return "\n".join(lines) + "\n"

    def show(self, context: Context) -> None:
        """Print it: by rich on a terminal, else as plain text."""
        if not sys.stdout.isatty():
            print(self.text(), end="")
            return
        from rich.console import Console

        colors = context.styled()
        console = Console(no_color=not colors, highlight=False, markup=False, emoji=False)
        console.print(self.drawn(console.width), crop=False, soft_wrap=False)

    def drawn(self, width: int) -> "RenderableType":
        """As something that rich prints."""
        from rich.console import Group
        from rich.text import Text

        made: list[RenderableType] = []
        for part in self.parts:
            if isinstance(part, Grid):
                made.append(part.drawn(width))
            else:
                line = Text(no_wrap=False, overflow="fold")
                for span in part:
                    line.append(_text(span), style=_style(span))
                made.append(line)
        return Group(*made)


class Grid:
    """Rows of cells in aligned columns; a column without any text is left out."""

    def __init__(self, rows: list[list[Span]], indent: int, prose: int) -> None:
        wide = max(len(row) for row in rows)
        full: list[list[Span]] = [[*row, *[""] * (wide - len(row))] for row in rows]
        used = [at for at in range(wide) if any(_text(row[at]) for row in full)] or [0]
        self.cells = [[row[at] for at in used] for row in full]
        self.count = len(used)
        self.indent = indent
        self.prose = used.index(prose % wide) if prose % wide in used else self.count - 1
        self.widths = [
            max(len(_text(row[column])) for row in self.cells) for column in range(self.count)
        ]

    def lines(self) -> list[str]:
        """As plain text: padded, never wrapped."""
        made = []
        for row in self.cells:
            parts = [_text(cell).ljust(self.widths[at]) for at, cell in enumerate(row)]
            made.append((" " * self.indent + (" " * GAP).join(parts)).rstrip())
        return made

    def drawn(self, width: int) -> "RenderableType":
        """As a rich table without lines, whose one prose column gives way."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        others = sum(self.widths) - self.widths[self.prose]
        room = width - self.indent - others - GAP * (self.count - 1)
        if room < min(LEAST_PROSE, self.widths[self.prose]):
            return Text("\n".join(self.lines()), no_wrap=True, overflow="ignore")
        table = Table.grid(padding=(0, GAP, 0, 0))
        for at, wide in enumerate(self.widths):
            if at == self.prose:
                table.add_column(overflow="fold", max_width=max(room, 1))
            else:
                table.add_column(no_wrap=True, min_width=wide)
        for row in self.cells:
            table.add_row(*(Text(_text(cell), style=_style(cell)) for cell in row))
        return Padding(table, (0, 0, 0, self.indent), expand=False)


def state_span(word: str, shown: str = "") -> Span:
    """A state in its colour."""
    return (shown or word, STYLES.get(word, ""))


def _clean(span: Span) -> Span:
    if isinstance(span, str):
        return _visible(span)
    return (_visible(span[0]), span[1])


def _visible(text: str) -> str:
    return text if text.isprintable() else plain(text)


def _text(span: Span) -> str:
    return span if isinstance(span, str) else span[0]


def _style(span: Span) -> str:
    return "" if isinstance(span, str) else span[1]
