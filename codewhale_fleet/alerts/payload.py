"""How a message looks on each road: the request of an adapter, with values or with their names.

Bodies are made by the models of slack-sdk and the client of pagerduty, so that their schemas hold;
what they made goes out by `road`, because slack-sdk's own client follows redirects, resolves names
by itself and tries again, and pagerduty's waits without end. Where a value is secret, `redacted`
gives `<redacted:env:NAME>` in its place: a dry run shows exactly what would go out but for that.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, json, structs

from .. import __version__
from ..core.alert_config import Adapter, Apprise, PagerDuty, Slack, Webhook, variables_of
from ..errors import FleetError, to_install
from .message import Message, commands_of, event_of, headline

AGENT = f"codewhale-fleet/{__version__}"
SOURCE = "codewhale"

DELIVERY = "X-CodeWhale-Delivery"
"""Header: the same however often one message is sent; another one for its end."""
TIMESTAMP = "X-CodeWhale-Timestamp"
"""Header: seconds since 1970, when it was sent."""
SIGNATURE = "X-CodeWhale-Signature"
"""Header: `sha256=` and the HMAC-SHA256, in hex, of timestamp + "." + body."""
WINDOW_SECONDS = 300
"""How old a timestamp a receiver should accept."""

SLACK_TEXT = 3000
"""Most characters of a section (Slack's block schema)."""
SLACK_CONTEXT = 2000
"""Most characters of a context's text."""
PAGERDUTY_SUMMARY = 1024
PAGERDUTY_KEY = 255

SHORTEST_VALUE = 6
"""A value shorter than this is not looked for in texts: it would be found everywhere."""


class Payload(Struct, frozen=True, kw_only=True):
    """What is sent: where to, with which headers, and the body."""

    kind: str
    target: str
    headers: dict[str, str]
    body: bytes


class Missing(FleetError):
    """A package that an adapter needs is not installed."""

    code = "extra_missing"

    def __init__(self, kind: str) -> None:
        extra = "apprise" if kind == "apprise" else "alerts"
        super().__init__(
            f"alerts by {kind} need packages that are not installed.",
            to_install(extra),
        )


def redacted(adapter: Adapter) -> dict[str, str]:
    """What stands in place of each value that an adapter needs."""
    return {name: f"<redacted:env:{name}>" for _, name in variables_of(adapter)}


def payload(adapter: Adapter, message: Message, values: Mapping[str, str], now: float) -> Payload:
    """The request of an adapter for a message; `values` of its variables are real or redacted."""
    match adapter:
        case Slack():
            return Payload(
                kind="slack",
                target=values[adapter.webhook_env],
                headers=_headers(),
                body=json.encode(slack_body(message, adapter.channel)),
            )
        case Webhook():
            body = json.encode({"source": SOURCE, "event": event_of(message)})
            headers = {**_headers(), DELIVERY: delivery(message), TIMESTAMP: str(int(now))}
            if adapter.secret_env:
                headers[SIGNATURE] = signature(values[adapter.secret_env], int(now), body)
            return Payload(
                kind="webhook", target=values[adapter.url_env], headers=headers, body=body
            )
        case PagerDuty():
            return _pagerduty(adapter, message, values[adapter.routing_key_env])
        case Apprise():
            title, text = apprise_texts(message)
            body = json.encode({"title": title, "body": text, "type": _apprise_type(message)})
            return Payload(kind="apprise", target=values[adapter.url_env], headers={}, body=body)
    raise AssertionError(adapter)


def without(message: Message, values: Mapping[str, str]) -> Message:
    """A message in whose texts none of the values stands."""
    known = [(value, name) for name, value in values.items() if len(value) >= SHORTEST_VALUE]
    if not known:
        return message

    def clean(text: str) -> str:
        for value, name in known:
            text = text.replace(value, f"<redacted:env:{name}>")
        return text

    return structs.replace(
        message,
        reason=clean(message.reason),
        status=clean(message.status),
        commands=[clean(one) for one in message.commands],
        others=[clean(one) for one in message.others],
    )


def delivery(message: Message) -> str:
    """What names one delivery in a header: visible ASCII only."""
    key = "".join(sign if "!" <= sign <= "~" else "_" for sign in message.key)
    return f"{key}:{message.action}"


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The signature's header; of a redacted secret, that it would be one."""
    if secret.startswith("<redacted:env:"):
        return f"sha256={secret}"
    signed = hmac.digest(secret.encode(), b"%d.%s" % (timestamp, body), "sha256")
    return f"sha256={signed.hex()}"


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "User-Agent": AGENT}


# Slack ----------------------------------------------------------------------------------------


def slack_body(message: Message, channel: str | None) -> dict[str, Any]:
    """A text for notifications; a section with what happened, and a line of what to type."""
    try:
        from slack_sdk.models.blocks import ContextBlock, MarkdownTextObject, SectionBlock
    except ImportError:
        raise Missing("slack") from None

    def plain(text: str, limit: int) -> Any:
        return MarkdownTextObject(text=_cut(text, limit), verbatim=True)

    looks = " · ".join(_code(command) for command in commands_of(message))
    about = " · ".join(escaped(part) for part in (message.adapter, message.key) if part)
    context = [plain(looks, SLACK_CONTEXT)] + ([plain(about, SLACK_CONTEXT)] if about else [])
    mark = "Over" if message.action == "resolve" else "Alert"
    said = f"*{mark}* · {escaped(headline(message))}"
    blocks = [SectionBlock(text=plain(said, SLACK_TEXT)), ContextBlock(elements=context)]
    body: dict[str, Any] = {
        "text": _cut(escaped(headline(message)), SLACK_TEXT),
        "blocks": [block.to_dict() for block in blocks],
    }
    return {**body, "channel": channel} if channel else body


def escaped(text: str) -> str:
    """Text in which Slack sees no link and no mention: the three signs that it takes for marks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return "`" + escaped(text).replace("`", "'") + "`"


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters, and no half of an escape at the end."""
    if len(text) <= limit:
        return text
    return re.sub(r"&[a-z]{0,3}$", "", text[: limit - 1]) + "…"


# PagerDuty ------------------------------------------------------------------------------------


def _pagerduty(adapter: PagerDuty, message: Message, key: str) -> Payload:
    """The request that the client of pagerduty makes of it, taken before it goes anywhere."""
    try:
        from httpx2 import BaseTransport, Request, Response
        from pagerduty import EventsApiV2Client
    except ImportError:
        raise Missing("pager_duty") from None

    made: list[Request] = []
    dedup = dedup_key(message.incident or message.key)

    class Taken(BaseTransport):
        def handle_request(self, request: Request) -> Response:
            request.read()
            made.append(request)
            return Response(202, json={"status": "success", "dedup_key": dedup})

    client = EventsApiV2Client(key, base_url=adapter.base_url, transport=Taken(), trust_env=False)
    try:
        if message.action == "resolve":
            client.resolve(dedup)
        else:
            client.trigger(
                _cut_plain(headline(message), PAGERDUTY_SUMMARY),
                SOURCE,
                dedup_key=dedup,
                severity=adapter.severity,
                payload={"timestamp": message.ts} if message.ts else None,
                custom_details=event_of(message),
            )
    finally:
        client.close()
    return Payload(
        kind="pager_duty",
        target=str(made[0].url),
        headers=_headers(),
        body=made[0].content,
    )


def dedup_key(key: str) -> str:
    """The key as PagerDuty takes it: at most 255 characters."""
    if len(key) <= PAGERDUTY_KEY:
        return key
    from hashlib import sha256

    return f"{key[:180]}-{sha256(key.encode()).hexdigest()}"


def _cut_plain(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


# apprise --------------------------------------------------------------------------------------


def apprise_texts(message: Message) -> tuple[str, str]:
    """Title and text."""
    over = message.action == "resolve"
    title = f"{'over' if over else 'alert'}: {message.cls.replace('_', ' ')} ({message.run})"
    return title, "\n".join([headline(message), "", *commands_of(message)])


def _apprise_type(message: Message) -> str:
    if message.action == "resolve":
        return "success"
    return _APPRISE_TYPES.get(message.cls, "warning")


_APPRISE_TYPES = {"run_completed": "info", "restart_exhausted": "failure"}
