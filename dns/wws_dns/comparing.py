"""What a list to be signed changes against the last one that the same key has signed.

The machine with the key knows nothing of DNS and believes nothing it is handed. What it can know for sure is
what it signed last: that file, kept there, is the past that counts (`wws-dns sign FILE --since LAST`).
"""

from __future__ import annotations

from collections.abc import Iterable

from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey
from wws.discovery.witness_sets import WitnessesBefore
from wws_dns.plan import Unsafe
from wws_dns.safety import LastChange, judge_set


def compare(last: Bundle, new: Bundle, signers: Iterable[PublisherKey], unix_now: int) -> list[Unsafe]:
    """What is unsafe about signing `new` after `last`."""
    no_other = LastChange(WitnessesBefore(), 0, is_first=False)
    unsafe = judge_set(last, new.peers, no_other, unix_now, adopted=False)
    if new.seq < last.seq:
        unsafe.append(Unsafe("seq_lowered", f"Its number {new.seq} is lower than {last.seq}, signed before."))
    before = set(last.keys or signers)
    for key in sorted(set(new.keys or ()) - before):
        unsafe.append(Unsafe("unvouched", f"It makes {key.hex()} a publisher, which was none."))
    for key in sorted(before - set(new.keys)) if new.keys is not None else ():
        unsafe.append(Unsafe("drops_needed_key", f"From it on {key.hex()} is no publisher any more."))
    return unsafe


def difference(last: Bundle, new: Bundle) -> str:
    """The lists, side by side, for people."""
    lines = [f"- {entry}" for entry in last.entries if entry not in new.entries]
    lines += [f"+ {entry}" for entry in new.entries if entry not in last.entries]
    return "\n".join(lines) or "the list is the same"
