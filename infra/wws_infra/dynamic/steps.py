"""The set of nodes moves in small steps: judged before the first node is touched.

`Discovery` judges what it publishes, from all that was published; but it comes last, when the nodes have been
changed already. So the manifest, which every node waits for, remembers the set too, and is refused when the
next one is too far away. It is refused as an input of the resource: in one line, without a story of modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.witness_sets import WitnessesBefore
from wws.errors import LocalError
from wws.identity.peer_id import PeerId
from wws_dns.plan import UnsafePlan
from wws_dns.safety import LastChange, judge_set
from wws_infra.dynamic.crud import number, text, texts

if TYPE_CHECKING:
    from wws_infra.settings import Json


class UnsafeChange(UnsafePlan):
    """The change would do harm. Nothing was changed."""

    hint = (
        "change wws:nodes in smaller steps. Who knows better says so, for this one change: "
        "pulumi config set wws:force_unsafe true"
    )


class ForceSpent(LocalError):
    """`wws:force_unsafe` has forced one change already, and still stands in the configuration."""

    code = "force_spent"
    exit_code = 7
    hint = "take it out first (pulumi config rm wws:force_unsafe, pulumi up), and look at what is unsafe now"


def step(olds: Mapping[str, Json], news: Mapping[str, Json], unix_now: int) -> dict[str, Json]:
    """What is remembered of the nodes when those of the inputs `news` follow those of `olds`.

    Raises `UnsafeChange` and `ForceSpent`.
    """
    peers = _peers(texts(news, "peers"))
    if olds.get("domain") != news["domain"] or not isinstance(olds.get("peers"), list):
        return _remembered(peers, WitnessesBefore(), is_forced=False)
    last = _peers(texts(olds, "peers"))
    before, was_forced = _recalled(olds.get("witnesses"))
    entries = tuple(BundleEntry(peer, text(news, "domain"), 1, "") for peer in sorted(last, key=str))
    # Addresses and times of it are not looked at: it is known what was before.
    served = Bundle(unix_now, unix_now, unix_now, None, entries)
    change = LastChange(before, before.changed_at, is_first=False)
    unsafe = judge_set(served, peers, change, unix_now, adopted=False)
    may_force = news.get("force_unsafe") is True
    if unsafe and not may_force:
        raise UnsafeChange(unsafe)
    if unsafe and was_forced:
        raise ForceSpent(" ".join(one.message for one in unsafe))
    now = before if peers == last else WitnessesBefore(last, unix_now)
    return _remembered(peers, now, is_forced=may_force and (was_forced or bool(unsafe)))


def _peers(addresses: list[str]) -> frozenset[PeerId]:
    found = (Multiaddr.parse(address).peer_id for address in addresses)
    return frozenset(peer for peer in found if peer is not None)


def _remembered(peers: frozenset[PeerId], before: WitnessesBefore, *, is_forced: bool) -> dict[str, Json]:
    return {
        "peers": [*sorted(map(str, peers))],
        "before": [*sorted(map(str, before.peers))],
        "changed_at": before.changed_at,
        "forced": is_forced,
    }


def _recalled(value: Json) -> tuple[WitnessesBefore, bool]:
    """The set before, and whether a change was forced; a stack of an older version remembers nothing."""
    if not isinstance(value, dict):
        return WitnessesBefore(), False
    before = frozenset(map(PeerId.parse, texts(value, "before")))
    return WitnessesBefore(before, number(value, "changed_at")), value.get("forced") is True
