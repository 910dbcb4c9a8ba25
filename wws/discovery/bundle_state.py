"""What a network's earlier bundles have settled: its publisher keys, the highest number, the last good one.

With them it is remembered whom the last change of the list replaced: they are witnesses for a while yet.
A bundle is judged against this state, and the state moves only when one is accepted:

    signature of a known key bad, or number below the highest or the floor ─► refused
    no known key has signed ─► publisher unknown
    same number, other bytes ─► equivocation, the first stays
    number or begin too far ahead, or expired ─► refused, and not remembered
    keys differ from those known and fewer than min(2, known) of them have signed ─► refused

The runtime keeps `to_json()` in `networks/<name>.state`; the network file or `#key` only starts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wws.codec.canonical import MAX_INTEGER, JsonObject
from wws.discovery.bundle import (
    MAX_TEXT,
    PREFIX,
    Bundle,
    BundleBadSignature,
    BundleEquivocation,
    BundleError,
    BundleExpired,
    BundleNotYetValid,
    BundleRotationRefused,
    BundleSeqFuture,
    BundleSeqLow,
    NoBundle,
    PublisherUnknown,
)
from wws.discovery.network import Network
from wws.discovery.publishers import MAX_PUBLISHERS, PublisherKey, key_id, parse_publisher_key, valid_signers
from wws.discovery.witness_sets import WitnessesBefore
from wws.errors import ParseError

SCHEMA = 1
"""Number of the form that `to_json` writes."""


class StateMalformed(ParseError):
    """The remembered state of a network cannot be read."""

    code = "network_state_malformed"


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """The bounds of judging bundles."""

    max_candidates: int = 4
    """Most records of one answer that are looked at."""
    seq_ahead: int = 86_400
    """How far a bundle's number may be ahead of the clock, in seconds."""
    clock_slack: int = 300
    """How far a bundle's begin may be ahead of the clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of one DNS answer: the bundle taken, and why each other candidate was refused."""

    bundle: Bundle
    changed: bool
    """Whether the state has moved and is to be saved."""
    first_contact: bool
    """Whether nothing was remembered of this network, so that a replay could not have been noticed."""
    refused: tuple[BundleError, ...]


class BundleState:
    """The memory of one network with publishers. Not shared between networks: the domain is signed with."""

    def __init__(
        self,
        domain: str,
        publishers: Iterable[PublisherKey],
        *,
        min_seq: int = 0,
        last: Bundle | None = None,
        before: WitnessesBefore | None = None,
        config: BundleConfig | None = None,
    ) -> None:
        self.domain = domain
        self.keys: tuple[PublisherKey, ...] = tuple(publishers)
        """The publisher keys that hold now."""
        self.min_seq = min_seq
        """The floor below which no bundle was ever acceptable."""
        self.last: Bundle | None = last
        """The bundle accepted last; perhaps expired since."""
        self.before = before or WitnessesBefore()
        """The witnesses that the last change of the list replaced."""
        self._config = config or BundleConfig()

    @property
    def seq(self) -> int | None:
        """The highest number accepted, or `None` at first contact."""
        return None if self.last is None else self.last.seq

    def in_force(self, unix_now: int) -> Bundle | None:
        """The last good bundle, while it holds."""
        return self.last if self.last is not None and unix_now < self.last.expires_at else None

    def accept(self, text: str, unix_now: int) -> Bundle:
        """Take the bundle in `text`, or raise the `BundleError` that says why not and change nothing."""
        bundle = Bundle.parse(text)
        self._check(bundle, unix_now)
        if self.last is None or self.last.body != bundle.body:
            self.before = self.before.after(self.last, bundle, unix_now)
            self.last = bundle
            if bundle.keys is not None:
                self.keys = bundle.keys
        return bundle

    def choose(self, texts: Sequence[str], unix_now: int) -> Choice:
        """Take the bundle with the highest acceptable number among the TXT records of one answer.

        Records that are no bundles are ignored, and at most `max_candidates` others are looked at. Raises
        the `BundleError` of the best candidate when none is acceptable, `NoBundle` when there is none.
        """
        before, first_contact = self.last, self.last is None
        refused: list[BundleError] = []
        parsed: list[Bundle] = []
        candidates = [text for text in texts if text.startswith(PREFIX)][: self._config.max_candidates]
        for text in candidates:
            try:
                parsed.append(Bundle.parse(text))
            except BundleError as error:
                refused.append(error)
        parsed.sort(key=lambda bundle: (-bundle.seq, bundle.text))
        chosen: Bundle | None = None
        problems: list[BundleError] = []
        for bundle in parsed:
            if chosen is not None and bundle.seq < chosen.seq:
                break  # an older copy beside a newer one is what a change of DNS looks like: no fault
            try:
                accepted = self.accept(bundle.text, unix_now)
            except BundleError as error:
                problems.append(error)
                continue
            chosen = chosen or accepted
        if chosen is None:
            raise next(iter(problems + refused), NoBundle("no bundle is published there"))
        changed = before is None or before.body != chosen.body
        return Choice(chosen, changed, first_contact, tuple(problems + refused))

    def _check(self, bundle: Bundle, unix_now: int) -> None:
        signers, bad = valid_signers(bundle.signatures, self.keys, bundle.signed_bytes(self.domain))
        if bad is not None:
            raise BundleBadSignature(f"the signature of key {bad} does not verify for {self.domain}")
        floor = self.min_seq if self.last is None else max(self.min_seq, self.last.seq)
        if bundle.seq < floor:
            raise BundleSeqLow(f"bundle number {bundle.seq} is below {floor}")
        if not signers:
            signed_by = ", ".join(dict.fromkeys(identifier for identifier, _ in bundle.signatures))
            known = ", ".join(map(key_id, self.keys))
            raise PublisherUnknown(
                f"the list of {self.domain} is signed by key {signed_by}, and known here is {known}"
            )
        if self.last is not None and bundle.seq == self.last.seq and bundle.body != self.last.body:
            raise BundleEquivocation(f"two different bundles of {self.domain} have the number {bundle.seq}")
        if bundle.seq > unix_now + self._config.seq_ahead:
            raise BundleSeqFuture(f"bundle number {bundle.seq} is too far ahead of the clock ({unix_now})")
        if bundle.not_before > unix_now + self._config.clock_slack:
            raise BundleNotYetValid(
                f"the bundle holds from {bundle.not_before} on, the clock says {unix_now}"
            )
        if unix_now >= bundle.expires_at:
            raise BundleExpired(f"the bundle expired at {bundle.expires_at}, the clock says {unix_now}")
        if bundle.keys is not None and set(bundle.keys) != set(self.keys):
            needed = min(2, len(set(self.keys)))
            if len(signers) < needed:
                raise BundleRotationRefused(
                    f"the bundle changes the publisher keys: {needed} old ones must sign, {len(signers)} did"
                )

    @classmethod
    def of(
        cls, network: Network, remembered: JsonObject | None, config: BundleConfig | None = None
    ) -> BundleState:
        """The state of `network`: what was `remembered` of it, or its beginning where that is nothing.

        Raises `StateMalformed` when what was remembered cannot be read or belongs to another domain.
        """
        if remembered is None:
            return cls(network.domain, network.publishers, min_seq=network.min_seq, config=config)
        state = cls.from_json(remembered, config=config)
        if state.domain != network.domain:
            raise StateMalformed(f"network state is of {state.domain}, not of {network.domain}")
        state.min_seq = max(state.min_seq, network.min_seq)
        return state

    def to_json(self) -> JsonObject:
        """What is to be remembered, as JSON with its schema number."""
        return {
            "schema": SCHEMA,
            "domain": self.domain,
            "keys": [key.hex() for key in self.keys],
            "min_seq": self.min_seq,
            "bundle": None if self.last is None else self.last.text,
            "witnesses_before": self.before.to_json(),
        }

    @classmethod
    def from_json(cls, value: JsonObject, *, config: BundleConfig | None = None) -> BundleState:
        """What `to_json` wrote, here or in one version later (unknown members are ignored).

        Raises `StateMalformed`. Signatures are not judged again: after a change of keys, those that signed
        the last bundle may rightly be known no more, and the file is our own.
        """
        schema, domain, keys = value.get("schema"), value.get("domain"), value.get("keys")
        min_seq, text = value.get("min_seq"), value.get("bundle")
        if schema not in (SCHEMA, SCHEMA + 1) or isinstance(schema, bool):
            raise StateMalformed(f"network state has schema {schema!r}, this version reads {SCHEMA}")
        if not isinstance(domain, str) or not isinstance(keys, list) or not 1 <= len(keys) <= MAX_PUBLISHERS:
            raise StateMalformed("network state lacks its domain or its keys")
        if not isinstance(min_seq, int) or isinstance(min_seq, bool) or not 0 <= min_seq <= MAX_INTEGER:
            raise StateMalformed("network state lacks its floor")
        if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
            raise StateMalformed("the remembered bundle is not a text")
        try:
            known = [parse_publisher_key(key) for key in keys if isinstance(key, str)]
            last = None if text is None else Bundle.parse(text)
            before = WitnessesBefore.from_json(value.get("witnesses_before"))
        except ParseError as error:
            raise StateMalformed(f"network state: {error}") from None
        if len(known) != len(keys):
            raise StateMalformed("network state has a key that is not a text")
        return cls(domain, known, min_seq=min_seq, last=last, before=before, config=config)
