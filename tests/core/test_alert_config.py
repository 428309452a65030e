"""Routes and adapters, as the sources write them."""

import json
from typing import Any

import msgspec
import pytest

from codewhale_fleet.core.alert_config import (
    AlertConfig,
    PagerDuty,
    Slack,
    Webhook,
    adapters_for,
    variables,
)

EXAMPLE = """
{
  "enabled": true,
  "dry_run": true,
  "routes": [
    {"events": ["stale", "restart_exhausted", "verifier_failed"], "adapter": "ops-slack"},
    {"events": ["restart_exhausted"], "adapter": "pager"}
  ],
  "adapters": {
    "ops-slack": {
      "kind": "slack",
      "webhook_env": "CODEWHALE_FLEET_SLACK_WEBHOOK",
      "channel": "#codewhale-fleet"
    },
    "pager": {
      "kind": "pager_duty",
      "routing_key_env": "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY",
      "severity": "critical"
    }
  }
}
"""
"""The example of the reference's guide."""


def read(**changes: Any) -> AlertConfig:
    return msgspec.convert({**json.loads(EXAMPLE), **changes}, AlertConfig)


def test_the_example_of_the_reference_loads_as_it_stands() -> None:
    config = read()
    assert config.adapters["ops-slack"] == Slack(
        webhook_env="CODEWHALE_FLEET_SLACK_WEBHOOK", channel="#codewhale-fleet"
    )
    assert config.adapters["pager"] == PagerDuty(
        routing_key_env="CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY", severity="critical"
    )
    assert (config.enabled, config.dry_run) == (True, True)


def test_every_route_that_a_class_matches_counts_and_each_adapter_hears_once() -> None:
    config = read(routes=[{"adapter": "pager"}, {"events": ["stale"], "adapter": "ops-slack"}] * 2)
    assert adapters_for(config, "stale") == ["pager", "ops-slack"]
    assert adapters_for(config, "run_completed") == ["pager"]
    assert adapters_for(read(), "needs_human") == []


def test_nobody_hears_anything_unless_alerts_are_enabled() -> None:
    assert adapters_for(read(enabled=False), "stale") == []
    assert not AlertConfig().enabled


def test_an_adapter_names_variables_and_no_value_fits_there() -> None:
    adapters = [Webhook(url_env="URL", secret_env="KEY"), Webhook(url_env="URL")]
    assert variables(adapters) == ["URL", "KEY"]
    for url in ("https://hooks.slack.com/services/T/B/x", "A B", "", "A\n"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"kind": "slack", "webhook_env": url}, Slack)


def test_a_severity_is_one_that_pagerduty_knows() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {"kind": "pager_duty", "routing_key_env": "K", "severity": "bad"}, PagerDuty
        )
