"""Answers to the requests of other peers (libp2p specifications, kad-dht/README.md, "RPC messages").

A refusal is no answer at all, and is counted by its reason. A `PUT_VALUE` is answered with the record that
this node keeps: the sender's own bytes confirm it, other bytes say which record won instead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.dht.positions import position_of_key
from wws.dht.region import Region
from wws.dht.store import Outcome, ProviderStore, RecordStore, StoreRefused
from wws.identity.peer_id import PeerId


class Serving:
    """The serving side of a node."""

    def __init__(
        self,
        local: PeerId,
        region: Region,
        records: RecordStore,
        providers: ProviderStore,
        refusals: Counter[str],
    ) -> None:
        self._local = local
        self._region = region
        self._records = records
        self._providers = providers
        self._refusals = refusals

    def answer(
        self, sender: PeerId, message: KadMessage, now: float, unix_now: int
    ) -> tuple[KadMessage | None, bytes | None]:
        """The answer, or `None` for a refusal; and the key of a record that was brought and is kept."""
        if message.type is MessageType.PING:
            return message, None
        if not message.key:
            self._refusals["no_key"] += 1
            return None, None
        match message.type:
            case MessageType.FIND_NODE:
                return KadMessage(
                    MessageType.FIND_NODE, message.key, None, self._closer(sender, message.key, now)
                ), None
            case MessageType.GET_VALUE:
                return self._value(sender, message.key, now, unix_now), None
            case MessageType.PUT_VALUE:
                return self._put(sender, message, unix_now)
            case MessageType.GET_PROVIDERS:
                providers = self._providers.find(message.key, now)
                closer = self._closer(sender, message.key, now)
                fitting = _fitting((*providers, *closer))
                providers, closer = fitting[: len(providers)], fitting[len(providers) :]
                return KadMessage(MessageType.GET_PROVIDERS, message.key, None, closer, providers), None
            case MessageType.ADD_PROVIDER:
                self._add_provider(sender, message, now)
                return None, None  # the specification has no answer to it

    def _closer(self, sender: PeerId, key: bytes, now: float) -> tuple[WirePeer, ...]:
        return _fitting(tuple(c.named for c in self._region.named_to(sender, position_of_key(key), now)))

    def _value(self, sender: PeerId, key: bytes, now: float, unix_now: int) -> KadMessage:
        # Outside of our kinds there is nothing to be had, but an answer: go drops a peer that gives none.
        value = self._records.find(key, unix_now)
        record = KadRecord(key, value) if value is not None else None
        return KadMessage(MessageType.GET_VALUE, key, record, self._closer(sender, key, now))

    def _put(
        self, sender: PeerId, message: KadMessage, unix_now: int
    ) -> tuple[KadMessage | None, bytes | None]:
        record = message.record
        if record is None or record.key != message.key:
            self._refusals["key_mismatch"] += 1
            return None, None
        try:
            outcome = self._records.offer(message.key, record.value, sender, unix_now)
        except StoreRefused as error:
            self._refusals[error.code] += 1
            return None, None
        if outcome is Outcome.LOST:
            self._refusals["worse_record"] += 1
            kept = self._records.find(message.key, unix_now)
            shown = KadRecord(message.key, kept) if kept is not None else None
            return KadMessage(MessageType.PUT_VALUE, message.key, shown), None
        return KadMessage(MessageType.PUT_VALUE, message.key, record), message.key

    def _add_provider(self, sender: PeerId, message: KadMessage, now: float) -> None:
        # Only the sender can say where it is: it is authenticated, and the others it names are not.
        for peer in message.provider_peers:
            if peer.peer_id != sender:
                self._refusals["foreign_provider"] += 1
            elif not self._providers.add(message.key, sender, peer.addresses, now):
                self._refusals["provider_quota"] += 1


_MOST: Final = 100 * 1024
"""Bytes of an answer for peers: with a record it stays below the 128 KiB that are read."""
_AROUND: Final = 100
"""Bytes around the host of an address at most: its protocols and its relay's PeerId."""


def _fitting(peers: tuple[WirePeer, ...]) -> tuple[WirePeer, ...]:
    """As many addresses of each as fit an answer. Peers say of themselves where they are: a crowd with long
    names must not make our answers too large to be read, and us one who gives none."""
    if sum(map(_size_of, peers)) <= _MOST:
        return peers
    share = _MOST // len(peers)
    return tuple(peer if _size_of(peer) <= share else _within(peer, share) for peer in peers)


def _size_of(peer: WirePeer) -> int:
    return sum([len(address.host) + _AROUND for address in peer.addresses])


def _within(peer: WirePeer, share: int) -> WirePeer:
    kept = []
    for address in peer.addresses:
        share -= len(address.host) + _AROUND
        if share < 0:
            break
        kept.append(address)
    return replace(peer, addresses=tuple(kept))
