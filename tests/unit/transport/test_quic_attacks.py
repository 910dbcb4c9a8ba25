"""What a hostile peer could make of a QUIC connection: victims named as senders, lies, floods."""

from __future__ import annotations

from typing import Final

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder

from wws.identity.keys import Identity
from wws.testing.quic_link import ALICE_AT, BOB_AT, TOKENS, UNIX_START, credentials_of
from wws.transport.muxed import Phase
from wws.transport.quic.config import DEFAULT_CONFIG
from wws.transport.quic.engine import Address
from wws.transport.quic.machine import QuicMachine, QuicViolation
from wws.transport.tls import ALPN, make_certificate

VICTIM: Final[Address] = ("198.51.100.9", 443)


def mallory() -> QuicConnection:
    """A client of plain aioquic with a certificate of her own."""
    certificate, key = make_certificate(Identity.from_label("mallory"), UNIX_START)
    return QuicConnection(
        configuration=QuicConfiguration(
            is_client=True,
            alpn_protocols=[ALPN],
            certificate=certificate,
            private_key=key,
            supported_versions=[1],
            verify_mode=0,
        )
    )


def bob_for(first: bytes, *, retry_id: bytes | None = None) -> QuicMachine:
    return QuicMachine(
        is_initiator=False,
        credentials=credentials_of("bob"),
        config=DEFAULT_CONFIG,
        now=0.0,
        unix_now=UNIX_START,
        token_of=TOKENS.of,
        original_id=first[6 : 6 + first[5]],
        retry_id=retry_id,
    )


def exchange(client: QuicConnection, bob: QuicMachine, turns: int = 6, *, start: float = 0.0) -> float:
    """Let both talk for a while; what the time is then."""
    now = start
    for turn in range(turns):
        now = start + turn * 0.01
        bob.receive_datagrams([(data, ALICE_AT) for data, _ in client.datagrams_to_send(now)], now)
        for data, _ in bob.datagrams_to_send(now):
            client.receive_datagram(data, BOB_AT, now)
    return now


def established() -> tuple[QuicConnection, QuicMachine, float]:
    client = mallory()
    client.connect(BOB_AT, 0.0)
    first = client.datagrams_to_send(0.0)
    bob = bob_for(first[0][0])
    bob.receive_datagrams([(data, ALICE_AT) for data, _ in first], 0.0)
    for data, _ in bob.datagrams_to_send(0.0):
        client.receive_datagram(data, BOB_AT, 0.0)
    now = exchange(client, bob, start=0.01)
    assert bob.phase is Phase.ESTABLISHED
    return client, bob, now


def test_the_end_of_a_handshake_in_a_victims_name_moves_nothing() -> None:
    """aioquic takes an address for proven that a packet of the handshake came from. Its keys are known to who
    hears the answers somewhere else (RFC 9000, section 9: nobody moves before the handshake is confirmed)."""
    client = mallory()
    client.connect(BOB_AT, 0.0)
    first = client.datagrams_to_send(0.0)
    bob = bob_for(first[0][0])
    bob.receive_datagrams([(data, ALICE_AT) for data, _ in first], 0.0)
    for data, _ in bob.datagrams_to_send(0.0):
        client.receive_datagram(data, BOB_AT, 0.0)
    second = client.datagrams_to_send(0.1)
    bob.receive_datagrams([(data, VICTIM) for data, _ in second], 0.1)
    assert bob.proven_address != VICTIM
    assert VICTIM not in [address for _, address in bob.datagrams_to_send(0.1)]
    bob.receive_datagrams([(data, ALICE_AT) for data, _ in second], 0.2)
    assert bob.phase is Phase.ESTABLISHED
    assert bob.proven_address == ALICE_AT


def test_a_token_proves_the_address_it_came_from_alone() -> None:
    """Initial packets can be sealed by who knows the connection id: also in a victim's name."""
    client = mallory()
    client.connect(BOB_AT, 0.0)
    first = client.datagrams_to_send(0.0)[0][0]
    bob = bob_for(first, retry_id=first[6 : 6 + first[5]])
    client._network_paths[0].is_validated = True
    client._loss.reschedule_data(now=0.5)
    again = client.datagrams_to_send(0.5)[0][0]
    bob.receive_datagrams([(first, ALICE_AT), (again, VICTIM)], 0.5)
    assert bob.proven_address == ALICE_AT
    assert VICTIM not in [address for _, address in bob.datagrams_to_send(0.5)]


def test_who_acknowledges_what_was_never_sent_is_left() -> None:
    """Else a peer could lead loss recovery astray, also to send faster than the path (RFC 9000, 13.1)."""
    client, bob, now = established()
    space = client._spaces[list(client._spaces)[-1]]
    space.ack_queue.add(0, 1 << 30)
    space.largest_received_packet = (1 << 30) - 1
    space.ack_at = now
    client.send_ping(1)
    with pytest.raises(QuicViolation, match="never sent"):
        bob.receive_datagrams([(data, ALICE_AT) for data, _ in client.datagrams_to_send(now)], now)


@pytest.mark.parametrize(
    "count, is_fine", [(DEFAULT_CONFIG.max_frames, True), (DEFAULT_CONFIG.max_frames + 1, False)]
)
def test_a_datagram_of_a_thousand_frames_is_not_read_to_its_end(count: int, is_fine: bool) -> None:
    """It would cost a hundred times what a plain one does."""
    client, bob, now = established()
    exchange(client, bob, start=now)

    def write_pings(builder: QuicPacketBuilder, uids: object = (), comment: str = "") -> None:
        for _ in range(count):
            builder.start_frame(QuicFrameType.PING, capacity=1)

    client._write_ping_frame = write_pings  # type: ignore[method-assign]
    client.send_ping(1)
    [(data, _)] = client.datagrams_to_send(now)
    if is_fine:
        bob.receive_datagrams([(data, ALICE_AT)], now)
        assert bob.phase is Phase.ESTABLISHED
    else:
        with pytest.raises(QuicViolation, match="too many frames"):
            bob.receive_datagrams([(data, ALICE_AT)], now)
