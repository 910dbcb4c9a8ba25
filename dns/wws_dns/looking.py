"""What is known before anything is decided: what DNS serves, what was published, who is out there.

What DNS serves is as good a witness of the past as the history is: a bundle of ours that stands there and is
not in the history is taken up, so that a lost file, or a process killed between two writes, does no harm.
Nothing is believed there that no publisher has signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wws.discovery.bundle import Bundle, BundleError
from wws.discovery.publishers import PublisherKey, valid_signers
from wws.discovery.txt import bundle_name
from wws_dns.history import History, Publication
from wws_dns.old_clients import OldClient, keys_now, old_clients
from wws_dns.plan import Unsafe, day
from wws_dns.provider import Record
from wws_dns.vouching import Vouched

SEQ_AHEAD = 86_400
"""Seconds that a number may be ahead of the clock; beyond, no client takes the bundle."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out."""

    unix_now: int
    found: tuple[Record, ...]
    """What the authority serves in our record sets."""
    history: History
    """Of what clients can have taken: our own, and what DNS serves of ours. Without a file."""
    adopted: tuple[Publication, ...]
    """What DNS serves of ours and our history did not know."""
    known: tuple[PublisherKey, ...]
    """The publisher keys that hold; none when nothing is known."""
    clients: tuple[OldClient, ...]
    highest: int
    """The highest number that any client can have seen, or 0."""
    unsafe: tuple[Unsafe, ...]
    warnings: tuple[str, ...]
    vouched: Vouched
    """What of the history may be signed again."""

    @property
    def beginning(self) -> Bundle | None:
        """The first bundle known of a history that is not whole: clients may know keys that we do not."""
        return (
            None if self.history.is_whole or not self.history.published else self.history.published[0].bundle
        )

    @property
    def before(self) -> Bundle | None:
        """The bundle that was published last."""
        last = self.history.last
        return None if last is None else last.bundle


def look(
    history: History,
    found: Sequence[Record],
    unix_now: int,
    *,
    declared: Iterable[PublisherKey] | None,
    signers: Iterable[PublisherKey],
    trusted: Iterable[PublisherKey] = (),
) -> Seen:
    """Put together what the authority serves and what the history knows.

    Where the history knows no publisher keys, those `declared` count, else those of `signers`; and a bundle
    in DNS that one of either has signed is ours. `trusted` are publishers known from elsewhere than from the
    history.
    """
    declared, signers = tuple(declared or ()), tuple(signers)
    latest = unix_now + SEQ_AHEAD
    taken = history.copy()
    unsafe: list[Unsafe] = []
    ahead = [one for one in taken.published if one.bundle.seq > latest]
    if ahead:
        taken.published = tuple(one for one in taken.published if one not in ahead)
        message = (
            f"Bundle {ahead[-1].bundle.seq} was signed more than a day ahead of this clock "
            f"({day(unix_now)}). Either this clock is behind, and clients refuse what it would sign; or that "
            "one was ahead, and no client has taken that bundle, and then this is safe."
        )
        unsafe.append(Unsafe("clock_ahead", message))
    is_unknown = not taken.publishers
    if is_unknown:
        taken.publishers = tuple(dict.fromkeys((*declared, *signers)))
    ours, warnings = _take_up(taken, found, unix_now)
    if is_unknown and ours.adopted:
        # Who signed that bundle is known for sure; what else its readers know is not.
        first = ours.adopted[0].bundle
        taken.publishers, taken.is_whole = first.keys or ours.signers, False
    elif is_unknown:
        taken.publishers = declared or tuple(dict.fromkeys(signers))
    if is_unknown and ours.foreign:
        message = (
            f"DNS serves a bundle of {history.domain} that none of these keys has signed, and there is no "
            "history: whoever reads it would not follow. Give its key, too, or its history."
        )
        unsafe.append(Unsafe("drops_needed_key", message))
    for publication in ours.adopted:
        taken.add(publication, is_whole=taken.is_whole)
    return Seen(
        unix_now,
        tuple(sorted(found)),
        taken,
        ours.adopted,
        keys_now(taken),
        old_clients(taken, unix_now),
        max([ours.stale, *(one.bundle.seq for one in taken.published)]),
        tuple(unsafe),
        warnings,
        Vouched(
            taken,
            [one.value for one in found if one.set == (bundle_name(history.domain), "TXT")],
            (*trusted, *signers),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Ours:
    """What of the bundles in DNS is ours."""

    adopted: tuple[Publication, ...]
    """Signed by keys that hold, and not in the history."""
    signers: tuple[PublisherKey, ...]
    """The keys that signed the first of these."""
    stale: int
    """The highest number that a key signed which holds no more, or 0."""
    foreign: int
    """How many well-formed ones nobody has signed who is known here."""


def _take_up(history: History, found: Iterable[Record], unix_now: int) -> tuple[_Ours, tuple[str, ...]]:
    """The bundles in DNS that ours must have signed, and warnings about all others."""
    known = {one.bundle.text for one in history.published}
    holding = set(keys_now(history))
    ever = {*history.publishers, *(key for one in history.published for key in one.bundle.keys or ())}
    adopted: list[tuple[Publication, frozenset[PublisherKey]]] = []
    stale, foreign, odd = 0, 0, 0
    for record in found:
        text = record.value
        if record.set != (bundle_name(history.domain), "TXT") or text in known:
            continue
        try:
            bundle = Bundle.parse(text)
        except BundleError:
            odd += 1
            continue
        signers, bad = valid_signers(bundle.signatures, ever, bundle.signed_bytes(history.domain))
        if bad is None and signers & holding and bundle.seq <= unix_now + SEQ_AHEAD:
            adopted.append((Publication(bundle, min(bundle.seq, unix_now), ttl=record.ttl), signers))
            continue
        odd += 1
        if bundle.seq > unix_now + SEQ_AHEAD:
            continue
        if bad is None and signers:
            stale = max(stale, bundle.seq)
        else:
            foreign += 1
    adopted.sort(key=lambda one: one[0].bundle.seq)
    warnings = []
    if odd:
        warnings.append(
            f"{odd} of the records at {bundle_name(history.domain)} are no bundle that the publisher keys "
            "known here have signed. They are removed; find out who wrote them."
        )
    if adopted:
        numbers = ", ".join(str(one.bundle.seq) for one, _ in adopted)
        warnings.append(f"DNS serves bundle {numbers}, which the history did not know; it is taken up.")
    signed_first = tuple(sorted(adopted[0][1])) if adopted else ()
    return _Ours(tuple(one for one, _ in adopted), signed_first, stale, foreign), tuple(warnings)
