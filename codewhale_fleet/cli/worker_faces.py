"""How answers about workers look to people: the list, and the page of one."""

from typing import Any

from ..core.fleet_words import LOCAL
from .faces import Page, Span
from .fleet_workers import SHADES, machine_words
from .words import duration, plain

SHOWN = 200
"""Workers that are written out; JSON has all."""

COUNTS_FROM = 10
"""From so many workers on, the counts come first."""


def listed(answer: dict[str, Any]) -> Page:
    """Workers, one a line."""
    page = Page()
    rows = answer["workers"]
    others = [one for one in rows if one["worker"] != LOCAL]
    if len(rows) >= COUNTS_FROM:
        said = ", ".join(f"{count:,} {word}" for word, count in answer["counts"].items())
        page.line(f"{len(rows):,} workers: {said}")
        page.line()
    page.rows([_row(one) for one in rows[:SHOWN]], indent=0, prose=-1)
    if len(rows) > SHOWN:
        page.line((f"and {len(rows) - SHOWN:,} more: fleet worker list SELECTOR", "dim"))
    page.line()
    page.line((_hint(others), "dim"))
    return page


def _hint(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "Other machines: fleet worker add [USER@]HOST"
    offline = [one["worker"] for one in rows if one["state"] == "offline"]
    if offline:
        which = offline[0] if len(offline) == 1 else "unreachable"
        return f"fleet worker test {which} tries again what could not be reached"
    if any(one["state"] == "unknown" for one in rows):
        return "fleet worker test all tries them"
    return "To run there: fleet run SPEC --on SELECTOR · fleet exec --on SELECTOR -- CMD"


def _row(one: dict[str, Any]) -> list[Span]:
    labels = [f"{key}={value}" for key, value in one["labels"].items()]
    said = [*one["groups"], *labels]
    remark = ""
    if one["unreachable"]:
        why = plain(one["unreachable"]).partition(". ")[0]
        remark = f"{why} ({duration(one['unreachable_seconds'])} ago)"
    remark = one["problem"] or remark
    reason = one.get("drain_reason") or one.get("retire_reason")
    return [
        one["worker"],
        (one["state"], SHADES[one["state"]]),
        f"{one['busy']}/{one['slots']}",
        machine_words(one),
        " ".join(said),
        one["trust_level"] or "",
        (f"seen {seen(one)}", "dim"),
        (remark or reason or "", "red" if remark else "dim"),
    ]


def seen(one: dict[str, Any]) -> str:
    """How old what is known of its machine is."""
    if one["seen_seconds"] is None:
        return "never"
    return "now" if one["worker"] == LOCAL else f"{duration(one['seen_seconds'])} ago"


_FIELDS = (
    ("name", "name"), ("host", "host"), ("state", "state"), ("slots", "slots"),
    ("machine", "machine"), ("hostname", "calls itself"), ("seen", "seen"),
    ("problem", "problem"), ("unreachable", "not reached"), ("reason", "reason"),
    ("works in", "works in"), ("reached by", "reached by"), ("groups", "groups"),
    ("labels", "labels"), ("capabilities", "can"), ("trust_level", "trust"),
    ("origin", "defined by"), ("hidden", "also defined by"),
)  # fmt: skip


def drawn(answer: dict[str, Any]) -> Page:
    """One worker."""
    page = Page()
    page.line((answer["worker"], "bold"), "   worker")
    page.line()
    shown = _shown(answer)
    page.rows([[(label, "dim"), shown[name]] for name, label in _FIELDS if shown.get(name)])
    for title, rows in (
        ("runs there", [[one["attempt"], "" if one["started"] else "starting"]
                        for one in answer["running"]]),
        ("records", [[f"#{one['seq']}", one["says"]] for one in answer["records"]]),
    ):  # fmt: skip
        if rows:
            page.line()
            page.line(title)
            page.rows([list(row) for row in rows])
    page.line()
    page.line((" · ".join(answer["next"]), "dim"))
    return page


def _shown(answer: dict[str, Any]) -> dict[str, Span]:
    definition = answer.get("definition", {})
    host = definition.get("host", {})
    made: dict[str, Span] = {
        "name": answer["name"] if answer["name"] != answer["worker"] else "",
        "host": answer["host"],
        "state": (answer["state"], SHADES[answer["state"]]),
        "slots": f"{answer['busy']} of {answer['slots']} busy",
        "machine": machine_words(answer),
        "hostname": answer["hostname"],
        "seen": seen(answer),
        "works in": host.get("working_directory", ""),
        "reached by": ", ".join(_reached(host)),
        "groups": " ".join(answer["groups"]),
        "labels": " ".join(f"{key}={value}" for key, value in answer["labels"].items()),
        "capabilities": " ".join(definition.get("capabilities", ())),
        "trust_level": answer["trust_level"] or "",
        "origin": answer["origin"],
        "hidden": ", ".join(answer.get("hidden", ())),
        "reason": answer.get("drain_reason") or answer.get("retire_reason") or "",
    }
    if answer["problem"]:
        made["problem"] = (answer["problem"], "red")
    if answer["unreachable"]:
        ago = duration(answer["unreachable_seconds"])
        made["unreachable"] = (f"{plain(answer['unreachable'])} ({ago} ago)", "red")
    return made


def _reached(host: dict[str, Any]) -> list[str]:
    """How a host is reached, but for its name."""
    if host.get("kind") != "ssh":
        return []
    words = (
        ("transport", "{}"), ("identity", "the key {}"), ("known_hosts", "known hosts {}"),
        ("host_key_fingerprint", "host key {}"), ("proxy_jump", "through {}"),
        ("connect_timeout_seconds", "within {:g} s"),
    )  # fmt: skip
    found = [text.format(host[name]) for name, text in words if host.get(name)]
    return found if "transport" in host else ["asyncssh", *found]
