"""The kind of NAT, from what several peers see of one socket."""

from __future__ import annotations

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.identity.keys import Identity
from wws.nat.kind import KindMemory, NatKind, kind_by, kind_of, worst
from wws.nat.observed import Observation, Way

LOCAL = Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")
INTERFACES = {"192.168.1.7", "203.0.113.7"}
OPEN = "203.0.113.7:9000"
A, B, C, D = (f"203.0.113.99:{port}" for port in (40000, 40001, 40002, 40003))
LIE = "198.51.100.66:1"


def observations(*seen: str, ip: str = "20.0.{}.1") -> list[Observation]:
    result = []
    for number, text in enumerate(seen):
        host, port = text.split(":")
        peer = Identity.from_label(f"observer {number}").peer_id
        address = Multiaddr.of(host, int(port))
        result.append(Observation(number, peer, ip.format(number), True, LOCAL, address))
    return result


@pytest.mark.parametrize(
    "seen, expected",
    [
        ([], "unknown"),
        ([OPEN], "unknown"),
        ([A], "unknown"),
        ([OPEN, OPEN], "none"),
        ([OPEN, "192.168.1.7:9000"], "none"),
        ([A, A], "endpoint_independent"),
        ([A, B], "unknown"),  # one of the two may lie
        ([A, B, C], "address_dependent"),
        ([A, B, C, D], "address_dependent"),
        # one liar
        ([OPEN, LIE], "unknown"),
        ([A, LIE], "unknown"),
        ([OPEN, OPEN, LIE], "none"),
        ([A, A, LIE], "endpoint_independent"),
        ([A, B, C, LIE], "address_dependent"),
        ([A, B, C, D, D], "address_dependent"),
    ],
)
def test_the_majority_decides(seen: list[str], expected: NatKind) -> None:
    assert kind_of(observations(*seen), INTERFACES) == expected
    assert kind_of(list(reversed(observations(*seen))), INTERFACES) == expected


@pytest.mark.parametrize(
    "honest, expected",
    [
        ([A, A, A], "endpoint_independent"),
        ([A, A, LIE], "endpoint_independent"),
        ([A, B, C], "address_dependent"),
    ],
)
def test_a_crowd_does_not_outvote_the_entry_points(honest: list[str], expected: NatKind) -> None:
    crowd = (
        [f"198.51.100.66:{port}" for port in range(1, 9)] if expected != "address_dependent" else [LIE] * 8
    )
    words = observations(*honest, *crowd)
    assert kind_of(words, INTERFACES) != expected
    entry_points = {one.observer for one in words[:3]}
    assert kind_by(words, INTERFACES, entry_points) == expected
    # One of them alone tells nothing: then all do.
    assert kind_by(words, INTERFACES, {words[0].observer}) == kind_of(words, INTERFACES)


def test_liars_in_one_prefix_are_one_party() -> None:
    honest = observations(A, A, A)
    liars = [
        Observation(
            100 + number, Identity.from_label(f"liar {number}").peer_id, f"198.51.100.{number}", True, LOCAL,
            Multiaddr.of("198.51.100.66", number + 1),
        )
        for number in range(1, 11)
    ]  # fmt: skip
    assert kind_of([*honest, *liars], INTERFACES) == "endpoint_independent"
    assert kind_of([honest[0], *liars], INTERFACES) == "unknown"


def test_peers_at_one_ip_cannot_tell_one_mapping_from_another() -> None:
    assert kind_of(observations(A, A, ip="10.9.9.9"), INTERFACES) == "unknown"
    assert kind_of(observations(OPEN, OPEN, ip="10.9.9.9"), INTERFACES) == "none"


def test_one_word_for_all_ways_is_the_hardest() -> None:
    assert worst([]) == "unknown"
    assert worst(["unknown", "none"]) == "none"
    assert worst(["none", "endpoint_independent", "unknown"]) == "endpoint_independent"
    assert worst(["address_dependent", "none"]) == "address_dependent"


def test_a_kind_outlives_its_words_and_yields_to_new_ones() -> None:
    memory, tcp, quic = KindMemory(), Way("tcp", 4), Way("quic-v1", 4)
    assert memory.seen(tcp, "unknown", 0.0) == "unknown"
    assert memory.seen(tcp, "endpoint_independent", 1.0) == "endpoint_independent"
    assert memory.seen(tcp, "unknown", 600.0) == "endpoint_independent"
    assert memory.seen(quic, "none", 600.0) == "none"
    assert memory.summary(600.0) == "endpoint_independent"
    assert memory.seen(tcp, "address_dependent", 601.0) == "address_dependent"
    assert memory.of(tcp, 1202.0) == "unknown"
    memory.forget_all()
    assert memory.summary(602.0) == "unknown"
