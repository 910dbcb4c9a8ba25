"""Publisher keys change, and everybody who may have slept can follow (wire.md section 3)."""

from __future__ import annotations

import pytest

from tests.unit.dns.world import DAY, DOMAIN, NEW, PUBLISHER, SPARE, World, key, wanted
from wws.discovery.bundle import BundleError, PublisherUnknown
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import key_id
from wws.identity.keys import Identity
from wws_dns.history import History
from wws_dns.old_clients import fewest_signers, old_clients
from wws_dns.plan import UnsafePlan

NEWER = Identity.from_label("newer publisher")
OLD_KEYS = (PUBLISHER, SPARE)
NEW_KEYS = (NEW, NEWER)
ALL = (*OLD_KEYS, *NEW_KEYS)
BEFORE = wanted("alice", "bob", "carol", keys=OLD_KEYS)
AFTER = wanted("alice", "bob", "carol", keys=NEW_KEYS)


@pytest.fixture
def world() -> World:
    """A network with two publisher keys, a day old."""
    world = World()
    world.publish(BEFORE, *OLD_KEYS)
    world.wait(DAY)
    return world


def knows(state: BundleState, *keys: Identity) -> bool:
    return set(state.keys) == {key(one) for one in keys}


def test_old_clients_learn_the_new_keys(world: World) -> None:
    asleep = world.client(*OLD_KEYS)
    asleep.choose(world.texts, world.now)
    world.publish(AFTER, *ALL)
    asleep.choose(world.texts, world.now)
    assert knows(asleep, *NEW_KEYS)
    fresh = world.client(*OLD_KEYS)
    fresh.choose(world.texts, world.now)
    assert knows(fresh, *NEW_KEYS)
    world.client(*NEW_KEYS).choose(world.texts, world.now)


@pytest.mark.parametrize(
    "signers, unsafe",
    [
        (ALL, set()),
        ((PUBLISHER, SPARE, NEW), set()),
        ((PUBLISHER, NEW), {"drops_needed_key"}),  # two of the old keys must agree
        (NEW_KEYS, {"drops_needed_key"}),
        (OLD_KEYS, {"drops_needed_key"}),  # nobody who knows the new keys only would take it
    ],
)
def test_who_must_sign_a_change(world: World, signers: tuple[Identity, ...], unsafe: set[str]) -> None:
    assert {one.code for one in world.plan(AFTER, *signers).unsafe} == unsafe


def test_a_new_key_that_does_not_sign_is_told_of(world: World) -> None:
    three = wanted("alice", "bob", "carol", keys=(*OLD_KEYS, NEW))
    world.publish(three, *OLD_KEYS, NEW)
    assert not any("does not sign" in one for one in world.plan(three, *OLD_KEYS).warnings)  # nothing new
    world.wait(20 * DAY)
    (told,) = (one for one in world.plan(three, *OLD_KEYS).warnings if "does not sign" in one)
    assert key_id(key(NEW)) in told
    assert "key_files" in told
    assert not any("does not sign" in one for one in world.plan(three, *OLD_KEYS, NEW).warnings)


def test_until_the_last_sleeper_is_past_every_bundle_carries_the_keys(world: World) -> None:
    sleeper = world.client(*OLD_KEYS)
    sleeper.choose(world.texts, world.now)
    assert sleeper.last is not None
    last_day = sleeper.last.expires_at + 30 * DAY
    world.publish(AFTER, *ALL)
    while world.now < last_day - 17 * DAY:
        world.wait(16 * DAY)
        with pytest.raises(UnsafePlan):
            world.publish(AFTER, *NEW_KEYS)
        world.publish(AFTER, *ALL)
        assert world.bundle.keys is not None
        assert len(world.bundle.signatures) == 4
        awake = BundleState(DOMAIN, sleeper.keys, last=sleeper.last)
        awake.choose(world.texts, world.now)
        assert knows(awake, *NEW_KEYS)
    world.now = last_day
    world.publisher.publish(world.publisher.renew([NEW], only_if_within_days=90))
    assert world.bundle.keys is None
    assert len(world.bundle.signatures) == 1
    with pytest.raises(PublisherUnknown):  # who slept longer is told to take a new network file
        sleeper.choose(world.texts, world.now)


def test_a_network_with_one_key_changes_it(world: World) -> None:
    world = World()
    world.publish(wanted("alice", "bob", "carol"))
    client = world.client()
    client.choose(world.texts, world.now)
    world.wait(DAY)
    target = wanted("alice", "bob", "carol", keys=[NEW])
    assert world.codes(target, NEW) == {"drops_needed_key"}
    world.publish(target, PUBLISHER, NEW)
    client.choose(world.texts, world.now)
    assert knows(client, NEW)


def test_a_second_key_is_added_by_the_first(world: World) -> None:
    world = World()
    world.publish(wanted("alice", "bob", "carol"))
    client = world.client()
    client.choose(world.texts, world.now)
    world.wait(DAY)
    world.publish(wanted("alice", "bob", "carol", keys=[PUBLISHER, SPARE]), PUBLISHER)
    client.choose(world.texts, world.now)
    assert knows(client, PUBLISHER, SPARE)


def test_keys_stay_when_nothing_is_said_of_them(world: World) -> None:
    world.publish(AFTER, *ALL)
    world.wait(3 * DAY)
    world.publish(wanted("alice", "bob", "dave"), *ALL)
    assert world.bundle.keys == (key(NEW), key(NEWER))
    plan = world.publisher.rollback(signers=ALL)
    assert plan.bundle is not None
    assert plan.bundle.keys == (key(NEW), key(NEWER))


def test_a_history_lost_amid_a_change_forgets_no_sleeper(world: World) -> None:
    sleeper = world.client(*OLD_KEYS)
    sleeper.choose(world.texts, world.now)
    world.publish(AFTER, *ALL)
    world.wait(3 * DAY)
    world.history = History(DOMAIN)
    moved = wanted("alice", "bob", "dave", keys=NEW_KEYS)
    assert "drops_needed_key" in world.codes(moved, *NEW_KEYS)
    world.publish(moved, *ALL)
    sleeper.choose(world.texts, world.now)
    assert knows(sleeper, *NEW_KEYS)
    world.wait(16 * DAY)
    assert "drops_needed_key" in world.codes(moved, *NEW_KEYS)


def test_a_lost_history_allows_no_change_of_keys_unless_two_sign(world: World) -> None:
    world.history = History(DOMAIN)
    one = World(world.now, world.provider, History(DOMAIN))
    assert one.codes(AFTER, *ALL) == set()  # it shows the signatures of two, and both sign
    alone = World()
    alone.publish(wanted("alice", keys=OLD_KEYS), PUBLISHER)
    alone.history = History(DOMAIN)
    target = wanted("alice", keys=NEW_KEYS)
    assert "drops_needed_key" in alone.codes(target, PUBLISHER, NEW)
    alone.publish(target, PUBLISHER, NEW, force=True)
    alone.wait(20 * DAY)
    assert alone.codes(target, PUBLISHER, NEW) == set()  # said once is enough


def test_a_bundle_of_unknown_keys_is_not_replaced_lightly(world: World) -> None:
    world.history = History(DOMAIN)
    assert world.codes(wanted("alice", "bob", "carol"), NEW) == {"drops_needed_key"}


def test_a_stolen_key_of_before_does_not_pass_for_ours(world: World) -> None:
    world.publish(AFTER, *ALL)
    world.now += 120 * DAY
    world.publish(AFTER, NEW)
    thief = world.bundle.sign(DOMAIN, [PUBLISHER])
    world.provider.records |= {
        type(record)(record.name, record.kind, thief.text, record.ttl)
        for record in world.provider.records
        if record.name.startswith("_wws-bundle")
    }
    plan = world.plan(AFTER, NEW)
    assert len(plan.changes.remove) == 1
    assert not plan.changes.add


def test_as_few_sign_as_are_needed_where_room_is_short() -> None:
    world = World()
    world.publish(wanted("alice", keys=OLD_KEYS), PUBLISHER)
    clients = old_clients(world.history, world.now)
    assert fewest_signers(OLD_KEYS, clients, [key(one) for one in OLD_KEYS]) == (PUBLISHER,)
    changed = fewest_signers(ALL, clients, [key(one) for one in NEW_KEYS])
    assert changed == (PUBLISHER, SPARE, NEW)
    assert fewest_signers(NEW_KEYS, clients, [key(one) for one in NEW_KEYS]) is None


@pytest.mark.parametrize("missing", [PUBLISHER, SPARE, NEW])
def test_a_forced_change_tells_whom_it_breaks(world: World, missing: Identity) -> None:
    signers = [one for one in (PUBLISHER, SPARE, NEW) if one is not missing]
    plan = world.plan(AFTER, *signers)
    assert plan.unsafe
    world.publisher.publish(plan, force_unsafe=True)
    broken = 0
    for known in (OLD_KEYS, NEW_KEYS):
        try:
            world.client(*known).choose(world.texts, world.now)
        except BundleError:
            broken += 1
    assert broken == 1
