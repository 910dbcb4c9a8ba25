"""What peers see of us: which words are believed, how they weigh, and what liars can do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.nat.observed import Observation, ObservedAddresses, ObservedConfig, Way, party_of

PEERS = [Identity.from_label(f"observer {number}").peer_id for number in range(40)]
LISTENING = [Multiaddr.parse(text) for text in (
    "/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/udp/9000/quic-v1", "/ip6/::/tcp/9000"
)]  # fmt: skip
LOCAL = Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")
LOCAL_QUIC = Multiaddr.parse("/ip4/192.168.1.7/udp/9000/quic-v1")
OURS = Multiaddr.parse("/ip4/203.0.113.7/tcp/40000")
LIE = Multiaddr.parse("/ip4/198.51.100.66/tcp/1")
TCP4 = Way("tcp", 4)


def word(
    number: int,
    seen: Multiaddr = OURS,
    *,
    ip: str | None = None,
    local: Multiaddr = LOCAL,
    outbound: bool = True,
    connection: int | None = None,
    observer: PeerId | None = None,
) -> Observation:
    """Observer `number`, in a /24 of its own unless told otherwise."""
    return Observation(
        number if connection is None else connection,
        PEERS[number] if observer is None else observer,
        f"20.0.{number}.1" if ip is None else ip,
        outbound,
        local,
        seen,
    )


def heard(*words: Observation, scope: Scope | None = Scope.PUBLIC) -> ObservedAddresses:
    observed = ObservedAddresses()
    for number, each in enumerate(words):
        observed.saw(each, LISTENING, scope, float(number))
    return observed


def addresses(observed: ObservedAddresses, weight: int | None = None) -> list[Multiaddr]:
    return [external.address for external in observed.external(Scope.PUBLIC, weight=weight)]


def test_it_takes_two_observers_in_two_prefixes() -> None:
    observed = heard(word(1))
    assert addresses(observed) == []
    assert addresses(observed, weight=1) == [OURS]
    assert observed.public_ips() == frozenset()
    observed.saw(word(2, ip="20.0.1.99"), LISTENING, Scope.PUBLIC, 2.0)
    assert addresses(observed) == []
    observed.saw(word(3), LISTENING, Scope.PUBLIC, 3.0)
    assert addresses(observed) == [OURS]
    assert observed.public_ips() == {"203.0.113.7"}


def test_below_public_scope_each_observer_counts() -> None:
    seen = Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")
    local = Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")
    observed = heard(
        *[word(number, seen, ip="127.0.0.1", local=local) for number in (1, 2)], scope=Scope.LOOPBACK
    )
    assert [external.weight for external in observed.external(Scope.LOOPBACK)] == [2]
    assert observed.public_ips() == frozenset()  # the word "public" is meant


@pytest.mark.parametrize(
    "observation, refusal",
    [
        (word(1, Multiaddr.parse("/ip4/203.0.113.7/udp/9000/quic-v1")), "wrong_transport"),
        (word(1, OURS, local=LOCAL_QUIC), "wrong_transport"),
        (word(1, local=LOCAL.with_port(50000)), "other_socket"),
        (word(1, Multiaddr.parse("/ip4/10.1.2.3/tcp/9000")), "scope"),
        (word(1, Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")), "scope"),
        (word(1, Multiaddr.parse("/ip6/2001:db8::7/tcp/9000")), "wrong_family"),
        (word(1, Multiaddr.parse("/ip4/0.0.0.0/tcp/9000")), "no_address"),
        (word(1, Multiaddr.parse("/ip4/224.0.0.1/tcp/9000")), "no_address"),
        (word(1, OURS.with_port(0)), "no_address"),
        (word(1, Multiaddr.parse("/dns4/example.org/tcp/9000")), "no_address"),
        (word(1, Multiaddr.parse(f"{OURS}/p2p/{PEERS[3]}/p2p-circuit")), "no_address"),
        (word(1, local=Multiaddr.parse(f"{LOCAL}/p2p/{PEERS[3]}/p2p-circuit")), "no_address"),
    ],
)
def test_what_is_not_believed(observation: Observation, refusal: str) -> None:
    observed = ObservedAddresses()
    assert not observed.saw(observation, LISTENING, Scope.PUBLIC, 0.0)
    assert observed.refusals == {refusal: 1}
    assert len(observed) == 0


def test_a_wrapped_address_is_the_one_inside() -> None:
    wrapped = Multiaddr.parse("/ip6/::ffff:203.0.113.7/tcp/40000")
    observed = heard(word(1), word(2, wrapped))
    assert addresses(observed) == [OURS]


def test_each_transport_and_family_stands_alone() -> None:
    six = Multiaddr.parse("/ip6/2001:db8::7/tcp/9000")
    quic = Multiaddr.parse("/ip4/203.0.113.7/udp/40000/quic-v1")
    observed = heard(
        *[word(number) for number in (1, 2)],
        *[word(number, quic, local=LOCAL_QUIC) for number in (1, 2)],
        *[
            word(number, six, ip=f"2001:db8:{number}::1", local=Multiaddr.parse("/ip6/2001:db8::7/tcp/9000"))
            for number in (1, 2)
        ],
    )
    assert set(observed.ways()) == {TCP4, Way("quic-v1", 4), Way("tcp", 6)}
    assert set(addresses(observed)) == {OURS, quic, six}
    assert observed.public_ips() == {"203.0.113.7", "2001:db8::7"}


def test_a_liar_and_ten_in_one_prefix_change_nothing() -> None:
    liars = [word(number, LIE, ip=f"198.51.100.{number}") for number in range(10, 20)]
    observed = heard(word(1), word(2), *liars)
    assert addresses(observed) == [OURS]
    assert observed.public_ips() == {OURS.host}
    assert {o.seen for o in observed.mappings(TCP4)} == {OURS, LIE}


def test_two_parties_do_not_turn_the_servers_into_our_neighbours() -> None:
    """Whoever is at our own public address is asked no more whether we can be reached."""
    servers = [f"20.0.{number}.1" for number in (1, 2, 3)]
    lies = [
        word(10 + number, Multiaddr.of(ip, 9000), ip=f"20.0.{liar}.{number}", outbound=False, local=LOCAL)
        for liar in (8, 9)
        for number, ip in enumerate(servers, 3 * (liar - 8))
    ]
    observed = heard(*[word(number) for number in (1, 2, 3)], *lies)
    assert {external.address.host for external in observed.external(None)} == {OURS.host, *servers}
    assert observed.public_ips() == {OURS.host}
    # As many as honest ones there are keep us from knowing, and from nothing else.
    observed.saw(word(30, Multiaddr.of(servers[0], 9000), ip="20.0.30.1"), LISTENING, Scope.PUBLIC, 9.0)
    assert observed.public_ips() == frozenset()


def test_one_key_in_many_prefixes_is_one_observer() -> None:
    observed = heard(*[
        word(1, LIE, ip=f"20.{number}.0.1", outbound=outbound)
        for number, outbound in ((1, True), (2, False))
    ])  # fmt: skip
    assert addresses(observed) == []


def test_a_newer_word_replaces_the_older_so_a_new_mapping_is_followed() -> None:
    observed = heard(word(1), word(2), word(3))
    moved = OURS.with_port(50001)
    observed.saw(word(1, moved, connection=11), LISTENING, Scope.PUBLIC, 10.0)
    assert addresses(observed) == [OURS]
    observed.saw(word(2, moved, connection=12), LISTENING, Scope.PUBLIC, 10.5)
    assert addresses(observed) == [moved]


def test_words_on_open_connections_beat_those_of_closed_ones() -> None:
    moved = OURS.with_port(50001)
    observed = heard(word(1), word(2), word(3))
    for connection in (1, 2, 3):
        observed.closed(connection, 20.0)
    assert addresses(observed) == [OURS]  # nobody knows better
    observed.saw(word(4, moved), LISTENING, Scope.PUBLIC, 21.0)
    observed.saw(word(5, moved), LISTENING, Scope.PUBLIC, 21.0)
    assert addresses(observed) == [moved]


def test_words_are_forgotten_a_while_after_their_connection() -> None:
    observed = heard(word(1), word(2))
    assert observed.next_wakeup() is None
    observed.closed(1, 10.0)
    observed.closed(1, 50.0)  # a second time changes nothing
    lapses = 10.0 + ObservedConfig().linger
    assert observed.next_wakeup() == lapses
    assert not observed.expire(lapses - 0.1)
    assert observed.expire(lapses)
    assert addresses(observed) == []
    assert len(observed) == 1


def test_a_changed_network_forgets_all() -> None:
    observed = heard(word(1), word(2))
    observed.forget_all()
    assert len(observed) == 0
    assert observed.ways() == []


def test_mappings_are_what_peers_that_we_dialled_see() -> None:
    inbound = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
    observed = heard(word(1, inbound, outbound=False), word(2))
    assert [o.seen for o in observed.mappings(TCP4)] == [OURS]
    assert [o.seen for o in heard(word(1, inbound, outbound=False)).mappings(TCP4)] == [inbound]
    assert observed.mappings(Way("tcp", 6)) == ()


def test_mappings_are_those_of_one_socket() -> None:
    observed = ObservedAddresses()
    listening = [*LISTENING, Multiaddr.parse("/ip4/0.0.0.0/tcp/443")]
    for number, port in ((1, 443), (2, 9000), (3, 9000)):
        observed.saw(word(number, local=LOCAL.with_port(port)), listening, Scope.PUBLIC, 0.0)
    assert {o.observer for o in observed.mappings(TCP4)} == {PEERS[2], PEERS[3]}


def test_one_party_more_than_fits_pushes_out_its_own_words_only() -> None:
    config = ObservedConfig(max_per_party=2)
    observed = ObservedAddresses(config)
    observed.saw(word(1), LISTENING, Scope.PUBLIC, 0.0)
    for number in (10, 11, 12):
        observed.saw(word(number, LIE, ip=f"198.51.100.{number}"), LISTENING, Scope.PUBLIC, 1.0)
    assert len(observed) == 3
    assert {o.observer for o in observed.mappings(TCP4)} == {PEERS[1], PEERS[11], PEERS[12]}


def test_one_observer_more_than_fits_pushes_out_the_oldest_that_dialled_us() -> None:
    observed = ObservedAddresses(ObservedConfig(max_observers=3))
    observed.saw(word(1), LISTENING, Scope.PUBLIC, 0.0)
    for number in (10, 11, 12):
        observed.saw(word(number, LIE, outbound=False), LISTENING, Scope.PUBLIC, 1.0)
    assert len(observed) == 3
    assert [o.observer for o in observed.mappings(TCP4)] == [PEERS[1]]
    for number in (2, 3, 4):
        observed.saw(word(number), LISTENING, Scope.PUBLIC, 2.0)
    assert [o.observer for o in observed.mappings(TCP4)] == [PEERS[2], PEERS[3], PEERS[4]]


def test_of_those_who_dialled_us_who_has_left_goes_first() -> None:
    observed = ObservedAddresses(ObservedConfig(max_observers=3))
    for number in (10, 11, 12):
        observed.saw(word(number, LIE, outbound=False), LISTENING, Scope.PUBLIC, 1.0)
    observed.closed(11, 2.0)
    observed.saw(word(13, LIE, outbound=False), LISTENING, Scope.PUBLIC, 3.0)
    assert {o.observer for o in observed.mappings(TCP4)} == {PEERS[10], PEERS[12], PEERS[13]}


def test_a_party_is_a_prefix_or_below_public_scope_a_peer() -> None:
    assert party_of(PEERS[0], "20.1.2.3") == party_of(PEERS[1], "20.1.2.200") == "20.1.2.0/24"
    assert party_of(PEERS[0], "2001:db8:0:1::1") == party_of(PEERS[1], "2001:db8:0:ff::1")
    assert party_of(PEERS[0], "10.0.0.1") != party_of(PEERS[1], "10.0.0.1")
    assert party_of(PEERS[0], "") == str(PEERS[0])


WORDS = st.builds(
    Observation,
    st.integers(0, 5),
    st.sampled_from(PEERS[:6]),
    st.sampled_from(["20.0.1.1", "20.0.1.2", "20.0.2.1", "20.0.3.1", "10.0.0.1", "2001:db8::1", ""]),
    st.booleans(),
    st.sampled_from([LOCAL, LOCAL_QUIC, LOCAL.with_port(1)]),
    st.sampled_from([OURS, LIE, LOCAL, LOCAL_QUIC, OURS.with_port(0), Multiaddr.parse("/ip6/::1/tcp/1")]),
)


@given(
    st.lists(
        st.one_of(
            WORDS,
            st.tuples(st.sampled_from(["closed"]), st.integers(0, 5)),
            st.sampled_from(["expire", "forget"]),
        ),
        max_size=40,
    ),
    st.sampled_from([None, *Scope]),
)
def test_whatever_is_said_bounds_hold_and_nothing_light_is_believed(
    happenings: list[Observation | tuple[str, int] | str], scope: Scope | None
) -> None:
    config = ObservedConfig(max_observers=5, max_per_party=2)
    observed = ObservedAddresses(config)
    for now, happening in enumerate(happenings):
        match happening:
            case Observation():
                observed.saw(happening, LISTENING, scope, float(now))
            case (_, connection):
                observed.closed(connection, float(now))
            case "expire":
                observed.expire(float(now) + config.linger / 2)
            case _:
                observed.forget_all()
        assert len(observed) <= config.max_observers
        for external in observed.external(scope):
            assert external.weight >= config.agreement
        for way in observed.ways():
            assert all(o.seen.transport == way.transport == o.local.transport for o in observed.mappings(way))
        assert observed.public_ips() <= {OURS.host, LIE.host}
