"""Where alerts go: routes by class, and adapters that name variables, never values.

Types and simple limits, like `core/spec_hosts.py`, and one pure question: which adapters hear of a
class. Nothing here sends, reads an environment or knows of files. Off unless `enabled`.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from msgspec import Meta

from .spec_hosts import AlertClass, Token, Written

CLASSES: tuple[AlertClass, ...] = get_args(AlertClass)
"""Every class, in the order of the reference."""

Severity = Literal["critical", "error", "warning", "info"]
Variable = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$(?!\n)",
        extra={"allowed": "the name of a variable (letters, digits and _)"},
    ),
]
"""Name of an environment variable; its value is read when an alert is sent."""

PAGERDUTY = "https://events.pagerduty.com"
"""Where events of PagerDuty go unless `base_url` says otherwise."""

SURROUNDINGS = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip
"""Variables that say how an adapter is reached: whom to trust, and through what."""


class Slack(Written, frozen=True, kw_only=True, tag_field="kind", tag="slack"):
    """An incoming webhook of Slack."""

    webhook_env: Variable
    """Variable that holds its https URL."""
    channel: str | None = None
    """Channel to name in the message; absent: the webhook's own."""


class Webhook(Written, frozen=True, kw_only=True, tag_field="kind", tag="webhook"):
    """Any receiver of JSON by https."""

    url_env: Variable
    """Variable that holds its https URL."""
    secret_env: Variable | None = None
    """Variable that holds the key of the signature; absent: nothing is signed."""
    allow_networks: list[str] = []
    """Networks, such as 169.254.7.0/24, that may be reached although they are refused otherwise."""


class PagerDuty(Written, frozen=True, kw_only=True, tag_field="kind", tag="pager_duty"):
    """A service of PagerDuty, or what speaks its Events API v2."""

    routing_key_env: Variable
    """Variable that holds the integration key."""
    severity: Severity = "error"
    """How bad the incidents are."""
    base_url: str = PAGERDUTY
    """Another service region, https://events.eu.pagerduty.com, or another receiver; no secret."""


class Apprise(Written, frozen=True, kw_only=True, tag_field="kind", tag="apprise"):
    """One of the services that the package apprise knows."""

    url_env: Variable
    """Variable that holds its apprise URL."""
    allow_networks: list[str] = []
    """Networks that may be reached although they are refused otherwise."""


Adapter = Slack | Webhook | PagerDuty | Apprise


class Route(Written, frozen=True, kw_only=True):
    """Classes that an adapter hears of."""

    events: list[AlertClass] = []
    """Which classes; empty: all."""
    adapter: str
    """Name of the adapter."""


class AlertConfig(Written, frozen=True, kw_only=True):
    """What `[alerts]` of fleet.toml, or a file of its own, says."""

    enabled: bool = False
    """Nothing happens when false."""
    dry_run: bool = False
    """Messages are made and recorded, and not sent."""
    routes: list[Route] = []
    """Every route that a class matches counts."""
    adapters: dict[Token, Adapter] = {}
    """Adapters by name."""


def adapters_for(config: AlertConfig, cls: str) -> list[str]:
    """Names of the adapters that hear of a class, each once, in the order of the routes."""
    if not config.enabled:
        return []
    heard = (route.adapter for route in config.routes if not route.events or cls in route.events)
    return list(dict.fromkeys(heard))


def variables(adapters: Iterable[Adapter]) -> list[str]:
    """Names of the variables whose values the adapters need when they send."""
    names = (name for adapter in adapters for _, name in variables_of(adapter))
    return list(dict.fromkeys(names))


def variables_of(adapter: Adapter) -> list[tuple[str, str]]:
    """The variables that an adapter names, each with the field that names it."""
    match adapter:
        case Slack():
            return [("webhook_env", adapter.webhook_env)]
        case Webhook(secret_env=None) | Apprise():
            return [("url_env", adapter.url_env)]
        case Webhook(secret_env=str(secret)):
            return [("url_env", adapter.url_env), ("secret_env", secret)]
        case PagerDuty():
            return [("routing_key_env", adapter.routing_key_env)]
    raise AssertionError(adapter)
