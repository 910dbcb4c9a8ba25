"""One identity on two machines: noticed by what the other one signs (`identity_in_use`).

Only who has our key can sign our peer record. A record of ours in the DHT that was issued since this process
started, that it did not sign, and that names other places than ours was signed by another machine: a copied
key file, a restored backup. Both would keep replacing each other's record.

Not taken for a twin: our own past from before a restart (issued before our start, however late somebody shows
it again), and a machine set back to a snapshot (it stands where its record says).

    ALONE ──foreign record, or ourselves met elsewhere──> IN USE (reported once) ──quiet for long──> ALONE
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import AddressRefused, public_prefix_of_ip
from wws.names.peer_record import PeerRecord

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TwinsConfig:
    """When another user of our key counts, and when it is gone."""

    signed_remembered: int = 256
    """Records of our own known by their digests; each lives for a day, and a quiet node signs three."""
    places_remembered: int = 256
    """Addresses of our own remembered."""
    start_slack: int = 60
    """Seconds after our start in which a record may still have been issued by the process before."""
    quiet_after: float = 93_600.0
    """Seconds without a sign after which the other is gone. It renews three times a day, and now and then
    ours is renewed before an hourly look has seen that."""


class Twins:
    """What this process has signed and where it has been, and whether another one uses its key."""

    def __init__(self, config: TwinsConfig | None = None) -> None:
        self._config = config or TwinsConfig()
        self._started_at: float | None = None
        self._signed: OrderedDict[bytes, None] = OrderedDict()
        self._places: OrderedDict[Multiaddr, None] = OrderedDict()
        self._seen_at: float | None = None

    @property
    def is_in_use(self) -> bool:
        """Whether another machine uses this identity, as far as we know."""
        return self._seen_at is not None

    def started(self, now: float) -> None:
        """This process begins to sign."""
        if self._started_at is None:
            self._started_at = now

    def signed(self, record: PeerRecord) -> None:
        """We have signed this record ourselves."""
        _remember(self._signed, _digest(record), self._config.signed_remembered)

    def announced(self, addresses: Sequence[Multiaddr]) -> None:
        """Where we are, in the form of a record's addresses."""
        for address in addresses:
            _remember(self._places, address, self._config.places_remembered)

    def is_foreign(self, record: PeerRecord, now: float, unix_now: int) -> bool:
        """Whether a valid record of our identity was signed elsewhere since our start."""
        if self._started_at is None or _digest(record) in self._signed:
            return False
        # By the wall clock as it is now: it may have been set since.
        started_at = unix_now - (now - self._started_at)
        if record.issued_at <= started_at + self._config.start_slack:
            return False
        return not record.addresses or any(address not in self._places for address in record.addresses)

    def seen(self, now: float) -> bool:
        """There is a sign of the other. Whether it is the first of this episode."""
        first = self._seen_at is None
        self._seen_at = now
        return first

    def has_gone(self, now: float) -> bool:
        """There was no sign now. Whether the episode is over by this; says so once."""
        if self._seen_at is None or now - self._seen_at < self._config.quiet_after:
            return False
        self._seen_at = None
        return True


def is_elsewhere(remote: Multiaddr, own: Iterable[Multiaddr]) -> bool:
    """Whether somebody with our key, who came from `remote`, is another machine, and not ourselves dialled by
    one of our own addresses. Only a public prefix where we are not says so: a router that leads us back to
    ourselves shows us our own address, or one of its own inside, and a machine has many IPv6 addresses."""
    prefix = _prefix_of(remote)
    return prefix is not None and all(_prefix_of(address) != prefix for address in own)


def in_use_warning(addresses: Sequence[Multiaddr]) -> str:
    """For people: what is wrong and what mends it."""
    where = ", ".join(str(address.without_peer()) for address in addresses[:4]) or "an address it hides"
    return (
        f"This identity is used on another machine too, at {where}: each hides the other. "
        "Stop one of them, or give it an identity of its own with `wws id new`."
    )


def _prefix_of(address: Multiaddr) -> str | None:
    """The public prefix of an address that leads straight there."""
    if not address.is_ip or address.is_circuit:
        return None
    try:
        return public_prefix_of_ip(address.host)
    except AddressRefused:
        return None


def _digest(record: PeerRecord) -> bytes:
    return hashlib.sha256(record.value).digest()


def _remember(table: OrderedDict[_T, None], item: _T, most: int) -> None:
    table.pop(item, None)
    table[item] = None
    if len(table) > most:
        table.popitem(last=False)
