"""Whatever an operator does, in any order: planning again is empty, no unforced plan breaks a client."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from tests.unit.dns.world import DAY, DOMAIN, NEW, PUBLISHER, SPARE, World, key, wanted
from wws.discovery.bundle import MAX_ANSWER, Bundle, answer_size
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws.testing.scale import scale
from wws_dns.desired import Desired
from wws_dns.history import History
from wws_dns.plan import Plan, UnsafePlan
from wws_dns.planning import NotAPublisher
from wws_dns.provider import Partial
from wws_dns.publishing import NothingPublished

LABELS = ("alice", "bob", "carol", "dave", "erin")
KEYS = (PUBLISHER, SPARE, NEW)


def subsets(of: Sequence[Identity]) -> st.SearchStrategy[list[Identity]]:
    return st.lists(st.sampled_from(list(of)), min_size=1, unique=True)


@dataclass(frozen=True)
class Step:
    """What the operator does next, and how much later."""

    what: str
    hours: int
    labels: list[str]
    keys: list[Identity] | None
    signers: list[Identity]
    stop_after: int


def keys_of_dns(world: World, before: tuple[PublisherKey, ...]) -> tuple[PublisherKey, ...]:
    """The keys that hold by the newest bundle that is served."""
    newest = max((Bundle.parse(text) for text in world.texts), key=lambda bundle: bundle.seq)
    return newest.keys or before


steps = st.builds(
    Step,
    st.sampled_from(
        ["publish", "publish", "publish", "renew", "rollback", "prepare", "lose", "half", "join"]
    ),
    st.sampled_from([0, 0, 1, 30, 49, 24 * 17, 24 * 45, 24 * 80]),
    st.lists(st.sampled_from(LABELS), min_size=1, unique=True),
    st.none() | subsets(KEYS),
    st.just(list(KEYS)) | subsets(KEYS),
    st.integers(0, 20),
)


class Walk:
    """An operator who never forces anything, and the clients that were there on the way."""

    def __init__(self) -> None:
        self.world = World()
        self.world.publish(wanted("alice", "bob", "carol", keys=[PUBLISHER]))
        self.clients: list[tuple[BundleState, int]] = []
        """Each with the Unix time until which it is promised that it can follow."""
        self.desired = wanted("alice", "bob", "carol")
        self.keys: tuple[PublisherKey, ...] = (key(PUBLISHER),)
        """Those that hold, also when the operator has lost his history."""
        self.join()

    def join(self) -> None:
        """A client that knows the keys of today, and the bundle of today where that still holds."""
        state = self.world.client()
        state.keys = self.keys
        bundle = self.world.bundle if len(self.world.texts) == 1 else None
        if bundle is not None and bundle.expires_at > self.world.now:
            state.choose(self.world.texts, self.world.now)
            self.clients.append((state, bundle.expires_at + 30 * DAY))

    def take(self, step: Step) -> None:
        self.world.now += step.hours * 3_600
        if step.what == "join":
            self.join()
        elif step.what == "lose":
            self.world.history = History(DOMAIN, publishers=())
        else:
            self.change(step)

    def change(self, step: Step) -> None:
        """Plan and publish, and look what clients make of it."""
        desired = self.desired
        publisher = self.world.publisher
        try:
            if step.what == "renew":
                plan = publisher.renew(step.signers)
            elif step.what == "rollback":
                plan = publisher.rollback(signers=step.signers)
            elif step.what == "prepare":
                plan = publisher.prepare(publisher.current(step.signers), step.signers)
            else:
                desired = wanted(*step.labels, keys=step.keys)
                plan = publisher.plan(desired, step.signers)
            note(f"{step.what} {plan.reason} {[one.code for one in plan.unsafe]}")
            self.world.provider.stop_after = step.stop_after if step.what == "half" else None
            publisher.publish(plan)
        except (UnsafePlan, NotAPublisher, NothingPublished):
            return  # refused: nothing was changed
        except Partial:
            self.keys = keys_of_dns(self.world, self.keys)  # it may have got as far as the bundle
            self.check_clients(None)
            return
        finally:
            self.world.provider.stop_after = None
        if plan.bundle is not None and plan.bundle.keys is not None:
            self.keys = plan.bundle.keys
        if step.what in ("publish", "half"):
            self.desired = desired
            self.check_empty(desired, step.signers)
        self.check_clients(plan)

    def has_expired(self, texts: list[str]) -> bool:
        return all(Bundle.parse(text).expires_at <= self.world.now for text in texts)

    def check_empty(self, desired: Desired, signers: Sequence[Identity]) -> None:
        again = self.world.publisher.plan(desired, signers)
        assert again.is_empty, again.render()

    def check_clients(self, plan: Plan | None) -> None:
        """Everybody who may have slept takes what is served now, and those who look knows the keys of now."""
        texts = self.world.texts
        if plan is not None and plan.is_new:
            assert answer_size(DOMAIN, texts) <= MAX_ANSWER
        for state, until in self.clients:
            if self.world.now >= until:
                continue
            if not (plan is not None and plan.is_new) and self.has_expired(texts):
                continue  # nothing was signed anew in this step, and what was there had its time
            awake = copy.copy(state)
            taken = awake.choose(texts, self.world.now).bundle
            assert state.last is not None
            assert taken.seq >= state.last.seq
            if plan is not None and plan.is_new:
                assert set(awake.keys) == set(self.keys)


# Without shrinking: a walk is short enough to read, and cutting one down takes minutes.
@settings(max_examples=scale(1_500, least=60), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(steps, max_size=12))
def test_no_unforced_plan_breaks_a_client_and_planning_again_is_empty(taken: list[Step]) -> None:
    walk = Walk()
    for step in taken:
        walk.take(step)


@settings(max_examples=scale(1_000, least=50))
@given(
    st.lists(st.sampled_from(LABELS), unique=True),
    st.lists(st.sampled_from(LABELS), unique=True),
    st.integers(0, 40),
    st.sampled_from([1, 60, 300, 86_400]),
    st.sets(st.integers(0, 30)),
)
def test_a_forced_plan_planned_again_is_empty_too(
    first: list[str], second: list[str], days: int, ttl: int, lost: set[int]
) -> None:
    world = World()
    world.publish(wanted(*first), force=True)
    world.now += days * DAY
    records = sorted(world.provider.records)
    world.provider.records -= {records[n] for n in lost if n < len(records)}
    target = wanted(*second, ttl=ttl)
    world.publish(target, force=True)
    assert world.plan(target).is_empty
    assert world.plan(target, key_order_reversed()).is_empty


def key_order_reversed() -> Identity:
    """Another key than the one that signed: what holds is not signed again for it."""
    assert key(SPARE) != key(PUBLISHER)
    return SPARE
