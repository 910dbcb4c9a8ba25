"""What a node announces of itself."""

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.runtime import own_addresses
from wws.runtime.own_addresses import MAX_ANNOUNCED, announced, expand

ALICE = Identity.from_label("alice").peer_id
PUBLIC = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
PRIVATE = Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")
ALL = (LOOPBACK, PRIVATE, PUBLIC)


@pytest.mark.parametrize(
    "scope, expected",
    [
        (None, ()),
        (Scope.PUBLIC, (PUBLIC,)),
        (Scope.PRIVATE, (PUBLIC, PRIVATE)),
        (Scope.LINK, (PUBLIC, PRIVATE)),
        (Scope.LOOPBACK, (PUBLIC, PRIVATE, LOOPBACK)),
    ],
)
def test_what_reaches_far_enough_is_announced_widest_first(
    scope: Scope | None, expected: tuple[Multiaddr, ...]
) -> None:
    assert announced(ALICE, ALL, (), scope) == tuple(address.with_peer(ALICE) for address in expected)


@pytest.mark.parametrize("scope", [None, *Scope])
def test_what_the_user_announces_stands_alone(scope: Scope | None) -> None:
    assert announced(ALICE, ALL, (PRIVATE,), scope) == (PRIVATE.with_peer(ALICE),)


def test_a_wildcard_stands_for_every_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {False: ["127.0.0.1", "203.0.113.7"], True: ["::1", "2001:db8::7"]}
    monkeypatch.setattr(own_addresses, "interface_addresses", found.__getitem__)
    wildcards = [Multiaddr.parse("/ip4/0.0.0.0/tcp/9000"), Multiaddr.parse("/ip6/::/tcp/9001"), PRIVATE]
    assert [str(address) for address in expand(wildcards)] == [
        "/ip4/127.0.0.1/tcp/9000", "/ip4/203.0.113.7/tcp/9000",
        "/ip6/::1/tcp/9001", "/ip6/2001:db8::7/tcp/9001",
        str(PRIVATE),
    ]  # fmt: skip


def test_no_more_than_a_record_holds_and_none_twice() -> None:
    many = [Multiaddr.parse(f"/ip4/203.0.113.{number}/tcp/9000") for number in range(MAX_ANNOUNCED + 1)]
    assert len(announced(ALICE, [*many, *many], (), Scope.PUBLIC)) == MAX_ANNOUNCED
    assert len(announced(ALICE, [PUBLIC, PUBLIC], (), Scope.PUBLIC)) == 1


def test_this_machine_has_a_loopback_address() -> None:
    assert "127.0.0.1" in own_addresses.interface_addresses(ipv6=False)
