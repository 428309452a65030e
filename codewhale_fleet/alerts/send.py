"""One attempt at sending one message, and what came of it.

Promises to block for ten seconds at most, to send once, and words that hold no URL, no key and
nothing that the receiver said beyond Slack's own words for what is wrong. Whether and when to try
again is the caller's: `retry` says that it may help, `after` what the receiver asked for.
"""

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

from msgspec import Struct

from ..core.alert_config import SURROUNDINGS, Adapter, Apprise, Slack, Webhook, variables_of
from ..errors import FleetError
from .message import Message
from .payload import Missing, Payload, payload, redacted, without
from .road import Answer, Request, Trouble, post

AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504, 507, 509, 529))
"""Statuses after which the same request may be taken."""


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one attempt."""

    state: Literal["sent", "retry", "failed"]
    """failed: it would fail again, as it stands."""
    words: str
    """For people; without secrets."""
    after: float | None = None
    """Seconds that the receiver asks to be left alone."""
    status: int | None = None
    """Of HTTP."""
    digest: str = ""
    """sha256:… of the body with its secrets redacted, as a dry run shows it."""


def deliver(
    adapter: Adapter, message: Message, values: Mapping[str, str], dry_run: bool = False
) -> Outcome:
    """Send a message once; with `dry_run`, only make it.

    `values` are those of the variables that the adapter names; the variables of `SURROUNDINGS` are
    read from it too, or from this process's environment where it has none of that name.
    """
    now = time.time()
    real = {name: values.get(name, "").strip() for _, name in variables_of(adapter)}
    message = without(message, real)
    try:
        shown = payload(adapter, message, redacted(adapter), now)
    except FleetError as error:
        return Outcome(state="failed", words=_said(error))
    digest = f"sha256:{sha256(shown.body).hexdigest()}"
    if dry_run:
        return Outcome(state="sent", words="dry run: nothing was sent", digest=digest)
    for field, name in variables_of(adapter):
        if not real[name]:
            words = f"{name}, which {field} names, is not set here"
            return Outcome(state="failed", words=words, digest=digest)
    try:
        made = payload(adapter, message, real, now)
        return _judged(adapter, _posted(adapter, made, values), digest, now)
    except Trouble as trouble:
        state: Literal["retry", "failed"] = "failed" if trouble.final else "retry"
        return Outcome(state=state, words=_named(adapter, trouble.words), digest=digest)
    except FleetError as error:
        return Outcome(state="failed", words=_said(error), digest=digest)


def _said(error: FleetError) -> str:
    return f"{error.sentence[:-1]}: {error.hint}" if error.hint else error.sentence


def surroundings(values: Mapping[str, str]) -> dict[str, str]:
    """The variables that say whom to trust and through what to go."""
    import os

    found = {name: values.get(name, os.environ.get(name, "")) for name in SURROUNDINGS}
    return {name: value for name, value in found.items() if value}


def _posted(adapter: Adapter, made: Payload, values: Mapping[str, str]) -> Answer:
    if isinstance(adapter, Apprise):
        from .by_apprise import notify

        return notify(made, adapter.allow_networks, surroundings(values))
    try:
        import httpcore2  # noqa: F401
    except ImportError:
        raise Missing(made.kind) from None
    request = Request(
        url=made.target,
        headers=made.headers,
        body=made.body,
        allow_networks=adapter.allow_networks if isinstance(adapter, Webhook) else [],
    )
    return post(request, surroundings(values))


def _named(adapter: Adapter, words: str) -> str:
    """`holds no URL` becomes `NAME holds no URL`."""
    if not words.startswith("holds "):
        return words
    if isinstance(adapter, Slack | Webhook | Apprise):
        return f"{variables_of(adapter)[0][1]} {words}"
    return f"base_url {words}"


def _judged(adapter: Adapter, answer: Answer, digest: str, now: float) -> Outcome:
    """What an answer means."""
    status = answer.status
    if 200 <= status < 300:
        return Outcome(state="sent", words=f"taken (HTTP {status})", status=status, digest=digest)
    if 300 <= status < 400:
        words = f"answered HTTP {status}: redirects are not followed"
        return Outcome(state="failed", words=words, status=status, digest=digest)
    again = status in AGAIN or status >= 500
    after = retry_after(answer.headers, now) if again else None
    words = f"answered HTTP {status}"
    if isinstance(adapter, Slack) and (said := _slack_word(answer.body)):
        words += f" ({said})"
    elif status == 429:
        words += " (too many)"
    if after is not None:
        words += f", asks for {after:g} s"
    return Outcome(
        state="retry" if again else "failed",
        words=words,
        after=after,
        status=status,
        digest=digest,
    )


SLACK_WORDS = frozenset((
    "action_prohibited", "channel_is_archived", "channel_not_found", "invalid_payload",
    "invalid_token", "no_active_hooks", "no_service", "no_service_id", "no_team", "no_text",
    "posting_to_general_channel_denied", "rate_limited", "ratelimited", "rollup_error",
    "team_disabled", "too_many_attachments", "user_not_found", "invalid_blocks",
    "invalid_attachments",
))  # fmt: skip
"""What Slack says is wrong with a message; nothing else of its answers is repeated."""


def _slack_word(body: bytes) -> str:
    found = re.fullmatch(rb"\s*([a-z_]{1,60})\s*", body)
    word = found[1].decode() if found else ""
    return word if word in SLACK_WORDS else ""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks for: a number, or a date, by the clock of the answer itself."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    asked = _date(text)
    if asked is None:
        return None
    there = _date(headers.get("date", ""))
    return max(0.0, asked - (now if there is None else there))


def _date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, OverflowError):
        return None
