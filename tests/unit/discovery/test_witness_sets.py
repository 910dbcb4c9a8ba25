"""Who the witnesses are: by the bundle, by the network file, and for two days after a change."""

import json

import pytest

from tests.unit.discovery.world import ALICE, BOB, CAROL, DAVE, SIGNED, UNIX, UNSIGNED, at, bundle, entry
from wws.codec.canonical import JsonValue
from wws.discovery.bundle_state import BundleState, StateMalformed
from wws.discovery.network import ad_hoc_network
from wws.discovery.witness_sets import CHANGE_LASTS, WitnessesBefore, witness_sets

NOBODY: frozenset[object] = frozenset()
OLD = bundle(entry(ALICE), entry(BOB), seq=UNIX)
NEW = bundle(entry(BOB), entry(CAROL), seq=UNIX + 100)


def state() -> BundleState:
    return BundleState.of(SIGNED, None)


def test_the_peers_of_the_last_bundle_are_the_witnesses_also_past_its_time() -> None:
    known = state()
    known.accept(OLD.text, UNIX)
    for unix_now in (UNIX, OLD.expires_at + 1):
        assert witness_sets(SIGNED, known.last, known.before, unix_now) == ({ALICE, BOB}, NOBODY)


def test_before_the_first_bundle_those_of_the_signed_network_file_are() -> None:
    assert witness_sets(SIGNED, None, WitnessesBefore(), UNIX) == (NOBODY, NOBODY)
    named = SIGNED.with_peers([at(ALICE), at(BOB)])
    assert witness_sets(named, None, WitnessesBefore(), UNIX) == ({ALICE, BOB}, NOBODY)


def test_without_publishers_the_file_decides_and_an_ad_hoc_network_has_none() -> None:
    named = UNSIGNED.with_peers([at(ALICE)])
    assert witness_sets(named, None, WitnessesBefore(), UNIX) == ({ALICE}, NOBODY)
    assert witness_sets(ad_hoc_network([at(ALICE)]), None, WitnessesBefore(), UNIX) == (NOBODY, NOBODY)


def test_the_set_before_counts_for_two_days_after_the_signing_of_the_next() -> None:
    known = state()
    known.accept(OLD.text, UNIX)
    known.accept(NEW.text, UNIX + 200)
    last = NEW.seq + CHANGE_LASTS - 1
    assert witness_sets(SIGNED, known.last, known.before, last) == ({BOB, CAROL}, {ALICE, BOB})
    assert witness_sets(SIGNED, known.last, known.before, last + 1) == ({BOB, CAROL}, NOBODY)


def test_who_slept_through_a_change_does_not_believe_the_old_set_any_longer() -> None:
    known = state()
    known.accept(bundle(entry(ALICE), entry(BOB), seq=UNIX, exp=UNIX + 30 * 86_400).text, UNIX)
    week = 7 * 86_400
    late = bundle(entry(BOB), entry(CAROL), seq=UNIX + 86_400, exp=UNIX + 30 * 86_400)
    known.accept(late.text, UNIX + week)
    assert witness_sets(SIGNED, known.last, known.before, UNIX + week) == ({BOB, CAROL}, NOBODY)


def test_a_bundle_with_the_same_peers_changes_nothing_of_it() -> None:
    known = state()
    known.accept(OLD.text, UNIX)
    known.accept(NEW.text, UNIX + 200)
    known.accept(bundle(entry(CAROL, port=9443), entry(BOB), seq=UNIX + 300).text, UNIX + 400)
    assert known.before == WitnessesBefore(frozenset({ALICE, BOB}), NEW.seq)


def test_a_number_ahead_of_the_clock_does_not_prolong_it() -> None:
    known = state()
    known.accept(OLD.text, UNIX)
    known.accept(bundle(entry(DAVE), seq=UNIX + 5_000).text, UNIX + 10)
    assert known.before.changed_at == UNIX + 10


def test_it_is_kept_with_the_state_and_an_older_file_has_none() -> None:
    known = state()
    known.accept(OLD.text, UNIX)
    known.accept(NEW.text, UNIX + 200)
    kept = json.loads(json.dumps(known.to_json()))
    assert BundleState.from_json(kept).before == known.before
    del kept["witnesses_before"]
    assert BundleState.from_json(kept).before == WitnessesBefore()


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"peers": ["alice"], "changed_at": 1},
        {"peers": [1], "changed_at": 1},
        {"peers": [str(ALICE)], "changed_at": -1},
        {"peers": [str(ALICE)], "changed_at": True},
        {"peers": [str(ALICE)] * 17, "changed_at": 1},
        {"peers": [str(ALICE)]},
    ],
)
def test_a_damaged_one_is_refused(value: JsonValue) -> None:
    known = state()
    known.accept(OLD.text, UNIX)
    with pytest.raises(StateMalformed):
        BundleState.from_json({**known.to_json(), "witnesses_before": value})
