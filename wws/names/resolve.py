"""From what a look-up found to an answer: who bears a name, and where (contract.md section 2, "resolve").

The look-up brings the record that won among the holders. Here it meets the clock (is it live, stale, dead?),
the witnesses, and the pins. An answer is given with its warnings, or refused with a typed error; a record of
another owner than the pinned one gives no addresses at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordRefused
from wws.names.kinds import NameRecords, PeerRecords
from wws.names.lookalike import look_alikes
from wws.names.peer_record import peer_key
from wws.names.pins import Pins, Verdict
from wws.names.record import name_key
from wws.names.uri import DidTarget, NameTarget, PeerTarget

MAX_DIALLED = 8
"""Addresses of a record that a resolver dials, at most (wire.md section 4)."""

UNWITNESSED_FIRST_PIN = "unwitnessed_first_pin"
PIN_MOVED = "pin_moved"
PINS_FULL = "pins_full"
STALE = "stale"
EQUIVOCATION = "equivocation"


class ResolveError(WwsError):
    """A target gives no answer."""

    code = "resolve_failed"


class NameNotFound(ResolveError):
    """No living record of that name was found."""

    code = "name_not_found"

    def __init__(self, target: NameTarget) -> None:
        super().__init__(f"{target} was not found", hint="is it spelled right?")
        self.target = target


class NameReleased(NameNotFound):
    """The owner has given the name back; it is free when the cool-down is over."""

    code = "name_released"

    def __init__(self, target: NameTarget, free_at: int) -> None:
        ResolveError.__init__(self, f"{target} was given back by its owner")
        self.target = target
        self.free_at = free_at


class PeerNotFound(ResolveError):
    """No peer record of that DID or PeerId was found."""

    code = "peer_not_found"

    def __init__(self, target: DidTarget | PeerTarget) -> None:
        peer = target.did if isinstance(target, DidTarget) else target.peer_id
        super().__init__(f"{peer} was not found", hint="its node may be offline: records last for a day")
        self.target = target


class NameNotPinned(ResolveError):
    """With no entry point of the network in reach only pinned names resolve, and this one is not."""

    code = "name_not_pinned"

    def __init__(self, target: NameTarget) -> None:
        super().__init__(
            f"{target} is not a known name, and no entry point of the network is in reach to vouch for it",
            hint="use its DID or PeerId, or join when an entry point can be reached",
        )
        self.target = target


class NameDenied(ResolveError):
    """The operator of this node has denied the name or its owner."""

    code = "name_denied"

    def __init__(self, target: NameTarget | DidTarget | PeerTarget) -> None:
        super().__init__(
            f"{target}, or who holds it, is on the deny list of this node",
            hint="[deny] in config.toml; `wws config show`",
        )
        self.target = target


class LookUpUnanswered(ResolveError):
    """Nobody answered the look-up: that says nothing of the name."""

    code = "lookup_unanswered"

    def __init__(self, target: NameTarget | DidTarget | PeerTarget) -> None:
        super().__init__(
            f"nobody answered the look-up of {target}",
            hint="is this machine online? `wws status` shows its peers",
        )
        self.target = target


class OwnerChanged(ResolveError):
    """The name belongs to another key than the one it was first seen with."""

    code = "owner_changed"

    def __init__(self, target: NameTarget, pinned: PeerId, found: PeerId) -> None:
        super().__init__(
            f"{target} belonged to {pinned} and is now claimed by {found}",
            hint=f"ask its owner over another channel; `wws name trust {target}` accepts the new one",
        )
        self.target = target
        self.pinned = pinned
        self.found = found


@dataclass(frozen=True, slots=True)
class Resolved:
    """Who was meant and where they are. `name` and `swarm` are `None` when a DID or PeerId was asked for."""

    name: str | None
    swarm: str | None
    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    expires_at: int
    stale: bool = False
    witnessed: bool = False
    pinned: bool = False
    """Whether the name is pinned to this owner now."""
    owner_changed: bool = False
    """Whether the pin has just moved along a chain of transfers."""
    looks_like: str | None = None
    """At the first use of a name: one that is pinned here and that it could be taken for."""
    warnings: tuple[str, ...] = ()
    """Code words: `unwitnessed_first_pin`, `pin_moved`, `pins_full`, `stale`, `equivocation`."""

    @property
    def did(self) -> str:
        return self.peer_id.did

    @property
    def dialled(self) -> tuple[Multiaddr, ...]:
        """The addresses to dial: the first eight."""
        return self.addresses[:MAX_DIALLED]


def resolve_name(
    target: NameTarget,
    value: bytes | None,
    unix_now: int,
    *,
    kind: NameRecords,
    pins: Pins,
    domain: str,
    only_pinned: bool = False,
) -> Resolved:
    """The answer for a name, given the value that a look-up of its key found, or `None`.

    Pins the name at its first use. `domain` is the network's, empty for an ad hoc one; with `only_pinned` (no
    entry point is in reach) a name without a pin is refused. Raises `NameNotFound`, `NameReleased`,
    `OwnerChanged` or `NameNotPinned`.
    """
    key = name_key(target.name, target.swarm)
    try:
        record = kind.read(key, value, unix_now) if value is not None else None
    except RecordRefused:
        record = None
    if record is None or record.is_dead(unix_now):
        raise NameNotFound(target)
    pin = pins.find(domain, record.swarm, record.name)
    if only_pinned and pin is None:
        raise NameNotPinned(target)
    if record.released:
        raise NameReleased(target, record.dead_at)
    # A name that was used before needs no second look, neither does one that has given a new name its shape.
    alike = look_alikes(record.name, pins.names(domain, record.swarm)) if pin is None else []
    witnessed = kind.is_witnessed(record)
    is_done = witnessed or not any(kind.witness_sets)
    verdict = pins.observe(domain, record, unix_now, is_done=is_done)
    if verdict is Verdict.CHANGED and pin is not None:
        raise OwnerChanged(target, pin.owner, record.peer_id)
    stale = not record.is_live(unix_now)
    warnings = (
        (UNWITNESSED_FIRST_PIN, verdict is Verdict.NEW and not witnessed),
        (PIN_MOVED, verdict is Verdict.MOVED),
        (PINS_FULL, verdict is Verdict.FULL),
        (STALE, stale),
        (EQUIVOCATION, kind.equivocations.concerns(record.name, record.swarm, record.peer_id)),
    )
    return Resolved(
        name=record.name,
        swarm=record.swarm,
        peer_id=record.peer_id,
        addresses=record.addresses,
        expires_at=record.expires_at,
        stale=stale,
        witnessed=witnessed,
        pinned=verdict is not Verdict.FULL,
        owner_changed=verdict is Verdict.MOVED,
        looks_like=alike[0] if alike else None,
        warnings=tuple(code for code, applies in warnings if applies),
    )


def resolve_peer(
    target: DidTarget | PeerTarget, value: bytes | None, unix_now: int, *, kind: PeerRecords
) -> Resolved:
    """The answer for a DID or PeerId, given the value that a look-up of its key found, or `None`.

    Raises `PeerNotFound`. A peer record has no grace: expired is not found.
    """
    did = target.did if isinstance(target, DidTarget) else target.peer_id.did
    try:
        record = kind.read(peer_key(did), value, unix_now) if value is not None else None
    except RecordRefused:
        record = None
    if record is None or unix_now >= record.expires_at:
        raise PeerNotFound(target)
    return Resolved(None, None, record.peer_id, record.addresses, record.expires_at)


def target_key(target: NameTarget | DidTarget | PeerTarget) -> str:
    """The DHT key to look up for a target."""
    match target:
        case NameTarget(name=name, swarm=swarm):
            return name_key(name, swarm)
        case DidTarget(did=did):
            return peer_key(did)
        case PeerTarget(peer_id=peer_id):
            return peer_key(peer_id.did)
