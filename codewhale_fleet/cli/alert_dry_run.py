"""`fleet alert-dry-run`: an alert as it would go out, with `<redacted:env:NAME>` for each secret.

Nothing is sent, no variable is read, and no fleet is needed; with one, `--adapter` may also be the
name of an adapter of its fleet.toml.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from msgspec import ValidationError, convert, json

from ..alerts.message import Message, event_of
from ..alerts.payload import Payload, payload, redacted
from ..core.alert_config import CLASSES, Adapter, Severity, variables
from ..errors import FleetError
from .common import Context, nearest, print_json

KINDS = {
    "slack": "slack",
    "webhook": "webhook",
    "pager-duty": "pager_duty",
    "pager_duty": "pager_duty",
    "pagerduty": "pager_duty",
    "apprise": "apprise",
}
"""What `--adapter` may say -> the kind."""


def alert_dry_run(
    ctx: Context,
    *,
    event: str,
    run_id: str,
    adapter: str,
    worker_id: str = "",
    task_id: str = "",
    reason: str = "",
    status: str = "",
    slack_webhook_env: str,
    webhook_url_env: str,
    webhook_secret_env: str | None = None,
    pagerduty_routing_key_env: str,
    pagerduty_severity: str,
    apprise_url_env: str,
) -> int:
    """Print the payload of one adapter for one event."""
    fields: dict[str, dict[str, Any]] = {
        "slack": {"webhook_env": slack_webhook_env},
        "webhook": {"url_env": webhook_url_env, "secret_env": webhook_secret_env},
        "pager_duty": {
            "routing_key_env": pagerduty_routing_key_env,
            "severity": pagerduty_severity,
        },
        "apprise": {"url_env": apprise_url_env},
    }
    chosen = _chosen(ctx, adapter, fields)
    cls, run = event_class(event), _text(run_id)
    message = Message(
        key=f"{run}/{cls}",
        cls=cls,
        run=run,
        worker=_text(worker_id),
        task=_text(task_id),
        status=_text(status),
        reason=_text(reason),
        ts=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        adapter=adapter,
    )
    made = shown(adapter, chosen, message, time.time())
    if ctx.json:
        print_json(made)
    else:
        print(json.format(json.encode(made), indent=2).decode())
    for name in variables([chosen]):
        if not ctx.environ.get(name):
            ctx.note(f"{name} is not set here; to send for real it has to be.")
    return 0


def _text(word: str) -> str:
    """A word of the command line, whatever its bytes were, as text that goes into JSON."""
    return word.encode("utf-8", "replace").decode()


def shown(name: str, adapter: Adapter, message: Message, now: float) -> dict[str, Any]:
    """What would go out, as the reference tells it."""
    made: Payload = payload(adapter, message, redacted(adapter), now)
    told: dict[str, Any] = {
        "adapter": name,
        "kind": made.kind,
        "dry_run": True,
        "target": made.target,
    }
    if made.kind != "pager_duty":
        told["event"] = event_of(message)
    if made.kind == "webhook":
        told["headers"] = made.headers
    return {**told, "body": json.decode(made.body)}


def event_class(name: str) -> str:
    """A class, in either spelling."""
    plain = name.strip().lower().replace("-", "_")
    if plain in CLASSES:
        return plain
    known = [one.replace("_", "-") for one in CLASSES]
    near = nearest(name, known)
    raise FleetError(
        f'--event "{name}" is no class of alerts.',
        f"Nearest: {near[0]}" if near else f"There are: {', '.join(known)}",
        field="--event",
    )


def _chosen(ctx: Context, name: str, fields: Mapping[str, dict[str, Any]]) -> Adapter:
    kind = KINDS.get(name.strip().lower())
    if kind is None:
        return named(ctx, name)
    try:
        given = {key: value for key, value in fields[kind].items() if value is not None}
        made: Adapter = convert({"kind": kind, **given}, Adapter)
        return made
    except ValidationError as error:
        field = str(error).rpartition("`$.")[2].rstrip("`")
        if field == "severity":
            option, known = "--pagerduty-severity", f"There are: {', '.join(get_args(Severity))}"
            raise FleetError(
                f'{option} "{fields[kind][field]}" is none.', known, field=option
            ) from None
        prefix = {"pager_duty": "pagerduty"}.get(kind, kind)
        option = f"--{prefix}-{field.removeprefix('webhook_') if kind == 'webhook' else field}"
        raise FleetError(
            f"{option.replace('_', '-')} takes the name of a variable, never its value.",
            "export NAME=…, and give NAME",
            field=option.replace("_", "-"),
        ) from None


def named(ctx: Context, name: str) -> Adapter:
    """An adapter that the fleet.toml here names."""
    from ..wire import fleetfile

    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    config = fleetfile.read(root).alerts
    adapters = config.adapters if config is not None else {}
    if name in adapters:
        return adapters[name]
    known = [*adapters, "slack", "webhook", "pager-duty", "apprise"]
    near = nearest(name, known)
    raise FleetError(
        f'no adapter is called "{name}".',
        f"Nearest: {near[0]}" if near else f"There are: {', '.join(known)}",
        field="--adapter",
    )
