"""Plan, refuse, apply, verify: conversations between an operator, a zone and its clients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.dns.memory_provider import MemoryProvider
from tests.unit.dns.world import DAY, DOMAIN, NEW, PUBLISHER, SPARE, START, World, key, node, wanted
from wws.discovery.bundle import Bundle, BundleError, answer_size
from wws.discovery.txt import bundle_name, dnsaddr_name, parse_dnsaddr, parse_seed, seed_name
from wws.identity.keys import Identity
from wws_dns.desired import Desired, DesiredMalformed, Node
from wws_dns.history import History
from wws_dns.plan import SignatureMissing, UnsafePlan
from wws_dns.planning import NotAPublisher, SignedDiffers
from wws_dns.provider import AuthFailed, Conflict, NotServed, Partial, Record
from wws_dns.publishing import NothingPublished, Publisher

THREE = wanted("alice", "bob", "carol")


@pytest.fixture
def world() -> World:
    return World()


def test_a_first_publication_is_taken_by_a_new_client(world: World) -> None:
    plan = world.plan(THREE)
    assert not plan.is_empty
    assert plan.is_new
    assert not plan.unsafe
    assert world.provider.records == set()  # a plan only looks
    published = world.publisher.publish(plan)
    assert published.changed
    assert published.seq == START
    choice = world.client().choose(world.texts, START)
    assert choice.bundle.peers == THREE.peers
    assert choice.bundle.expires_at == START + 30 * DAY


def test_what_is_published_are_the_three_record_sets_of_the_wire_format(world: World) -> None:
    world.publish(THREE)
    seeds = [r.value for r in world.provider.fetch([(seed_name(DOMAIN), "TXT")])]
    assert {hint.peer_id for hint in parse_seed(seeds).addresses} == THREE.peers
    assert len(seeds) == 3  # one record a peer
    named = [r.value for r in world.provider.fetch([(dnsaddr_name(DOMAIN), "TXT")])]
    assert {hint.peer_id for hint in parse_dnsaddr(named).addresses} == THREE.peers
    assert {hint.transport for hint in parse_dnsaddr(named).addresses} == {"tcp", "quic-v1"}
    assert {record.ttl for record in world.provider.records} == {300}


def test_three_hosts_and_one_signature_fit_into_512_bytes(world: World) -> None:
    assert not world.plan(THREE).warnings
    world.publish(THREE)
    assert answer_size(DOMAIN, world.texts) <= 512


def test_five_hosts_and_two_signatures_fit_into_1232_bytes(world: World) -> None:
    five = wanted("alice", "bob", "carol", "dave", "erin", keys=(PUBLISHER, SPARE))
    assert not world.plan(five, PUBLISHER, SPARE).unsafe
    world.publish(five, PUBLISHER, SPARE)
    assert answer_size(DOMAIN, world.texts) <= 1232


def test_publishing_twice_changes_nothing(world: World) -> None:
    world.publish(THREE)
    before = set(world.provider.records)
    assert world.plan(THREE).is_empty
    again = world.publish(THREE)
    assert not again.changed
    assert world.provider.records == before
    assert len(world.provider.applied) == 1


@pytest.mark.parametrize("days", [1, 7, 14, 30, 90])
def test_a_list_is_signed_anew_before_its_end_and_not_at_once(world: World, days: int) -> None:
    world.publish(replace(THREE, lifetime_days=days))
    assert world.plan(replace(THREE, lifetime_days=days)).is_empty, "planned twice"
    world.now += days * DAY - 3_600
    assert world.plan(replace(THREE, lifetime_days=days)).is_new


def test_another_order_of_the_nodes_is_no_change(world: World) -> None:
    world.publish(THREE)
    assert world.plan(wanted("carol", "alice", "bob")).is_empty


def test_a_plan_without_a_key_says_what_it_lacks(world: World) -> None:
    plan = world.publisher.plan(THREE)
    assert plan.needs_signature
    with pytest.raises(SignatureMissing):
        world.publisher.publish(plan)
    assert world.provider.records == set()


def test_a_key_that_no_client_knows_signs_nothing(world: World) -> None:
    world.publish(THREE)
    with pytest.raises(NotAPublisher):
        world.plan(wanted("alice", "bob", "dave"), NEW)


def test_replacing_one_of_three_is_safe(world: World) -> None:
    world.publish(THREE)
    client = world.client()
    client.choose(world.texts, world.now)
    world.wait(3 * DAY)
    world.publish(wanted("alice", "bob", "dave"))
    assert client.choose(world.texts, world.now).bundle.peers == wanted("alice", "bob", "dave").peers


@pytest.mark.parametrize(
    "labels, codes",
    [
        (("alice", "dave", "erin"), {"removes_too_many", "newcomers_majority"}),
        (("alice",), {"removes_too_many"}),
        (("alice", "bob"), set()),
        (("alice", "bob", "carol", "dave", "erin"), set()),
        (("alice", "bob", "carol", "dave", "erin", "frank", "grace"), {"newcomers_majority"}),
        ((), {"empties_set"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_change_of_the_set_is_refused_for(
    world: World, labels: tuple[str, ...], codes: set[str]
) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    assert world.codes(wanted(*labels)) == codes


def test_a_refused_plan_changes_nothing_until_it_is_forced(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    before = set(world.provider.records)
    with pytest.raises(UnsafePlan, match="removes 2 of 3") as refused:
        world.publish(wanted("alice"))
    assert refused.value.details["unsafe"]
    assert world.provider.records == before
    world.publish(wanted("alice"), force=True)
    assert world.bundle.peers == wanted("alice").peers


def test_a_second_change_within_48_hours_is_refused(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    world.publish(wanted("alice", "bob", "dave"))
    world.wait(2 * DAY - 1)
    assert world.codes(wanted("alice", "erin", "dave")) == {"set_changed_recently"}
    world.wait(1)
    assert world.codes(wanted("alice", "erin", "dave")) == set()


def test_another_port_is_no_change_of_the_set(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    world.publish(wanted("alice", "bob", "dave"))
    moved = Desired(DOMAIN, (node("alice", 443), node("bob"), node("dave")))
    assert world.codes(moved) == set()
    assert not world.plan(moved).is_empty


def test_going_back_within_48_hours_is_safe(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    client = world.client()
    client.choose(world.texts, world.now)
    world.publish(wanted("dave", "erin", "frank"), force=True)
    client.choose(world.texts, world.now)
    world.wait(3_600)
    plan = world.publisher.rollback(signers=[PUBLISHER])
    assert not plan.unsafe
    published = world.publisher.publish(plan)
    assert world.bundle.peers == THREE.peers
    assert published.seq == world.now
    assert client.choose(world.texts, world.now).bundle.peers == THREE.peers


def test_a_rollback_to_a_number(world: World) -> None:
    first = world.publish(THREE)
    world.wait(3 * DAY)
    world.publish(wanted("alice", "bob", "dave"))
    world.wait(3 * DAY)
    world.publish(wanted("alice", "bob", "erin"))
    world.wait(3 * DAY)
    plan = world.publisher.rollback(first.seq, [PUBLISHER])
    assert plan.bundle is not None
    assert plan.bundle.peers == THREE.peers
    assert plan.bundle.seq == world.now
    with pytest.raises(NothingPublished):
        world.publisher.rollback(17, [PUBLISHER])


def test_there_is_nothing_to_go_back_to_at_first(world: World) -> None:
    with pytest.raises(NothingPublished):
        world.publisher.rollback(signers=[PUBLISHER])
    world.publish(THREE)
    with pytest.raises(NothingPublished):
        world.publisher.rollback(signers=[PUBLISHER])


def test_numbers_rise_within_one_second(world: World) -> None:
    world.publish(wanted("alice"))
    second = world.publish(wanted("alice", "bob"), force=True)
    assert second.seq == START + 1


def test_a_bundle_is_renewed_fourteen_days_before_its_end(world: World) -> None:
    world.publish(THREE)
    world.wait(16 * DAY - 1)
    assert world.publisher.renew([PUBLISHER]).is_empty
    assert world.plan(THREE).is_empty
    world.wait(1)
    plan = world.publisher.renew([PUBLISHER])
    assert plan.is_new
    assert not plan.unsafe
    assert world.plan(THREE).is_new
    world.publisher.publish(plan)
    assert world.bundle.expires_at == world.now + 30 * DAY
    assert world.bundle.peers == THREE.peers
    assert world.publisher.renew([PUBLISHER]).is_empty


def test_renewing_nothing_is_said(world: World) -> None:
    with pytest.raises(NothingPublished):
        world.publisher.renew([PUBLISHER])


def test_an_expired_bundle_is_replaced(world: World) -> None:
    world.publish(THREE)
    world.wait(45 * DAY)
    plan = world.plan(THREE)
    assert "expired" in plan.reason
    world.publisher.publish(plan)
    assert world.client().choose(world.texts, world.now).bundle.seq == world.now


def test_a_change_shortens_times_to_live_for_an_hour(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    changed = wanted("alice", "bob", "dave")
    plan = world.plan(changed)
    assert "300 s" in " ".join(plan.warnings)
    world.publisher.publish(plan)
    assert {record.ttl for record in world.provider.records} == {60}
    assert world.plan(changed).is_empty
    world.wait(3_600)
    settling = world.publisher.renew([])
    assert not settling.is_empty
    assert not settling.changes_content
    world.publisher.publish(settling)
    assert {record.ttl for record in world.provider.records} == {300}
    assert world.plan(changed).is_empty


def test_preparing_shortens_times_to_live_and_nothing_else(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    bundle = world.bundle
    plan = world.publisher.prepare(THREE)
    assert not plan.changes_content
    world.publisher.publish(plan)
    assert {record.ttl for record in world.provider.records} == {60}
    assert world.bundle == bundle
    world.wait(300)
    assert world.plan(THREE).is_empty
    assert not world.plan(wanted("alice", "bob", "dave")).warnings
    with pytest.raises(DesiredMalformed):
        world.publisher.prepare(wanted("alice", "bob", "dave"))


def test_the_loser_of_two_operators_is_told_and_nothing_changes(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    other = Publisher(world.provider, world.history.copy(), lambda: world.now)
    mine = world.plan(wanted("alice", "bob", "dave"))
    theirs = other.plan(wanted("alice", "bob", "erin"), [PUBLISHER])
    world.publisher.publish(mine)
    with pytest.raises(Conflict):
        other.publish(theirs)
    assert world.bundle.peers == wanted("alice", "bob", "dave").peers
    # Planned again, the other one sees what happened, and that it is too early for another change.
    again = other.plan(wanted("alice", "bob", "erin"), [PUBLISHER])
    assert {one.code for one in again.unsafe} == {"set_changed_recently"}
    assert again.bundle is not None
    assert mine.bundle is not None
    assert again.bundle.seq > mine.bundle.seq


def test_a_refusal_of_the_provider_changes_nothing(world: World) -> None:
    world.provider.fail_with = AuthFailed()
    with pytest.raises(AuthFailed):
        world.publish(THREE)
    assert world.history.published == ()
    world.publish(THREE)
    assert world.bundle.peers == THREE.peers


@pytest.mark.parametrize("done", range(1, 18))
def test_a_half_applied_change_is_finished_by_the_next(done: int) -> None:
    world = World()
    world.publish(THREE)
    client = world.client()
    client.choose(world.texts, world.now)
    world.wait(3 * DAY)
    target = wanted("alice", "bob", "dave")
    world.provider.stop_after = done
    plan = world.plan(target)
    if done >= len(plan.changes.add) + len(plan.changes.remove):
        pytest.skip("that is all of it")
    with pytest.raises(Partial):
        world.publisher.publish(plan)
    client.choose(world.texts, world.now)  # whatever stands there in between, clients can live with
    world.wait(5)
    after = world.plan(target)
    assert not after.unsafe
    world.publisher.publish(after)
    assert client.choose(world.texts, world.now).bundle.peers == target.peers
    assert world.plan(target).is_empty
    assert len(world.texts) == 1


def test_a_lost_history_is_found_in_dns(world: World) -> None:
    world.publish(THREE)
    world.wait(10 * DAY)
    world.history = History(DOMAIN)
    plan = world.plan(THREE)
    assert plan.is_empty
    assert "taken up" in " ".join(plan.warnings)
    world.publisher.publish(plan)
    assert [one.bundle for one in world.history.published] == [world.bundle]
    assert not world.plan(THREE).warnings


def test_a_lost_history_and_a_recent_bundle_allow_no_change_of_the_set(world: World) -> None:
    world.publish(THREE)
    world.wait(DAY)
    world.history = History(DOMAIN)
    assert world.codes(wanted("alice", "bob", "dave")) == {"set_changed_recently"}
    world.wait(DAY)
    assert world.codes(wanted("alice", "bob", "dave")) == set()


def test_records_that_vanished_are_put_back_without_signing(world: World) -> None:
    world.publish(THREE)
    world.wait(DAY)
    served = set(world.provider.records)
    world.provider.records.clear()
    plan = world.publisher.plan(THREE)
    assert not plan.is_new
    world.publisher.publish(plan)
    assert world.provider.records == served


def test_foreign_records_are_removed_and_said(world: World) -> None:
    world.publish(THREE)
    thief = world.bundle.sign(DOMAIN, [NEW])
    world.provider.records.add(Record(bundle_name(DOMAIN), "TXT", thief.text, 300))
    world.provider.records.add(Record(seed_name(DOMAIN), "TXT", "v=1 peer=/ip4/192.0.2.66/tcp/1", 300))
    plan = world.plan(THREE)
    assert len(plan.changes.remove) == 2
    assert not plan.changes.add
    assert "no bundle that the publisher" in " ".join(plan.warnings)
    world.publisher.publish(plan)
    assert world.plan(THREE).is_empty


def test_a_number_far_ahead_was_taken_by_no_client(world: World) -> None:
    world.now = START + 365 * DAY
    world.publish(THREE)
    world.now = START
    plan = world.plan(THREE)
    assert {one.code for one in plan.unsafe} == {"clock_ahead"}
    world.publisher.publish(plan, force_unsafe=True)
    assert world.bundle.seq == START
    assert world.client().choose(world.texts, START).bundle.peers == THREE.peers


def test_a_publishers_clock_may_be_an_hour_ahead(world: World) -> None:
    world.now = START + 3_600
    world.publish(THREE)
    assert world.client().choose(world.texts, START).bundle.peers == THREE.peers


def test_an_authority_that_serves_something_else_is_noticed(world: World) -> None:
    world.provider.forgets = True
    with pytest.raises(NotServed, match="missing"):
        world.publish(THREE)
    assert world.now > START  # it was asked more than once
    world.provider.forgets = False
    world.publish(THREE)
    assert world.bundle.peers == THREE.peers


def test_retiring_removes_what_is_ours_and_keeps_the_numbers(world: World) -> None:
    other = Record("www.example.org", "A", "192.0.2.80", 300)
    world.provider.records.add(other)
    first = world.publish(THREE)
    world.publisher.retire(DOMAIN)
    assert world.provider.records == {other}
    assert world.history.last is not None
    world.wait(DAY)
    back = world.publish(THREE)
    assert back.seq == first.seq  # nothing was signed for it: the bundle still holds


def test_addresses_of_hosts_come_and_go_with_them(world: World) -> None:
    def at(*labels: str) -> Desired:
        return Desired(
            DOMAIN,
            tuple(
                Node(
                    Identity.from_label(label).peer_id, f"{label}.example.org", addresses=(ip, "2001:db8::1")
                )
                for label, ip in zip(labels, ("192.0.2.1", "192.0.2.2", "192.0.2.3"), strict=False)
            ),
        )

    world.publish(at("alice", "bob", "carol"))
    assert world.provider.fetch([("bob.example.org", "A")])[0].value == "192.0.2.2"
    assert len(world.provider.fetch([("bob.example.org", "AAAA")])) == 1
    world.wait(3 * DAY)
    # Somebody else uses the name of the host that goes: that record is not ours.
    foreign = Record("carol.example.org", "A", "192.0.2.77", 300)
    world.provider.records.add(foreign)
    world.publish(at("alice", "bob"))
    assert world.provider.fetch([("carol.example.org", "A"), ("carol.example.org", "AAAA")]) == (foreign,)
    assert world.plan(at("alice", "bob")).is_empty
    plan = world.publisher.rollback(signers=[PUBLISHER])
    assert [one.code for one in plan.unsafe] == ["name_taken"]
    world.provider.records.remove(foreign)
    world.publisher.publish(world.publisher.rollback(signers=[PUBLISHER]))
    assert world.provider.fetch([("carol.example.org", "AAAA")])


def test_hosts_outside_of_the_zone_get_no_addresses(world: World) -> None:
    outside = Desired(DOMAIN, (Node(node("alice").peer_id, "a.example.net", addresses=("192.0.2.1",)),))
    with pytest.raises(DesiredMalformed, match="does not lie in the zone"):
        world.plan(outside)
    world.provider.zone = "example.com"
    with pytest.raises(DesiredMalformed, match="does not lie in the zone"):
        world.plan(THREE)


def test_too_large_an_answer_is_refused(world: World) -> None:
    many = Desired(
        DOMAIN,
        tuple(
            Node(Identity.from_label(str(n)).peer_id, f"host{n}.a-rather-long-name.example.net")
            for n in range(12)
        ),
    )
    assert "answer_too_large" in world.codes(many)


def test_hints_that_do_not_fit_are_left_out(world: World) -> None:
    many = Desired(DOMAIN, tuple(Node(Identity.from_label(str(n)).peer_id, "192.0.2.1") for n in range(13)))
    world.publish(many, force=True)
    for name in (seed_name(DOMAIN), dnsaddr_name(DOMAIN)):
        texts = [record.value for record in world.provider.fetch([(name, "TXT")])]
        assert texts
        assert answer_size(DOMAIN, texts) <= 1232
    assert world.plan(many).is_empty


def test_a_bundle_signed_elsewhere_is_published(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    target = wanted("alice", "bob", "dave")
    unsigned = world.publisher.plan(target).bundle
    assert unsigned is not None
    signed = unsigned.sign(DOMAIN, [PUBLISHER])
    plan = world.publisher.plan(target, signed=signed)
    assert not plan.unsafe
    assert world.publisher.publish(plan).text == signed.text
    assert world.publisher.plan(target, signed=signed).is_empty
    with pytest.raises(SignedDiffers, match=r"without .*with "):
        world.publisher.plan(wanted("alice", "bob", "erin"), signed=signed)


def test_a_signature_made_by_the_wrong_key_is_refused_in_time(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    target = wanted("alice", "bob", "dave")
    unsigned = world.publisher.plan(target).bundle
    assert unsigned is not None
    plan = world.publisher.plan(target, signed=unsigned.sign(DOMAIN, [NEW]))
    assert {one.code for one in plan.unsafe} == {"drops_needed_key"}
    elsewhere = world.publisher.plan(target, signed=unsigned.sign("example.net", [PUBLISHER]))
    assert {one.code for one in elsewhere.unsafe} == {"bad_signature"}


@pytest.mark.parametrize(
    "change, code",
    [
        ({"seq": START - 1}, "seq_lowered"),
        ({"seq": START}, "equivocation"),
        ({"seq": START + 30 * DAY}, "clock_ahead"),
        ({"not_before": START + 20 * DAY}, "clock_ahead"),
        ({"expires_at": START + DAY}, "expired"),
    ],
)
def test_what_a_bundle_signed_elsewhere_is_refused_for(
    world: World, change: dict[str, int], code: str
) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    fields = {"seq": world.now, "not_before": START - 5, "expires_at": START + 30 * DAY} | change
    moved = (node("alice", 443).entry, node("bob").entry, node("carol").entry)
    signed = Bundle(fields["seq"], fields["not_before"], fields["expires_at"], None, moved).sign(
        DOMAIN, [PUBLISHER]
    )
    desired = Desired(DOMAIN, (node("alice", 443), node("bob"), node("carol")))
    plan = world.publisher.plan(desired, signed=signed)
    assert code in {one.code for one in plan.unsafe}
    with pytest.raises(UnsafePlan):
        world.publisher.publish(plan)


def test_without_any_key_a_signature_means_nothing(world: World) -> None:
    unsigned = world.publisher.plan(THREE).bundle
    assert unsigned is not None
    signed = unsigned.sign(DOMAIN, [PUBLISHER])
    with pytest.raises(NotAPublisher, match="whose signature"):
        world.publisher.plan(THREE, signed=signed)
    listed = wanted("alice", "bob", "carol", keys=[PUBLISHER])
    assert not world.publisher.plan(listed, signed=signed).unsafe


def test_a_plan_reads_as_a_diff(world: World) -> None:
    world.publish(THREE)
    world.wait(3 * DAY)
    shown = world.plan(wanted("alice", "bob", "dave")).render()
    added = [line for line in shown.splitlines() if line.startswith("+ ")]
    removed = [line for line in shown.splitlines() if line.startswith("- ")]
    assert len(added) == len(removed) == 4  # bundle, seed, and two addresses for libp2p
    assert any(line.startswith("~ ") and "300 → 60" in line for line in shown.splitlines())
    assert "The list of nodes changes." in shown
    assert "unsafe (" not in shown
    assert "No record changes." in World().plan(wanted()).render()


def test_a_host_that_nobody_reaches_makes_no_bundle(world: World) -> None:
    with pytest.raises((DesiredMalformed, BundleError)):
        world.plan(Desired(DOMAIN, (Node(node("alice").peer_id, "0.0.0.0"),)))


def test_providers_are_given_what_the_plan_saw() -> None:
    world = World(provider=MemoryProvider())
    world.publish(THREE)
    world.wait(3 * DAY)
    plan = world.plan(wanted("alice", "bob", "dave"))
    assert {record.set for record in plan.changes.expected} == set(plan.changes.touched)
    assert set(plan.changes.after(plan.changes.expected)) == set(plan.records)
    assert plan.publishers == (key(PUBLISHER),)
