"""Two secured connections joined in memory: the shipped protocol code, without sockets, tasks or clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wws.identity.keys import Identity
from wws.transport.connection import DEFAULT_CONFIG, ConnectionConfig, SecureConnection
from wws.transport.muxed import ConnectionEvent
from wws.transport.noise import NoiseStatic

Cut = Callable[[bytes], Iterable[bytes]]
"""How a byte stream is cut into what the receiver reads at once."""


def whole(data: bytes) -> Iterable[bytes]:
    """Everything in one read."""
    return (data,)


def bytewise(data: bytes) -> Iterable[bytes]:
    """One byte a read."""
    return (data[index : index + 1] for index in range(len(data)))


class Pair:
    """`alice` dialled `bob`. Nothing moves before `exchange`."""

    __slots__ = ("alice", "bob")

    def __init__(
        self,
        *,
        alice: NoiseStatic | None = None,
        bob: NoiseStatic | None = None,
        alice_config: ConnectionConfig = DEFAULT_CONFIG,
        bob_config: ConnectionConfig = DEFAULT_CONFIG,
        now: float = 0.0,
    ) -> None:
        alice = alice or NoiseStatic(Identity.from_label("alice"))
        bob = bob or NoiseStatic(Identity.from_label("bob"))
        self.alice = SecureConnection(
            is_initiator=True, static=alice, expected_peer=bob.peer_id, config=alice_config, now=now
        )
        self.bob = SecureConnection(is_initiator=False, static=bob, config=bob_config, now=now)

    @classmethod
    def established(
        cls, *, alice_config: ConnectionConfig = DEFAULT_CONFIG, bob_config: ConnectionConfig = DEFAULT_CONFIG
    ) -> Pair:
        """A pair whose handshake is done; what it brought is thrown away."""
        pair = cls(alice_config=alice_config, bob_config=bob_config)
        pair.exchange()
        return pair

    def exchange(
        self, now: float = 0.0, *, cut: Cut = whole
    ) -> tuple[list[ConnectionEvent], list[ConnectionEvent]]:
        """Carry bytes both ways until there are none: what alice heard, and what bob heard."""
        heard_by_alice: list[ConnectionEvent] = []
        heard_by_bob: list[ConnectionEvent] = []
        while True:
            to_bob = b"".join(self.alice.data_to_send())
            to_alice = b"".join(self.bob.data_to_send())
            if not to_bob and not to_alice:
                return heard_by_alice, heard_by_bob
            for part in cut(to_bob):
                heard_by_bob += self.bob.receive_data(part, now)
            for part in cut(to_alice):
                heard_by_alice += self.alice.receive_data(part, now)
