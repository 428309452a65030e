"""What `fleet describe` tells of each command, from the declarations in cli/app.py."""

from tables import table

from codewhale_fleet.cli.runbook import Known, commands


def blocks() -> dict[str, str]:
    """The table of docs/reference/describe.md."""
    rows = [
        (f"`{one.name}`", _said(one.reach.fleet_aware), _said(one.reach.fan_out), _calls(one))
        for one in commands()
    ]
    head = ("command", "`fleet_aware`", "`fan_out`", "`use_instead`")
    return {"reaches": table(head, rows)}


def _said(flag: bool) -> str:
    return "yes" if flag else ""


def _calls(one: Known) -> str:
    typed = one.reach.use_instead
    return " or ".join(f"`{call}`" for call in typed.split(", or: ")) if typed else ""
