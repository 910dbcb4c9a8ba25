"""Rotating publisher keys, by the steps of wire.md 3: the drill, and every sleeper that may wake up."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.discovery.bundle import Bundle, BundleError
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey, key_id
from wws.discovery.txt import bundle_name
from wws.identity.keys import Identity
from wws.runtime.dns_resolve import DnsConfig, DnsResolver
from wws.testing.dns_server import DnsServer
from wws_dns.desired import Desired, Node
from wws_dns.history import History
from wws_dns.old_clients import SLEEP
from wws_dns.plan import UnsafePlan
from wws_dns.provider import Changes, Conflict, Record, RecordSet
from wws_dns.publishing import Publisher
from wws_dns.rotation import KeyStillNeeded, RotationRefused, drop, find_key, introduce, key_states
from wws_dns.zone_file import ZoneFileProvider

pytestmark = pytest.mark.net

DOMAIN = "boot.test"
DAY = 86_400
START = 1_795_000_000
OLD, NEW, THIRD, FOURTH = (Identity.from_label(f"publisher {name}") for name in ("a", "b", "c", "d"))
NODES = tuple(
    Node(Identity.from_label(name).peer_id, f"192.0.2.{n}") for n, name in enumerate(("alice", "bob"))
)


def key(identity: Identity) -> PublisherKey:
    return PublisherKey(identity.public_key)


@dataclass
class Memory:
    """A zone in memory."""

    zone: str = DOMAIN
    name: str = "memory"
    records: set[Record] = field(default_factory=set)

    def fetch(self, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
        return tuple(sorted(record for record in self.records if record.set in wanted))

    def apply(self, changes: Changes) -> None:
        if not changes.expects(self.fetch(changes.touched)):
            raise Conflict
        touched = set(changes.touched)
        before = [record for record in self.records if record.set in touched]
        self.records = (self.records - set(before)) | set(changes.after(before))


class Operator:
    """Somebody with all key files and a clock that can be moved."""

    def __init__(self, provider: ZoneFileProvider | Memory, *publishers: Identity) -> None:
        self.now = START
        self.history = History(DOMAIN)
        self.publisher = Publisher(provider, self.history, lambda: float(self.now), pause=lambda _: None)
        self.publish(replace(self.desired(), keys=tuple(map(key, publishers))), publishers)

    @staticmethod
    def desired() -> Desired:
        return Desired(DOMAIN, NODES)

    def publish(self, desired: Desired, signers: Sequence[Identity]) -> Bundle:
        self.publisher.publish(self.publisher.plan(desired, signers))
        return self.bundle

    def renew(self, *signers: Identity) -> Bundle:
        self.publisher.publish(self.publisher.renew(signers, only_if_within_days=30))
        return self.bundle

    def introduce(self, new: Identity, *signers: Identity) -> Bundle:
        keys = introduce(self.history, key(new))
        return self.publish(replace(self.desired(), keys=keys), signers)

    def drop(self, old: Identity, *signers: Identity, early: bool = False) -> Bundle:
        keys = drop(self.history, key(old), self.now, early=early)
        return self.publish(replace(self.desired(), keys=keys), signers)

    def wait_until(self, moment: int, *signers: Identity) -> None:
        """Time goes by, and the bundle is renewed as the timer does it."""
        while self.now + 15 * DAY < moment:
            self.now += 15 * DAY
            self.renew(*signers)
        self.now = moment

    @property
    def bundle(self) -> Bundle:
        assert self.history.last is not None
        return self.history.last.bundle

    def stages(self) -> dict[str, str]:
        names = {
            key_id(key(identity)): name for name, identity in (("old", OLD), ("new", NEW), ("third", THIRD))
        }
        return {names[key_id(one.key)]: one.stage for one in key_states(self.history, self.now)}


def network(*publishers: Identity, min_seq: int = 0) -> Network:
    """A network file as operators give it out."""
    return replace(Network("boot", DOMAIN, tuple(map(key, publishers))), min_seq=min_seq)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer({}) as running:
        yield running


async def fetched(server: DnsServer, zone: Path, client: BundleState, now: int) -> Bundle:
    """What a client takes from DNS, by the code of a node."""
    server.replace(json.loads(zone.read_text()))
    answer = await DnsResolver(DnsConfig(servers=(server.address,))).txt(bundle_name(DOMAIN))
    return client.choose(answer.texts, now).bundle


async def test_the_drill_six_of_six(server: DnsServer, tmp_path: Path) -> None:
    """Old and new clients meet the bundles from before, during and after the rotation."""
    zone = tmp_path / "zone.json"
    zone.write_text("{}")
    operator = Operator(ZoneFileProvider(DOMAIN, zone), OLD)
    files: dict[str, tuple[str, int]] = {"before": (zone.read_text(), operator.now)}
    first = operator.bundle
    assert operator.stages() == {"old": "holds"}

    operator.now += 2 * DAY
    during = operator.introduce(NEW, OLD, NEW)
    files["during"] = (zone.read_text(), operator.now)
    assert set(during.keys or ()) == {key(OLD), key(NEW)}
    assert operator.stages() == {"old": "holds", "new": "introduced"}
    with pytest.raises(KeyStillNeeded) as refused:
        operator.drop(OLD, OLD, NEW)
    assert refused.value.details["needed_until"] == first.expires_at + SLEEP
    assert operator.bundle == during

    operator.wait_until(first.expires_at + SLEEP, OLD, NEW)
    assert operator.stages() == {"old": "holds", "new": "holds"}
    last_of_both = operator.bundle
    after = operator.drop(OLD, OLD, NEW)
    files["after"] = (zone.read_text(), operator.now)
    assert set(after.keys or ()) == {key(NEW)}
    assert operator.stages() == {"new": "holds", "old": "dropped"}

    outcomes: dict[tuple[str, str], str] = {}
    for who, file in (("old", network(OLD)), ("new", network(NEW, min_seq=during.seq))):
        for when, (text, now) in files.items():
            zone.write_text(text)
            client = BundleState.of(file, None)
            try:
                await fetched(server, zone, client, now)
                outcomes[who, when] = f"takes it, and knows {len(client.keys)}"
            except BundleError as error:
                outcomes[who, when] = error.code
    assert outcomes == {
        ("old", "before"): "takes it, and knows 1",
        ("old", "during"): "takes it, and knows 2",
        ("old", "after"): "takes it, and knows 1",
        ("new", "before"): "bundle_seq_low",  # a network file of after the change does not go back
        ("new", "during"): "takes it, and knows 2",
        ("new", "after"): "takes it, and knows 1",
    }

    # The key that was dropped signs on while somebody may wake up who knows both, and is then done with.
    operator.now += 16 * DAY
    with pytest.raises(UnsafePlan, match="refuses it"):
        operator.renew(NEW)
    operator.wait_until(last_of_both.expires_at + SLEEP, OLD, NEW)
    assert operator.stages() == {"new": "holds", "old": "done"}
    operator.now += 16 * DAY
    final = operator.renew(NEW)
    assert {name for name, _ in final.signatures} == {key_id(key(NEW))}


def test_a_client_that_slept_too_long_is_told() -> None:
    operator = Operator(Memory(), OLD)
    asleep = BundleState(DOMAIN, [key(OLD)])
    asleep.accept(operator.bundle.text, operator.now)
    operator.now += DAY
    operator.introduce(NEW, OLD)
    operator.wait_until(operator.now + 70 * DAY, OLD, NEW)
    operator.drop(OLD, OLD, NEW)
    operator.wait_until(operator.now + 80 * DAY, OLD, NEW)
    operator.renew(NEW)
    with pytest.raises(BundleError, match="signed by key") as refused:
        asleep.accept(operator.bundle.text, operator.now)
    assert refused.value.code == "publisher_unknown"


def test_a_stolen_key_of_three_goes_at_once() -> None:
    operator = Operator(Memory(), OLD, NEW, THIRD)
    operator.now += DAY
    operator.drop(OLD, NEW, THIRD)
    assert operator.stages() == {"new": "holds", "third": "holds", "old": "done"}
    client = BundleState(DOMAIN, [key(OLD), key(NEW), key(THIRD)])
    client.accept(operator.bundle.text, operator.now)
    assert set(client.keys) == {key(NEW), key(THIRD)}
    stolen = replace(operator.bundle, seq=operator.bundle.seq + 9, keys=None).sign(DOMAIN, [OLD])
    with pytest.raises(BundleError) as refused:
        client.accept(stolen.text, operator.now)
    assert refused.value.code == "publisher_unknown"


def test_a_stolen_key_goes_early_while_its_file_is_here() -> None:
    operator = Operator(Memory(), OLD)
    operator.now += DAY
    operator.introduce(NEW, OLD)
    with pytest.raises(KeyStillNeeded, match="still needed"):
        operator.drop(OLD, OLD, NEW)
    with pytest.raises(UnsafePlan):  # without its signature sleepers would be shut out
        operator.drop(OLD, NEW, early=True)
    operator.drop(OLD, OLD, NEW, early=True)
    asleep = BundleState(DOMAIN, [key(OLD)])
    asleep.accept(operator.bundle.text, operator.now)
    assert asleep.keys == (key(NEW),)


def test_steps_that_make_no_sense() -> None:
    with pytest.raises(RotationRefused, match="Nothing was published"):
        introduce(History(DOMAIN), key(NEW))
    operator = Operator(Memory(), OLD)
    with pytest.raises(RotationRefused, match="only publisher"):
        operator.drop(OLD, OLD)
    with pytest.raises(RotationRefused, match="no publisher"):
        operator.drop(NEW, OLD)
    with pytest.raises(RotationRefused, match="already"):
        operator.introduce(OLD, OLD)
    five = [Identity.from_label(f"publisher {n}") for n in range(5)]
    with pytest.raises(RotationRefused, match="at most 5"):
        introduce(Operator(Memory(), *five).history, key(NEW))


def test_keys_are_found_by_the_beginning_of_their_id() -> None:
    keys = [key(OLD), key(NEW)]
    assert find_key(key_id(key(OLD)), keys) == key(OLD)
    assert find_key(key_id(key(NEW))[:5].upper(), keys) == key(NEW)
    assert find_key("", keys) is None
    assert find_key("zzzz", keys) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["introduce", "drop", "drop early", "renew", "poll"]),
        st.integers(0, 3),
        st.integers(0, 25),
    ),
    max_size=14,
)


@given(STEPS, st.integers(1, 3))
def test_nobody_who_is_promised_it_is_ever_shut_out(steps: list[tuple[str, int, int]], count: int) -> None:
    """Whatever an operator does with all key files at hand: what is published, every client follows."""
    everybody = [OLD, NEW, THIRD, FOURTH]
    operator = Operator(Memory(), *everybody[:count])
    started = [key(identity) for identity in everybody[:count]]
    clients = [BundleState(DOMAIN, started) for _ in range(4)]
    promised = [
        operator.bundle.expires_at + SLEEP
    ] * 4  # those of the network file count from the first bundle
    for step, number, days in steps:
        operator.now += days * DAY
        try:
            match step:
                case "introduce":
                    operator.introduce(everybody[number], *everybody)
                case "drop" | "drop early":
                    operator.drop(everybody[number], *everybody, early=step == "drop early")
                case _:
                    operator.renew(*everybody)
        except RotationRefused:
            continue
        except UnsafePlan as error:
            assert {one.code for one in error.unsafe} == {"set_changed_recently"}  # noqa: PT017
            continue
        text = operator.bundle.text
        for n, client in enumerate(clients):
            if operator.now >= promised[n] or operator.now >= operator.bundle.expires_at:
                continue
            if step == "poll" and n == number:
                client.accept(text, operator.now)
                promised[n] = operator.bundle.expires_at + SLEEP
            else:
                awake = BundleState(DOMAIN, client.keys, last=client.last)
                awake.accept(text, operator.now)
                assert set(awake.keys) == set(key_set(operator))


def key_set(operator: Operator) -> list[PublisherKey]:
    return [one.key for one in key_states(operator.history, operator.now) if one.is_listed]
