"""A message and an adapter of each kind, for tests of everything that sends."""

from typing import Any

from codewhale_fleet.alerts.message import Message
from codewhale_fleet.core.alert_config import PAGERDUTY, PagerDuty, Slack, Webhook

from .receiver import Receiver

SLACK = Slack(webhook_env="CODEWHALE_FLEET_SLACK_WEBHOOK", channel="#fleet")
HOOK = Webhook(url_env="CODEWHALE_FLEET_WEBHOOK_URL", secret_env="CODEWHALE_FLEET_WEBHOOK_SECRET")
MESSAGE = Message(
    key="demo-7k3f2a/build@2/restart_exhausted",
    cls="restart_exhausted",
    run="demo-7k3f2a",
    worker="demo-7k3f2a-local-1",
    task="build",
    attempt="demo-7k3f2a/build@2",
    reason="exit 1 after 2 attempts",
    ts="2026-06-13T02:00:00Z",
    adapter="ops",
)


def pager(receiver: Receiver | None) -> PagerDuty:
    return PagerDuty(
        routing_key_env="CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY",
        severity="critical",
        base_url=receiver.url if receiver else PAGERDUTY,
    )


def changed(message: Message = MESSAGE, **more: Any) -> Message:
    return Message(
        **{**{name: getattr(message, name) for name in message.__struct_fields__}, **more}
    )
