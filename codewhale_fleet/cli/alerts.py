"""`fleet alerts`: what people are still to be told, what they were told, and what was held back.

With `--test`, one message through one adapter, for real, whatever the config says of dry runs. The
outbox comes from the state, what is over from the ledger's records. Nothing here decides or
records.
"""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from ..core import events as e
from ..errors import FleetError
from ..views.units import many
from . import names
from .common import Context, nearest, print_json
from .faces import Page, Span
from .words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..alerts.send import Outcome
    from ..core.alert_config import Adapter, AlertConfig
    from ..ledger.store import Ledger

SHOWN = 20
"""Rows of each table that are written out for people."""

NEEDLE = b'"k":"alert.'
"""How every record about a message begins."""


def alerts(
    ctx: Context, *, run: str | None = None, test: str | None = None, alerts: str | None = None
) -> int:
    """The outbox of all runs, or of one; or a test message."""
    if test is not None:
        if run is not None:
            raise FleetError("--test sends of no run.", f"fleet alerts --test {test}")
        return _test(ctx, test, alerts)
    if alerts is not None:
        raise FleetError("--alerts FILE goes with --test.", "fleet alerts --test ADAPTER")
    ledger = ctx.ledger()
    target = names.resolve(ledger, run).run.id if run is not None else ""
    answer = outbox_of(ledger, target)
    if ctx.json:
        print_json(answer)
    else:
        draw(answer, time.time()).show(ctx)
    return 0


def outbox_of(ledger: "Ledger", run: str) -> dict[str, Any]:
    """What is owed, and what became of everything that was."""
    from ..core.outbox import outbox

    told: dict[str, list[dict[str, Any]]] = {"sent": [], "failed": [], "suppressed": []}
    start = ledger.state.runs[run].opened_at if run else (0, 0)
    for head, event in ledger.records(run or None, start, containing=NEEDLE):
        kept = _past(head, event)
        if kept is not None:
            told[kept["state"]].append(kept)
    owed = [_owed(row) for row in outbox(ledger.state, run)]
    runs = [ledger.state.runs[run]] if run else list(ledger.state.runs.values())
    return {
        "run": run or None,
        "told": any(one.alerts is not None for one in runs),
        "counts": {"owed": len(owed), **{name: len(rows) for name, rows in told.items()}},
        "owed": owed,
        **told,
    }


def _owed(row: Any) -> dict[str, Any]:
    made: dict[str, Any] = structs.asdict(row)
    made["class"] = made.pop("cls")
    return made


def _past(head: e.Envelope, event: e.Event) -> dict[str, Any] | None:
    made: dict[str, Any] = {"state": "", "record": head.seq, "ts": head.ts, "run": head.run}
    match event:
        case e.AlertSent():
            made |= {"state": "sent", "words": event.words, "dry_run": event.dry}
            made |= {"action": event.action, "digest": event.digest}
        case e.AlertFailed():
            made |= {"state": "failed", "words": event.why, "action": event.action}
        case e.AlertSuppressed():
            made |= {"state": "suppressed", "why": event.why, "names": event.names}
            made |= {"into": event.into or event.key}
        case _:
            return None
    made |= {"adapter": event.adapter, "class": event.cls, "key": event.key, "count": event.count}
    return made


# For people -----------------------------------------------------------------------------------


def draw(answer: dict[str, Any], now: float) -> Page:
    """The answer for people."""
    page = Page()
    counts = answer["counts"]
    whose = answer["run"] or "all runs"
    if not answer["told"] and not any(counts.values()):
        page.line(f"{whose}: nobody is told of anything.")
        page.line()
        page.line(
            ("To have people told: [alerts] in fleet.toml, or fleet run --alerts FILE", "dim")
        )
        return page
    said = [f"{counts['owed']:,} to be sent", f"{counts['sent']:,} sent"]
    if counts["failed"]:
        said.append(f"{counts['failed']:,} given up")
    page.line((f"{whose}: {', '.join(said)}", "bold"))
    for title, key, row in (
        ("to be sent", "owed", _owed_row),
        ("given up", "failed", _past_row),
        ("not sent one by one", "suppressed", _past_row),
        ("sent", "sent", _past_row),
    ):
        rows = answer[key]
        if not rows:
            continue
        page.line()
        page.line((title, "dim"))
        page.rows([row(one, now) for one in rows[-SHOWN:]], prose=-1)
        if len(rows) > SHOWN:
            page.line((f"  and {len(rows) - SHOWN:,} before that: --json has them all", "dim"))
    page.line()
    page.line(("To try an adapter: fleet alerts --test ADAPTER", "dim"))
    return page


def _owed_row(row: dict[str, Any], now: float) -> list[Span]:
    state, waits = row["state"], ""
    if row["next_at"] > now:
        waits = f"in {duration(row['next_at'] - now)}"
    words = row["words"] or row["reason"]
    if row["tries"]:
        words = f"{words} (tried {many(row['tries'], 'time')})"
    shade = "red" if state == "stuck" else "yellow" if state == "delayed" else ""
    return [(state, shade), row["adapter"], _what(row), _about(row), waits, words]


def _past_row(row: dict[str, Any], now: float) -> list[Span]:
    at = datetime.fromisoformat(row["ts"]).astimezone().strftime("%H:%M:%S")
    shade = "red" if row["state"] == "failed" else ""
    return [at, (row["adapter"], shade), _what(row), _about(row), _why(row)]


def _what(row: dict[str, Any]) -> str:
    over = " is over" if row.get("action") == "resolve" else ""
    return str(row["class"]).replace("_", " ") + over


def _about(row: dict[str, Any]) -> str:
    subject = row.get("subject") or row["run"]
    more = row["count"] - 1
    return f"{subject} and {more:,} more" if more > 0 and row["state"] != "suppressed" else subject


_WHY = {
    "grouped": "came soon after a message: go out as one",
    "limited": "too many for this adapter just now: go out as part of another",
    "carried": "stand in the message of another",
}


def _why(row: dict[str, Any]) -> str:
    if row["state"] != "suppressed":
        dry = "dry run: " if row.get("dry_run") and "dry run" not in row["words"] else ""
        return dry + str(row["words"])
    return f"{row['count']:,} {_WHY.get(row['why'], row['why'])} ({row['into']})"


# A test ---------------------------------------------------------------------------------------


def _test(ctx: Context, name: str, file: str | None) -> int:
    """Send one message for real; a receiver that knows of incidents is told its end at once."""
    from ..alerts.message import Message
    from ..alerts.send import deliver
    from ..core.alert_config import PagerDuty

    adapter = _adapter(ctx, name, file)
    message = Message(
        key=f"test/{time.time_ns():x}",
        cls="needs_human",
        run="test",
        status="test",
        reason=f"a test of the adapter {name}; nothing is to be done",
        commands=["fleet alerts"],
        ts=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        adapter=name,
    )
    outcome = deliver(adapter, message, dict(ctx.environ))
    if outcome.state == "sent" and isinstance(adapter, PagerDuty):
        outcome = deliver(adapter, structs.replace(message, action="resolve"), dict(ctx.environ))
    return _tell(ctx, name, adapter, outcome)


def _tell(ctx: Context, name: str, adapter: "Adapter", outcome: "Outcome") -> int:
    code = 0 if outcome.state == "sent" else 1
    kind = str(adapter.__struct_config__.tag)
    if ctx.json:
        told = {
            "state": outcome.state,
            "words": outcome.words,
            "status": outcome.status,
            "after": outcome.after,
        }
        print_json({"adapter": name, "kind": kind, **told, "exit_code": code})
        return code
    page = Page()
    state = {"sent": "sent", "retry": "not sent", "failed": "not sent"}[outcome.state]
    page.line((state, "green" if code == 0 else "red"), f"  {name} ({kind}): {outcome.words}")
    page.line()
    if outcome.state == "failed":
        page.line(("A run would give this message up. fleet doctor names what is missing", "dim"))
    elif outcome.state == "retry":
        page.line(("A run would try again by itself.", "dim"))
    else:
        page.line(("What a run would send: fleet alert-dry-run --adapter " + name, "dim"))
    page.show(ctx)
    return code


def _adapter(ctx: Context, name: str, file: str | None) -> "Adapter":
    """An adapter by name; mistakes in its config are told with their lines."""
    from ..wire.alerts import adapter_unready, told
    from .alerting import load

    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    loaded = load(root, file)
    if loaded is None:
        raise FleetError(
            "there is no [alerts] here.",
            "Write it into fleet.toml, or name a file of it: --alerts FILE",
        )
    config: AlertConfig = loaded.config
    if name not in config.adapters:
        near = nearest(name, config.adapters)
        known = f"There are: {', '.join(config.adapters)}" if config.adapters else ""
        raise FleetError(
            f'no adapter is called "{name}" in {loaded.name}.',
            f"Nearest: {near[0]}" if near else known,
            field="--test",
        )
    path = (*loaded.path, "adapters", name)
    found = list(adapter_unready(config, name, dict(ctx.environ), path))
    if found:
        shown = "" if file is not None else "fleet doctor"
        raise told(found, loaded.text, loaded.name, loaded.format, shown)
    return config.adapters[name]
