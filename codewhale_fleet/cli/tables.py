"""Generates cli/table.py from the declarations in cli/app.py; run by scripts/command-table.

Promises that the table says what Typer would do, or refuses to make it: a parameter that the quick
reader could not read alike is an error here, not a difference later.
"""

import inspect
import sys
from pathlib import Path
from typing import Any, get_args

from typer.models import ArgumentInfo

from . import app

TABLE = Path(__file__).with_name("table.py")
"""The file that is generated."""

_HEAD = '''\
"""The frequent commands as data, for cli/hot.py. Made by scripts/command-table; do not edit.

A command has arguments (name, takes many, required), options (spelling: name, kind, lowest or
constant, highest) and the defaults of its parameters.
"""

# fmt: off
# ruff: noqa: E501

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMANDS: "dict[str, tuple[Any, Any, Any]]" = {
'''


def render() -> str:
    """The text of the table."""
    commands = [_command(name, app.DECLARED[name]) for name in app.HOT]
    return _HEAD + "".join(commands) + "}\n"


def _command(name: str, signature: inspect.Signature) -> str:
    arguments, options, defaults = [], [], []
    for parameter in signature.parameters.values():
        declared, info = get_args(parameter.annotation)
        kind = _kind(parameter, declared)
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            if kind not in ("str", "list"):
                raise ValueError(f"{name} {parameter.name}: only text as an argument")
            arguments.append((parameter.name, kind == "list", required))
        elif required:
            raise ValueError(f"{name} {parameter.name}: an option needs a default")
        else:
            low, high = (True, None) if kind == "flag" else (info.min, info.max)
            first = info.default  # where Typer keeps the first spelling of an annotation
            for spelling in (first, *(info.param_decls or ())):
                options.append((spelling, (parameter.name, kind, low, high)))
        if not required:
            defaults.append((parameter.name, parameter.default))
    lines = [f"    {name!r}: (", f"        {tuple(arguments)!r},", "        {"]
    lines += [f"            {spelling!r}: {entry!r}," for spelling, entry in options]
    lines += ["        },", f"        {tuple(defaults)!r},", "    ),"]
    return "\n".join(lines) + "\n"


_KINDS: dict[Any, str] = {
    bool: "flag",
    str: "str",
    int: "int",
    float: "float",
    list[str]: "list",
}


def _kind(parameter: inspect.Parameter, declared: Any) -> str:
    """How the quick reader takes a value."""
    plain = [one for one in get_args(declared) if one is not type(None)]
    optional = type(None) in get_args(declared)
    kind = _KINDS.get(plain[0] if optional and len(plain) == 1 else declared)
    if kind is None:
        raise ValueError(f"{parameter.name}: the quick reader knows no {declared}")
    if kind == "flag" and parameter.default is not False:
        raise ValueError(f"{parameter.name}: a flag is off by default")
    return kind


def main() -> int:
    """Write the table, or with --check say whether it is as it should be."""
    text = render()
    if "--check" in sys.argv[1:]:
        return int(TABLE.read_text("utf-8") != text)
    TABLE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
