"""Plan, refuse what is unsafe, apply, verify: what the program and the stack do with the DNS of a network.

    publisher = Publisher(provider, history)
    plan = publisher.plan(desired, signers)          looks, changes nothing
    print(plan.render())
    published = publisher.publish(plan)              UnsafePlan, unless forced

Publishing a plan twice, or planning again, changes nothing. There is a way back: `rollback`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey
from wws.discovery.txt import dnsaddr_name
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.rpc.codes import Exit
from wws_dns.desired import Desired, DesiredMalformed, address_sets, from_bundle, txt_sets
from wws_dns.history import History, Publication
from wws_dns.looking import Seen, look
from wws_dns.plan import Plan, SignatureMissing, Unsafe, UnsafePlan
from wws_dns.planning import PlanningConfig, Wish, make_plan
from wws_dns.provider import NotServed, Provider, Record


class NothingPublished(WwsError):
    """There is no such publication."""

    code = "not_published"
    exit_code = Exit.NOT_FOUND
    hint = "See what there was: wws-dns rollback --list"


@dataclass(frozen=True, slots=True)
class PublisherConfig:
    """How publishing goes on."""

    planning: PlanningConfig = field(default_factory=PlanningConfig)
    look_again: int = 5
    """How often the authority is asked at most whether it serves what was applied."""
    look_again_after: float = 1.0
    """Seconds between two such questions."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is served now."""

    seq: int | None
    """`None` when nothing is published any more."""
    expires_at: int | None
    text: str
    records: tuple[Record, ...]
    changed: bool
    """Whether anything had to be done."""


class Publisher:
    """The one writer of a network's DNS records."""

    def __init__(
        self,
        provider: Provider,
        history: History,
        clock: Callable[[], float] = time.time,
        config: PublisherConfig | None = None,
        *,
        pause: Callable[[float], None] = time.sleep,
        trusted: Sequence[PublisherKey] = (),
    ) -> None:
        """`trusted`: publishers that are known from elsewhere than from the history (`wws_dns.vouching`)."""
        self.provider = provider
        self.history = history
        self._clock = clock
        self._config = config or PublisherConfig()
        self._pause = pause
        self._trusted = tuple(trusted)

    def plan(
        self, desired: Desired, signers: Sequence[Identity] = (), *, signed: Bundle | None = None
    ) -> Plan:
        """What has to change for `desired` to be served. Changes nothing.

        A new bundle, where one is needed, is signed by all of `signers` that are publishers, or is `signed`,
        made elsewhere; with neither, the plan `needs_signature`. Raises `ProviderError`, `DesiredMalformed`,
        `NotAPublisher`, `SignedDiffers`, and `BundleError` for a list that makes no bundle.
        """
        return self._plan(Wish(desired, tuple(signers), signed))

    def prepare(self, desired: Desired, signers: Sequence[Identity] = ()) -> Plan:
        """The plan that only shortens times to live, ahead of a change: publish it, wait for the old time.

        Nothing is signed; `signers` only tell whose bundle is ours where the history does not.
        """
        return self._plan(Wish(desired, tuple(signers), prepares=True))

    def renew(self, signers: Sequence[Identity] = (), *, only_if_within_days: int = 14) -> Plan:
        """The plan that signs anew what is published; empty while that holds for longer than these days.

        It also gives times to live their usual length back, an hour after a change. Raises as `plan`, and
        `NothingPublished`.
        """
        within = only_if_within_days * 86_400
        return self._plan(Wish(self.current(signers), tuple(signers), renew_within=within))

    def rollback(self, to_seq: int | None = None, signers: Sequence[Identity] = ()) -> Plan:
        """The plan that publishes earlier content again, under a higher number.

        `to_seq` is the number of a publication; by default the last whose list was another. Publisher keys
        stay as they are now. Raises as `plan`, and `NothingPublished`.
        """
        last = self.history.last
        if last is None:
            raise NothingPublished(f"Nothing was ever published for {self.history.domain} from here.")
        if to_seq is None:
            current = set(last.bundle.entries)
            earlier = (one for one in self.history.published[::-1] if set(one.bundle.entries) != current)
            target = next(earlier, None)
        else:
            target = self.history.find(to_seq)
        if target is None:
            wanted = "another list" if to_seq is None else f"a bundle with the number {to_seq}"
            raise NothingPublished(f"The history of {self.history.domain} does not hold {wanted}.")
        plan = self._plan(Wish(self._as_desired(target), tuple(signers), source=target.bundle))
        return replace(plan, reason=f"Back to the list of bundle {target.bundle.seq}. {plan.reason}")

    def current(self, signers: Sequence[Identity] = ()) -> Desired:
        """What was published last, as something to be wanted. Raises `NothingPublished`, `ProviderError`.

        Where the history knows no publisher keys, those of `signers` are believed.
        """
        domain = self.history.domain
        last = self._look(domain, (), None, signers).history.last
        if last is None:
            raise NothingPublished(
                f"Nothing of ours is published for {domain}.",
                hint="Publish first: wws-dns publish. Where the history was lost, name the publisher keys in "
                "the records file: publishers = […]",
            )
        return self._as_desired(last)

    def retire(self, domain: str) -> None:
        """Remove all our records of the domain, and no hints of others.

        The history stays: numbers must go on from where they were.

        Raises `ProviderError`, `NotServed`.
        """
        self.publish(self._plan(Wish(Desired(domain, ()))), force_unsafe=True)

    def publish(self, plan: Plan, *, force_unsafe: bool = False) -> Published:
        """Carry the plan out, and see that the authority serves it.

        Raises `UnsafePlan` and `SignatureMissing` before anything changes; `Conflict` when the zone is no
        longer as planned, again with nothing changed; `ProviderError`; `NotServed`. After any of them the
        next plan starts from what is really there.
        """
        if plan.unsafe and not force_unsafe:
            raise UnsafePlan(plan.unsafe)
        if plan.needs_signature:
            raise SignatureMissing(f"{plan.reason} Nobody has signed it.")
        if not plan.is_empty:
            self.provider.apply(plan.changes)
        self._remember(plan)
        if not plan.is_empty:
            self._see_served(plan)
        bundle = plan.bundle
        return Published(
            None if bundle is None else bundle.seq,
            None if bundle is None else bundle.expires_at,
            "" if bundle is None else bundle.text,
            plan.records,
            changed=not plan.is_empty,
        )

    def _plan(self, wish: Wish) -> Plan:
        desired = wish.desired
        if desired.domain != self.history.domain:
            raise DesiredMalformed(f"The history is of {self.history.domain}, not of {desired.domain}.")
        last = self.history.last
        named = {node.host for node in desired.nodes}
        managed = {node.host for node in desired.nodes if node.addresses}
        self._check_zone(desired.domain, managed)
        left = {(host, ip) for host, ip in (() if last is None else last.addresses) if host not in named}
        hosts = managed | {host for host, _ in left}
        seen = self._look(desired.domain, hosts, desired.keys, wish.signers)
        # At a host that is wanted no more only what we wrote is ours: its name may have got another use.
        leave = frozenset(
            record
            for record in seen.found
            if record.kind != "TXT" and record.name not in managed and (record.name, record.value) not in left
        )
        if not desired.nodes:
            leave |= self._of_others(seen)
        made = make_plan(replace(wish, leave=leave), seen, self._config.planning)
        return replace(made, unsafe=(*made.unsafe, *self._taken_over(made)))

    def _taken_over(self, made: Plan) -> list[Unsafe]:
        """Addresses that would go and were never published from here: another machine may be called so."""
        ours = {pair for publication in self.history.published for pair in publication.addresses}
        going = {record.content for record in made.changes.remove}
        going -= {record.content for record in made.changes.add}
        odd = [
            f"{value} of {name}"
            for name, kind, value in sorted(going)
            if kind != "TXT" and (name, value) not in ours
        ]
        if not odd:
            return []
        message = f"It removes addresses that were not published from here: {', '.join(odd)}."
        return [Unsafe("name_taken", message)]

    def _look(
        self,
        domain: str,
        hosts: Collection[str],
        declared: Sequence[PublisherKey] | None,
        signers: Sequence[Identity],
    ) -> Seen:
        found = self.provider.fetch([*txt_sets(domain), *address_sets(hosts)])
        keys = [PublisherKey(signer.public_key) for signer in signers]
        now, trusted = int(self._clock()), self._trusted
        return look(self.history, found, now, declared=declared, signers=keys, trusted=trusted)

    def _of_others(self, seen: Seen) -> frozenset[Record]:
        """What other libp2p programs have put at the name of hints: the one name that they use, too."""
        ours = {
            f"dnsaddr={address}"
            for publication in seen.history.published
            for entry in publication.bundle.entries
            for address in entry.addresses()
        }
        name = dnsaddr_name(seen.history.domain)
        return frozenset(
            record for record in seen.found if record.set == (name, "TXT") and record.value not in ours
        )

    def _check_zone(self, domain: str, hosts: Collection[str]) -> None:
        zone = self.provider.zone
        for name in (domain, *sorted(hosts)):
            if name != zone and not name.endswith(f".{zone}"):
                raise DesiredMalformed(
                    f"{name} does not lie in the zone {zone} of {self.provider.name}.",
                    hint="Name the right zone, or leave out the addresses of hosts that another zone serves.",
                )

    def _as_desired(self, publication: Publication) -> Desired:
        """What a publication said, for as long as it did."""
        bundle = publication.bundle
        days = -(-(bundle.expires_at - min(bundle.seq, bundle.expires_at - 1)) // 86_400)
        return from_bundle(
            self.history.domain,
            bundle,
            publication.addresses,
            ttl=publication.ttl,
            lifetime_days=min(max(days, 1), 90),
        )

    def _remember(self, plan: Plan) -> None:
        unix_now = int(self._clock())
        for publication in plan.adopted:
            self.history.add(publication, publishers=plan.publishers, is_whole=plan.is_whole)
        if plan.bundle is not None:
            publication = Publication(plan.bundle, unix_now, plan.addresses, plan.usual_ttl)
            self.history.add(publication, publishers=plan.publishers, is_whole=plan.is_whole)
        if plan.prepares:
            self.history.prepare(unix_now)

    def _see_served(self, plan: Plan) -> None:
        """Ask the authority until it serves what was applied. Raises `NotServed`."""
        touched = plan.changes.touched
        wanted = {record.content for record in plan.changes.after(plan.changes.expected)}
        missing, odd = wanted, set[tuple[str, str, str]]()
        for attempt in range(self._config.look_again):
            if attempt:
                self._pause(self._config.look_again_after)
            served = {record.content for record in self.provider.fetch(touched)}
            missing, odd = wanted - served, set(served - wanted)
            if not missing and not odd:
                return
        names = ", ".join(sorted({content[0] for content in (*missing, *odd)}))
        raise NotServed(
            f"{self.provider.name} accepted the changes, but {len(missing)} records are missing and "
            f"{len(odd)} are not gone ({names})."
        )
