"""The clients that are out there: what each of them knows, and whether it would take a bundle.

A client knows the publisher keys and the number of the last bundle it took. Who has slept since must still be
able to follow, for as long as wire.md section 3 promises it: until the `exp` of the bundle that it knows, and
30 days more. Until then every bundle carries `keys`, with the signatures that the older keys ask for. Here
that is not reckoned but tried: each such client is a `BundleState`, the very code of a node, and is shown the
bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from wws.discovery.bundle import (
    Bundle,
    BundleBadSignature,
    BundleEquivocation,
    BundleError,
    BundleExpired,
    BundleNotYetValid,
    BundleRotationRefused,
    BundleSeqFuture,
    BundleSeqLow,
    PublisherUnknown,
)
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws_dns.history import History
from wws_dns.plan import Unsafe, UnsafeCode

SLEEP = 30 * 86_400
"""Seconds past the `exp` of the bundle it knows during which a client can still follow."""

_CODES: dict[type[BundleError], UnsafeCode] = {
    BundleSeqLow: "seq_lowered",
    BundleEquivocation: "equivocation",
    PublisherUnknown: "drops_needed_key",
    BundleRotationRefused: "drops_needed_key",
    BundleBadSignature: "bad_signature",
    BundleSeqFuture: "clock_ahead",
    BundleNotYetValid: "clock_ahead",
    BundleExpired: "expired",
}


@dataclass(frozen=True, slots=True)
class OldClient:
    """A client as it was left by the last bundle that it took."""

    keys: tuple[PublisherKey, ...]
    last: Bundle | None
    """`None`: it has a network file only."""

    @property
    def needs(self) -> int:
        """How many of its keys must sign a bundle that changes them."""
        return min(2, len(set(self.keys)))

    def state(self, domain: str) -> BundleState:
        return BundleState(domain, self.keys, last=self.last)


def old_clients(history: History, unix_now: int) -> tuple[OldClient, ...]:
    """The clients that must be able to follow: of each set of keys the one that knows the newest bundle.

    Those that know an older bundle and the same keys take whatever this one takes.
    """
    keys = history.publishers
    if not keys:
        return ()
    newest: dict[frozenset[PublisherKey], OldClient] = {}
    first = history.published[0].bundle if history.published else None
    if first is None or unix_now < first.expires_at + SLEEP:
        newest[frozenset(keys)] = OldClient(keys, None)
    for publication in history.published:
        bundle = publication.bundle
        keys = bundle.keys or keys
        if unix_now < bundle.expires_at + SLEEP or publication is history.last:
            newest[frozenset(keys)] = OldClient(keys, bundle)
    return tuple(newest.values())


def keys_now(history: History) -> tuple[PublisherKey, ...]:
    """The publisher keys that hold after everything that was published."""
    keys = history.publishers
    for publication in history.published:
        keys = publication.bundle.keys or keys
    return keys


def must_carry_keys(clients: Iterable[OldClient], keys: Iterable[PublisherKey]) -> bool:
    """Whether somebody out there would not learn from a bundle without `keys` that these hold now."""
    return any(set(client.keys) != set(keys) for client in clients)


def judge(
    bundle: Bundle, domain: str, clients: Sequence[OldClient], keys: Iterable[PublisherKey], unix_now: int
) -> list[Unsafe]:
    """What is unsafe about publishing this signed bundle: who of `clients` would refuse it, and why.

    `keys` are those that everybody shall know afterwards.
    """
    found: dict[UnsafeCode, Unsafe] = {}
    for client in clients:
        known = "the network file" if client.last is None else f"bundle {client.last.seq}"
        state = client.state(domain)
        try:
            state.accept(bundle.text, unix_now)
        except BundleError as error:
            code = _CODES.get(type(error), "refused_by_clients")
            found.setdefault(code, Unsafe(code, f"A client that knows {known} refuses it: {error}."))
            continue
        if set(state.keys) != set(keys):
            message = f"A client that knows {known} takes it, but does not learn which keys hold now."
            found.setdefault("drops_needed_key", Unsafe("drops_needed_key", message))
    return list(found.values())


def fewest_signers(
    signers: Sequence[Identity], clients: Sequence[OldClient], keys: Sequence[PublisherKey]
) -> tuple[Identity, ...] | None:
    """The fewest of `signers` whose signatures everybody takes, the first of them first; or `None`."""
    for count in range(1, len(signers) + 1):
        for some in combinations(signers, count):
            if _suffice({PublisherKey(signer.public_key) for signer in some}, clients, keys):
                return some
    return None


def _suffice(signed: set[PublisherKey], clients: Sequence[OldClient], keys: Sequence[PublisherKey]) -> bool:
    return bool(signed & set(keys)) and all(
        len(signed & set(client.keys)) >= (client.needs if set(client.keys) != set(keys) else 1)
        for client in clients
    )
