"""Somebody who can write the history, and has no publisher key, gets nothing signed by it.

The history is a file that operators keep in version control, or a part of the stack's state. What it says is
signed again without a look: by `renew` in a timer, by `rollback` in a hurry.
"""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.dns.world import DAY, DOMAIN, NEW, PUBLISHER, SPARE, START, World, key, node, wanted
from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws_dns.history import History, Publication
from wws_dns.plan import UnsafePlan
from wws_dns.planning import NotAPublisher
from wws_dns.publishing import Publisher

MALLORY = Identity.from_label("mallory")


def forged(
    *labels: str, seq: int, signer: Identity = MALLORY, keys: tuple[PublisherKey, ...] | None = None
) -> Publication:
    entries = tuple(node(label).entry for label in labels)
    bundle = Bundle(seq, seq - 10, seq + 30 * DAY, keys, entries).sign(DOMAIN, [signer])
    return Publication(bundle, seq)


def renamed(publication: Publication) -> Publication:
    """With the key id of the publisher beside a signature that is none of his."""
    ((_, signature),) = publication.bundle.signatures
    (name, _) = honest_world().bundle.signatures[0]
    return dataclasses.replace(
        publication, bundle=dataclasses.replace(publication.bundle, signatures=((name, signature),))
    )


def honest_world() -> World:
    """The publisher has published, and it is time to renew."""
    world = World()
    world.publish(wanted("alice", "bob", "carol"))
    world.now += 20 * DAY
    return world


EVIL_LIST = forged("mallory1", "mallory2", "mallory3", seq=START + DAY)


@pytest.mark.parametrize(
    "history",
    [
        History(DOMAIN, publishers=[key(PUBLISHER)], published=[EVIL_LIST]),
        History(DOMAIN, publishers=[key(PUBLISHER)], published=[renamed(EVIL_LIST)]),
        History(DOMAIN, publishers=[key(MALLORY)], published=[EVIL_LIST]),
        History(DOMAIN, publishers=[key(PUBLISHER), key(MALLORY)], published=[EVIL_LIST]),
        History(
            DOMAIN,
            publishers=[key(MALLORY)],
            published=[forged("mallory1", "mallory2", seq=START + DAY, keys=(key(PUBLISHER), key(MALLORY)))],
        ),
    ],
    ids=["by nobody", "in his name", "its own root", "a second root", "brings its key along"],
)
@pytest.mark.parametrize("verb", ["renew", "rollback", "rotate"])
def test_a_list_that_only_the_history_knows_is_not_signed(history: History, verb: str) -> None:
    world = honest_world()
    world.history = history
    publisher = world.publisher
    try:
        if verb == "renew":
            plan = publisher.renew([PUBLISHER], only_if_within_days=90)
        elif verb == "rollback":
            plan = publisher.rollback(EVIL_LIST.bundle.seq, [PUBLISHER])
        else:
            plan = publisher.plan(publisher.current([PUBLISHER]), [PUBLISHER])
    except NotAPublisher:
        return
    assert "unvouched" in {one.code for one in plan.unsafe}
    with pytest.raises(UnsafePlan):
        publisher.publish(plan)


def test_a_key_that_only_the_history_knows_is_not_signed() -> None:
    """The list is as it was; further down, sleepers are made up that would have to learn the key."""
    world = honest_world()
    (honest,) = world.history.published
    past = forged("alice", "bob", "carol", seq=START - DAY, keys=(key(PUBLISHER), key(MALLORY)))
    world.history = History(DOMAIN, publishers=[key(MALLORY)], published=[past, honest])
    plan = world.publisher.renew([PUBLISHER], only_if_within_days=90)
    assert plan.bundle is not None
    assert plan.bundle.keys is not None
    assert "unvouched" in {one.code for one in plan.unsafe}


def test_what_dns_serves_speaks_for_another_operators_list() -> None:
    """Two keys, two operators: the one renews what the other has published."""
    world = World()
    world.publish(wanted("alice", "bob", "carol", keys=[PUBLISHER, SPARE]), PUBLISHER)
    world.now += 20 * DAY
    plan = world.publisher.renew([SPARE])
    assert plan.is_new
    assert not plan.unsafe


def test_the_publishers_of_the_records_file_speak_for_a_list() -> None:
    world = World()
    world.publish(wanted("alice", "bob", "carol", keys=[PUBLISHER, SPARE]), PUBLISHER)
    world.provider.records.clear()
    world.now += 20 * DAY
    bare = world.publisher.renew([SPARE])
    assert {one.code for one in bare.unsafe} == {"unvouched"}
    listed = Publisher(
        world.provider, world.history, lambda: world.now, trusted=(key(PUBLISHER), key(SPARE))
    ).renew([SPARE])
    assert not listed.unsafe


def test_a_rotation_vouches_for_its_keys() -> None:
    world = World()
    world.publish(wanted("alice", "bob", "carol"))
    world.now += 3 * DAY
    world.publish(wanted("alice", "bob", "carol", keys=[PUBLISHER, NEW]), PUBLISHER, NEW)
    world.now += 20 * DAY
    for signer in (PUBLISHER, NEW):
        plan = world.publisher.renew([signer], only_if_within_days=90)
        assert "unvouched" not in {one.code for one in plan.unsafe}
