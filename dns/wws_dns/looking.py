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

    @property
    def before(self) -> Bundle | None:
        """The bundle that was published last."""
        last = self.history.last
        return None if last is None else last.bundle


def look(history: History, found: Sequence[Record], presumed: Iterable[PublisherKey], unix_now: int) -> Seen:
    """Put together what the authority serves and what the history knows.

    `presumed` are the publisher keys where the history knows none: those wanted, or those that would sign.
    """
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
    if not taken.publishers:
        taken.publishers = tuple(dict.fromkeys(presumed))
    adopted, stale, warnings = _take_up(taken, found, unix_now)
    for publication in adopted:
        taken.add(publication)
    return Seen(
        unix_now,
        tuple(sorted(found)),
        taken,
        adopted,
        keys_now(taken),
        old_clients(taken, unix_now),
        max([stale, *(one.bundle.seq for one in taken.published)]),
        tuple(unsafe),
        warnings,
    )


def _take_up(
    history: History, found: Iterable[Record], unix_now: int
) -> tuple[tuple[Publication, ...], int, tuple[str, ...]]:
    """The bundles in DNS that ours must have signed, the highest number an older key signed, and warnings."""
    known = {one.bundle.text for one in history.published}
    holding = set(keys_now(history))
    ever = {*history.publishers, *(key for one in history.published for key in one.bundle.keys or ())}
    adopted: list[Publication] = []
    stale, foreign = 0, 0
    for record in found:
        text = record.value
        if record.set != (bundle_name(history.domain), "TXT") or text in known:
            continue
        try:
            bundle = Bundle.parse(text)
        except BundleError:
            foreign += 1
            continue
        signers, bad = valid_signers(bundle.signatures, ever, bundle.signed_bytes(history.domain))
        if bad is not None or not signers or bundle.seq > unix_now + SEQ_AHEAD:
            foreign += 1
        elif signers & holding:
            adopted.append(Publication(bundle, min(bundle.seq, unix_now), ttl=record.ttl))
        else:
            stale = max(stale, bundle.seq)
            foreign += 1
    warnings = []
    if foreign:
        warnings.append(
            f"{foreign} of the records at {bundle_name(history.domain)} are no bundle that the publisher "
            "keys known here have signed. They are removed; find out who wrote them."
        )
    if adopted:
        numbers = ", ".join(str(one.bundle.seq) for one in adopted)
        warnings.append(f"DNS serves bundle {numbers}, which the history did not know; it is taken up.")
    return tuple(adopted), stale, tuple(warnings)
