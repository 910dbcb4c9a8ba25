"""What makes a change of the set of nodes unsafe, and how large an answer may be.

The peers of a bundle are the witnesses of names: a majority of them can give any name away that nobody has
pinned. So the set moves in small steps, with time in between (wire.md sections 3 and 5):

    more than a third removed at once            removes_too_many
    newcomers alone a majority                   newcomers_majority
    changed within the last 48 hours             set_changed_recently

Going back to the set before, while that still counts, is none of these: everybody knows those witnesses yet.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from wws.discovery.bundle import MAX_ANSWER, WARN_ANSWER, Bundle, answer_size
from wws.discovery.witness_sets import CHANGE_LASTS, WitnessesBefore
from wws.identity.peer_id import PeerId
from wws_dns.history import History
from wws_dns.plan import Unsafe, day

_SIGNATURE = "00000000:" + "A" * 86
"""As long as a signature: for the size of what is not signed yet."""


@dataclass(frozen=True, slots=True)
class LastChange:
    """What the publications of a domain tell about how its list came to be."""

    before: WitnessesBefore
    """The set that the last change of peers replaced."""
    at: int
    """Unix time of the last change of entries or keys, or 0. A first publication is none."""
    is_first: bool
    """Whether only one bundle is known: then what was before it is not."""


def last_change(history: History) -> LastChange:
    """Follow the publications as a client that saw them all."""
    before, at = WitnessesBefore(), 0
    last: Bundle | None = None
    keys = history.publishers
    for publication in history.published:
        bundle = publication.bundle
        before = before.after(last, bundle, publication.at)
        if last is not None and (
            set(last.entries) != set(bundle.entries) or set(bundle.keys or keys) != set(keys)
        ):
            at = publication.at
        keys = bundle.keys or keys
        last = bundle
    return LastChange(before, at, is_first=len(history.published) == 1)


def judge_set(
    before: Bundle, peers: Set[PeerId], change: LastChange, unix_now: int, *, adopted: bool
) -> list[Unsafe]:
    """What is unsafe about `peers` after the bundle `before`.

    `adopted`: that bundle was found in DNS, and nothing is known of the time before it.
    """
    old = before.peers
    earlier = change.before.in_force(unix_now)
    if peers == old or (peers and peers == earlier):
        return []
    found: list[Unsafe] = []
    removed, newcomers = old - peers, peers - old - earlier
    most = max(1, len(old) // 3)
    if not peers:
        return [Unsafe("empties_set", f"It removes all {len(old)} nodes: nobody new could join any more.")]
    if len(removed) > most:
        message = f"It removes {len(removed)} of {len(old)} nodes; {most} at a time is safe."
        found.append(Unsafe("removes_too_many", message))
    if len(newcomers) > len(peers) // 2:
        message = (
            f"{len(newcomers)} of {len(peers)} nodes are new: alone a majority of the witnesses of names."
        )
        found.append(Unsafe("newcomers_majority", message))
    if unix_now < change.before.changed_at + CHANGE_LASTS:
        message = (
            f"The set was changed at {day(change.before.changed_at)}; the next change is safe from "
            f"{day(change.before.changed_at + CHANGE_LASTS)} on, when the set before that counts no more."
        )
        found.append(Unsafe("set_changed_recently", message))
    elif adopted and change.is_first and unix_now < before.seq + CHANGE_LASTS:
        message = (
            f"DNS has a bundle of {day(before.seq)} that the history does not know; if that changed the set, "
            f"the next change is safe from {day(before.seq + CHANGE_LASTS)} on."
        )
        found.append(Unsafe("set_changed_recently", message))
    return found


def judge_size(domain: str, bundle: Bundle) -> tuple[list[Unsafe], list[str]]:
    """Whether the answer that carries the bundle is too large, and the warning where it is only large."""
    text = bundle.text if bundle.signatures else bundle.body + Bundle.SIGNATURE_MARK + _SIGNATURE
    size = answer_size(domain, [text])
    if size > MAX_ANSWER:
        message = (
            f"The answer with the bundle has {size} bytes; above {MAX_ANSWER} it does not get through "
            "everywhere. Fewer entries, shorter host names, or fewer keys."
        )
        return [Unsafe("answer_too_large", message)], []
    if size > WARN_ANSWER:
        large = f"The answer with the bundle has {size} bytes; resolvers without EDNS ask again over TCP."
        return [], [large]
    return [], []
