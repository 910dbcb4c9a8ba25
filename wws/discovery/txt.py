"""The hints of DNS: the seed's TXT records and libp2p's `_dnsaddr` (wire.md 3.1, 3.2).

    _openswarm._tcp.<domain>  TXT "v=1 peer=<multiaddr with /p2p/>"      unknown keys are ignored
    _dnsaddr.<domain>         TXT "dnsaddr=<multiaddr with /p2p/>"       the libp2p "DNSADDR" specification

A hint says where, never who. A bad record is skipped and counted with its reason, never fatal, and an
answer of any size costs a bounded amount of work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wws.addresses.multiaddr import MAX_TEXT, Multiaddr
from wws.errors import ParseError


@dataclass(frozen=True, slots=True)
class HintConfig:
    """The bounds of reading hints."""

    max_records: int = 1_000
    """Most records of an answer that are looked at."""
    max_used: int = 64
    """Most addresses that are taken from an answer."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What an answer held: addresses in its order, each with its PeerId, and what was skipped and why."""

    addresses: tuple[Multiaddr, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason to count: `malformed`, `no_peer_id`, `not_a_hint`, `version`, `duplicate`, `too_many`."""


def bundle_name(domain: str) -> str:
    """Where the signed bundle of a domain is published."""
    return f"_wws-bundle._tcp.{domain}"


def seed_name(domain: str) -> str:
    """Where the seed's TXT records of a domain are published."""
    return f"_openswarm._tcp.{domain}"


def dnsaddr_name(host: str) -> str:
    """Where the libp2p addresses of a `/dnsaddr/<host>` are published."""
    return f"_dnsaddr.{host}"


def parse_seed(texts: Sequence[str], config: HintConfig | None = None) -> Hints:
    """The addresses of the seed's TXT records."""
    return _parse(texts, _seed_record, config or HintConfig())


def parse_dnsaddr(texts: Sequence[str], config: HintConfig | None = None, *, any_peer: bool = False) -> Hints:
    """The addresses of `_dnsaddr` records. With `any_peer` those that name no peer are taken too."""

    def record(text: str) -> Multiaddr:
        return _dnsaddr_record(text, any_peer)

    return _parse(texts, record, config or HintConfig())


def seed_text(address: Multiaddr) -> str:
    """The seed's TXT record for an address. Raises `ValueError` without a PeerId."""
    if address.peer_id is None:
        raise ValueError(f"{address} does not say which peer it leads to")
    return f"v=1 peer={address}"


class _Skip(Exception):
    """One record is left out, for the reason it is raised with."""


def _parse(texts: Sequence[str], record: Callable[[str], Multiaddr], config: HintConfig) -> Hints:
    addresses: dict[Multiaddr, None] = {}
    skipped: Counter[str] = Counter()
    for text in texts[: config.max_records]:
        try:
            address = record(text)
        except _Skip as reason:
            skipped[str(reason)] += 1
            continue
        if address in addresses:
            skipped["duplicate"] += 1
        elif len(addresses) >= config.max_used:
            skipped["too_many"] += 1
        else:
            addresses[address] = None
    skipped["too_many"] += max(0, len(texts) - config.max_records)
    return Hints(tuple(addresses), {reason: count for reason, count in skipped.items() if count})


def _seed_record(text: str) -> Multiaddr:
    if len(text) > 2 * MAX_TEXT:
        raise _Skip("malformed")
    values: dict[str, str] = {}
    for word in text.split(" "):
        key, equals, value = word.partition("=")
        if not equals:
            continue
        if key in values and key in ("v", "peer"):
            raise _Skip("malformed")  # which of the two is meant cannot be known
        values[key] = value
    if "peer" not in values:
        raise _Skip("not_a_hint")
    if values.get("v") != "1":
        raise _Skip("version")
    return _address(values["peer"])


def _dnsaddr_record(text: str, any_peer: bool) -> Multiaddr:
    prefix, equals, value = text.partition("=")
    if prefix != "dnsaddr" or not equals:
        raise _Skip("not_a_hint")
    return _address(value, any_peer)


def _address(text: str, any_peer: bool = False) -> Multiaddr:
    try:
        address = Multiaddr.parse(text)
    except ParseError:
        raise _Skip("malformed") from None
    if address.peer_id is None and not any_peer:
        raise _Skip("no_peer_id")
    return address
