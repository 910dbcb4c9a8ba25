"""What a history that was lost would have told: which keys clients may know besides those known here.

Taken up from DNS, a bundle shows who signed it, and no more. Its readers may know further keys, and then ask
for two signatures of theirs before they follow to others; and when it carries `keys`, then because clients
sleep that know older ones still. What is not known is not guessed: it is refused until the operator brings
the keys, or says that he knows better.
"""

from __future__ import annotations

from collections.abc import Sequence

from wws.discovery.bundle import MAX_LIFETIME, Bundle
from wws.discovery.publishers import PublisherKey, valid_signers
from wws_dns.looking import Seen
from wws_dns.old_clients import SLEEP
from wws_dns.plan import Unsafe


def lost_change(seen: Seen) -> Bundle | None:
    """The first bundle known, while it shows a change of keys from which clients may still be asleep."""
    first = seen.beginning
    if first is None or first.keys is None or seen.unix_now >= first.seq + MAX_LIFETIME + SLEEP:
        return None
    return first


def judge_forgotten(bundle: Bundle, domain: str, seen: Seen, keys: Sequence[PublisherKey]) -> list[Unsafe]:
    """What is unsafe about this signed bundle because of clients that nobody here remembers."""
    first = seen.beginning
    if first is None:
        return []
    change = lost_change(seen)
    lacking = set() if change is None else {name for name, _ in change.signatures}
    lacking -= {name for name, _ in bundle.signatures}
    if lacking:
        message = (
            f"Bundle {first.seq} carried changed publisher keys, and the history before it is lost: clients "
            f"may need the signature of key {', '.join(sorted(lacking))}, too."
        )
        return [Unsafe("drops_needed_key", message)]
    signers, _ = valid_signers(bundle.signatures, seen.history.publishers, bundle.signed_bytes(domain))
    if set(keys) != set(seen.known) and len(signers) < 2:
        message = (
            "The publisher keys change, and the history is lost that says which keys clients know. Where "
            "they know more than one, two of these must sign; where there was only one, this is safe."
        )
        return [Unsafe("drops_needed_key", message)]
    return []
