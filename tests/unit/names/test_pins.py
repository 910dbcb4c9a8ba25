"""Pins: whose a name was when it was first used (wire.md section 4)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.names.pins import Pins, PinsConfig, Verdict
from wws.names.state import StateUnreadable
from wws.testing.names import NOW, name_record, person, transfer

DOMAIN = "boot.example.org"
ALICE, BOB = name_record("alice"), name_record("bob")
GIVEN = name_record("bob", issued_at=NOW + 9, transfers=[transfer("alice", "bob", seq=NOW)])


def test_first_use_pins_and_another_owner_is_refused() -> None:
    pins = Pins()
    assert pins.observe(DOMAIN, ALICE, NOW) is Verdict.NEW
    assert pins.observe(DOMAIN, ALICE, NOW + 1) is Verdict.KNOWN
    assert pins.observe(DOMAIN, BOB, NOW + 2) is Verdict.CHANGED
    pin = pins.find(DOMAIN, "public", "alice")
    assert pin is not None
    assert pin.owner == person("alice").peer_id


def test_networks_and_swarms_do_not_share_pins() -> None:
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    assert pins.observe("", BOB, NOW) is Verdict.NEW
    assert pins.observe(DOMAIN, name_record("bob", swarm="lab"), NOW) is Verdict.NEW


def test_a_chain_from_the_pinned_key_moves_the_pin_and_no_other_chain_does() -> None:
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    assert pins.observe(DOMAIN, GIVEN, NOW + 9) is Verdict.MOVED
    assert pins.observe(DOMAIN, GIVEN, NOW + 10) is Verdict.KNOWN
    assert pins.observe(DOMAIN, ALICE, NOW + 11) is Verdict.CHANGED
    stranger = name_record("bob", issued_at=NOW + 9, transfers=[transfer("carol", "bob", seq=NOW)])
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    assert pins.observe(DOMAIN, stranger, NOW + 9) is Verdict.CHANGED


def test_the_user_may_trust_and_forget() -> None:
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    assert pins.trust(DOMAIN, "public", "alice", BOB.peer_id, NOW)
    assert pins.observe(DOMAIN, BOB, NOW) is Verdict.KNOWN
    assert pins.forget(DOMAIN, "public", "alice")
    assert not pins.forget(DOMAIN, "public", "alice")
    assert len(pins) == 0


def test_a_full_map_refuses_and_never_evicts() -> None:
    pins = Pins(PinsConfig(most=1))
    assert pins.observe(DOMAIN, ALICE, NOW) is Verdict.NEW
    assert pins.observe("", ALICE, NOW) is Verdict.FULL
    assert not pins.trust("", "public", "alice", ALICE.peer_id, NOW)
    assert pins.observe(DOMAIN, ALICE, NOW) is Verdict.KNOWN
    assert pins.trust(DOMAIN, "public", "alice", BOB.peer_id, NOW)
    assert len(pins) == 1


def test_revision_says_when_to_save() -> None:
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    first = pins.revision
    pins.observe(DOMAIN, ALICE, NOW + 3_599)
    pins.observe(DOMAIN, BOB, NOW)
    assert pins.revision == first
    pins.observe(DOMAIN, ALICE, NOW + 3_600)
    assert pins.revision > first


NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", fullmatch=True).filter(
    lambda n: n not in ("did", "wws")
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", DOMAIN]), NAMES, st.sampled_from(["alice", "bob"]), st.integers(0, NOW)
        )
    )
)
def test_the_file_round_trips(entries: list[tuple[str, str, str, int]]) -> None:
    pins = Pins()
    for domain, name, owner, when in entries:
        pins.trust(domain, "public", name if name != "peer" else "pear", person(owner).peer_id, when)
    file = json.loads(json.dumps(pins.to_json()))
    again = Pins.from_json(file)
    assert again.to_json() == pins.to_json()
    assert again.revision == 0


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "bob"},
        {"owner": None},
        {"name": "Alice"},
        {"swarm": "did"},
        {"domain": "x" * 254},
        {"first_seen": -1},
        {"colour": "blue"},
    ],
)
def test_a_bad_entry_is_never_skipped(change: dict[str, object]) -> None:
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    file = json.loads(json.dumps(pins.to_json()))
    file["pins"][0].update(change)
    with pytest.raises(StateUnreadable):
        Pins.from_json(file)


def test_files_of_other_schemas_sizes_and_shapes() -> None:
    pins = Pins()
    pins.observe(DOMAIN, ALICE, NOW)
    file = json.loads(json.dumps(pins.to_json()))
    newer = {"schema": 2, "colour": "blue", "pins": [{**file["pins"][0], "note": "hello"}]}
    assert Pins.from_json(newer).to_json() == file
    twice = {**file, "pins": file["pins"] * 2}
    for bad in (
        {**file, "schema": 3},
        {**file, "x": 1},
        {"schema": 1},
        {**file, "pins": {}},
        {**file, "pins": [1]},
        [],
        twice,
    ):
        with pytest.raises(StateUnreadable):
            Pins.from_json(bad)
    with pytest.raises(StateUnreadable):
        Pins.from_json(file, PinsConfig(most=0))
