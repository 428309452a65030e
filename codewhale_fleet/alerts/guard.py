"""Which addresses an alert may be sent to.

A name is resolved once, what may not be reached is taken out of its addresses, and what is left is
what is connected to: a name that changes its address meanwhile changes nothing. Refused are this
very machine's unspecified address, link-local ones, those under which clouds keep their metadata,
multicast and reserved ones, however they are written (also inside IPv6). Loopback and private
networks are allowed: the URL is the operator's own, and so may be the receiver.
"""

import socket
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED: dict[str, tuple[str, ...]] = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "of a cloud's metadata": (
        "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32",
        "fd20:ce::254/128",
    ),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": ("240.0.0.0/4",),
}  # fmt: skip
"""What a network is -> the networks."""

_REFUSED = [(ip_network(text), kind) for kind, texts in REFUSED.items() for text in texts]
_INSIDE = [
    (IPv6Network(text), shift)
    for text, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::/96", 0),  # IPv4-compatible
        ("64:ff9b::/96", 0),  # NAT64
        ("64:ff9b:1::/48", 0),  # NAT64 of a network's own
        ("2002::/16", 80),  # 6to4
    )
]
"""IPv6 networks whose addresses hold one of IPv4, and how far from their end it lies."""


class RefusedAddress(Exception):
    """Nothing that a name stands for may be reached; `kind` says what it is instead."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def networks(texts: Iterable[str]) -> list[Network]:
    """Networks as people write them; ValueError where one is none."""
    return [ip_network(text, strict=False) for text in texts]


def kind_refused(address: Address, allowed: Iterable[Network] = ()) -> str:
    """What an address is that may not be reached; empty: it may."""
    forms = [address]
    if isinstance(address, IPv6Address):
        address = forms[0] = IPv6Address(int(address))  # without a zone
        value = int(address)
        forms += [
            IPv4Address(value >> shift & 0xFFFFFFFF)
            for network, shift in _INSIDE
            if address in network and value > 1
        ]
    if any(form in network for form in forms for network in allowed):
        return ""
    return next((kind for form in forms for one, kind in _REFUSED if form in one), "")


def checked(host: str, port: int, allowed: Iterable[Network] = ()) -> list[str]:
    """The addresses of a name that may be reached, in the order of the resolver.

    RefusedAddress where there is none among them; OSError where the name has none at all.
    """
    allowed = list(allowed)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    kept: list[str] = []
    kind = ""
    for _, _, _, _, place in found:
        text = str(place[0])
        refused = kind_refused(ip_address(text), allowed)
        kind = kind or refused
        if not refused and text not in kept:
            kept.append(text)
    if not kept:
        raise RefusedAddress(kind)
    return kept


def check_literal(host: str, allowed: Iterable[Network] = ()) -> None:
    """RefusedAddress for a host that is itself an address, in any spelling, and may not be reached.

    For hosts that a proxy resolves: it decides what a name is.
    """
    try:
        place = socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)[0][4]
    except OSError:
        return
    if kind := kind_refused(ip_address(str(place[0])), allowed):
        raise RefusedAddress(kind)
