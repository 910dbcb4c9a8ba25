"""From what is wanted and what is known to a plan. Pure: the clock, DNS and the history were asked before.

A bundle is only signed anew when something asks for it: another list, other keys, keys that sleepers have yet
to learn, or its end. Otherwise the one that was published stays, so that planning twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wws.discovery.bundle import MAX_ANSWER, MAX_LIFETIME, Bundle, answer_size
from wws.discovery.publishers import PublisherKey, key_id
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.rpc.codes import Exit
from wws_dns.desired import CHANGE_TTL, Desired, DesiredMalformed, records
from wws_dns.forgotten import judge_forgotten, lost_change
from wws_dns.looking import SEQ_AHEAD, Seen
from wws_dns.old_clients import OldClient, fewest_signers, judge, must_carry_keys
from wws_dns.plan import Plan, Unsafe, day
from wws_dns.provider import Changes, Record
from wws_dns.safety import judge_set, judge_size, last_change


class NotAPublisher(WwsError):
    """None of the keys given is one that the clients of this domain know."""

    code = "not_a_publisher"
    exit_code = Exit.REFUSED
    hint = "Give a publisher key of this domain (--key FILE); a new one comes in by: wws-dns rotate"


class SignedDiffers(WwsError):
    """The signed bundle is not what is wanted."""

    code = "signed_differs"
    exit_code = Exit.REFUSED
    hint = "Sign what is wanted now: wws-dns plan --request FILE, then wws-dns sign FILE"


@dataclass(frozen=True, slots=True)
class PlanningConfig:
    """The times of planning."""

    renew_within: int = 14 * 86_400
    """Seconds before `exp` from which on a bundle is signed anew; at most half of what it holds."""
    settle: int = 3_600
    """Seconds after a change during which times to live stay short."""
    backdate: int = 3_600
    """Seconds that `nbf` lies before the signing: a publisher's clock that is ahead by less does no harm."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan is asked for."""

    desired: Desired
    signers: tuple[Identity, ...] = ()
    signed: Bundle | None = None
    prepares: bool = False
    renew_within: int | None = None
    """Instead of the usual margin before `exp`."""
    source: Bundle | None = None
    """The earlier bundle that `desired` was read from, if it was."""
    leave: frozenset[Record] = frozenset()
    """Records of others in record sets that are partly ours."""


def make_plan(wish: Wish, seen: Seen, config: PlanningConfig) -> Plan:
    """The plan by which the wish comes true.

    Raises `NotAPublisher`, `SignedDiffers`, `DesiredMalformed`, and `BundleError` for a list that makes no
    bundle.
    """
    desired, before = wish.desired, seen.before
    keys = desired.keys or seen.known
    bundle, reason = _bundle(wish, seen, keys, config)
    is_new = bundle is not None and (before is None or bundle.text != before.text)
    unsafe, warnings = list(seen.unsafe), list(seen.warnings)
    if bundle is not None and is_new:
        unsafe += _judge_bundle(bundle, desired.domain, seen, keys)
        introduced = set(desired.keys or ()) - set(seen.known)
        unsafe += seen.vouched.judge(wish.source or before, bundle.keys or (), introduced)
        too_large, large = judge_size(desired.domain, bundle)
        unsafe += too_large
        warnings += large
        warnings += _not_signing(bundle, wish.signers, seen.clients, keys)
    change = last_change(seen.history)
    if before is not None:
        unsafe += judge_set(before, desired.peers, change, seen.unix_now, adopted=bool(seen.adopted))
    changes_now = before is not None and (bundle is None or _differs(bundle, before, seen.known))
    is_short = wish.prepares or changes_now or seen.unix_now < change.at + config.settle
    is_short = is_short or seen.unix_now < seen.history.prepared_at + config.settle
    ttl = min(CHANGE_TTL, desired.ttl) if is_short else desired.ttl
    wanted: tuple[Record, ...] = ()
    if bundle is not None:
        wanted = records(desired, bundle.text if bundle.signatures else bundle.body, ttl)
    changes = difference(seen.found, wanted, wish.leave)
    if changes_now:
        warnings += _waiting(changes, ttl)
    return Plan(
        desired.domain,
        changes,
        wanted,
        bundle,
        before,
        reason,
        warnings=tuple(warnings),
        unsafe=tuple({one.code: one for one in unsafe}.values()),
        publishers=seen.history.publishers,
        # Whoever changes the keys in spite of the warning vouches that nobody else is out there.
        is_whole=seen.history.is_whole
        or (bundle is not None and set(bundle.keys or seen.known) != set(seen.known)),
        adopted=seen.adopted,
        addresses=tuple((node.host, address) for node in desired.nodes for address in node.addresses),
        usual_ttl=desired.ttl,
        prepares=wish.prepares,
        is_new=is_new,
    )


def difference(
    found: Sequence[Record], wanted: Sequence[Record], leave: frozenset[Record] = frozenset()
) -> Changes:
    """What makes `wanted` of `found`, with `leave` left alone; and what of `found` it rests on."""
    add = tuple(sorted(set(wanted) - set(found)))
    remove = tuple(sorted(set(found) - set(wanted) - leave))
    touched = {record.set for record in (*add, *remove)}
    return Changes(add, remove, tuple(sorted(record for record in found if record.set in touched)))


def renewal_margin(lifetime: int, config: PlanningConfig) -> int:
    """Seconds before its `exp` from which on a bundle that holds for so many seconds is signed anew."""
    return min(config.renew_within, lifetime // 2)


def new_bundle(
    desired: Desired, carried: tuple[PublisherKey, ...] | None, *, above: int, unix_now: int, backdate: int
) -> Bundle:
    """The unsigned bundle of what is desired, with a number above `above` (wire.md section 3)."""
    not_before = max(0, unix_now - backdate)
    expires_at = min(unix_now + desired.lifetime_days * 86_400, not_before + MAX_LIFETIME)
    return Bundle(max(unix_now, above + 1), not_before, expires_at, carried, desired.entries)


def _bundle(
    wish: Wish, seen: Seen, keys: tuple[PublisherKey, ...], config: PlanningConfig
) -> tuple[Bundle | None, str]:
    """The bundle that is to be served, and why."""
    desired, before = wish.desired, seen.before
    if not desired.nodes:
        return None, f"Nothing is to be published for {desired.domain} any more."
    if not keys and wish.signed is not None:
        raise NotAPublisher(
            f"No publisher key of {desired.domain} is known here, so whose signature it is cannot be told.",
            hint="List the public keys in records.toml: publishers = […]",
        )
    carried = keys if must_carry_keys(seen.clients, keys) or lost_change(seen) is not None else None
    why = _why(desired, keys, carried, seen, config if wish.renew_within is None else wish.renew_within)
    if wish.prepares:
        if before is None or set(before.entries) != set(desired.entries) or set(keys) != set(seen.known):
            raise DesiredMalformed(
                "Times to live are shortened before a change is wanted, not together with it.",
                hint="Prepare while the list is as published; change it when the old time has passed.",
            )
        return before, "Times to live are shortened for a change to come."
    if wish.signed is not None:
        return _checked(wish.signed, desired), f"Bundle {wish.signed.seq}, signed elsewhere."
    if not why and before is not None:
        return before, f"Bundle {before.seq} holds until {day(before.expires_at)}."
    bundle = new_bundle(
        desired, carried, above=seen.highest, unix_now=seen.unix_now, backdate=config.backdate
    )
    reason = f"{why} Bundle {bundle.seq} is to hold until {day(bundle.expires_at)}."
    return (_sign(bundle, wish, seen, keys) if wish.signers else bundle), reason


def _why(
    desired: Desired,
    keys: Sequence[PublisherKey],
    carried: Sequence[PublisherKey] | None,
    seen: Seen,
    config: PlanningConfig | int,
) -> str:
    """Why a new bundle is needed; empty where none is."""
    before = seen.before
    if before is None:
        return "Nothing was published yet."
    if set(before.entries) != set(desired.entries):
        return "The list of nodes changes."
    if set(keys) != set(seen.known):
        return "The publisher keys change."
    if carried is not None and set(before.keys or ()) != set(carried):
        return "Clients that have slept must learn the publisher keys."
    if seen.unix_now >= before.expires_at:
        return f"Bundle {before.seq} has expired."
    lifetime = before.expires_at - before.not_before
    within = config if isinstance(config, int) else renewal_margin(lifetime, config)
    if seen.unix_now >= before.expires_at - within:
        return f"Bundle {before.seq} expires on {day(before.expires_at)}."
    return ""


def _sign(bundle: Bundle, wish: Wish, seen: Seen, keys: Sequence[PublisherKey]) -> Bundle:
    """Signed by all that are publishers; by as few as suffice where the answer grew too large."""
    domain = wish.desired.domain
    useful = {*keys, *(key for client in seen.clients for key in client.keys)}
    forgotten = lost_change(seen)
    named = set() if forgotten is None else {name for name, _ in forgotten.signatures}
    distinct = {PublisherKey(signer.public_key): signer for signer in wish.signers}
    signers = [signer for key, signer in distinct.items() if key in useful or key_id(key) in named]
    if not signers:
        given = ", ".join(map(key_id, distinct))
        raise NotAPublisher(
            f"Key {given} is no publisher of {domain}; known are {', '.join(map(key_id, useful))}."
        )
    signed = bundle.sign(domain, signers)
    if answer_size(domain, [signed.text]) > MAX_ANSWER and forgotten is None:
        fewest = fewest_signers(signers, seen.clients, keys)
        signed = bundle.sign(domain, fewest or signers)
    return signed


def _not_signing(
    bundle: Bundle, signers: Sequence[Identity], clients: Sequence[OldClient], keys: Sequence[PublisherKey]
) -> list[str]:
    """Keys that came in lately, and were not there to sign: nothing else would tell of it."""
    lately = {key for client in clients for key in set(keys) - set(client.keys)}
    given = {name for name, _ in bundle.signatures} | {key_id(signer.public_key) for signer in signers}
    missing = [key_id(key) for key in keys if key in lately and key_id(key) not in given]
    if not missing or not bundle.signatures:
        return []
    names = ", ".join(missing)
    wrong = f"Key {names} was introduced and does not sign: who joins with it alone refuses this list."
    return [f"{wrong} Give its file, too: key_files in records.toml, or --key once more."]


def _checked(signed: Bundle, desired: Desired) -> Bundle:
    """The bundle that was signed elsewhere. Raises `SignedDiffers` when it holds another list."""
    missing = set(desired.entries) - set(signed.entries)
    odd = set(signed.entries) - set(desired.entries)
    if missing or odd:
        words = [f"without {entry}" for entry in sorted(map(str, missing))]
        words += [f"with {entry}" for entry in sorted(map(str, odd))]
        raise SignedDiffers(f"The signed bundle {signed.seq} is not what is wanted: {', '.join(words)}.")
    return signed


def _judge_bundle(bundle: Bundle, domain: str, seen: Seen, keys: Sequence[PublisherKey]) -> list[Unsafe]:
    if bundle.signatures:
        newcomer = OldClient(tuple(keys), None)  # who takes the network file of tomorrow
        found = judge(bundle, domain, [*seen.clients, newcomer], keys, seen.unix_now)
        found += judge_forgotten(bundle, domain, seen, keys)
        return found
    if bundle.seq > seen.unix_now + SEQ_AHEAD:
        return [Unsafe("clock_ahead", f"Number {bundle.seq} is more than a day ahead of the clock.")]
    return []


def _differs(bundle: Bundle, before: Bundle, known: Sequence[PublisherKey]) -> bool:
    """Whether clients learn something else from it: a list, or keys."""
    return set(bundle.entries) != set(before.entries) or set(bundle.keys or known) != set(known)


def _waiting(changes: Changes, ttl: int) -> list[str]:
    longest = max((record.ttl for record in changes.remove), default=0)
    if longest <= ttl:
        return []
    return [f"Resolvers may keep the old answer for {longest} s. Where that is too long: --prepare before."]
