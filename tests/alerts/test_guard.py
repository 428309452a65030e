"""What may be reached is decided by addresses, in whatever spelling they come."""

from ipaddress import ip_address

import pytest

from codewhale_fleet.alerts import guard

REFUSED = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "link-local": [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%2", "::ffff:169.254.169.254",
        "::169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
    "of a cloud's metadata": [
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
        "::ffff:100.100.100.200",
    ],
    "multicast": ["224.0.0.1", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255"],
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_an_address_that_is_refused_is_refused_in_each_of_its_spellings(kind: str) -> None:
    assert {text: guard.kind_refused(ip_address(text)) for text in REFUSED[kind]} == dict.fromkeys(
        REFUSED[kind], kind
    )


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "fd12::1",
        "8.8.8.8",
        "2001:db8::1",
    ],
)
def test_loopback_private_and_public_addresses_are_allowed(text: str) -> None:
    assert guard.kind_refused(ip_address(text)) == ""


def test_a_network_that_is_allowed_by_name_may_be_reached_and_its_neighbour_not() -> None:
    allowed = guard.networks(["169.254.7.0/24"])
    assert guard.kind_refused(ip_address("169.254.7.9"), allowed) == ""
    assert guard.kind_refused(ip_address("::ffff:169.254.7.9"), allowed) == ""
    assert guard.kind_refused(ip_address("169.254.8.9"), allowed) == "link-local"


@pytest.mark.parametrize(
    "host", ["2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376"]
)
def test_a_number_that_means_an_address_is_that_address(host: str) -> None:
    with pytest.raises(guard.RefusedAddress) as refused:
        guard.checked(host, 443)
    assert refused.value.kind == "link-local"
    with pytest.raises(guard.RefusedAddress):
        guard.check_literal(host)


def test_a_real_name_is_resolved_to_what_will_be_connected_to() -> None:
    assert "127.0.0.1" in guard.checked("localhost", 443)
    guard.check_literal("localhost")
