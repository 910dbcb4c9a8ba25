"""What a node holds for others: records, judged by their kind, and who provides what.

Only `select` of a record's kind decides which of two values is kept (wire.md section 4); order of arrival,
sender and age decide nothing. Everything is bounded: per publisher, per sender, in total, in records and in
bytes. When the store is full, the record farthest from our own position makes room for a nearer one: near
records are ours to hold, far ones have nearer holders, and a flood of keys displaces only far ones.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, Final, Protocol

from wws.addresses.multiaddr import Multiaddr
from wws.dht.messages import WirePeer
from wws.dht.positions import position_of_key
from wws.errors import ParseError, RemoteProtocolError
from wws.identity.peer_id import PeerId


class RecordKind(Protocol):
    """What the table must know about one kind of record: all below one prefix of keys."""

    @property
    def prefix(self) -> str:
        """What the keys of this kind start with, like `/wws/names/`."""
        ...

    def validate(self, key: str, value: bytes, unix_now: int) -> None:
        """Raise a `ParseError` unless the value may stand under this key now. Pure."""
        ...

    def select(self, key: str, values: Sequence[bytes], unix_now: int) -> int:
        """The index of the value that wins among valid ones, whatever their order. Pure."""
        ...

    def keep_until(self, key: str, value: bytes) -> int:
        """Unix time after which holders drop a valid value."""
        ...

    def publisher(self, key: str, value: bytes) -> PeerId:
        """Whose value it is: it counts towards that peer's bound."""
        ...


@dataclass(frozen=True, slots=True)
class StoreConfig:
    max_records: int = 65_536
    """Records held in total."""
    max_bytes: int = 64 * 1024 * 1024
    """Bytes of keys and values held in total."""
    max_value_bytes: int = 8 * 1024
    """Largest value (wire.md section 4)."""
    max_per_publisher: int = 256
    """Records of one publisher."""
    max_per_sender: int = 2_048
    """Records that came first from one sender."""
    max_provided_keys: int = 16_384
    """Keys with providers."""
    max_providers: int = 20
    """Providers of one key: the answer has room for as many."""
    max_keys_per_provider: int = 256
    """Keys that one peer provides."""
    max_provider_bytes: int = 64 * 1024 * 1024
    """Memory of all providers and their addresses, estimated: peers choose how many and how long they are."""
    provider_lifetime: float = 48 * 3600.0
    """Seconds until a provider that did not repeat itself is forgotten (kad-dht specification: 48 h)."""


class StoreRefused(RemoteProtocolError):
    """A record or provider that this node does not keep."""

    code = "store_refused"


class UnknownNamespace(StoreRefused):
    """A key of no kind that this network knows."""

    code = "unknown_namespace"


class ValueTooLarge(StoreRefused):
    """A value over the limit."""

    code = "value_too_large"


class BadRecord(StoreRefused):
    """A value that does not stand up to its kind's rules."""

    code = "bad_record"


class ForgedRecord(BadRecord):
    """A value that nobody would bring who has checked it, whatever his clock and his version."""

    code = "forged_record"


FORGERIES: Final = frozenset(
    {"record_not_canonical", "record_signature_wrong", "record_key_mismatch", "transfer_signature_wrong"}
)
"""Why a kind may refuse a value (`wws.names.errors`) so that it is forged. Not so what hangs on a clock, or
may be of a later version: who brings that means well."""


class ExpiredRecord(StoreRefused):
    """A value whose time is over."""

    code = "expired_record"


class DeniedKey(StoreRefused):
    """A key that the operator of this node wants neither kept nor served."""

    code = "name_denied"


class StoreFull(StoreRefused):
    """No room, and nothing farther away to drop for it."""

    code = "store_full"


class PublisherQuota(StoreRefused):
    """The publisher has as many records here as one may have."""

    code = "publisher_quota"


class SenderQuota(StoreRefused):
    """The sender brought as many records as one may bring."""

    code = "sender_quota"


class Outcome(Enum):
    """What became of an offered value."""

    STORED = auto()
    """It is kept now: it is the first, or it won."""
    HELD = auto()
    """These very bytes were held already."""
    LOST = auto()
    """The one held stays: it wins."""


_RECORD = 900
"""Bytes of a record in memory beside its key and value, about, when nobody else has published or sent any."""


@dataclass(slots=True)
class HeldRecord:
    """A record in the store."""

    key: bytes
    value: bytes
    position: int
    publisher: PeerId
    sender: PeerId
    keep_until: int
    serial: int

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value)


class RecordStore:
    """The records this node holds, its own included."""

    def __init__(
        self, local: PeerId, kinds: Mapping[str, RecordKind], config: StoreConfig | None = None
    ) -> None:
        self._local = local
        self._local_position = local.position
        self._kinds = dict(kinds)
        self._config = config or StoreConfig()
        self._records: dict[bytes, HeldRecord] = {}
        self._publishers: Counter[PeerId] = Counter()
        self._senders: Counter[PeerId] = Counter()
        self._expiries: list[tuple[int, int, bytes]] = []
        self._farthest: list[tuple[int, int, bytes]] = []
        self._serial = 0
        self.bytes_held = 0
        self._denies: Callable[[str], bool] = lambda _: False

    def __len__(self) -> int:
        return len(self._records)

    @property
    def bytes_in_memory(self) -> int:
        """Bytes that all records take in memory, about: small ones take several times what they hold."""
        return self.bytes_held + _RECORD * len(self._records)

    def __iter__(self) -> Iterator[HeldRecord]:
        return iter(list(self._records.values()))

    def deny(self, denies: Callable[[str], bool]) -> None:
        """Keep nothing under the keys that `denies` says yes to, from now on: what is held there goes."""
        self._denies = denies
        for record in self:
            if denies(record.key.decode("ascii")):
                self._drop(record)

    def kind_of(self, key: bytes) -> tuple[RecordKind, str]:
        """The kind that judges a key, and the key as text. Raises `UnknownNamespace`."""
        try:
            text = key.decode("ascii")
        except UnicodeDecodeError:
            raise UnknownNamespace("a key that is not ASCII") from None
        for prefix, kind in self._kinds.items():
            if text.startswith(prefix):
                return kind, text
        raise UnknownNamespace(f"no kind of record has keys like {text[:40]!r}")

    def find(self, key: bytes, unix_now: int) -> bytes | None:
        """The value held under a key, unless its time is over."""
        record = self._records.get(key)
        return record.value if record is not None and record.keep_until > unix_now else None

    def check(self, key: bytes, value: bytes, unix_now: int) -> None:
        """Whether a value may stand under a key at all. Raises `StoreRefused`; changes nothing."""
        kind, text = self.kind_of(key)
        if self._denies(text):
            raise DeniedKey
        if len(value) > self._config.max_value_bytes:
            raise ValueTooLarge(
                f"a value of {len(value)} bytes, at most {self._config.max_value_bytes} are kept"
            )
        held = self._records.get(key)
        if held is not None and held.value == value and held.keep_until > unix_now:
            return
        try:
            kind.validate(text, value, unix_now)
        except ParseError as error:
            kind_of_refusal = ForgedRecord if error.code in FORGERIES else BadRecord
            raise kind_of_refusal(f"{text[:80]}: {error}") from error
        if kind.keep_until(text, value) <= unix_now:
            raise ExpiredRecord(f"{text[:80]}: the record's time is over")

    def offer(self, key: bytes, value: bytes, sender: PeerId, unix_now: int) -> Outcome:
        """Keep `value` if it may be kept and wins over what is held. Raises `StoreRefused`."""
        self.check(key, value, unix_now)
        held = self._records.get(key)
        if held is not None and held.keep_until <= unix_now:
            self._drop(held)
            held = None
        if held is not None and held.value == value:
            return Outcome.HELD
        kind, text = self.kind_of(key)
        if held is not None and kind.select(text, [held.value, value], unix_now) == 0:
            return Outcome.LOST
        publisher = kind.publisher(text, value)
        self._make_room(key, value, publisher, sender, held)
        if held is not None:
            self._drop(held)
        self._keep(key, value, publisher, sender, kind.keep_until(text, value))
        return Outcome.STORED

    def drop(self, key: bytes) -> None:
        """Hold this key no longer."""
        held = self._records.get(key)
        if held is not None:
            self._drop(held)

    def expire(self, unix_now: int, limit: int = 1_000) -> int:
        """Drop what is over, at most `limit` records a call; how many were."""
        dropped = 0
        while self._expiries and self._expiries[0][0] <= unix_now and dropped < limit:
            _, serial, key = heapq.heappop(self._expiries)
            held = self._records.get(key)
            if held is not None and held.serial == serial:
                self._drop(held)
                dropped += 1
        return dropped

    def _make_room(
        self, key: bytes, value: bytes, publisher: PeerId, sender: PeerId, held: HeldRecord | None
    ) -> None:
        """Raise `StoreRefused` unless the record fits its bounds once `held` is replaced by it."""
        own = publisher == self._local
        adds_to_publisher = not own and (held is None or held.publisher != publisher)
        if adds_to_publisher and self._publishers[publisher] >= self._config.max_per_publisher:
            raise PublisherQuota(f"{publisher} has {self._publishers[publisher]} records here already")
        adds_to_sender = held is None and sender != self._local
        if adds_to_sender and self._senders[sender] >= self._config.max_per_sender:
            raise SenderQuota(f"{sender} brought {self._senders[sender]} records already")
        needed = len(key) + len(value) - (held.size if held is not None else 0)
        records = 0 if held is not None else 1
        distance = position_of_key(key) ^ self._local_position
        while (
            len(self._records) + records > self._config.max_records
            or self.bytes_held + needed > self._config.max_bytes
        ):
            farthest = self._farthest_record()
            if farthest is None or farthest is held:
                raise StoreFull("the record store is full")
            if not own and farthest.position ^ self._local_position <= distance:
                raise StoreFull("the record store is full of records nearer than this one")
            self._drop(farthest)

    def _farthest_record(self) -> HeldRecord | None:
        """The record farthest from us that is not our own. Stale entries of the heap are passed over."""
        while self._farthest:
            _, serial, key = self._farthest[0]
            held = self._records.get(key)
            if held is not None and held.serial == serial:
                return held
            heapq.heappop(self._farthest)
        return None

    def _keep(self, key: bytes, value: bytes, publisher: PeerId, sender: PeerId, keep_until: int) -> None:
        self._serial += 1
        position = position_of_key(key)
        record = HeldRecord(key, value, position, publisher, sender, keep_until, self._serial)
        self._records[key] = record
        self._publishers[publisher] += 1
        self._senders[sender] += 1
        self.bytes_held += record.size
        heapq.heappush(self._expiries, (keep_until, self._serial, key))
        if publisher != self._local:
            heapq.heappush(self._farthest, (-(position ^ self._local_position), self._serial, key))
        # Replaced records leave their heap entries behind; rebuilt before those outnumber the living.
        if len(self._expiries) > 2 * len(self._records) + 64:
            self._rebuild()

    def _drop(self, record: HeldRecord) -> None:
        del self._records[record.key]
        for counter, who in ((self._publishers, record.publisher), (self._senders, record.sender)):
            counter[who] -= 1
            if counter[who] <= 0:
                del counter[who]
        self.bytes_held -= record.size

    def _rebuild(self) -> None:
        living = list(self._records.values())
        self._expiries = [(r.keep_until, r.serial, r.key) for r in living]
        self._farthest = [
            (-(r.position ^ self._local_position), r.serial, r.key)
            for r in living
            if r.publisher != self._local
        ]
        heapq.heapify(self._expiries)
        heapq.heapify(self._farthest)


class ProviderStore:
    """Who provides what, as announced by the providers themselves (`ADD_PROVIDER`)."""

    def __init__(self, config: StoreConfig | None = None) -> None:
        self._config = config or StoreConfig()
        self._keys: dict[bytes, dict[PeerId, tuple[tuple[Multiaddr, ...], float]]] = {}
        self._per_provider: Counter[PeerId] = Counter()
        self.bytes_held = 0

    refusal: ClassVar[str] = "provider_quota"

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, provider: PeerId, addresses: tuple[Multiaddr, ...], now: float) -> bool:
        """Remember that `provider` has `key`; whether there was room. The longest known stay when full."""
        known = self._keys.get(key)
        expires = now + self._config.provider_lifetime
        size = _size_of(key, addresses)
        if known is not None and provider in known:
            size -= _size_of(key, known[provider][0])
        if size > 0 and self.bytes_held + size > self._config.max_provider_bytes:
            return False
        if known is not None and provider in known:
            known[provider] = (addresses, expires)
            self.bytes_held += size
            return True
        if self._per_provider[provider] >= self._config.max_keys_per_provider:
            return False
        if known is None:
            if len(self._keys) >= self._config.max_provided_keys:
                return False
            known = self._keys[key] = {}
        elif len(known) >= self._config.max_providers:
            return False
        known[provider] = (addresses, expires)
        self.bytes_held += size
        self._per_provider[provider] += 1
        return True

    def find(self, key: bytes, now: float) -> tuple[WirePeer, ...]:
        """The providers of a key that are still current."""
        known = self._keys.get(key, {})
        return tuple(
            WirePeer(peer, addresses) for peer, (addresses, expires) in known.items() if expires > now
        )

    def remove(self, key: bytes, provider: PeerId) -> None:
        """Forget that `provider` has `key`."""
        known = self._keys.get(key)
        if known is None or provider not in known:
            return
        self.bytes_held -= _size_of(key, known.pop(provider)[0])
        if not known:
            del self._keys[key]
        self._per_provider[provider] -= 1
        if self._per_provider[provider] <= 0:
            del self._per_provider[provider]

    def expire(self, now: float) -> int:
        """Drop what is over; how many were."""
        over = [
            (k, p) for k, known in self._keys.items() for p, (_, expires) in known.items() if expires <= now
        ]
        for key, provider in over:
            self.remove(key, provider)
        return len(over)


def _size_of(key: bytes, addresses: tuple[Multiaddr, ...]) -> int:
    """Bytes that one provider of a key takes, about: what Python needs for it, and what the peer sent."""
    return 256 + len(key) + sum(256 + len(address.host) for address in addresses)
