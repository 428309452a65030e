"""Alerts through the package apprise: in a process of its own, which is given ten seconds.

What apprise does with a URL is its own: it brings some hundred clients. So it runs apart, where it
can be ended, and where nothing is connected to that `guard` refuses, redirects are not followed,
certificates are verified and plain http is refused. The URL goes by stdin; nothing that apprise
says comes back but whether it worked. Run as a module it is that process.
"""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, json

from . import guard
from .payload import Missing, Payload
from .road import SECONDS, Answer, Trouble

KEPT = ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Variables of this process that the other one gets beside those that say how to reach things."""


class Order(Struct):
    """What the process is to send."""

    url: str
    body: bytes
    allow_networks: list[str]


class Said(Struct, omit_defaults=True):
    """What became of it."""

    sent: bool = False
    refused: str = ""
    """What the address was that it wanted to reach."""
    wrong: str = ""
    """Why it never can: no_extra, no_url, plain."""


def notify(made: Payload, allow_networks: list[str], surroundings: Mapping[str, str]) -> Answer:
    """Let apprise send it; an Answer without a status of its own (200), or Trouble."""
    import os

    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env.update(surroundings)
    if "SSL_CERT_FILE" in surroundings:
        env["REQUESTS_CA_BUNDLE"] = surroundings["SSL_CERT_FILE"]
    order = json.encode(Order(made.target, made.body, allow_networks))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "codewhale_fleet.alerts.by_apprise"],
            input=order,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            timeout=SECONDS,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Trouble(f"there was no answer within {SECONDS:g} s") from None
    try:
        said = json.decode(done.stdout, type=Said)
    except ValueError:
        raise Trouble("apprise ended without a word") from None
    if said.sent:
        return Answer(status=200, headers={}, body=b"")
    raise trouble(said)


def trouble(said: Said) -> Trouble:
    """What the process said, in words."""
    if said.wrong == "no_extra":
        missing = Missing("apprise")
        return Trouble(f"{missing.sentence[:-1]}: {missing.hint}", final=True)
    if said.wrong == "no_url":
        return Trouble("holds no URL that apprise knows", final=True)
    if said.wrong == "plain":
        return Trouble("holds a URL without TLS, and alerts go by https only", final=True)
    if said.refused:
        words = f"its host is {said.refused}, and such addresses are refused"
        return Trouble(words, final=True)
    return Trouble("apprise could not deliver it")


# The process ----------------------------------------------------------------------------------


def carry_out(order: Order, said: Said) -> None:
    """Send it, and say what became of it."""
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        said.wrong = "no_extra"
        return
    from requests import PreparedRequest
    from requests.adapters import HTTPAdapter

    allowed = guard.networks(order.allow_networks)
    send = HTTPAdapter.send

    def by_https(self: HTTPAdapter, request: PreparedRequest, *args: Any, **more: Any) -> Any:
        if not (request.url or "").startswith("https://"):
            said.wrong = "plain"
            raise PermissionError("plain http")
        more["verify"] = more.get("verify") or True
        return send(self, request, *args, **more)

    def looked_at(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            from ipaddress import ip_address

            kind = guard.kind_refused(ip_address(str(args[1][0])), allowed)
            if kind:
                said.refused = kind
                raise PermissionError(kind)

    HTTPAdapter.send = by_https  # type: ignore[method-assign]
    sys.addaudithook(looked_at)
    asset = AppriseAsset(async_mode=False, storage_mode="memory")
    asset.http_redirects = False
    sender = Apprise(asset=asset)
    if not sender.add(order.url):
        said.wrong = "no_url"
        return
    for service in sender:
        service.redirects = False
        service.verify_certificate = True
    what = json.decode(order.body)
    said.sent = bool(
        sender.notify(title=what["title"], body=what["body"], notify_type=what["type"])
    )


def main() -> None:
    """Read the order, carry it out, answer."""
    said = Said()
    try:
        carry_out(json.decode(sys.stdin.buffer.read(), type=Order), said)
    finally:
        sys.stdout.buffer.write(json.encode(said))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
