"""Values that alerts need: from whoever asks, by name; and tasks' own channels as adapters."""

from typing import Any

import pytest
from msgspec import convert, json

from codewhale_fleet.core.alert_config import Adapter, PagerDuty, Slack, Webhook
from codewhale_fleet.core.spec_hosts import Channel
from codewhale_fleet.engine.alert_values import refuse_channels, resolved
from codewhale_fleet.engine.alerting import adapter_of
from codewhale_fleet.errors import FleetError

CONFIG: dict[str, Any] = {
    "enabled": True,
    "routes": [{"adapter": "hook"}],
    "adapters": {
        "hook": {"kind": "webhook", "url_env": "HOOK", "secret_env": "KEY"},
        "unused": {"kind": "slack", "webhook_env": "SLACK"},
    },
}
ENVIRON = {"HOOK": "h", "KEY": "k", "SLACK": "s", "OPS": "o", "HOME": "/", "SSL_CERT_FILE": "ca"}


def values(
    config: dict[str, Any] = CONFIG, *channels: dict[str, Any], must: bool = True
) -> dict[str, str]:
    tasks = [json.encode({"id": "a", "alert_policy": {"channels": channels}})] if channels else []
    return resolved(json.encode(config), tasks, of="s.toml", again="go", must=must, environ=ENVIRON)


def test_values_are_those_of_the_adapters_that_routes_name_and_how_they_are_reached() -> None:
    assert values() == {"HOOK": "h", "KEY": "k", "SSL_CERT_FILE": "ca"}


@pytest.mark.parametrize("more", [{"enabled": False}, {"dry_run": True}])
def test_what_sends_nothing_needs_no_values(more: dict[str, bool]) -> None:
    assert values({**CONFIG, **more}) == {}


def test_a_tasks_own_channel_takes_secrets_from_where_secrets_are(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = {"kind": "webhook", "url_ref": "OPS", "secret_ref": "KEY"}
    found = values(CONFIG, own)
    assert (found["secret:OPS"], found["secret:KEY"]) == ("o", "k")
    with pytest.raises(FleetError, match="NOWHERE is not found"):
        values(CONFIG, {"kind": "slack", "url_ref": "NOWHERE"})
    assert "secret:NOWHERE" not in values(
        CONFIG, {"kind": "slack", "url_ref": "NOWHERE"}, must=False
    )
    many = [{"kind": "slack", "url_ref": f"U{number}"} for number in range(33)]
    with pytest.raises(FleetError, match="33 channels of their own; a run may have 32"):
        values(CONFIG, *many)


def test_channels_are_refused_where_alerts_are_off() -> None:
    quiet = json.encode({"id": "a", "alert_policy": {"events": ["stale"]}})
    refuse_channels([quiet], "s.toml")
    loud = json.encode(
        {"id": "b", "alert_policy": {"channels": [{"kind": "slack", "url_ref": "A"}]}}
    )
    with pytest.raises(FleetError, match="name channels in their alert_policy, and alerts are off"):
        refuse_channels([quiet, loud], "s.toml")


@pytest.mark.parametrize(
    ("channel", "adapter"),
    [
        ({"kind": "slack", "url_ref": "A"}, Slack(webhook_env="A")),
        (
            {"kind": "webhook", "url_ref": "A", "secret_ref": "B"},
            Webhook(url_env="A", secret_env="B"),
        ),
        (
            {"kind": "pager_duty", "url_ref": "A", "severity": "critical"},
            PagerDuty(routing_key_env="A", severity="critical"),
        ),
    ],
)
def test_a_tasks_own_channel_is_an_adapter_of_its_kind(
    channel: dict[str, str], adapter: Adapter
) -> None:
    assert adapter_of(convert(channel, type=Channel)) == adapter  # type: ignore[arg-type]
